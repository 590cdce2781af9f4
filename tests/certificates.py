"""A certificate to change one thing of at a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from cutover.domain.certificate import Certificate, CheckResult, SweepResult
from cutover.domain.check import Status
from cutover.domain.phase import Phase

ISSUED = datetime(2026, 3, 1, 12, tzinfo=UTC)


def certificate(issued_at: datetime = ISSUED, **changes: Any) -> Certificate:
    """For A0 → A1 in epoch 1, asked for by ada, good for an hour."""
    given: dict[str, Any] = {
        "tenant": "acme",
        "target": Phase.A1,
        "phase": Phase.A0,
        "epoch": 1,
        "configuration": "c0ffee",
        "sweeps": (SweepResult("count", "run-1", {"outcome": "clean", "unexplained": 0}),),
        "checks": (
            CheckResult("database", Status.PASS, True, "boolean", "true"),
            CheckResult("plugin", Status.WARN, 1.5, "seconds", "<= 2"),
        ),
        "thresholds": {"soak": 60.0},
        "loosened": ("soak is 60, loosened from 2.592e+06",),
        "override": None,
        "requested_by": "ada",
        "issued_at": issued_at,
        "expires_at": issued_at + timedelta(hours=1),
    }
    return Certificate(**(given | changes))
