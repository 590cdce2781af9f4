"""What a check says, and what a list of them comes to: the words of gates and of the health JSON (observability §1)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from cutover.domain.phase import Phase


class Status(StrEnum):
    """A check's verdict, in the words of the health JSON."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"


_RANK = {Status.PASS: 0, Status.WARN: 1, Status.FAIL: 2}


def worst(statuses: Iterable[Status]) -> Status:
    """The worst of several verdicts; of none, `pass`."""
    return max(statuses, key=_RANK.__getitem__, default=Status.PASS)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, what it should be, why it matters, what to run."""

    id: str
    status: Status
    observed_value: Any
    observed_unit: str
    threshold: str
    output: str
    """Why, in one sentence. Never a secret, never content."""
    next: str = ""
    """The command to run; empty when nothing needs doing."""

    @classmethod
    def of(cls, id: str, good: bool, seen: Any, unit: str, threshold: str, why: str, remedy: str) -> Self:  # noqa: A002
        """A check that passes or fails; the remedy is shown where it fails."""
        return cls(id, verdict(good), seen, unit, threshold, why, "" if good else remedy)

    @classmethod
    def unknown(cls, id: str, unit: str, threshold: str, why: str, remedy: str) -> Self:  # noqa: A002
        """What cannot be known fails, and says why it cannot."""
        return cls(id, Status.FAIL, None, unit, threshold, f"not known: {why}", remedy)


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What the ops face answers. `target` is the phase that was asked about; `phase` None: not confirmed."""

    status: Status
    tenant: str
    phase: Phase | None
    target: Phase | None
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()
    """What else it takes, in sentences; no verdicts."""

    @property
    def http_status(self) -> int:
        """200 for pass and warn, 503 for fail."""
        return 503 if self.status is Status.FAIL else 200

    def as_json(self, time: str) -> dict[str, Any]:
        """The health JSON (observability §1); `time` is the RFC 3339 moment at which the checks were made."""
        checks: dict[str, list[dict[str, Any]]] = {}
        for check in self.checks:
            checks.setdefault(check.id, []).append(
                {
                    "status": check.status.value,
                    "observedValue": check.observed_value,
                    "observedUnit": check.observed_unit,
                    "threshold": check.threshold,
                    "time": time,
                    "output": check.output,
                    "next": check.next,
                }
            )
        body: dict[str, Any] = {"status": self.status.value, "tenant": self.tenant, "phase": self.phase}
        if self.target is not None:
            body["target"] = self.target
        body["checks"] = checks
        if self.notes:
            body["notes"] = list(self.notes)
        return body


def report(
    tenant: str, phase: Phase | None, target: Phase | None, checks: Iterable[Check], notes: tuple[str, ...] = ()
) -> HealthReport:
    """The checks with their common verdict."""
    made = tuple(checks)
    return HealthReport(worst(check.status for check in made), tenant, phase, target, made, notes)


def verdict(good: bool) -> Status:
    """Pass or fail."""
    return Status.PASS if good else Status.FAIL
