"""A look at a tenant's database from the outside, for `cutover doctor`: catalogues, versions, clock, triggers."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from cutover.domain.errors import CutoverError
from cutover.domain.phase import Phase
from cutover.stores import migrate
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
    stray_tables: tuple[str, ...]
    """Of `records` and `namespaces`, those there as `public.memory_…`, where the plugin does not look (domain §3)."""
    may_see_sessions: bool
    """Whether sweeps can tell that the database is busy with others' work."""
    role: str
    """The current role, quoted as SQL needs it."""
    data_directory: str | None
    """On the server's disk; None: the role may not know it."""
    reached_locally: bool
    """Over a socket or loopback: its disk may be ours."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """Something the role may not do, and the statement that mends it. `needed_to`: read, or also write."""

    words: str
    remedy: str
    needed_to: str = "write"


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


async def look_at_server(
    database: Database, *, now: Callable[[], float] = time.time, timeout: float = 4.0
) -> ServerLook:
    """One round trip. `now`: our clock, seconds since 1970. Raises our errors only."""
    before = now()
    row = await database.fetchrow(query("inspect_server"), timeout=timeout)
    after = now()
    assert row is not None  # noqa: S101 - a select without from always gives a row
    told = dict(row)
    clock = told.pop("clock") - (before + after) / 2
    strays = tuple(told.pop("stray_tables"))
    return ServerLook(**told, clock_difference=clock, stray_tables=strays)


async def count_strays(database: Database, look: ServerLook, *, timeout: float = 4.0) -> int | None:
    """Rows in the stray tables; None where they may not be read, or not be counted in time."""
    total = 0
    for table in look.stray_tables:
        try:
            total += await database.fetchval(f"select count(*) from public.memory_{table}", timeout=timeout)
        except CutoverError:
            return None
    return total


async def missing_rights(database: Database, *, own_storage: bool, kv: bool) -> tuple[str, ...]:
    """The statements that give the daemon's role what it lacks; empty: nothing. `own_storage`: the plugin's tables are
    used, `kv`: K/V rows are copied. Where one takes a lock that others would wait for, the first bounds its wait."""
    lacking = tuple(row["remedy"] for row in await database.fetch(query("inspect_rights"), own_storage, kv))
    locks = any(each.startswith("alter table") for each in lacking)
    return ("set lock_timeout = '2s'", *lacking) if locks else lacking


async def missing_plugin_rights(database: Database) -> list[Lacking]:
    """What the role lacks in the plugin's tables, where there are any."""
    return [Lacking(**dict(row)) for row in await database.fetch(query("inspect_plugin_rights"))]


async def home_state(database: Database) -> str:
    """Of the plugin's schema: usable, forbidden (to this role) or absent."""
    row = await database.fetchrow(
        "select has_schema_privilege(n.oid, 'USAGE') as usable from pg_namespace n where n.nspname = 'memory_plugin'"
    )
    return "absent" if row is None else "usable" if row["usable"] else "forbidden"


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


_FUNCTION = re.compile(
    r"create (?:or replace )?function cutover\.(\w+)\s*\(.*?\bas \$(\w*)\$(.*?)\$\2\$", re.IGNORECASE | re.DOTALL
)


async def changed_functions(database: Database) -> tuple[str, ...]:
    """Functions of schema `cutover` whose text is none that a migration gives them: capture rests on it.

    From A4 on they name a stand-in for `agent_memories` (migration 014), which is no change.
    """
    packaged: dict[str, set[str]] = {}
    for migration in migrate.available():
        for name, _, text in _FUNCTION.findall(migration.up):
            packaged.setdefault(name.lower(), set()).add(text)
    rows = await database.fetch(
        "select p.proname, p.prosrc"
        " from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'cutover' and p.prosrc <> ''"
        " order by p.proname"
    )
    changed = [
        row["proname"]
        for row in rows
        if not packaged.get(row["proname"], set())
        & {row["prosrc"], row["prosrc"].replace("cutover.legacy_stand_in", "public.agent_memories")}
    ]
    return tuple(dict.fromkeys(changed))
