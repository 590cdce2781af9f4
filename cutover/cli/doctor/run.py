"""All looks at once, each bounded in time: what does not answer becomes a finding, and never holds up the others."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cutover.cli.doctor.finding import EVERYBODY, Finding, broken, finding
from cutover.domain.commands import for_tenant
from cutover.domain.errors import CutoverError

if TYPE_CHECKING:
    from cutover.settings import Settings
    from cutover.tenant_settings import TenantSettings

SUBJECT_SECONDS = 9.0
"""For one subject of one tenant: its database, its plugin, the plugin's tables."""
TENANTS_AT_ONCE = 8
ALL_SECONDS = 11.0
"""For everything: with the start of the program and its end that is less than 15 s."""
Look = Callable[[], AsyncIterator[Finding]]


@dataclass(frozen=True, slots=True)
class _Subject:
    tenant: str
    check: str
    look: Look
    remedy: str


async def examine(
    environ: Mapping[str, str], only: str | None, *, now: Callable[[], float] = time.time
) -> list[Finding]:
    """Every finding, in the order of the subjects. `now`: this machine's clock, seconds since 1970."""
    from cutover.cli.doctor import daemon, machine
    from cutover.settings import load

    found = machine.secrets(environ)
    try:
        settings = load(environ)
    except CutoverError as error:
        wrong = Finding(EVERYBODY, "settings", "fail", error.message, "mend that variable, then: cutover doctor")
        return [wrong, *found, *await _looked(_Subject(EVERYBODY, "daemon", lambda: daemon.look(environ, ()), ""))]
    valid = [finding(EVERYBODY, "settings", True, f"valid, hash {settings.config_hash()[:12]}", "")]
    valid += [
        Finding(EVERYBODY, "settings", "warn", words, "mend it, or know why it is so") for words in settings.warnings
    ]
    tenants = [each for each in settings.tenants if only in (None, each.name)]
    if not tenants:
        names = ", ".join(each.name for each in settings.tenants)
        valid.append(Finding(str(only), "settings", "fail", f"no such tenant; there are: {names}", "cutover doctor"))
    subjects = [
        _Subject(EVERYBODY, "disk of archives", lambda: machine.archives(settings.archive_directory), "df -h"),
        *(subject for each in tenants for subject in _of_tenant(settings, each, now)),
        _Subject(
            EVERYBODY, "daemon", lambda: daemon.look(environ, [each.name for each in tenants]), "see the daemon's log"
        ),
    ]
    every = [*valid, *found, machine.admins(settings), *await _all(subjects)]
    # Of several tenants a command has to say which it is for.
    return [_named(one) for one in every] if len(settings.tenants) > 1 else every


def _named(one: Finding) -> Finding:
    if one.tenant == EVERYBODY:
        return one
    return replace(one, found=for_tenant(one.found, one.tenant), remedy=for_tenant(one.remedy, one.tenant))


def _of_tenant(settings: "Settings", tenant: "TenantSettings", now: Callable[[], float]) -> list[_Subject]:
    from cutover.cli.doctor import database, plugin, storage

    name = tenant.name
    expected = database.Expected(
        psql=f"psql {tenant.database_in_shell()}",
        kv=settings.kv == "on" if tenant.kv is None else tenant.kv,
        own_storage=tenant.plugin_database_url != "none",
        plugin_elsewhere=tenant.plugin_database_url not in (None, "none"),
        config_hash=settings.config_hash(name)[:12],
        settings=settings.compared(name),
        sweep_interval=settings.sweep_interval,
        digest_interval=settings.digest_interval,
        now=now,
    )
    hung = "is the server overloaded, or something in the way? look at its log and at pg_stat_activity"
    return [
        _Subject(name, "database", lambda: database.look(name, tenant.database_url, expected), hung),
        _Subject(name, "plugin tables", lambda: storage.look(tenant), hung),
        _Subject(name, "plugin", lambda: plugin.look(name, tenant.plugin_url, now), "see the plugin's log"),
    ]


async def _all(subjects: list[_Subject]) -> list[Finding]:
    """Side by side, tenants in turn; what is not done in time says so."""
    turns = asyncio.Semaphore(TENANTS_AT_ONCE * 3)
    results: dict[int, list[Finding]] = {}

    async def one(number: int, subject: _Subject) -> None:
        async with turns if subject.tenant != EVERYBODY else nullcontext():  # that is one look, and comes first
            results[number] = await _looked(subject)

    tasks = [asyncio.create_task(one(number, subject)) for number, subject in enumerate(subjects)]
    _, late = await asyncio.wait(tasks, timeout=ALL_SECONDS)
    for task in late:
        task.cancel()
    for task in tasks:
        if task not in late:
            task.result()
    missed = "there was no time left to look"
    return [
        one
        for number, each in enumerate(subjects)
        for one in results.get(number, [Finding(each.tenant, each.check, "fail", missed, each.remedy)])
    ]


async def _looked(subject: _Subject) -> list[Finding]:
    """What a look found until it ended, failed, or took too long."""
    found: list[Finding] = []

    async def gather() -> None:
        async with aclosing(subject.look()) as each:  # type: ignore[type-var]
            async for one in each:
                found.append(one)  # noqa: PERF401 - what was found before it took too long counts

    task = asyncio.create_task(gather())
    await asyncio.wait([task], timeout=SUBJECT_SECONDS)
    if not task.done():
        task.cancel()  # and not waited for: what hangs may hang in its end, too
        words = f"no answer within {SUBJECT_SECONDS:g} s"
        return [*found, Finding(subject.tenant, subject.check, "fail", words, subject.remedy)]
    try:
        task.result()
    except CutoverError as error:
        step = error.next_step or subject.remedy
        found.append(Finding(subject.tenant, subject.check, "fail", error.message, step))
    except Exception as error:  # noqa: BLE001 - as in `database`
        found.append(broken(subject.tenant, subject.check, error))
    return found
