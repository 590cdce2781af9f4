"""Certificates: the proof that a promotion consumes, what makes one void, and who may approve one (architecture §6).

A certificate is written once and holds everything that was looked at when the gate was judged. Its name is the sha256
of its own canonical text, so nobody can change a word of it and keep the approvals. It is good for one step, out of one
epoch, under one configuration, and only for as long as nothing that it speaks of has changed.

What may change without a certificate becoming void are the measured values of a check that still passes: ages and
counts move all the time, and the check says where they must stay. A check that got worse, even from pass to warn, is
something that the approvers have not seen. So is one that failed (with an override) and fails worse now.
"""

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cutover.domain.check import Check, Status
from cutover.domain.phase import Phase

APPROVALS = 2
"""How many people other than the requester must approve what needs approval."""
SHARED = "admin"
"""The name of `CUTOVER_ADMIN_TOKEN`, which may be anybody's: nobody approves with it, nor asks for what others must
approve, for then the requester could approve with the own token."""
_RANK = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of the gate as it was. `measured` is a plain JSON value."""

    id: str
    status: Status
    measured: Any
    unit: str
    threshold: str

    @classmethod
    def of(cls, check: Check) -> "CheckResult":
        """What is kept of a check."""
        return cls(check.id, check.status, _plain(check.observed_value), check.observed_unit, check.threshold)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What the last sweep of a kind came to. `found`: the facts that a newer one is compared by, plain JSON values."""

    kind: str
    run: str
    found: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was known when the gate of `target` was judged. `override`: why it is used although the gate is closed."""

    tenant: str
    target: Phase
    phase: Phase
    """The phase that the tenant was in."""
    epoch: int
    configuration: str
    sweeps: tuple[SweepResult, ...]
    checks: tuple[CheckResult, ...]
    thresholds: Mapping[str, float]
    loosened: tuple[str, ...]
    override: str | None
    requested_by: str
    """The name of the token that asked for it."""
    issued_at: datetime
    expires_at: datetime

    def text(self) -> str:
        """Canonical JSON: equal certificates have equal texts."""
        body = {
            "tenant": self.tenant,
            "target": self.target.value,
            "phase": self.phase.value,
            "epoch": self.epoch,
            "configuration": self.configuration,
            "sweeps": [{"kind": s.kind, "run": s.run, "found": dict(s.found)} for s in self.sweeps],
            "checks": [
                {
                    "id": c.id,
                    "status": c.status.value,
                    "measured": c.measured,
                    "unit": c.unit,
                    "threshold": c.threshold,
                }
                for c in self.checks
            ],
            "thresholds": dict(self.thresholds),
            "loosened": list(self.loosened),
            "override": self.override,
            "requested_by": self.requested_by,
            "issued_at": self.issued_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @property
    def hash(self) -> str:
        """Hex sha256 of the text."""
        return hash_of(self.text())

    @property
    def approvals_needed(self) -> int:
        """A3 and A4 need approval, and so does every override."""
        return approvals_for(self.target, self.override)

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks that did not pass when it was issued: there are some with an override only."""
        return tuple(check.id for check in self.checks if check.status is Status.FAIL)


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a certificate speaks of, as it is now. `now`: the database's clock."""

    tenant: str
    phase: Phase | None
    epoch: int | None
    configuration: str
    sweeps: tuple[SweepResult, ...]
    checks: tuple[Check, ...]
    thresholds: Mapping[str, float]
    now: datetime


def hash_of(text: str) -> str:
    """Hex sha256 of a certificate's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str) -> Certificate:
    """The certificate that `text` is of. Only texts that a certificate gave are read."""
    body = json.loads(text)
    return Certificate(
        tenant=body["tenant"],
        target=Phase(body["target"]),
        phase=Phase(body["phase"]),
        epoch=body["epoch"],
        configuration=body["configuration"],
        sweeps=tuple(SweepResult(each["kind"], each["run"], each["found"]) for each in body["sweeps"]),
        checks=tuple(
            CheckResult(each["id"], Status(each["status"]), each["measured"], each["unit"], each["threshold"])
            for each in body["checks"]
        ),
        thresholds=body["thresholds"],
        loosened=tuple(body["loosened"]),
        override=body["override"],
        requested_by=body["requested_by"],
        issued_at=datetime.fromisoformat(body["issued_at"]),
        expires_at=datetime.fromisoformat(body["expires_at"]),
    )


def void_reason(certificate: Certificate, now: Situation, *, used_in: int | None = None) -> str | None:
    """Why the certificate is void, or None while it is good. `used_in`: the epoch that a step with it began."""
    if used_in is not None:
        return f"it was used already: it began epoch {used_in}"
    if certificate.tenant != now.tenant:
        return f"it speaks of tenant {certificate.tenant}, and this is {now.tenant}"
    if now.now >= certificate.expires_at:
        return f"it expired at {certificate.expires_at.isoformat(timespec='seconds')}"
    if (certificate.epoch, certificate.phase) != (now.epoch, now.phase):
        where = "not confirmed" if now.phase is None or now.epoch is None else f"{now.phase}, epoch {now.epoch}"
        then = f"{certificate.phase}, epoch {certificate.epoch}"
        return f"the phase changed: it was issued in {then}, and the phase is {where}"
    if certificate.configuration != now.configuration:
        return "the daemon's configuration changed since it was issued"
    if dict(certificate.thresholds) != dict(now.thresholds):
        names = sorted(
            name
            for name in {*certificate.thresholds, *now.thresholds}
            if certificate.thresholds.get(name) != now.thresholds.get(name)
        )
        return f"thresholds changed since it was issued: {', '.join(names)}"
    return _newer_sweep(certificate, now.sweeps) or _worse_check(certificate, now.checks, now.now)


def _newer_sweep(certificate: Certificate, sweeps: Iterable[SweepResult]) -> str | None:
    known = {sweep.kind: sweep for sweep in certificate.sweeps}
    found = {sweep.kind: sweep for sweep in sweeps}
    for kind in sorted({*known, *found}):
        then, now = known.get(kind), found.get(kind)
        if now is None:
            return f"the {kind} sweep that it speaks of is no longer on record"
        if then is None:
            return f"a {kind} sweep has ended since: {_words(now.found)}"
        if dict(then.found) != dict(now.found):
            return f"a newer {kind} sweep found something else: {_words(now.found)}, not {_words(then.found)}"
    return None


def _worse_check(certificate: Certificate, checks: Iterable[Check], now: datetime) -> str | None:
    known = {check.id: check for check in certificate.checks}
    elapsed = (now - certificate.issued_at).total_seconds()
    seen = set()
    for check in checks:
        seen.add(check.id)
        then = known.get(check.id)
        if then is None:
            return f"the gate has a check that it does not speak of: {check.id}"
        if _RANK[check.status] > _RANK[then.status]:
            return f"the check {check.id} was {then.status.value} and is {check.status.value} now: {check.output}"
        if check.status is Status.FAIL and not _at_most_as_bad(then, CheckResult.of(check), elapsed):
            measured = f"{then.measured} and measures {CheckResult.of(check).measured} now ({check.observed_unit})"
            return (
                f"the check {check.id} fails in another way than was approved: it measured {measured}: {check.output}"
            )
    if missing := sorted(known.keys() - seen):
        return f"the gate no longer has the check {missing[0]}"
    return None


def _at_most_as_bad(then: CheckResult, now: CheckResult, elapsed: float) -> bool:
    """Of two failures. The threshold says which way a number is worse; what cannot be compared must be equal. Ages are
    in seconds and grow by the `elapsed` ones by themselves."""
    if then.measured == now.measured:
        return True
    if then.threshold != now.threshold or not (_is_number(then.measured) and _is_number(now.measured)):
        return False
    if now.threshold.startswith((">", "≥")):
        return bool(now.measured >= then.measured)
    if now.threshold.startswith(("<", "=", "≤")):
        grown = elapsed + 1.0 if now.unit == "seconds" else 0.0
        return bool(now.measured <= then.measured + grown)
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def approvals_for(target: Phase, override: str | None) -> int:
    """How many people must approve the step to `target`."""
    return APPROVALS if override is not None or target in (Phase.A3, Phase.A4) else 0


def request_refused(target: Phase, override: str | None, who: str) -> str | None:
    """Why `who` may not ask for such a certificate, or None."""
    if who == SHARED and approvals_for(target, override):
        return (
            "CUTOVER_ADMIN_TOKEN may be anybody's, an approver's too; what others must approve is asked for with a"
            " person's own token (CUTOVER_ADMIN_TOKENS_FILE)"
        )
    return None


def approval_refused(certificate: Certificate, approvers: Collection[str], who: str) -> str | None:
    """Why `who` may not approve, or None. `approvers`: who has approved so far."""
    if certificate.approvals_needed == 0:
        return f"the step to {certificate.target} with an open gate needs no approval"
    if certificate.requested_by == SHARED:
        return "it was asked for with CUTOVER_ADMIN_TOKEN, so nobody knows who its requester is"
    if who == SHARED:
        return (
            "CUTOVER_ADMIN_TOKEN may be anybody's; an approval needs a person's own token (CUTOVER_ADMIN_TOKENS_FILE)"
        )
    if who == certificate.requested_by:
        return f"{who} asked for this certificate, and a requester cannot approve"
    if who in approvers:
        return f"{who} has approved it already; another person must"
    return None


def approvals_missing(certificate: Certificate, approvers: Collection[str]) -> int:
    """How many more people must approve."""
    counted = {who for who in approvers if who != certificate.requested_by}
    return max(0, certificate.approvals_needed - len(counted))


def _plain(value: Any) -> Any:
    """A JSON value that comes back from its text as it was."""
    if value is None or isinstance(value, bool | int | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(each) for each in value)
    if isinstance(value, Iterable):
        return [_plain(each) for each in value]
    return str(value)


def _words(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(found.items()))
