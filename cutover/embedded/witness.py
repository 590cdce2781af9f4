"""Looks at both stores directly, without the daemon and without any of its code: what is really there."""

from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from uuid import UUID

import asyncpg

from cutover.embedded.history import History, Verdict, check

_NOT_PLANTED = "namespace NOT LIKE 'custom:cutover-%'"
"""Without the daemon's own canaries."""
_PLUGIN = f"memory_plugin.memory_records WHERE {_NOT_PLANTED}"
_FINGERPRINT = """
SELECT count(*) AS rows, coalesce(md5(string_agg(id || ':' || md5(content), ',' ORDER BY id)), '') AS digest
FROM {table}
"""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Rows and a digest of ids and contents per store: equal fingerprints, equal stores."""

    legacy: tuple[int, str]
    plugin: tuple[int, str]


@dataclass(frozen=True, slots=True)
class PluginRow:
    """One memory as the plugin holds it."""

    namespace: str
    content: str


class Witness:
    """A connection of its own to the tenant's database, plugin's schema included. An async context manager.

    Reconnects when the server was restarted. `legacy()` and `plugin()` read everything: for samples, not for millions.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.terminate()

    async def connection(self) -> "asyncpg.Connection[asyncpg.Record]":
        """The connection, opened when needed. Its name is known to the daemon, and it never writes."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url, timeout=10, server_settings={"application_name": "witness"}
            )
        return self._connection

    async def legacy(self) -> dict[UUID, str]:
        """Content by id in `agent_memories`; empty once it is gone."""
        connection = await self.connection()
        if await connection.fetchval("SELECT to_regclass('public.agent_memories')") is None:
            return {}  # A4
        rows = await connection.fetch("SELECT id, content FROM public.agent_memories")
        return {row["id"]: row["content"] for row in rows}

    async def plugin(self) -> dict[UUID, PluginRow]:
        """What the plugin holds, by id."""
        rows = await (await self.connection()).fetch(
            f"SELECT id, namespace, content FROM memory_plugin.memory_records WHERE {_NOT_PLANTED}"
        )
        return {row["id"]: PluginRow(row["namespace"], row["content"]) for row in rows}

    async def fingerprints(self) -> Fingerprints:
        """Both stores at one instant."""
        connection = await self.connection()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            legacy = await connection.fetchrow(_FINGERPRINT.format(table="public.agent_memories"))
            plugin = await connection.fetchrow(
                _FINGERPRINT.format(table=f"memory_plugin.memory_records WHERE {_NOT_PLANTED}")
            )
        if legacy is None or plugin is None:
            raise LookupError("an aggregate without a row")
        return Fingerprints((legacy["rows"], legacy["digest"]), (plugin["rows"], plugin["digest"]))

    async def counts(self) -> tuple[int, int]:
        """Rows of legacy and of the plugin."""
        row = await (await self.connection()).fetchrow(
            "SELECT (SELECT count(*) FROM public.agent_memories) AS legacy, "
            f"(SELECT count(*) FROM memory_plugin.memory_records WHERE {_NOT_PLANTED}) AS plugin"
        )
        return (0, 0) if row is None else (row["legacy"], row["plugin"])

    async def legacy_rows(self) -> int:
        """Rows of legacy."""
        return int(await (await self.connection()).fetchval("SELECT count(*) FROM public.agent_memories"))

    async def plugin_rows(self) -> int:
        """Rows of the plugin."""
        return int(await (await self.connection()).fetchval(f"SELECT count(*) FROM {_PLUGIN}"))

    async def rows(self) -> dict[UUID, str]:
        """Every row of `agent_memories` as text, all columns, by id."""
        found = await (await self.connection()).fetch("SELECT a.id, a::text AS row FROM public.agent_memories AS a")
        return {row["id"]: row["row"] for row in found}

    async def unsettled(self) -> int:
        """Marks, and intents of the journal, that are still to be delivered."""
        return int(
            await (await self.connection()).fetchval(
                "SELECT (SELECT count(*) FROM cutover.mark) "
                "+ (SELECT count(*) FROM cutover.journal WHERE state = 'intent')"
            )
        )

    async def intents(self) -> int:
        """Every intent that was ever journaled."""
        return int(await (await self.connection()).fetchval("SELECT count(*) FROM cutover.journal"))

    async def awaiting_copy(self) -> int:
        """Marks of the backfill that are still to be delivered."""
        return int(
            await (await self.connection()).fetchval("SELECT count(*) FROM cutover.mark WHERE origin = 'backfill'")
        )

    async def quarantined(self) -> set[UUID]:
        """What the daemon says cannot be placed."""
        rows = await (await self.connection()).fetch("SELECT memory_id FROM cutover.quarantine")
        return {row["memory_id"] for row in rows}

    async def natives(self) -> set[UUID]:
        """What legacy has no place for."""
        rows = await (await self.connection()).fetch("SELECT memory_id FROM cutover.native")
        return {row["memory_id"] for row in rows}

    async def judge(self, history: History, authority: Literal["legacy", "plugin"] = "legacy") -> Verdict:
        """Hold what is there against the history. Callers have stopped, marks are drained, the backfill is complete:
        only what is in quarantine may differ, and natives live in the plugin alone."""
        legacy = await self.legacy()
        plugin = {memory_id: row.content for memory_id, row in (await self.plugin()).items()}
        legacy |= {memory_id: plugin[memory_id] for memory_id in await self.natives() if memory_id in plugin}
        return check(history.operations, legacy, plugin, await self.quarantined(), authority)
