"""A small tenant on real stores: workspaces of every shape, rows of every scope, and the same rows in the plugin."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from cutover.domain.events import Event
from cutover.domain.memory import Kind, PluginCommit, Source
from cutover.domain.namespace import Scope, kind_of
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.propagation import Provenance, pack
from cutover.domain.requests import Caller
from cutover.embedded.reference_plugin import running
from cutover.embedded.stack import plugin_database_url
from cutover.engine.plugin_reads import PluginReads
from cutover.engine.read import Reads
from cutover.engine.shadow_read import ShadowReader
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.legacy import LegacyStore
from cutover.stores.plugin import PluginClient

START = datetime(2026, 4, 1, 12, 0, 0, 123400, tzinfo=UTC)
CALLER = Caller("memories")

ROOT, CHILD, SIBLING, REMOVED, GRANDCHILD, STRANGER, LEFT, RIGHT, SELF = (UUID(int=n) for n in range(1, 10))
WORKSPACES = (
    (ROOT, None, "online"),
    (CHILD, ROOT, "online"),
    (SIBLING, ROOT, "online"),
    (REMOVED, ROOT, "removed"),
    (GRANDCHILD, CHILD, "online"),
    (STRANGER, None, "online"),
    (LEFT, RIGHT, "online"),  # a cycle of two
    (RIGHT, LEFT, "online"),
    (SELF, SELF, "online"),  # and of one
)


@dataclass
class Scene:
    """Both stores of one tenant, and the reads over them in whichever `phase` the test sets."""

    database: Database
    legacy: LegacyStore
    plugin: PluginClient
    phase: Phase = Phase.A0
    events: list[Event] = field(default_factory=list)
    inserted: int = 0

    def state(self) -> PhaseState:
        return PhaseState(self.phase, 1, START, 1)

    def shadow(self, *, ratio: float = 0.0, recent: float = 0.0, **options: Any) -> ShadowReader:
        return ShadowReader(
            tenant="test",
            legacy=self.legacy,
            plugin=PluginReads(self.legacy, self.plugin),
            phase=self.state,
            observer=self.events.append,
            ratio=ratio,
            recent_seconds=recent,
            **options,
        )

    def reads(self, shadow: ShadowReader | None = None) -> Reads:
        return Reads(
            tenant="test",
            legacy=self.legacy,
            plugin=PluginReads(self.legacy, self.plugin),
            phase=self.state,
            observer=self.events.append,
            shadow=shadow or self.shadow(),
        )

    async def row(
        self,
        workspace: UUID | None,
        content: str,
        scope: str = "LOCAL",
        *,
        label: str = "general",
        created_at: datetime | None = START,
        embedding: list[float] | None = None,
        deliver: bool = True,
    ) -> UUID:
        """Insert a legacy row, one second newer than the one before, and (unless told not to) deliver it."""
        memory_id = uuid4()
        self.inserted += 1
        if created_at is START:
            created_at = START + timedelta(seconds=self.inserted)
        vector = None if embedding is None else json.dumps(embedding)
        column = ", embedding" if vector is not None else ""
        value = ", $7::text::vector" if vector is not None else ""
        arguments = [memory_id, workspace, content, scope, label, created_at]
        await self.database.execute(
            "INSERT INTO agent_memories (id, workspace_id, content, scope, namespace, created_at, updated_at"
            f"{column}) VALUES ($1, $2, $3, $4, $5, $6, $6{value})",
            *arguments,
            *([vector] if vector is not None else []),
        )
        if deliver and workspace is not None:
            await self.deliver(memory_id, embedding=embedding)
        return memory_id

    async def deliver(self, memory_id: UUID, *, embedding: list[float] | None = None) -> None:
        """Put the row into the plugin as a delivery does."""
        row = await self.database.fetchrow(
            "SELECT *, cutover.namespace_of(workspace_id, scope) AS place FROM agent_memories WHERE id = $1", memory_id
        )
        assert row is not None
        ours = Provenance(
            row["workspace_id"], Scope(row["scope"]), row["namespace"], row["created_at"], row["updated_at"]
        )
        vector = None if embedding is None else tuple(embedding)
        await self.commit(
            PluginCommit(memory_id, row["place"], row["content"], propagation=pack(ours), embedding=vector)
        )

    async def commit(self, commit: PluginCommit) -> None:
        await self.plugin.put_namespace(commit.namespace, kind_of(commit.namespace), timeout=5)
        await self.plugin.commit(commit, timeout=5)

    async def native(
        self,
        namespace: str,
        content: str,
        *,
        kind: Kind = Kind.SUMMARY,
        expires_at: datetime | None = None,
        pin: bool = False,
        embedding: list[float] | None = None,
    ) -> UUID:
        """A memory that only the plugin holds, remembered in `cutover.native`, newer than every row so far."""
        memory_id = uuid4()
        self.inserted += 1
        created = START + timedelta(seconds=self.inserted)
        await self.database.execute(
            "INSERT INTO cutover.native (memory_id, namespace, content, kind, source, expires_at, pin, created_at)"
            " VALUES ($1, $2, $3, $4, 'runtime', $5, $6, $7)",
            memory_id,
            namespace,
            content,
            kind.value,
            expires_at,
            pin,
            created,
        )
        ours = pack(Provenance(None, None, "general", created, created))
        vector = None if embedding is None else tuple(embedding)
        await self.commit(
            PluginCommit(memory_id, namespace, content, kind, Source.RUNTIME, expires_at, ours, pin, vector)
        )
        return memory_id


@asynccontextmanager
async def scene_on(url: str) -> AsyncIterator[Scene]:
    """The tenant on a fresh database with the v1 schema."""
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        await add_workspaces(database)
        async with (
            running(plugin_database_url(url), "127.0.0.1:0") as address,
            PluginClient(address) as plugin,
        ):
            yield Scene(database, LegacyStore(database), plugin)
    finally:
        await database.close()


@asynccontextmanager
async def database_in_a1_at(url: str) -> AsyncIterator[Database]:
    """A connection of somebody's to a database that is migrated, has these workspaces, and is in A1; no daemon runs."""
    opened = await Database.connect(url, application_name="somebody", max_size=3)
    try:
        await migrate.up(opened)
        await add_workspaces(opened)
        await opened.execute("SELECT cutover.install_capture()")
        await opened.execute("SELECT cutover.set_phase(1, 'A1', 'test', 'test')")
        yield opened
    finally:
        await opened.close()


async def add_workspaces(database: Database) -> None:
    """The workspaces of the scene, whether `status` is the enum or text."""
    enum = await database.fetchval("SELECT to_regtype('workspace_status') IS NOT NULL")
    cast = "::workspace_status" if enum else ""
    await database.executemany(
        f"INSERT INTO workspaces (id, name, parent_id, status) SELECT $1, 'w', $2, $3::text{cast}", WORKSPACES
    )


def basis(axis: int) -> list[float]:
    """A unit vector of the plugin's dimensions."""
    return [1.0 if each == axis else 0.0 for each in range(1536)]
