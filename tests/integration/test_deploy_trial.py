"""The services of `deploy/docker-compose.yml` that are ours, started as it starts them, without an engine: their
commands, settings, secrets and health checks on a database that its script has filled. Only addresses are others."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from cutover.embedded.control import Control
from cutover.embedded.processes import Processes, free_port, until
from tests.compose import binds, environment, make_secrets, services
from tests.conftest import MakeDatabase

FACES = ("CUTOVER_PLUGIN_LISTEN", "CUTOVER_MEMORIES_LISTEN", "CUTOVER_OPS_LISTEN")
ENTRYPOINT = [sys.executable, "-m", "cutover"]
"""As `["cutover"]` of the Dockerfile."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What runs, with the variables of each service."""

    control: Control
    environments: dict[str, dict[str, str]]
    ports: dict[str, str]
    """Every port in the file, and the free one that stands for it."""

    def healthy(self, name: str) -> bool:
        """Whether a service's own health check says so."""
        command = [self.moved(word) for word in services()[name]["healthcheck"]["test"][1:]]
        command[0] = sys.executable if command[0] == "python" else command[0]
        if command[0] == "cutover":
            command[:1] = ENTRYPOINT
        return (
            subprocess.run(
                command, env=self.environments[name], capture_output=True, check=False, timeout=60
            ).returncode
            == 0
        )

    async def doctor(self) -> list[dict[str, str]]:
        """What `docker compose exec cutover cutover doctor` would find."""
        done = await asyncio.to_thread(
            subprocess.run,
            [*ENTRYPOINT, "doctor", "-o", "json"],
            env=self.environments["cutover"],
            capture_output=True,
            check=False,
            timeout=120,
        )
        found: list[dict[str, str]] = json.loads(done.stdout)
        assert len(found) > 10
        return found

    def moved(self, text: str) -> str:
        """Text of the file with this trial's ports."""
        return moved(text, self.ports)


def moved(text: str, ports: dict[str, str]) -> str:
    for port, other in ports.items():
        text = text.replace(f":{port}", f":{other}")
    return text.replace("plugin:", "127.0.0.1:").replace("0.0.0.0", "127.0.0.1")  # noqa: S104 -- taken out


@pytest.fixture
async def trial(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    url = await make_database(legacy=False)
    (script,) = binds(services()["postgres"])
    connection = await asyncpg.connect(url)
    await connection.execute(script.read_text())
    await connection.close()
    secrets = make_secrets(tmp_path / "secrets")
    (secrets / "database-url").unlink()
    (secrets / "database-url").write_text(url)
    (secrets / "database-url").chmod(0o400)
    (secrets / "admin-token").chmod(0o400)
    ports = {port: str(free_port()) for port in ("9100", "9200", "9201", "9202")}
    environments = {
        name: {key: moved(value, ports) for key, value in environment(name, secrets, tmp_path).items()}
        for name in ("plugin", "cutover")
    }
    with Processes(tmp_path / "logs") as processes:
        words = [moved(word, ports) for word in services()["plugin"]["command"]]
        made = processes.child(
            "plugin",
            [*ENTRYPOINT, *words],
            environments["plugin"],
            ready_url=f"http://127.0.0.1:{ports['9100']}/v1/health",
        )
        ops = f"http://127.0.0.1:{ports['9202']}"
        daemon = processes.child("cutover", [*ENTRYPOINT, "serve"], environments["cutover"], ready_url=f"{ops}/livez")
        # As `depends_on` has it: the daemon does not wait for the plugin to be healthy.
        daemon.launch()
        await made.start()
        await daemon.ready()
        async with Control(ops, (secrets / "admin-token").read_text().strip()) as control:
            yield Trial(control, {"plugin": dict(made.environment), "cutover": dict(daemon.environment)}, ports)


async def test_the_trial_comes_up_healthy_and_doctor_finds_nothing(trial: Trial) -> None:
    async def plugin_seen() -> bool:
        return bool((await trial.control.status())["plugin"]["up"])

    await until(plugin_seen, "the plugin seen healthy", timeout=40)
    assert (await trial.control.status())["tenant"] == "trial"
    assert trial.healthy("plugin")
    assert trial.healthy("cutover")
    elsewhere = Trial(trial.control, trial.environments, {**trial.ports, "9100": str(free_port())})
    assert not elsewhere.healthy("plugin")
    assert (await trial.control.sweep())["outcome"] in (
        "clean",
        "not_applicable",
    )  # a control route: the token is right
    # How full the disks of this machine are is not the trial's fault.
    found = [each for each in await trial.doctor() if not each["check"].startswith("disk of")]
    assert [each for each in found if each["status"] != "pass"] == []
