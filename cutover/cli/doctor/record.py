"""What schema cutover says: triggers, the freeze, the record of phase changes, sweeps, and who serves."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cutover import __version__
from cutover.cli.doctor.finding import Finding, finding
from cutover.domain.duration import spoken
from cutover.domain.errors import CutoverError
from cutover.domain.phase import Phase

if TYPE_CHECKING:
    from cutover.cli.doctor.database import Expected
    from cutover.stores.daemons import DaemonSeen
    from cutover.stores.database import Database
    from cutover.stores.inspection import CaptureLook

_ON_LEGACY = frozenset({"cutover_capture_row", "cutover_capture_truncate"})
"""Capture triggers that are on agent_memories itself and go with it."""
_KV_TRIGGERS = 2
_PSQL = "{} -c \"set lock_timeout = '2s'; {}\""
"""Both functions take a short exclusive lock, for which nobody should have to wait."""
_OVERDUE = 3
"""Intervals without a sweep."""
_LATELY = 25.0
"""Seconds: two heartbeats and a half. Who has been silent for longer may be dead, and is compared with nobody."""
_SHOWN = 4
_UNSET = "not set"
Part = Callable[[], Awaitable[list[Finding]]]


def parts(tenant: str, database: "Database", expected: "Expected", *, gone: bool) -> dict[str, Part]:
    """Everything to ask of a migrated schema, by the name of the first check. `gone`: A4 took agent_memories away."""
    return {
        "capture triggers": lambda: _triggers(tenant, database, expected, gone=gone),
        "freeze": lambda: _freeze(tenant, database),
        "record": lambda: _record(tenant, database),
        "daemons": lambda: _daemons(tenant, database, expected),
        "sweeps": lambda: _sweeps(tenant, database, expected),
        "contents compared": lambda: _contents(tenant, database, expected),
        "functions": lambda: _functions(tenant, database),
    }


async def dropped(database: "Database") -> str:
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


async def _triggers(tenant: str, database: "Database", expected: "Expected", *, gone: bool) -> list[Finding]:
    from cutover.stores.inspection import look_at_capture

    capture = await look_at_capture(database)
    missing = tuple(each for each in capture.missing if not (gone and each in _ON_LEGACY))
    found = [_capture(tenant, expected.psql, str(capture.phase), capture.intact, missing)]
    if expected.kv or capture.kv_intact or capture.kv_captured:
        found.append(_kv(tenant, capture, wanted=expected.kv))
    return found


def _capture(tenant: str, psql: str, phase: str, intact: tuple[str, ...], missing: tuple[str, ...]) -> Finding:
    """From A1 to A3 every writer must be captured; in A0 there is nothing to capture for."""
    if phase == "A0":
        left = f"{len(intact)} capture triggers are in place in A0"
        return finding(
            tenant,
            "capture triggers",
            not intact,
            f"{left}: they cost writes and mark for nothing" if intact else "none, as it should be in A0",
            _PSQL.format(psql, "select cutover.remove_capture()"),
            otherwise="warn",
        )
    words = f"{phase}: missing or disabled: {', '.join(missing)}" if missing else f"{phase}: all in place"
    return finding(
        tenant,
        "capture triggers",
        not missing,
        words,
        f"{_PSQL.format(psql, 'select cutover.install_capture()')}; then: cutover sweep run --kind digest --full",
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
    remedy = "restart the daemon, which puts them back; then: cutover backfill --apply --source kv"
    return finding(tenant, check, well, words, remedy)


async def _freeze(tenant: str, database: "Database") -> list[Finding]:
    """In A3 agent_memories is frozen; whoever took that apart may write there unseen."""
    from cutover.stores.freeze import FreezeStore

    faults = await FreezeStore(database).faults()
    words = f"tampered with: {'; '.join(faults)}" if faults else "as the phase asks for"
    remedy = "cutover phase refreeze --reason 'doctor found it'; then: cutover sweep run --kind digest --full"
    return [finding(tenant, "freeze", not faults, words, remedy)]


async def _record(tenant: str, database: "Database") -> list[Finding]:
    """The hash chain of phase changes, computed again."""
    from cutover.domain.audit import judge
    from cutover.stores.audit import AuditStore

    kept = await AuditStore(database).read()
    verdict = judge(kept.events, kept.row, warrants=kept.warrants, guards=kept.guards)
    whole = verdict.what is None
    where = f"event {verdict.seq}: " if verdict.seq is not None else ""
    words = f"whole, {len(kept.events)} phase changes" if whole else f"broken: {where}{verdict.why}"
    return [finding(tenant, "record", whole, words, "cutover audit verify")]


async def _sweeps(tenant: str, database: "Database", expected: "Expected") -> list[Finding]:
    """From A1 on counts are compared all the time, by whichever daemon."""
    from cutover.stores.gate_sweeps import look_at_sweeps
    from cutover.stores.inspection import look_at_capture

    phase = (await look_at_capture(database)).phase
    if phase is Phase.A0 or not expected.own_storage:
        return []
    age = (await look_at_sweeps(database)).count_age
    late = age is None or age > max(_OVERDUE * expected.sweep_interval, 30.0)
    words = "there was none yet" if age is None else f"the last count sweep ended {spoken(age)} ago"
    words += f"; one is due every {spoken(expected.sweep_interval)}" if late else ""
    return [finding(tenant, "sweeps", not late, words, "cutover sweep run --kind count", otherwise="warn")]


async def _contents(tenant: str, database: "Database", expected: "Expected") -> list[Finding]:
    """That counts agree says nothing about contents: digest sweeps compare these, and planted faults prove them."""
    from cutover.stores.inspection import look_at_capture
    from cutover.stores.recorded_sweeps import recorded_sweeps

    check = "contents compared"
    remedy = "cutover sweep run --kind digest --full"
    if (await look_at_capture(database)).phase in (Phase.A0, Phase.A4):
        return []
    recorded = await recorded_sweeps(database)
    last, canary = recorded.by_kind.get("digest"), recorded.canary
    if canary is not None and not canary.trusted:
        planted, caught = sum(canary.planted.values()), sum(canary.caught.values())
        words = f"the newest digest sweep caught {caught} of {planted} planted faults: its word counts for nothing"
        return [Finding(tenant, check, "fail", words, remedy)]
    if last is None:
        return [Finding(tenant, check, "warn", "no digest sweep has come to a result yet", remedy)]
    now = await database.fetchval("select extract(epoch from clock_timestamp())::float8")
    age = max(0.0, now - last.ended_unix)
    late = age > max(_OVERDUE * expected.digest_interval, 30.0)
    words = f"the last digest sweep with a result ended {spoken(age)} ago"
    words += f"; one is due every {spoken(expected.digest_interval)}" if late else ""
    if canary is None:
        words += "; none has had faults planted, so nothing proves that it would find one"
    return [finding(tenant, check, not late and canary is not None, words, remedy, otherwise="warn")]


async def _functions(tenant: str, database: "Database") -> list[Finding]:
    """A trigger that is in place and calls a function which somebody emptied captures nothing."""
    from cutover.stores.inspection import changed_functions

    changed = await changed_functions(database)
    named = ", ".join(f"cutover.{each}()" for each in changed[:_SHOWN])
    more = f", and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    words = f"not as the migrations made them: {named}{more}" if changed else "as the migrations made them"
    remedy = (
        "ask who did that; put the text of the package's cutover/migrations back with create or replace function; "
        "then: cutover sweep run --kind digest --full"
    )
    return [finding(tenant, "functions", not changed, words, remedy)]


async def _daemons(tenant: str, database: "Database", expected: "Expected") -> list[Finding]:
    """Who serves this tenant, whether they agree with each other, and with the settings of this command."""
    from cutover.stores.daemons import DaemonStore

    if await database.fetchval("select to_regclass('cutover.daemon')") is None:
        # It is on record as applied, so `migrate up` alone would pass it over.
        statement = "delete from cutover.migration where name = 'daemons'"
        remedy = f'{expected.psql} -c "{statement}"; then: cutover migrate up'
        return [Finding(tenant, "daemons", "fail", "table cutover.daemon was dropped: no daemon can be seen", remedy)]
    everyone = await DaemonStore(database).all()
    serving = [each for each in everyone if each.silent_seconds < _LATELY]
    silent = [each for each in everyone if each not in serving]
    names = ", ".join(f"{each.name} ({each.version}, settings {each.config_hash})" for each in serving)
    found = [
        finding(tenant, "daemons", bool(serving), names or "none has been heard of", "cutover serve", otherwise="warn")
    ]
    if silent:
        words = ", ".join(f"{each.name}, last heard of {spoken(each.silent_seconds)} ago" for each in silent)
        remedy = "see its log; a row without a daemon goes by itself after an hour"
        found.append(Finding(tenant, "silent daemons", "warn", words, remedy))
    if serving:
        found += [_agreement(tenant, serving), _ours(tenant, serving, expected), _versions(tenant, serving)]
    return found


def _agreement(tenant: str, serving: "list[DaemonSeen]") -> Finding:
    """Certificates are bound to the settings; and of two daemons each acts by its own."""
    from cutover.stores.daemons import differing

    check = "daemons agree"
    if len({each.config_hash for each in serving}) == 1:
        return finding(tenant, check, True, f"{len(serving)} with the same settings", "")
    who = " and ".join(each.name for each in serving)
    apart = {name: " and ".join(values) for name, values in differing(serving).items()}
    remedy = "restart them with the same settings: cutover serve (settings are read at start only)"
    return Finding(tenant, check, "fail", f"{who} differ in {_apart(apart)}", remedy)


def _ours(tenant: str, serving: "list[DaemonSeen]", expected: "Expected") -> Finding:
    """A setting that was changed and not yet read, or a command in another environment than the daemon's."""
    others = [each for each in serving if each.config_hash != expected.config_hash]
    if not others or not expected.config_hash:
        return finding(tenant, "settings in force", True, "those of this command", "")
    them, ours = others[0].settings, expected.settings
    apart = {
        name: f"{ours.get(name, _UNSET)} here, {them.get(name, _UNSET)} there"
        for name in sorted(ours.keys() | them.keys())
        if ours.get(name) != them.get(name)
    }
    words = f"{others[0].name} runs with others than this command: {_apart(apart)}"
    remedy = "restart the daemon to take these settings, or run this command with the daemon's environment"
    return Finding(tenant, "settings in force", "warn", words, remedy)


def _apart(differences: dict[str, str]) -> str:
    """The first few variables with what each says; a fingerprint says nothing to people, so a URL has none."""
    shown = [f"{name} ({values})" if name.startswith("CUTOVER_") else name for name, values in differences.items()]
    more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _versions(tenant: str, serving: "list[DaemonSeen]") -> Finding:
    """During a rolling update this is as it should be, and after it is not."""
    others = [f"{each.name} runs {each.version}" for each in serving if each.version != __version__]
    words = f"{'; '.join(others)}; this command is {__version__}" if others else __version__
    remedy = "finish the update: restart the daemon, or update this command"
    return finding(tenant, "daemon version", not others, words, remedy, otherwise="warn")
