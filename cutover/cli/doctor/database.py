"""The tenant's database: is it the right one, is everything in place, may we do our work there?"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cutover.cli.doctor import machine, record, storage
from cutover.cli.doctor.finding import Finding, broken, finding
from cutover.domain.errors import CutoverError

if TYPE_CHECKING:
    from cutover.stores.database import Database
    from cutover.stores.inspection import ServerLook

SECONDS = 4.0
"""For one question. What takes longer is a finding of its own, and the others are asked at the same time."""
OLDEST_SERVER = 150_000
TESTED_SERVERS = range(150_000, 190_000)
LARGEST_CLOCK_DIFFERENCE = 2.0


@dataclass(frozen=True, slots=True)
class Expected:
    """What our settings say about the tenant. `config_hash`: 12 hex digits; `now`: this machine's clock."""

    psql: str = 'psql "$DATABASE_URL"'
    """How people come to this database."""
    kv: bool = False
    own_storage: bool = True
    plugin_elsewhere: bool = False
    """The plugin has a URL of its own: what is about its tables is asked there (`storage`)."""
    config_hash: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    sweep_interval: float = 60.0
    digest_interval: float = 600.0
    now: Callable[[], float] = time.time


async def look(tenant: str, url: str, expected: Expected) -> AsyncIterator[Finding]:
    """Connect, and give every finding; raises the errors of `Database` where nothing can be asked at all."""
    from cutover.stores.database import Database

    try:
        database = await Database.connect(
            url,
            application_name="cutover-doctor",
            max_size=4,
            timeout=SECONDS,
            settings={"statement_timeout": f"{SECONDS:g}s"},
        )
    except CutoverError as error:
        remedy = f'check the URL, the server and pg_hba.conf: {expected.psql} -c "select 1"'
        yield Finding(tenant, "database", "fail", error.message, remedy)
        return
    try:
        async for one in inside(tenant, database, expected):
            yield one
    finally:
        await database.close(timeout=1.0)


async def inside(tenant: str, database: "Database", expected: Expected) -> AsyncIterator[Finding]:
    """Every finding about a database that answers."""
    from cutover.stores import migrate
    from cutover.stores.inspection import look_at_server

    server = await look_at_server(database, now=expected.now, timeout=SECONDS)
    for one in _server(tenant, server):
        yield one
    yield await asyncio.to_thread(_disk, tenant, server)
    dropped = await record.dropped(database) if server.has_cutover and not server.has_agent_memories else ""
    yield _tables(tenant, server, dropped)
    parts: dict[str, Callable[[], Awaitable[list[Finding]]]] = {"rights": lambda: _rights(tenant, database, expected)}
    if expected.own_storage and not expected.plugin_elsewhere:
        for one in storage.catalogue(tenant, server):
            yield one
        parts["strays in public"] = lambda: storage.strays(tenant, database, server)
    try:
        missing = [m for m in await migrate.status(database) if m.applied_at is None or m.changed]
    except CutoverError as error:
        yield Finding(tenant, "schema cutover", "fail", f"cannot be looked at: {error.message}", "see the check rights")
    else:
        words = ", ".join(f"{m.version:03d}_{m.name}" for m in missing)
        found = f"not applied: {words}" if missing else "migrated"
        yield finding(tenant, "schema cutover", not missing, found, "cutover migrate up")
        if not missing:
            parts |= record.parts(tenant, database, expected, gone=bool(dropped))
    for answers in await asyncio.gather(*(_part(tenant, check, ask) for check, ask in parts.items())):
        for one in answers:
            yield one


async def _part(tenant: str, check: str, ask: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """One question: what fails or takes too long is a finding and hides none of the others."""
    try:
        async with asyncio.timeout(SECONDS):
            return await ask()
    except TimeoutError:
        words = f"no answer within {SECONDS:g} s"
        remedy = "what is in the way? select pid, state, query from pg_stat_activity where wait_event_type = 'Lock'"
        return [Finding(tenant, check, "fail", words, remedy)]
    except CutoverError as error:
        return [Finding(tenant, check, "fail", error.message, error.next_step or "see the server's log")]
    except Exception as error:  # noqa: BLE001 - what one look did not expect must not hide what the others found
        return [broken(tenant, check, error)]


def _server(tenant: str, look: "ServerLook") -> list[Finding]:
    found = [
        finding(tenant, "database", True, f"reachable, as role {look.role}", ""),
        finding(
            tenant,
            "server version",
            look.version_num in TESTED_SERVERS,
            f"PostgreSQL {look.version}",
            "use PostgreSQL 15 to 18",
            otherwise="fail" if look.version_num < OLDEST_SERVER else "warn",
        ),
        finding(
            tenant,
            "primary",
            not look.in_recovery,
            "primary" if not look.in_recovery else "a standby: nothing can be written",
            "point DATABASE_URL at the primary",
        ),
        finding(
            tenant,
            "clock",
            abs(look.clock_difference) <= LARGEST_CLOCK_DIFFERENCE,
            f"the database's clock differs by {look.clock_difference:+.3f} s",
            "on both machines: timedatectl set-ntp true",
            otherwise="warn",
        ),
    ]
    if not look.may_see_sessions:
        words = "may not see what other sessions do: sweeps cannot tell when the database is busy"
        found.append(Finding(tenant, "sessions", "warn", words, f"grant pg_read_all_stats to {look.role}"))
    return found


def _disk(tenant: str, look: "ServerLook") -> Finding:
    """The disk under the server's data, where it is ours: PostgreSQL itself does not tell what is free."""
    check = "disk of database"
    if not look.reached_locally:
        words = "the server is on another machine, and PostgreSQL does not tell what is free there: df -h there"
        return Finding(tenant, check, "skip", words)
    if look.data_directory is None:
        words = "the server does not tell this role where its data is: to know it, grant pg_read_all_settings"
        return Finding(tenant, check, "skip", f"{words} to {look.role}")
    try:
        if not Path(look.data_directory).parent.exists():
            words = f"{look.data_directory} is not on this machine (a container?): df -h there"
            return Finding(tenant, check, "skip", words)
        there = Path(look.data_directory).is_dir()
    except OSError:
        there = False
    if not there:
        return Finding(tenant, check, "skip", f"{look.data_directory} may not be looked at by this user: df -h there")
    return machine.room(tenant, check, Path(look.data_directory))


def _tables(tenant: str, look: "ServerLook", dropped: str) -> Finding:
    tables = {
        "agent_memories": look.has_agent_memories or bool(dropped),
        "workspaces": look.has_workspaces,
        "workspace_auth_tokens": look.has_tokens,
    }
    absent = [table for table, there in tables.items() if not there]
    return finding(
        tenant,
        "legacy tables",
        not absent,
        f"missing: {', '.join(absent)}" if absent else dropped or "all there",
        "is DATABASE_URL the tenant's database? workspace-server creates these tables"
        + ("" if look.has_cutover else "; a tenant that was retired has no agent_memories either, and needs no daemon"),
    )


async def _rights(tenant: str, database: "Database", expected: Expected) -> list[Finding]:
    from cutover.stores.inspection import missing_rights

    here = expected.own_storage and not expected.plugin_elsewhere
    lacking = await missing_rights(database, own_storage=here, kv=expected.kv)
    words = (
        f"{sum(not each.startswith('set ') for each in lacking)} are missing, of those that the way to A4 takes"
        if lacking
        else "all that the way to A4 takes"
    )
    return [finding(tenant, "rights", not lacking, words, "; ".join(lacking))]
