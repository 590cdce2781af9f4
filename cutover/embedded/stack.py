"""Everything of one tenant on one machine: PostgreSQL, the reference plugin and the daemon, each its own process."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from cutover.embedded.control import Control
from cutover.embedded.legacy_schema import legacy_schema
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import Child, DaemonChild, Processes, daemon_child, plugin_child


def plugin_database_url(database_url: str) -> str:
    """The connection URL of the built-in plugin on the tenant's database (domain §3)."""
    return f"{database_url}{'&' if '?' in database_url else '?'}search_path=memory_plugin,public"


@dataclass(frozen=True, slots=True)
class Stack:
    """One running tenant. `plugin_url` is the plugin itself; the daemon may be pointed at a proxy before it."""

    postgres: EmbeddedPostgres
    processes: Processes
    database_url: str
    plugin: Child
    plugin_url: str
    daemon: DaemonChild
    control: Control


async def prepare_database(postgres: EmbeddedPostgres, name: str) -> str:
    """A database with the v1 schema and nothing in it; gives back its URL."""
    url = await postgres.create_database(name)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(legacy_schema())
    finally:
        await connection.close()
    return url


@contextlib.asynccontextmanager
async def running_stack(
    postgres: EmbeddedPostgres,
    database_url: str,
    *,
    settings: Mapping[str, str] | None = None,
    daemon_command: Sequence[str] = (),
    logs: Path | None = None,
    start_daemon: bool = True,
) -> AsyncIterator[Stack]:
    """The plugin and the daemon on a prepared database; both are gone at the end, and so are their logs unless `logs`
    says where to keep them."""
    directory = logs or Path(tempfile.mkdtemp(prefix="cutover-logs-"))
    try:
        with Processes(directory) as processes:
            plugin, plugin_url = plugin_child(processes, plugin_database_url(database_url))
            await plugin.start()
            daemon = daemon_child(
                processes,
                database_url=database_url,
                plugin_url=plugin_url,
                settings=settings,
                command=daemon_command,
            )
            if start_daemon:
                await daemon.child.start()
            async with Control(daemon.at.ops, daemon.admin_token) as control:
                yield Stack(postgres, processes, database_url, plugin, plugin_url, daemon, control)
    finally:
        if logs is None:
            shutil.rmtree(directory, ignore_errors=True)
