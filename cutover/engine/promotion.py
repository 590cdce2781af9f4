"""May the tenant move on? Gate, certificate, approvals, and only then the step (architecture §6, decision 0018).

`Transition` is the machine that takes a step; nobody but this module lets an operator at it. Forward, a step consumes a
certificate: the gate is judged on evidence gathered for it, whoever must approves, and everything is judged once more
right before each try of the step. The certificate is then consumed in the step's own transaction, so that it serves
once, however many daemons there are. A way back needs none of this: it must never be blocked.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from cutover.domain.certificate import (
    Certificate,
    CheckResult,
    Situation,
    approval_refused,
    approvals_missing,
    request_refused,
    void_reason,
)
from cutover.domain.check import Check, Status
from cutover.domain.errors import CertificateVoid, Conflict, GateClosed, IllegalStep, NotFound
from cutover.domain.phase import Phase, PhaseState, step
from cutover.domain.redaction import redact_note
from cutover.domain.thresholds import GateThresholds
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.readiness import Judged
from cutover.engine.transition import Transition, Warrant
from cutover.stores.certificates import CertificateStore, Entered, KeptCertificate

_APPROVED_PHASES = (Phase.A3, Phase.A4)
_SHORT = 12
"""Hex digits of a hash in a sentence."""
_TOLD_EXPIRED = 3600.0
"""Seconds for which an approved certificate is told of after it expired unused."""
_LOOKED_THROUGH = 20
"""How many of the newest certificates are looked through for one that is good."""


class Promotion:
    """One tenant's. `judge`: the gate of a phase, on evidence gathered for the call; `judge_lately`: on evidence that
    may be some seconds old. `configuration`: the hash of the daemon's settings."""

    def __init__(
        self,
        tenant: str,
        store: CertificateStore,
        phase: PhaseWatch,
        transition: Transition,
        judge: Callable[[Phase], Awaitable[Judged]],
        thresholds: GateThresholds,
        configuration: str,
        judge_lately: Callable[[Phase], Awaitable[Judged]],
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._phase = phase
        self._transition = transition
        self._judge = judge
        self._thresholds = thresholds
        self._configuration = configuration
        self._judge_lately = judge_lately
        self._entered: tuple[int, Entered | None] | None = None

    # -- certificates ------------------------------------------------------------------------------------------------

    async def certify(self, target: Phase, requested_by: str, override: str | None = None) -> dict[str, Any]:
        """Issue a certificate for the step to `target`; raises `GateClosed` unless an override says why it goes on."""
        if (why := request_refused(target, override, requested_by)) is not None:
            raise IllegalStep(
                f"this certificate is not issued: {why}",
                next_step="cutover phase certify --token-file PATH, with the file that holds your own token",
            )
        _, situation = await self._look(target)
        certificate = await self._issue(situation, target, requested_by, override)
        return _shown(KeptCertificate(certificate, (), None), None)

    async def approve(self, beginning: str, approver: str) -> dict[str, Any]:
        """Put `approver`'s approval down; raises `CertificateVoid`, or `IllegalStep` for who may not approve it."""
        kept = await self._one(beginning)
        if (void := await self._void(kept)) is not None:
            raise _void_error(kept, void)
        if (why := approval_refused(kept.certificate, kept.approvers, approver)) is not None:
            raise IllegalStep(f"this approval is not taken: {why}", next_step="cutover phase certificates")
        if not await self._store.approve(kept.certificate.hash, approver):
            raise IllegalStep(f"{approver} has approved it already", next_step="cutover phase certificates")
        return _shown(await self._one(kept.certificate.hash), None)

    async def certificates(self, limit: int) -> dict[str, Any]:
        """The newest ones, each with its approvals and why it is void, if it is."""
        looks: dict[Phase, Situation] = {}
        told = [_shown(kept, await self._void(kept, looks)) for kept in await self._store.recent(limit)]
        return {"tenant": self._tenant, "certificates": told}

    async def certificate(self, beginning: str) -> dict[str, Any]:
        """The one whose hash begins so, with everything that an approver should have seen."""
        kept = await self._one(beginning)
        return _shown(kept, await self._void(kept))

    async def standing(self) -> dict[Phase, tuple[float, int]]:
        """Per target, of the newest certificate that could be used: when it expires (Unix time), and how many approvals
        it lacks. One that somebody has approved and nobody used stays for an hour after it expired, unless the tenant
        has moved on: people who count on it must hear of it. Judged by evidence that may be some seconds old."""
        looks: dict[Phase, Situation] = {}
        found: dict[Phase, tuple[float, int]] = {}
        for kept in await self._store.recent(_LOOKED_THROUGH):
            made, state = kept.certificate, self._phase.state
            unusable = kept.used_in is not None or state is None or state.epoch != made.epoch
            if made.target in found or unusable:
                continue
            if made.target not in looks:
                looks[made.target] = await self._situation(made.target, self._judge_lately)
            now = looks[made.target]
            if 0 <= (now.now - made.expires_at).total_seconds() < _TOLD_EXPIRED and kept.approvers:
                found[made.target] = (made.expires_at.timestamp(), 0)
            elif void_reason(made, now) is None:
                found[made.target] = (made.expires_at.timestamp(), approvals_missing(made, kept.approvers))
        return found

    # -- steps -------------------------------------------------------------------------------------------------------

    async def promote(
        self, target: Phase, *, actor: str, holder: str, reason: str, expected_epoch: int, certificate: str | None
    ) -> dict[str, Any]:
        """One step forward. `holder`: the token's name, for a certificate that is issued on the way (A1, A2).

        Raises `GateClosed`, `CertificateVoid` or `IllegalStep`; the phase is then what it was.
        """
        self._transition.refuse_while_changing()
        state, situation = await self._look(target)
        if state.epoch != expected_epoch:
            raise IllegalStep(
                f"the tenant is at epoch {state.epoch}, not {expected_epoch}: somebody changed the phase",
                next_step="look at `cutover status`, then decide again",
            )
        if certificate is not None:
            kept = await self._one(certificate)
        else:
            kept = await self._newest_good(target, situation) or await self._issued_on_the_way(
                situation, target, holder
            )
        _must_be_good(kept, target, situation)
        warrant = Warrant(kept.certificate.hash, lambda: self._judge_again(kept.certificate.hash, target))
        changed = await self._transition.change(target, actor, reason, kept.certificate.epoch, warrant)
        return {**changed.as_json(), "certificate": _shown(kept, None)}

    async def rollback(self, target: Phase, *, actor: str, reason: str, expected_epoch: int) -> dict[str, Any]:
        """One step back: no gate, no certificate."""
        return (await self._transition.change(target, actor, reason, expected_epoch)).as_json()

    async def plan(self, target: Phase) -> dict[str, Any]:
        """The ordered steps to `target` with what each looks at; nothing is changed."""
        state = await self._phase.reload()
        if (wrong := step(state.phase, target)) is not None:
            raise IllegalStep(wrong, next_step="cutover phase show")
        steps: list[dict[str, Any]] = []
        if target.order > state.phase.order:
            checks = (await self._judge(target)).report.checks
            steps.append(
                {
                    "what": f"gather the evidence anew and judge the gate of {target}",
                    "checks": [f"{check.id}: {check.threshold} ({check.status.value} now)" for check in checks],
                }
            )
            steps.append({"what": _consumption(target), "checks": list(_CONSUMED)})
        steps += [{"what": what, "checks": []} for what in self._transition.planned(state.phase, target)]
        return {"tenant": self._tenant, "from": state.phase.value, "to": target.value, "steps": steps}

    @property
    def changing(self) -> dict[str, Any] | None:
        """The change of phase that is under way: `{to, doing, since}`, or None."""
        return self._transition.under_way

    async def entered(self) -> dict[str, Any]:
        """How the current phase was entered: `override` and `loosened` stay on every status until it is left."""
        state = self._phase.state
        if state is None:
            return {"override": None, "loosened": []}
        if self._entered is None or self._entered[0] != state.epoch:
            found = await self._store.entered()
            self._entered = (state.epoch, found if found is not None and found.epoch == state.epoch else None)
        found = self._entered[1]
        if found is None:
            return {"override": None, "loosened": []}
        override = None
        if found.override is not None:
            override = {"why": found.override, "by": found.actor, "certificate": found.certificate}
        return {"override": override, "loosened": list(found.loosened)}

    # -- judging -----------------------------------------------------------------------------------------------------

    async def _look(self, target: Phase) -> tuple[PhaseState, Situation]:
        """A fresh look for the step to `target`; raises `IllegalStep` where that is no step forward."""
        state = await self._phase.reload()
        if (wrong := step(state.phase, target)) is not None:
            raise IllegalStep(wrong, next_step="look at `cutover status`, then take one step at a time")
        if target.order < state.phase.order:
            raise IllegalStep(f"{target} is behind {state.phase}", next_step=f"cutover phase rollback {target}")
        return state, await self._situation(target)

    async def _situation(self, target: Phase, judge: Callable[[Phase], Awaitable[Judged]] | None = None) -> Situation:
        judged = await (judge or self._judge)(target)
        state = self._phase.state
        return Situation(
            tenant=self._tenant,
            phase=judged.evidence.phase,
            epoch=state.epoch if state is not None else None,
            configuration=self._configuration,
            sweeps=await self._store.sweeps(),
            checks=judged.report.checks,
            thresholds=self._thresholds.as_json()["values"],
            now=await self._store.now(),
        )

    async def _issue(self, situation: Situation, target: Phase, requested_by: str, override: str | None) -> Certificate:
        if override is None:
            _must_be_open(situation.checks, target)
        if situation.phase is None or situation.epoch is None:
            raise IllegalStep("the phase is not confirmed with the database", next_step="cutover doctor")
        certificate = Certificate(
            tenant=self._tenant,
            target=target,
            phase=situation.phase,
            epoch=situation.epoch,
            configuration=self._configuration,
            sweeps=situation.sweeps,
            checks=tuple(CheckResult.of(check) for check in situation.checks),
            thresholds=situation.thresholds,
            loosened=tuple(each.words for each in self._thresholds.loosened()),
            override=None if override is None else redact_note(override),
            requested_by=redact_note(requested_by),
            issued_at=situation.now,
            expires_at=situation.now + timedelta(seconds=self._thresholds.certificate_validity),
        )
        await self._store.issue(certificate)
        return certificate

    async def _void(self, kept: KeptCertificate, looks: dict[Phase, Situation] | None = None) -> str | None:
        """Why it is void. `looks`: those that were taken for this call, so that a list takes one for each phase."""
        looks, target, state = {} if looks is None else looks, kept.certificate.target, self._phase.state
        if kept.used_in is None and target not in looks and state is not None and state.epoch == kept.certificate.epoch:
            looks[target] = await self._situation(target)
        if target not in looks:  # used, or of another epoch: nothing else needs a look
            epoch, phase = (state.epoch, state.phase) if state is not None else (None, None)
            thresholds = kept.certificate.thresholds
            now = Situation(
                self._tenant, phase, epoch, self._configuration, (), (), thresholds, await self._store.now()
            )
            return void_reason(kept.certificate, now, used_in=kept.used_in)
        return void_reason(kept.certificate, looks[target], used_in=kept.used_in)

    async def _judge_again(self, certificate: str, target: Phase) -> None:
        """Raises `CertificateVoid` unless the certificate can be consumed by the step to `target` now."""
        _must_be_good(await self._one(certificate), target, await self._situation(target))

    async def _one(self, beginning: str) -> KeptCertificate:
        found = await self._store.find(beginning)
        if not found:
            raise NotFound("no certificate has a hash that begins so", next_step="cutover phase certificates")
        if len(found) > 1:
            raise Conflict("several certificates have a hash that begins so", next_step="give more of its digits")
        return found[0]

    async def _newest_good(self, target: Phase, situation: Situation) -> KeptCertificate | None:
        """The newest plain one that can be used, or None where there is none; raises for one that only lacks approvals.
        One with an override is used where it is named, and nowhere else: it leaves its mark on the phase for ever."""
        live = [
            kept
            for kept in await self._store.recent(_LOOKED_THROUGH)
            if kept.certificate.target is target
            and kept.certificate.override is None
            and void_reason(kept.certificate, situation, used_in=kept.used_in) is None
        ]
        for kept in live:
            if not approvals_missing(kept.certificate, kept.approvers):
                return kept
        if live:
            raise _unapproved(live[0], approvals_missing(live[0].certificate, live[0].approvers))
        return None

    async def _issued_on_the_way(self, situation: Situation, target: Phase, holder: str) -> KeptCertificate:
        """For A1 and A2 an open gate will do."""
        _must_be_open(situation.checks, target)
        if target in _APPROVED_PHASES:
            raise CertificateVoid(
                f"{target} needs a certificate that two people have approved",
                next_step=f"cutover phase certify {target}",
            )
        return KeptCertificate(await self._issue(situation, target, holder, None), (), None)


_CONSUMED = (
    "it was not used before and has not expired",
    "tenant, epoch, configuration and thresholds are what they were",
    "no newer sweep found anything else",
    "no check of the gate is worse than it was",
)


def _consumption(target: Phase) -> str:
    if target in _APPROVED_PHASES:
        return f"take the certificate of {target}, which two people other than its requester have approved"
    return f"issue a certificate of {target} and consume it (with an override: one that two others have approved)"


def _must_be_open(checks: Sequence[Check], target: Phase) -> None:
    failed = [check for check in checks if check.status is Status.FAIL]
    if failed:
        names = ", ".join(check.id for check in failed)
        raise GateClosed(
            f"the gate of {target} is closed by {len(failed)} of its checks: {names}",
            tuple(_as_json(check) for check in failed),
            next_step=failed[0].next or f"cutover phase check {target}",
        )


def _must_be_good(kept: KeptCertificate, target: Phase, situation: Situation) -> None:
    if kept.certificate.target is not target:
        raise _void_error(kept, f"it is for {kept.certificate.target}, not for {target}")
    if (void := void_reason(kept.certificate, situation, used_in=kept.used_in)) is not None:
        raise _void_error(kept, void)
    if (missing := approvals_missing(kept.certificate, kept.approvers)) > 0:
        raise _unapproved(kept, missing)


def _void_error(kept: KeptCertificate, why: str) -> CertificateVoid:
    certificate = kept.certificate
    return CertificateVoid(
        f"certificate {certificate.hash[:_SHORT]} is void: {why}",
        next_step=f"cutover phase certify {certificate.target}",
    )


def _unapproved(kept: KeptCertificate, missing: int) -> CertificateVoid:
    short = kept.certificate.hash[:_SHORT]
    return CertificateVoid(
        f"certificate {short} lacks {missing} approval{'s' if missing > 1 else ''}, by others than"
        f" {', '.join(dict.fromkeys((kept.certificate.requested_by, *kept.approvers)))}",
        next_step=f"cutover phase approve {short} --as NAME",
    )


def _as_json(check: Check) -> dict[str, Any]:
    return {
        "id": check.id,
        "status": check.status.value,
        "measured": CheckResult.of(check).measured,
        "threshold": check.threshold,
        "reason": check.output,
        "next": check.next,
    }


def _shown(kept: KeptCertificate, void: str | None) -> dict[str, Any]:
    """A certificate as the ops API gives it. `void`: why, or None."""
    certificate = kept.certificate
    return {
        "hash": certificate.hash,
        "target": certificate.target.value,
        "phase": certificate.phase.value,
        "epoch": certificate.epoch,
        "requested_by": certificate.requested_by,
        "override": certificate.override,
        "loosened": list(certificate.loosened),
        "failed": list(certificate.failed),
        "failing": [
            {"id": each.id, "measured": each.measured, "unit": each.unit, "threshold": each.threshold}
            for each in certificate.checks
            if each.status is Status.FAIL
        ],
        "checks": {check.id: check.status.value for check in certificate.checks},
        "sweeps": [{"kind": s.kind, "run": s.run, **s.found} for s in certificate.sweeps],
        "issued_at": certificate.issued_at.isoformat(),
        "expires_at": certificate.expires_at.isoformat(),
        "approvals": [{"approver": each.approver, "at": each.at.isoformat()} for each in kept.approvals],
        "approvals_needed": certificate.approvals_needed,
        "approvals_missing": approvals_missing(certificate, kept.approvers),
        "used_in": kept.used_in,
        "void": void,
    }
