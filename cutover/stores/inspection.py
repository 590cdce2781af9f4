"""A look at a tenant's database from the outside, for `cutover doctor`: catalogues, versions, clock, triggers."""

import time
from dataclasses import dataclass

from cutover.domain.errors import CutoverError
from cutover.domain.phase import Phase
from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class ServerLook:
    """What the server says about itself. `clock_difference`: its clock less ours, in seconds."""

    version_num: int
    version: str
    in_recovery: bool
    clock_difference: float
    pgvector_schema: str | None
    pgvector_version: str | None
    pgvector_available: bool
    has_agent_memories: bool
    has_workspaces: bool
    has_tokens: bool
    has_cutover: bool
    has_plugin_tables: bool
    stray_rows: int | None
    """Rows in `public.memory_*`, which the plugin does not see (domain §3); None: they may not be read."""
    may_see_sessions: bool
    """Whether sweeps can tell that the database is busy with others' work."""


@dataclass(frozen=True, slots=True)
class CaptureLook:
    """The phase row, and which capture triggers are in place."""

    phase: Phase
    epoch: int
    intact: tuple[str, ...]
    missing: tuple[str, ...]
    kv_intact: tuple[str, ...] = ()
    kv_captured: bool = False
    """What the last daemon that started made of its switch `CUTOVER_KV`."""
    kv_lacks: str | None = None
    """What `workspace_memory` lacks for K/V; None: nothing."""


async def look_at_server(database: Database) -> ServerLook:
    """One round trip, and one more where there are stray tables; raises our errors only."""
    before = time.time()
    row = await database.fetchrow(query("inspect_server"))
    after = time.time()
    assert row is not None  # noqa: S101 - a select without from always gives a row
    told = dict(row)
    stray_tables = [
        name
        for name, there in (
            ("records", told.pop("has_stray_records")),
            ("namespaces", told.pop("has_stray_namespaces")),
        )
        if there
    ]
    clock = told.pop("clock") - (before + after) / 2
    return ServerLook(**told, clock_difference=clock, stray_rows=await _stray_rows(database, stray_tables))


async def missing_rights(database: Database, *, own_storage: bool, kv: bool) -> tuple[str, ...]:
    """The statements that give the daemon's role what it lacks; empty: nothing. `own_storage`: the plugin's tables are
    used, `kv`: K/V rows are copied."""
    return tuple(row["remedy"] for row in await database.fetch(query("inspect_rights"), own_storage, kv))


async def _stray_rows(database: Database, tables: list[str]) -> int | None:
    total = 0
    for table in tables:
        try:
            total += await database.fetchval(f"select count(*) from public.memory_{table}")
        except CutoverError:  # no right to read it, or it is too large to count in time: not known
            return None
    return total


async def look_at_capture(database: Database) -> CaptureLook:
    """The phase and the triggers; call it only where schema `cutover` is migrated."""
    row = await database.fetchrow(query("inspect_capture"))
    assert row is not None  # noqa: S101 - the phase row is there from the first migration on
    return CaptureLook(
        Phase(row["phase"]),
        row["epoch"],
        tuple(row["intact"]),
        tuple(row["missing"]),
        tuple(row["kv_intact"]),
        row["kv_captured"],
        row["kv_lacks"],
    )
