"""The status and control API for the CLI and the console: `/api/v1/…` (architecture §2).

Every route exists three times: for the default tenant (`/api/v1/status`), under the prefix that all faces have
(`/tenants/{name}/api/v1/status`), and the way an API reader expects it (`/api/v1/tenants/{name}/status`).
"""

from collections.abc import Iterable
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from cutover.domain.backfill import RowSource, Via
from cutover.domain.errors import Conflict, IllegalStep, Refused
from cutover.domain.phase import Phase, PhaseState, step
from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_access import OpsAccess
from cutover.http.ops_control import NO_STORE, BodyUUID, ControlBody, Served, authorised
from cutover.http.ops_findings import OpsFindings
from cutover.http.ops_record import OpsRecord
from cutover.http.ops_sweeps import OpsSweeps
from cutover.http.ops_tenant import OpsTenant, OpsTenants
from cutover.http.ops_verify import OpsVerify
from cutover.http.server import Call, Route
from cutover.http.wire import json_response, rfc3339


class PhaseBody(ControlBody):
    """`POST phase/promote` and `phase/rollback`."""

    reason: str = Field(min_length=1, max_length=1000)
    target: Phase | None = None
    expected_epoch: int | None = None


class BackfillBody(ControlBody):
    """`POST backfill`. `rate` rows per second (0: none); `pause_file` on the daemon's machine. What is not given is
    the settings'."""

    mode: Literal["apply", "dry-run"]
    workspace: BodyUUID | None = None
    limit: int | None = Field(default=None, ge=1)
    via: Literal["auto", "contract", "database"] | None = None
    rate: float | None = Field(default=None, ge=0, le=1_000_000, allow_inf_nan=False)
    pause_file: str | None = Field(default=None, min_length=1, max_length=4096, pattern=r"^/[^\x00]*$")
    source: RowSource = RowSource.MEMORIES


class OpsApi:
    """The routes of `/api/v1`."""

    def __init__(self, tenants: OpsTenants, admins: Admins, cache: HealthCache) -> None:
        self._tenants = tenants
        self._admins = admins
        self._cache = cache
        self._sweeps = OpsSweeps(admins, cache)
        self._findings = OpsFindings(admins, cache)
        self._verify = OpsVerify(admins)
        self._record = OpsRecord()
        self._access = OpsAccess()

    def routes(self) -> Iterable[Route[OpsTenant]]:
        """All of them; see the module for the three places of each."""
        yield Route("GET", "/api/v1/tenants", "tenants", self.tenants, scope="daemon", quiet=True)
        yield Route("GET", "/api/v1/tenants/{tenant}", "tenant", self.phase, quiet=True)
        served: tuple[Served, ...] = (
            ("GET", "status", self.status),
            ("GET", "phase", self.phase),
            ("POST", "phase/promote", self.promote),
            ("POST", "phase/rollback", self.rollback),
            ("GET", "backfill", self.backfill),
            ("POST", "backfill", self.start_backfill),
            ("POST", "backfill/pause", self.pause_backfill),
            ("POST", "backfill/resume", self.resume_backfill),
            ("POST", "backfill/abort", self.abort_backfill),
            *self._sweeps.served(),
            *self._findings.served(),
            *self._verify.served(),
            *self._record.served(),
            *self._access.served(),
        )
        for method, path, handler in served:
            operation = path.replace("/", "_").replace("{", "").replace("}", "")
            yield Route(method, f"/api/v1/{path}", operation, handler, quiet=True)
            yield Route(method, f"/api/v1/tenants/{{tenant}}/{path}", operation, handler, quiet=True)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def tenants(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET tenants`: names and phases."""
        default = self._tenants.default
        listed = [
            {
                "name": each.name,
                "default": default is not None and each.name == default.name,
                **_phase(each.phase.state),
            }
            for each in self._tenants
        ]
        return json_response(200, {"tenants": listed}, NO_STORE)

    async def status(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET status`: all that is known about the tenant."""
        return json_response(200, await call.tenant.status(), NO_STORE)

    async def phase(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase`: phase, epoch, since when."""
        return json_response(200, {"tenant": call.tenant.name, **_phase(call.tenant.phase.state)}, NO_STORE)

    async def backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET backfill`: progress, rate, throttling."""
        return json_response(200, await call.tenant.operations.backfill_status(), NO_STORE)

    # -- changing --------------------------------------------------------------------------------------------------

    async def promote(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/promote` `{reason, target?, expected_epoch?}`: one phase forward."""
        return await self._move(call, forward=True)

    async def rollback(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/rollback` `{reason, target?, expected_epoch?}`: one phase back."""
        return await self._move(call, forward=False)

    async def _move(self, call: Call[OpsTenant], *, forward: bool) -> web.StreamResponse:
        who, body = await authorised(self._admins, call, PhaseBody)
        tenant = call.tenant
        state = tenant.phase.state
        if state is None:
            raise Refused(
                "phase_unconfirmed", "the phase is not confirmed with the database", next_step="cutover doctor"
            )
        target = _target(state, body, forward=forward)
        if body.expected_epoch is not None and body.expected_epoch != state.epoch:
            raise Conflict(
                f"the tenant is at epoch {state.epoch}, not {body.expected_epoch}: somebody changed the phase",
                next_step="look at `cutover status`, then decide again",
            )
        gate = await tenant.readiness_for(target) if forward else None
        changed = await tenant.operations.change_phase(
            target, actor=who, reason=body.reason, expected_epoch=state.epoch
        )
        self._cache.forget(tenant.name)
        answer = {"tenant": tenant.name, "from": state.phase, "phase": target, **changed}
        if gate is not None:
            answer["gate"] = {"status": gate.status, "failed": [c.output for c in gate.checks if c.status == "fail"]}
        return json_response(200, answer, NO_STORE)

    async def start_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill` `{mode, source?, workspace?, limit?, via?, rate?, pause_file?}`: `apply` starts one
        (202), `dry-run` only counts (200)."""
        who, body = await authorised(self._admins, call, BackfillBody)
        started = await call.tenant.operations.start_backfill(
            apply=body.mode == "apply",
            workspace_id=body.workspace,
            limit=body.limit,
            via=Via(body.via) if body.via is not None else None,
            rate=body.rate,
            pause_file=body.pause_file,
            source=body.source,
            actor=who,
        )
        return json_response(202 if body.mode == "apply" else 200, started, NO_STORE)

    async def pause_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill/pause`."""
        return await self._pause(call, paused=True)

    async def resume_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill/resume`."""
        return await self._pause(call, paused=False)

    async def abort_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill/abort`: the cursor stays, the next start goes on from there."""
        who, _ = await authorised(self._admins, call, ControlBody)
        return json_response(200, await call.tenant.operations.abort_backfill(actor=who), NO_STORE)

    async def _pause(self, call: Call[OpsTenant], *, paused: bool) -> web.StreamResponse:
        who, _ = await authorised(self._admins, call, ControlBody)
        return json_response(200, await call.tenant.operations.pause_backfill(paused=paused, actor=who), NO_STORE)


def _target(state: PhaseState, body: PhaseBody, *, forward: bool) -> Phase:
    """The phase that is meant; raises `IllegalStep` for one that is not a step in the direction asked for."""
    current, order = state.phase, state.phase.order + (1 if forward else -1)
    if body.target is None and not 0 <= order <= Phase.A4.order:
        raise IllegalStep(f"there is no phase {'after' if forward else 'before'} {current}", next_step="cutover status")
    target = Phase(f"A{order}") if body.target is None else body.target
    if target is not current and (target.order > current.order) is not forward:
        raise IllegalStep(
            f"{target} is {'behind' if forward else 'ahead of'} {current}",
            next_step=f"cutover phase {'rollback' if forward else 'promote'}, or `cutover status`",
        )
    wrong = step(current, target)
    if wrong is not None:
        raise IllegalStep(wrong, next_step="look at `cutover status`, then take one step at a time")
    return target


def _phase(state: PhaseState | None) -> dict[str, Any]:
    if state is None:
        return {"phase": None, "epoch": None, "entered_at": None}
    return {"phase": state.phase.value, "epoch": state.epoch, "entered_at": rfc3339(state.entered_at)}
