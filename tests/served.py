"""A daemon as a child process in a phase of choice, for tests that talk to its faces from outside."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import aiohttp
import asyncpg

from cutover.embedded.control import Control
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import Child, DaemonChild, Processes, answers, daemon_child, plugin_child, until
from cutover.embedded.stack import plugin_database_url, prepare_database

SETTINGS: Mapping[str, str] = {
    "CUTOVER_PROBE_INTERVAL": "0.2",
    "CUTOVER_SWEEP_INTERVAL": "3600",
    "CUTOVER_SHADOW_READ_RATIO": "0",
    "CUTOVER_LOG_FORMAT": "json",
}
_STEPS = ("A1", "A2", "A3")
_NUMBERS = count(1)


@dataclass(frozen=True, slots=True)
class Served:
    """A running tenant. All URLs are without a slash at the end."""

    daemon: DaemonChild
    plugin: Child
    plugin_url: str
    database_url: str
    processes: Processes
    settings: Mapping[str, str]

    def another_daemon(self, name: str, **settings: str) -> DaemonChild:
        """One more of the same tenant (not started), with the settings of the first and what is given."""
        return daemon_child(
            self.processes,
            database_url=self.database_url,
            plugin_url=self.plugin_url,
            name=name,
            settings={**self.settings, **settings},
        )

    async def execute(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """A statement on the tenant's database, as somebody other than the daemon."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()

    async def workspace(self, parent: UUID | None = None) -> UUID:
        """A fresh workspace."""
        made = uuid4()
        await self.execute(
            "INSERT INTO workspaces (id, name, parent_id, status) VALUES ($1, 'fresh', $2, 'online')", made, parent
        )
        return made

    async def workspaces(self, number: int) -> list[UUID]:
        """That many fresh roots."""
        made = await self.execute(
            "INSERT INTO workspaces (id, name, status)"
            " SELECT gen_random_uuid(), 'fresh', 'online' FROM generate_series(1, $1) RETURNING id",
            number,
        )
        return [row["id"] for row in made]


async def _start(served: Served, phase: str, rows: int) -> None:
    if rows:
        workspace = await served.workspace()
        await served.execute(
            "INSERT INTO agent_memories (workspace_id, content, scope)"
            " SELECT $1, 'old memory ' || n, 'LOCAL' FROM generate_series(1, $2) n",
            workspace,
            rows,
        )
    await served.plugin.start()
    await served.daemon.child.start()
    async with aiohttp.ClientSession() as session:
        url = f"{served.daemon.at.ops}/readyz/checks/plugin"
        await until(lambda: answers(session, url), "the plugin seen healthy", timeout=15.0)
    async with Control(served.daemon.at.ops, served.daemon.admin_token) as control:
        for step in _STEPS[: int(phase[1])]:
            if step == "A3":
                await control.start_backfill()
                await until(lambda: _backfilled(control), "backfill complete", timeout=30.0)
            await control.enter(step, override="a test")


async def _backfilled(control: Control) -> bool:
    return bool((await control.backfill())["complete"])


@contextmanager
def served(
    postgres: EmbeddedPostgres, phase: str = "A0", *, settings: Mapping[str, str] | None = None, rows: int = 0
) -> Iterator[Served]:
    """A tenant of its own in `phase`, with `rows` old memories; everything is gone at the end."""
    name = f"served_{next(_NUMBERS)}"
    url = asyncio.run(prepare_database(postgres, name))
    with TemporaryDirectory(prefix="cutover-served-") as logs:
        with Processes(Path(logs)) as processes:
            plugin, plugin_url = plugin_child(processes, plugin_database_url(url))
            given = {**SETTINGS, **(settings or {})}
            daemon = daemon_child(processes, database_url=url, plugin_url=plugin_url, settings=given)
            made = Served(daemon, plugin, plugin_url, url, processes, given)
            asyncio.run(_start(made, phase, rows))
            yield made
    asyncio.run(postgres.drop_database(name))
