"""`deploy/docker-compose.yml` as its tests read it: parsed strictly, with what it mounts and what it sets."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compose_spec

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "docker-compose.yml"


def parsed() -> dict[str, Any]:
    """The file after `<<` merges; ValueError for a key, value or name that compose would refuse."""
    options = compose_spec.PyOptions(apply_merge=True)
    compose = options.from_yaml(FILE.read_text(encoding="utf-8"))
    compose.validate()
    return compose.to_dict()


def services() -> dict[str, dict[str, Any]]:
    """Each service by name."""
    return dict(parsed()["services"])


def binds(service: Mapping[str, Any]) -> dict[Path, str]:
    """What of the repository a service sees: the file or directory here, and where it is in the container."""
    found = {}
    for volume in service.get("volumes", []):
        source, target, mode = (*volume.split(":"), "rw")[:3]
        if source.startswith("."):
            assert mode == "ro", f"{volume} may be written to from inside"
            found[Path(os.path.normpath(DEPLOY / source))] = target
    return found


def make_secrets(directory: Path) -> Path:
    """Run `deploy/make-secrets` for a directory; gives back where the secrets are."""
    subprocess.run([DEPLOY / "make-secrets", directory], check=True, capture_output=True, timeout=30)
    return directory


def environment(name: str, secrets: Path, directory: Path) -> dict[str, str]:
    """A service's variables with the container's paths as they are here: secrets in `secrets`, the rest below
    `directory`."""
    made = {}
    for key, value in services()[name]["environment"].items():
        text = str(value).replace("/run/secrets", str(secrets))
        for place in ("/run/cutover", "/var/lib/cutover/archives"):
            if place in text:
                (directory / place.lstrip("/")).mkdir(parents=True, exist_ok=True)
                text = text.replace(place, str(directory / place.lstrip("/")))
        made[key] = text
    return made
