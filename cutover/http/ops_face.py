"""The ops face: probes, metrics, the status and control API, and a page for people (observability §1, §6).

Reading is open to whoever reaches the listener; changing anything takes an admin token. Nothing here is counted as
memory traffic, and probes are not logged.
"""

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

from aiohttp import web

from cutover.domain.check import Check, HealthReport, Status, report, worst
from cutover.domain.commands import for_tenant
from cutover.domain.errors import NotFound
from cutover.domain.events import Observer, ReadinessTold
from cutover.domain.phase import Phase
from cutover.http import console_page, ops_api
from cutover.http.admins import Admins
from cutover.http.errors import Problem, ops_shape
from cutover.http.event_streams import EventStreams
from cutover.http.health_cache import Answer, HealthCache
from cutover.http.limits import Limits
from cutover.http.ops_tenant import OpsTenant, OpsTenants
from cutover.http.origin import guarded
from cutover.http.server import Call, Face, Route, no_default
from cutover.http.wire import json_response

_CHECK_ID = re.compile(r"[a-z0-9_]{1,64}")
_SCRAPE_PATIENCE = 0.5
"""Seconds that a scrape waits for the tenants' readiness."""
_NO_STORE = {"Cache-Control": "no-store"}


class Metrics(Protocol):
    """Whatever can render the metrics, in any thread: content type and body for an `Accept` header."""

    def render(self, accept: str) -> tuple[str, bytes]: ...


class OpsFace(Face[OpsTenant]):
    """The face; `drain()` turns `/readyz` red before anything else of a shutdown happens."""

    def __init__(
        self,
        tenants: OpsTenants,
        metrics: Metrics,
        admins: Mapping[str, bytes],
        observer: Observer,
        limits: Limits | None = None,
        *,
        hosts: Collection[str] = (),
    ) -> None:
        """`hosts`: the names by which this face is known (see `origin.is_ours`)."""
        self._everyone = tenants
        self._metrics = metrics
        self._scraping = asyncio.Lock()
        self._cache = HealthCache()
        self._leaving = False
        self._starting = False
        api = ops_api.OpsApi(tenants, Admins(admins), self._cache)
        self._streams = EventStreams()
        page = console_page.ConsolePage(tenants, self._cache, self._streams)
        every = (*self._routes(), *api.routes(), *page.routes())
        routes = tuple(guarded(route, page.changed, hosts) for route in every)
        super().__init__("ops", tenants, routes, ops_shape, observer, limits)
        self.closing.append(self._end_streams)

    def starting(self) -> None:
        """Not ready until `started`: the other faces do not listen yet."""
        self._starting = True

    def started(self) -> None:
        """Every face listens."""
        self._starting = False

    def drain(self) -> None:
        """From now on the daemon is not ready; it still answers, but for streams, which end first of all."""
        self._leaving = True
        self._streams.close()

    def told(self, call: Call[OpsTenant], problem: Problem) -> Problem:
        """Where there are several tenants, the commands in it name the one that the call is for."""
        tenant = call.named_tenant
        if tenant is None or len(list(self._everyone)) < 2:
            return problem
        return replace(problem, next_step=for_tenant(problem.next_step, tenant.name))

    async def _end_streams(self) -> None:
        self._streams.close()

    def _routes(self) -> Iterable[Route[OpsTenant]]:
        yield Route("GET", "/livez", "livez", self.livez, scope="daemon", quiet=True)
        yield Route("GET", "/metrics", "metrics", self.metrics, scope="daemon", quiet=True)
        yield Route("GET", "/readyz", "readyz", self.readyz, scope="daemon", quiet=True)
        yield Route("GET", "/tenants/{tenant}/readyz", "readyz", self.readyz, quiet=True)
        yield Route("GET", "/readyz/{phase}", "readyz_phase", self.readyz_phase, quiet=True)
        yield Route("GET", "/readyz/checks/{id}", "readyz_check", self.readyz_check, quiet=True)

    async def livez(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """The event loop turns: that this is answered at all is the check."""
        return json_response(200, {"status": "pass"}, _NO_STORE)

    async def metrics(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """Prometheus or OpenMetrics text, as the scraper prefers. Readiness is as of this scrape."""
        await self._tell_readiness()
        async with self._scraping:  # ten tenants take a tenth of a second of computing: not on the loop, and one by one
            content_type, body = await asyncio.to_thread(self._metrics.render, call.request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type, **_NO_STORE})

    async def readyz(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """Can traffic be served now? Without a default tenant: does any of them serve (see `_together`)."""
        if self._starting and not self._leaving:
            tenant = call.named_tenant
            coming = Check("starting", Status.FAIL, True, "boolean", "false", "the daemon's faces do not listen yet")
            return _health(Answer(report(tenant.name if tenant else "*", None, None, (coming,)), ""))
        if self._leaving or self.draining:
            tenant = call.named_tenant
            leaving = Check("draining", Status.FAIL, True, "boolean", "false", "the daemon is shutting down")
            return _health(Answer(report(tenant.name if tenant else "*", None, None, (leaving,)), ""))
        if call.named_tenant is None:
            return await self._together()
        tenant = call.named_tenant
        return _health(await self._cache.ask(tenant.name, "readyz", tenant.readiness))

    async def readyz_phase(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """May that phase be entered; for the current one and those passed, do its invariants hold?"""
        tenant = call.tenant
        try:
            phase = Phase(call.request.match_info["phase"])
        except ValueError:
            raise NotFound("no such phase", next_step="ask for A0, A1, A2, A3 or A4") from None
        return _health(await self._cache.ask(tenant.name, f"phase {phase}", lambda: tenant.readiness_for(phase)))

    async def readyz_check(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """One check, by its id."""
        tenant = call.tenant
        check_id = call.request.match_info["id"]
        unknown = NotFound("no such check", next_step="the ids are in /readyz/A1, A2, A3 and A4")
        if _CHECK_ID.fullmatch(check_id) is None:
            raise unknown
        answer = await self._cache.ask(tenant.name, f"check {check_id}", lambda: tenant.check(check_id))
        if answer.report is None:
            raise unknown
        return _health(answer)

    async def _tell_readiness(self) -> None:
        """What `/readyz` says of each tenant, for its metric. A scrape is not kept waiting for it: who has not answered
        in time is not ready."""
        tenants = list(self._everyone)
        if self._starting or self._leaving or self.draining:
            for tenant in tenants:
                self.observe(ReadinessTold(tenant.name, False, ("starting" if self._starting else "draining",)))
            return
        asked = {
            tenant.name: asyncio.create_task(self._cache.ask(tenant.name, "readyz", tenant.readiness))
            for tenant in tenants
        }
        if not asked:
            return
        await asyncio.wait(asked.values(), timeout=_SCRAPE_PATIENCE)
        for name, task in asked.items():
            why: tuple[str, ...] = ("no_answer",)
            if not task.done():
                task.cancel()  # the look itself goes on, and is there for the next scrape
            elif task.exception() is None and (made := task.result().report) is not None:
                why = tuple(check.id for check in made.checks if check.status is Status.FAIL)
            self.observe(ReadinessTold(name, not why, why))

    async def _together(self) -> web.StreamResponse:
        """All tenants at once: red only when none serves, so that one tenant's dead plugin takes none of the others
        out of a load balancer; `warn` when some do not."""
        tenants = self._all()
        looks = (self._cache.ask(tenant.name, "readyz", tenant.readiness) for tenant in tenants)
        answers = dict(zip((tenant.name for tenant in tenants), await asyncio.gather(*looks), strict=True))
        verdicts = [answer.report.status for answer in answers.values() if answer.report is not None]
        status = worst(verdicts)
        if status is Status.FAIL and any(verdict is not Status.FAIL for verdict in verdicts):
            status = Status.WARN
        body = {"status": status.value, "tenants": {name: answer.as_json() for name, answer in answers.items()}}
        return json_response(503 if status is Status.FAIL else 200, body, _NO_STORE)

    def _all(self) -> list[OpsTenant]:
        tenants = list(self._everyone)
        if not tenants:
            raise no_default()
        return tenants


def _health(answer: Answer) -> web.Response:
    made: HealthReport | None = answer.report
    assert made is not None  # noqa: S101 - unknown checks were answered 404
    return json_response(made.http_status, answer.as_json(), _NO_STORE)
