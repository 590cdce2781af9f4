"""What runs the daemon without containers (unit and environment files), and the image's recipe."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cutover.settings import Settings, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "cutover.service"
EXAMPLE = DEPLOY / "cutover.env.example"
HARDENED = (  # noqa: SIM905 -- readable as it is
    "NoNewPrivileges ProtectHome PrivateTmp PrivateDevices PrivateUsers ProtectClock ProtectControlGroups "
    "ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables RestrictNamespaces "
    "RestrictRealtime RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute"
).split()
VARIABLES = {str(field.validation_alias) for field in Settings.model_fields.values()}


def variables(path: Path) -> dict[str, str]:
    """A file in the form that systemd, compose and shells read alike: no quotes, blanks or comments behind a value."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"""[A-Z][A-Z0-9_]*=[^\s"'#$]+""", line) for line in lines), lines
    pairs = [line.partition("=") for line in lines]
    assert len({name for name, _, _ in pairs}) == len(pairs) > 0
    return {name: value for name, _, value in pairs}


def unit() -> dict[str, list[str]]:
    """Every key of the unit with its values, in their order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


# -- environment -----------------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> dict[str, str]:
    """The example's variables, its paths below `tmp_path`, where what it refers to exists."""
    for place in ("etc/cutover", "var/lib/cutover/archives", "run/cutover"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "etc/cutover/database-url").write_text("postgres://cutover:hunter2@127.0.0.1/tenant\n")
    (tmp_path / "etc/cutover/tokens.toml").write_text(f'[tokens]\nada = "sha256:{"a" * 64}"\n')
    return {
        name: re.sub(r"(?<![\w./])/(etc|run|var)/", rf"{tmp_path}/\1/", value)
        for name, value in variables(EXAMPLE).items()
    }


def test_the_example_environment_starts_a_daemon(example: dict[str, str], tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **example}
    done = subprocess.run(
        [sys.executable, "-m", "cutover", "serve", "--check"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert str(tmp_path / "var/lib/cutover/archives") in done.stdout


def test_the_example_environment_holds_settings_only_and_needs_no_warning(
    example: dict[str, str], tmp_path: Path
) -> None:
    commented = set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert commented | set(example) <= VARIABLES
    assert load(example, directory=tmp_path).warnings == ()


def test_the_example_environment_is_refused_when_a_value_is_wrong(example: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(Exception, match="CUTOVER_KV"):
        load({**example, "CUTOVER_KV": "perhaps"}, directory=tmp_path)


def test_workspace_server_is_sent_to_the_plugin_face_and_named() -> None:
    told = variables(DEPLOY / "workspace-server.env")
    fields = Settings.model_fields
    assert told == {
        "MEMORY_PLUGIN_URL": f"http://{fields['plugin_listen'].default}",
        "PGAPPNAME": fields["known_writers"].default[0],
    }
    assert told["MEMORY_PLUGIN_URL"] != variables(EXAMPLE)["MEMORY_PLUGIN_URL"]


# -- systemd ---------------------------------------------------------------------------------------------------------


def test_the_unit_starts_the_daemon_with_the_example_environment_and_never_gives_up() -> None:
    keys = unit()
    assert keys["ExecStart"] == ["/opt/cutover/bin/cutover serve"]
    assert keys["EnvironmentFile"] == ["/etc/cutover/cutover.env"]
    assert (keys["Restart"], keys["StartLimitIntervalSec"], keys["KillSignal"]) == (["always"], ["0"], ["SIGTERM"])
    assert int(keys["TimeoutStopSec"][0].removesuffix("s")) > Settings.model_fields["drain_seconds"].default
    made = {f"/run/{each}" for each in keys["RuntimeDirectory"]}
    made |= {f"/var/lib/{each}" for each in keys["StateDirectory"][0].split()}
    written = variables(EXAMPLE)
    assert written["CUTOVER_ARCHIVE_DIRECTORY"] in made
    assert str(Path(written["CUTOVER_BACKFILL_PAUSE_FILE"]).parent) in made


def test_the_unit_is_hardened() -> None:
    keys = unit()
    assert keys["User"] == ["cutover"]
    assert keys["CapabilityBoundingSet"] == keys["AmbientCapabilities"] == [""]
    assert keys["ProtectSystem"] == ["strict"]
    assert keys["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert keys["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]
    assert all(keys[key] == ["yes"] for key in HARDENED)
    # The daemon tells Prometheus its memory and start, which are in /proc outside of its own process.
    assert "ProcSubset" not in keys


@pytest.mark.systemd
def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    program = shutil.which("true")
    there = tmp_path / UNIT.name
    there.write_text(UNIT.read_text().replace("/opt/cutover/bin/cutover serve", f"{program} serve"))
    for arguments in (["verify", "--man=no"], ["security", "--offline=yes", "--threshold=15", "--no-pager"]):
        done = subprocess.run(
            ["systemd-analyze", *arguments, there], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert arguments[0] != "verify" or not done.stderr, done.stderr


# -- the image -------------------------------------------------------------------------------------------------------


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    strict = ["--failure-threshold=style", "--strict-labels", "--disable-ignore-pragma", "--no-color"]
    strict += [f"--require-label=org.opencontainers.image.{label}:text" for label in ("title", "description")]
    strict += ["--require-label=org.opencontainers.image.licenses:spdx"]
    return subprocess.run([program, *strict, path], capture_output=True, text=True, check=False, timeout=60)


def test_the_recipe_of_the_image_has_nothing_to_lint() -> None:
    done = hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("WORKDIR /src", "WORKDIR src", "DL3000"),
        ('CMD ["serve"]', "CMD serve", "DL3025"),
        ('LABEL org.opencontainers.image.title="cutover"', 'LABEL nickname="cutover"', "DL3049"),
        ("FROM python:3.11-slim-bookworm AS build", "FROM python AS build", "DL3006"),
    ],
)
def test_the_linter_sees_what_is_wrong(good: str, bad: str, rule: str, tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert good in text
    worse = tmp_path / "Dockerfile"
    worse.write_text(text.replace(good, bad))
    done = hadolint(worse)
    assert done.returncode == 1
    assert rule in done.stdout


def test_the_image_has_the_directories_that_its_user_writes_to() -> None:
    last = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert "install -d -o cutover -g cutover -m 0750 /run/cutover /var/lib/cutover /var/lib/cutover/archives" in last
