"""`cutover doctor`: everything that can be checked from here, each with its remedy."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from cutover.cli.failure import ERROR
from cutover.cli.output import emit, output_option, say, tenant_option
from cutover.cli.verb import Verb
from cutover.domain.errors import CutoverError

if TYPE_CHECKING:
    from cutover.settings import Settings
    from cutover.stores.database import Database
    from cutover.stores.inspection import CaptureLook
    from cutover.tenant_settings import TenantSettings

OLDEST_SERVER = 150_000
TESTED_SERVERS = range(150_000, 190_000)
_ON_LEGACY = frozenset({"cutover_capture_row", "cutover_capture_truncate"})
"""Capture triggers that are on agent_memories itself and go with it."""
_KV_TRIGGERS = 2
LARGEST_CLOCK_DIFFERENCE = 2.0
COLUMNS = ("tenant", "check", "status", "found", "remedy")
SIGNS = {"pass": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do where that is not well."""

    tenant: str
    check: str
    status: str
    found: str
    remedy: str = ""


def finding(tenant: str, check: str, well: bool, found: str, remedy: str, *, otherwise: str = "fail") -> Finding:
    """A finding that passes when `well`, and else is `otherwise` with its remedy."""
    return Finding(tenant, check, "pass" if well else otherwise, found, "" if well else remedy)


@click.command(
    cls=Verb,
    examples=(
        "cutover doctor",
        "cutover doctor --tenant acme -o json",
    ),
)
@tenant_option
@output_option
def doctor(tenant: str | None, form: str) -> None:
    """Check settings, databases, plugins, clocks and the daemon. Exit code 1 when something fails."""
    found = asyncio.run(_examine(tenant))
    emit([asdict(one) for one in found], form, COLUMNS)
    failing = sum(one.status == "fail" for one in found)
    warning = sum(one.status == "warn" for one in found)
    worst = "fail" if failing else "warn" if warning else "pass"
    say(f"{len(found)} checks, {failing} failing, {warning} to look at", SIGNS[worst])
    if failing:
        raise click.exceptions.Exit(ERROR)


async def _examine(only: str | None) -> list[Finding]:
    from cutover.cli.ops_url import environment
    from cutover.settings import load

    environ = environment()
    try:
        settings = load(environ)
    except CutoverError as error:
        return [Finding("*", "settings", "fail", error.message, "mend that variable"), _daemon(environ)]
    found = [finding("*", "settings", True, f"valid, hash {settings.config_hash()[:12]}", "")]
    found += [Finding("*", "settings", "warn", words, "mend it, or know why it is so") for words in settings.warnings]
    found.append(_admin(settings))
    for tenant in settings.tenants:
        if only in (None, tenant.name):
            found += [one async for one in _tenant(tenant, kv=settings.kv == "on" if tenant.kv is None else tenant.kv)]
    found.append(_daemon(environ))
    return found


def _admin(settings: "Settings") -> Finding:
    remedy = "set CUTOVER_ADMIN_TOKEN, for example CUTOVER_ADMIN_TOKEN=file:/run/secrets/cutover-admin-token"
    held = bool(settings.admins)
    words = f"{len(settings.admins)} set" if held else "none: every control call is refused"
    return finding("*", "admin tokens", held, words, remedy, otherwise="warn")


async def _tenant(tenant: "TenantSettings", *, kv: bool) -> AsyncIterator[Finding]:
    from cutover.stores.database import Database

    name = tenant.name
    try:
        database = await Database.connect(
            tenant.database_url, application_name="cutover-doctor", max_size=1, timeout=5.0
        )
    except CutoverError as error:
        yield Finding(name, "database", "fail", error.message, "check DATABASE_URL, the server and pg_hba.conf")
    else:
        try:
            async for one in _database(name, database, own_storage=tenant.plugin_database_url != "none", kv=kv):
                yield one
        except CutoverError as error:
            yield Finding(name, "database", "fail", error.message, error.next_step or "see the server's log")
        finally:
            await database.close()
    for one in await _plugin(tenant):
        yield one


async def _database(name: str, database: "Database", *, own_storage: bool, kv: bool) -> AsyncIterator[Finding]:
    from cutover.stores import migrate
    from cutover.stores.inspection import look_at_capture, look_at_server, missing_rights

    look = await look_at_server(database)
    yield finding(name, "database", True, "reachable", "")
    known = look.version_num in TESTED_SERVERS
    yield finding(
        name,
        "server version",
        known,
        f"PostgreSQL {look.version}",
        "use PostgreSQL 15 to 18",
        otherwise="fail" if look.version_num < OLDEST_SERVER else "warn",
    )
    yield finding(
        name,
        "primary",
        not look.in_recovery,
        "primary" if not look.in_recovery else "a standby: nothing can be written",
        "point DATABASE_URL at the primary",
    )
    yield finding(
        name,
        "clock",
        abs(look.clock_difference) <= LARGEST_CLOCK_DIFFERENCE,
        f"the database's clock differs by {look.clock_difference:+.3f} s",
        "run a time service on both machines",
        otherwise="warn",
    )
    dropped = await _dropped(database) if look.has_cutover and not look.has_agent_memories else ""
    tables = {
        "agent_memories": look.has_agent_memories or bool(dropped),
        "workspaces": look.has_workspaces,
        "workspace_auth_tokens": look.has_tokens,
    }
    absent = [table for table, there in tables.items() if not there]
    yield finding(
        name,
        "legacy tables",
        not absent,
        f"missing: {', '.join(absent)}" if absent else dropped or "all there",
        "is DATABASE_URL the tenant's database? workspace-server creates these tables"
        + ("" if look.has_cutover else "; a tenant that was retired has no agent_memories either, and needs no daemon"),
    )
    yield _pgvector(name, look.pgvector_schema, look.pgvector_version, available=look.pgvector_available)
    if own_storage:
        yield finding(
            name,
            "plugin tables",
            look.has_plugin_tables,
            "in schema memory_plugin" if look.has_plugin_tables else "not in this database",
            "start the plugin once, so that it creates them; or set MEMORY_PLUGIN_DATABASE_URL (none: contract only)",
            otherwise="warn",
        )
    strays = "cannot be counted" if look.stray_rows is None else f"{look.stray_rows} rows"
    yield finding(
        name,
        "strays in public",
        look.stray_rows == 0,
        f"{strays} in public.memory_records and public.memory_namespaces",
        "the plugin does not see them: move them to schema memory_plugin or drop them",
        otherwise="warn" if look.stray_rows is None else "fail",
    )
    lacking = await missing_rights(database, own_storage=own_storage, kv=kv)
    yield finding(
        name,
        "rights",
        not lacking,
        f"{len(lacking)} are missing, of those that the way to A4 takes" if lacking else "all that the way to A4 takes",
        "; ".join(lacking),
    )
    if not look.may_see_sessions:
        words = "may not see what other sessions do: sweeps cannot tell when the database is busy"
        yield Finding(name, "sessions", "warn", words, "grant pg_read_all_stats to the daemon's role")
    missing = [m for m in await migrate.status(database) if m.applied_at is None or m.changed]
    words = ", ".join(f"{m.version:03d}_{m.name}" for m in missing)
    yield finding(
        name, "schema cutover", not missing, f"not applied: {words}" if missing else "migrated", "cutover migrate up"
    )
    if not missing:
        capture = await look_at_capture(database)
        gone = _ON_LEGACY if dropped else frozenset()
        missing_triggers = tuple(each for each in capture.missing if each not in gone)
        yield _capture(name, str(capture.phase), capture.intact, missing_triggers)
        if kv or capture.kv_intact or capture.kv_captured:
            yield _kv(name, capture, wanted=kv)


async def _dropped(database: "Database") -> str:
    """What became of agent_memories in A4; empty when nothing of ours explains that it is not there."""
    from cutover.stores.drop import DropStore

    try:
        state = await DropStore(database).state()
    except CutoverError:  # a schema that is not migrated so far
        return ""
    if state.state == "dropped":
        return "agent_memories was dropped in A4, as it should be"
    if state.relation and state.state not in ("none", "cancelled"):
        return f"agent_memories is held as {state.relation}; `cutover drop show`"
    return ""


def _pgvector(tenant: str, schema: str | None, version: str | None, *, available: bool) -> Finding:
    if schema is not None:
        return finding(tenant, "pgvector", True, f"{version} in schema {schema}", "")
    remedy = "create extension vector" if available else "install pgvector on the server, then: create extension vector"
    words = "available but not created" if available else "not installed on the server"
    return Finding(tenant, "pgvector", "fail", f"{words}: a plugin that needs it will not start", remedy)


def _capture(tenant: str, phase: str, intact: tuple[str, ...], missing: tuple[str, ...]) -> Finding:
    """From A1 to A3 every writer must be captured; in A0 there is nothing to capture for."""
    if phase == "A0":
        left = f"{len(intact)} capture triggers are in place in A0"
        return finding(
            tenant,
            "capture triggers",
            not intact,
            left if intact else "none, as it should be in A0",
            "they cost writes and mark for nothing: restart the daemon, which removes them",
            otherwise="warn",
        )
    words = f"{phase}: missing or disabled: {', '.join(missing)}" if missing else f"{phase}: all in place"
    return finding(
        tenant, "capture triggers", not missing, words, "restart the daemon, which puts them back; then sweep"
    )


def _kv(tenant: str, capture: "CaptureLook", *, wanted: bool) -> Finding:
    """The triggers on workspace_memory: in place where the switch is on, from A1 on, and nowhere else."""
    check = "K/V triggers"
    if wanted and capture.kv_lacks is not None:
        return Finding(
            tenant, check, "fail", f"workspace_memory lacks {capture.kv_lacks}", "CUTOVER_KV=off for this deployment"
        )
    phase, there = str(capture.phase), len(capture.kv_intact)
    if not wanted or phase == "A0":
        where = "in A0" if wanted else "with CUTOVER_KV=off"
        words = f"{there} in place {where}" if there else f"none, as it should be {where}"
        return finding(tenant, check, not there, words, "restart the daemon, which removes them", otherwise="warn")
    well = there == _KV_TRIGGERS and capture.kv_captured
    words = f"{phase}: {there} of {_KV_TRIGGERS} in place" + ("" if capture.kv_captured else ", switched off")
    remedy = "restart the daemon, which puts them back; then cutover backfill --apply --source kv"
    return finding(tenant, check, well, words, remedy)


async def _plugin(tenant: "TenantSettings") -> list[Finding]:
    from cutover.domain.checks.plugin import CONTRACT_MAJOR, REQUIRED_CAPABILITIES
    from cutover.stores.plugin import PluginClient

    name = tenant.name
    try:
        async with PluginClient(tenant.plugin_url) as client:
            health = await client.health(timeout=3.0)
    except CutoverError as error:
        return [Finding(name, "plugin", "fail", error.message, "start the plugin, or mend MEMORY_PLUGIN_URL")]
    lacking = sorted(REQUIRED_CAPABILITIES - set(health.capabilities))
    return [
        finding(name, "plugin", health.status == "ok", f"reachable, status {health.status}", "see the plugin's log"),
        finding(
            name,
            "plugin version",
            health.version.partition(".")[0] == CONTRACT_MAJOR,
            f"contract {health.version}",
            f"deploy a plugin that speaks contract version {CONTRACT_MAJOR}.x",
        ),
        finding(
            name,
            "plugin capabilities",
            not lacking,
            f"lacks {', '.join(lacking)}" if lacking else ", ".join(sorted(health.capabilities)) or "none needed",
            "deploy a plugin that has them",
        ),
    ]


def _daemon(environ: dict[str, str]) -> Finding:
    from cutover.cli.failure import CommandFailed
    from cutover.cli.ops_client import Ops

    with Ops(environ, timeout=3.0) as ops:
        try:
            status, _ = ops.health("/readyz")
        except CommandFailed as error:
            return Finding("*", "daemon", "warn", error.why, error.next_step)
    words = f"answers at {ops.url}, /readyz says {status}"
    return finding("*", "daemon", status == 200, words, "cutover status; cutover phase show", otherwise="warn")
