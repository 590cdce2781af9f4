"""What the console shows of a tenant, gathered: at most once a second, whoever and however many look.

A part that cannot be had (a database that does not answer) is missing and says why; the rest of the page is shown.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cutover.domain.check import HealthReport
from cutover.domain.errors import CutoverError
from cutover.domain.phase import Phase, PhaseState
from cutover.http.health_cache import HealthCache
from cutover.http.ops_tenant import OpsTenant

FRESH_SECONDS = 1.0
KEPT_SECONDS = 5.0
"""For what is asked of the database for the page alone; an action of anybody's ends it at once."""
PATIENCE_SECONDS = 2.0
CHANGES = 8
CERTIFICATES = 6
SWEEPS = 40
KINDS = ("count", "digest", "recall")


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one tenant at one moment. `missing`: why a part is not there, by its name."""

    tenant: str
    at: datetime
    state: PhaseState | None
    serving: HealthReport | None
    phases: Mapping[Phase, HealthReport]
    status: Mapping[str, Any]
    certificates: tuple[Mapping[str, Any], ...] = ()
    changes: tuple[Mapping[str, Any], ...] = ()
    sweeps: tuple[Mapping[str, Any], ...] = ()
    """Newest first, of every kind."""
    unexplained_since: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    confirmed_seconds_ago: float = 0.0
    """Since the database last confirmed `state`."""
    several: bool = False
    """Whether the daemon has more tenants than this one."""

    @property
    def named(self) -> str:
        """The tenant that a command must name; empty where there is but one."""
        return self.tenant if self.several else ""

    @property
    def next_phase(self) -> Phase | None:
        """The one to be entered next; None in A4, and while the phase is not confirmed."""
        if self.state is None or self.state.phase is Phase.A4:
            return None
        return Phase(f"A{self.state.phase.order + 1}")

    @property
    def unexplained(self) -> int | None:
        """Rows that no cause accounts for; None: no count sweep says."""
        drift = self.status.get("drift")
        return None if not drift or drift.get("causes") is None else int(drift["unexplained"])


class Gathering:
    """Gathers and keeps."""

    def __init__(self, cache: HealthCache) -> None:
        self._cache = cache
        self._kept: dict[tuple[str, str], tuple[float, Any]] = {}
        self._looks: dict[str, tuple[float, asyncio.Task[Facts]]] = {}

    def forget(self, tenant: str) -> None:
        """Somebody changed something about `tenant`."""
        for key in [key for key in self._kept if key[0] == tenant]:
            del self._kept[key]
        self._looks.pop(tenant, None)

    async def facts(self, tenant: OpsTenant, *, several: bool) -> Facts:
        """As of now, or of a second ago. `several`: the daemon has more tenants."""
        known = self._looks.get(tenant.name)
        if known is None or (known[1].done() and time.monotonic() - known[0] >= FRESH_SECONDS):
            task = asyncio.create_task(self._look(tenant, several), name=f"console {tenant.name}")
            known = self._looks[tenant.name] = (time.monotonic(), task)
        return await asyncio.shield(known[1])

    async def _look(self, tenant: OpsTenant, several: bool) -> Facts:
        missing: dict[str, str] = {}
        name = tenant.name

        async def part(what: str, ask: Callable[[], Awaitable[Any]], instead: Any, keep: float = KEPT_SECONDS) -> Any:
            kept = self._kept.get((name, what))
            if kept is not None and time.monotonic() - kept[0] < keep:
                return kept[1]
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    value = await ask()
            except TimeoutError:
                missing[what] = f"no answer within {PATIENCE_SECONDS:g} s"
                return instead
            except CutoverError as error:
                missing[what] = error.message
                return instead
            self._kept[name, what] = (time.monotonic(), value)
            return value

        async def sweeps() -> list[dict[str, Any]]:
            found = [await tenant.findings.sweeps(kind, limit=SWEEPS, after=None) for kind in KINDS]
            return [sweep for told in found for sweep in told["sweeps"]]

        async def phase(each: Phase) -> HealthReport | None:
            answer = await self._cache.ask(name, f"phase {each}", lambda: tenant.readiness_for(each))
            return answer.report

        serving, status, certificates, changes, swept, since, *phases = await asyncio.gather(
            self._cache.ask(name, "readyz", tenant.readiness),
            part("status", tenant.status, {}, 0.0),
            part("certificates", lambda: tenant.promotion.certificates(CERTIFICATES), {"certificates": []}),
            part("changes", lambda: tenant.record.changes(CHANGES), []),
            part("sweeps", sweeps, [], FRESH_SECONDS),
            part("unexplained_since", tenant.record.unexplained_since, None, FRESH_SECONDS),
            *(phase(each) for each in Phase),
        )
        return Facts(
            tenant=name,
            at=datetime.now(UTC),
            state=tenant.phase.state,
            serving=serving.report,
            phases={each: made for each, made in zip(Phase, phases, strict=True) if made is not None},
            status=status,
            certificates=tuple(certificates["certificates"]),
            changes=tuple(changes),
            sweeps=tuple(swept),
            unexplained_since=since,
            missing=missing,
            confirmed_seconds_ago=tenant.phase.confirmed_seconds_ago,
            several=several,
        )
