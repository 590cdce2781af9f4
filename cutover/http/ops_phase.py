"""The phase on the ops face: `/api/v1/phase`, its certificates, approvals and steps (architecture §6).

Whoever holds the token is who asks and who approves. A body's `actor` (the person behind a shared token) is put down
with a step, but it is refused where it could pass for somebody else: with a certificate or an approval.
"""

import re
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from pydantic import Field

from cutover.domain.errors import Conflict, Forbidden, IllegalStep, InvalidRequest, Refused
from cutover.domain.phase import Phase, PhaseState, step
from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_control import NO_STORE, B, ControlBody, Query, Served, authorised, parse_query
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response, rfc3339

_HASH = r"^[0-9A-Fa-f]{8,64}$"


class PhaseBody(ControlBody):
    """`POST phase/rollback`."""

    reason: str = Field(min_length=1, max_length=1000)
    target: Phase | None = None
    expected_epoch: int | None = None


class PromoteBody(PhaseBody):
    """`POST phase/promote`. `certificate`: a hash or its first 8 digits or more; the newest good one where it is not
    given."""

    digests = frozenset({"certificate"})
    certificate: str | None = Field(default=None, pattern=_HASH)


class CertifyBody(ControlBody):
    """`POST phase/certify`. `override`: why the step is to be taken although its gate is closed."""

    target: Phase | None = None
    override: str | None = Field(default=None, min_length=1, max_length=1000)


class ApproveBody(ControlBody):
    """`POST phase/approve`. `name`: whom the caller takes itself for; refused if the token is somebody else's."""

    digests = frozenset({"certificate"})
    certificate: str = Field(pattern=_HASH)
    name: str | None = Field(default=None, min_length=1, max_length=100)


class PlanQuery(Query):
    """`GET phase/plan`."""

    target: Phase


class CertificatesQuery(Query):
    """`GET phase/certificates`."""

    limit: int = Field(default=20, ge=1, le=200)


class OpsPhase:
    """The routes of `phase`."""

    def __init__(self, admins: Admins, cache: HealthCache) -> None:
        self._admins = admins
        self._cache = cache

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "phase", self.show
        yield "GET", "phase/plan", self.plan
        yield "GET", "phase/certificates", self.certificates
        yield "GET", "phase/certificates/{certificate}", self.certificate
        yield "POST", "phase/certify", self.certify
        yield "POST", "phase/approve", self.approve
        yield "POST", "phase/promote", self.promote
        yield "POST", "phase/rollback", self.rollback

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase`: phase, epoch, since when, the override or loosened thresholds that it was entered with, and the
        change that is under way: `changing` `{to, doing, since}`."""
        told = {"tenant": call.tenant.name, **phase_json(call.tenant.phase.state)}
        told["changing"] = call.tenant.promotion.changing
        return json_response(200, {**told, **await call.tenant.promotion.entered()}, NO_STORE)

    async def plan(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase/plan?target=`: the ordered steps, and what each looks at."""
        asked = parse_query(PlanQuery, call)
        return json_response(200, await call.tenant.promotion.plan(asked.target), NO_STORE)

    async def certificates(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase/certificates?limit=`: newest first, with approvals and why each is void, if it is."""
        asked = parse_query(CertificatesQuery, call)
        return json_response(200, await call.tenant.promotion.certificates(asked.limit), NO_STORE)

    async def certificate(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase/certificates/{certificate}`: one, by its hash or the first 8 digits or more; 404 for none."""
        beginning = call.request.match_info["certificate"]
        if re.fullmatch(_HASH, beginning) is None:
            raise InvalidRequest(
                "the certificate in the path is not 8 to 64 hexadecimal digits", next_step="cutover phase certificates"
            )
        return json_response(200, await call.tenant.promotion.certificate(beginning), NO_STORE)

    async def certify(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/certify` `{target?, override?}`: 201 with the certificate; 409 with the checks that fail."""
        who, body = await self._by_token_alone(call, CertifyBody)
        target = body.target or _target(_confirmed(call.tenant), None, forward=True)
        told = await call.tenant.promotion.certify(target, who, body.override)
        return json_response(201, told, NO_STORE)

    async def approve(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/approve` `{certificate, name?}`: 201 with the certificate; 409 for a void one, or a person
        who may not approve it."""
        who, body = await self._by_token_alone(call, ApproveBody)
        if body.name is not None and body.name != who:
            raise Forbidden(
                f"this token is {who}'s, so it cannot approve as {body.name}",
                next_step=f"{body.name} must send the own token (CUTOVER_ADMIN_TOKEN, or --token-file)",
            )
        return json_response(201, await call.tenant.promotion.approve(body.certificate, who), NO_STORE)

    async def promote(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/promote` `{reason, target?, expected_epoch?, certificate?}`: one phase forward; 409 with the
        checks that fail, or with why there is no good certificate."""
        who, body = await authorised(self._admins, call, PromoteBody)
        holder = self._admins.who(call.request.headers.get("Authorization"))
        tenant, state = call.tenant, _expected(call.tenant, body)
        target = _target(state, body.target, forward=True)
        changed = await tenant.promotion.promote(
            target,
            actor=who,
            holder=holder,
            reason=body.reason,
            expected_epoch=state.epoch,
            certificate=body.certificate,
        )
        return self._changed(tenant, state, target, changed)

    async def rollback(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST phase/rollback` `{reason, target?, expected_epoch?}`: one phase back. No gate stands before it."""
        who, body = await authorised(self._admins, call, PhaseBody)
        tenant, state = call.tenant, _expected(call.tenant, body)
        target = _target(state, body.target, forward=False)
        changed = await tenant.promotion.rollback(target, actor=who, reason=body.reason, expected_epoch=state.epoch)
        return self._changed(tenant, state, target, changed)

    def _changed(
        self, tenant: OpsTenant, state: PhaseState, target: Phase, changed: dict[str, Any]
    ) -> web.StreamResponse:
        self._cache.forget(tenant.name)
        return json_response(200, {"tenant": tenant.name, "from": state.phase, "phase": target, **changed}, NO_STORE)

    async def _by_token_alone(self, call: Call[OpsTenant], model: type[B]) -> tuple[str, B]:
        who, body = await authorised(self._admins, call, model)
        if body.actor is not None:
            raise InvalidRequest(
                "actor: certificates and approvals are by the name of the token that is sent, and nothing else",
                next_step="leave actor out, and give every person a token (CUTOVER_ADMIN_TOKENS_FILE)",
            )
        return who, body


def _confirmed(tenant: OpsTenant) -> PhaseState:
    if tenant.phase.state is None:
        raise Refused("phase_unconfirmed", "the phase is not confirmed with the database", next_step="cutover doctor")
    return tenant.phase.state


def _expected(tenant: OpsTenant, body: PhaseBody) -> PhaseState:
    """The phase as this daemon knows it; raises `Conflict` where the caller thought of another epoch."""
    state = _confirmed(tenant)
    if body.expected_epoch is not None and body.expected_epoch != state.epoch:
        raise Conflict(
            f"the tenant is at epoch {state.epoch}, not {body.expected_epoch}: somebody changed the phase",
            next_step="look at `cutover status`, then decide again",
        )
    return state


def _target(state: PhaseState, wanted: Phase | None, *, forward: bool) -> Phase:
    """The phase that is meant; raises `IllegalStep` for one that is not a step in the direction asked for."""
    current, order = state.phase, state.phase.order + (1 if forward else -1)
    if wanted is None and not 0 <= order <= Phase.A4.order:
        raise IllegalStep(f"there is no phase {'after' if forward else 'before'} {current}", next_step="cutover status")
    target = Phase(f"A{order}") if wanted is None else wanted
    if target is not current and (target.order > current.order) is not forward:
        raise IllegalStep(
            f"{target} is {'behind' if forward else 'ahead of'} {current}",
            next_step=f"cutover phase {'rollback' if forward else 'promote'}, or `cutover status`",
        )
    wrong = step(current, target)
    if wrong is not None:
        raise IllegalStep(wrong, next_step="look at `cutover status`, then take one step at a time")
    return target


def phase_json(state: PhaseState | None) -> dict[str, Any]:
    """Phase, epoch, since when; null where it is not confirmed."""
    if state is None:
        return {"phase": None, "epoch": None, "entered_at": None}
    return {"phase": state.phase.value, "epoch": state.epoch, "entered_at": rfc3339(state.entered_at)}
