"""The soak's page says what happened, also when it was nothing good."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from cutover.embedded.history import Verdict
from cutover.embedded.soak_faults import Fault, Planted
from cutover.embedded.soak_report import Disturbance, Report
from cutover.embedded.soak_watch import Canaries, MemorySample, SweepLine

BEGAN = datetime(2026, 4, 1, 12, tzinfo=UTC)


def fault(number: int, *, found: float | None, closed: float | None) -> Fault:
    after = [None if each is None else BEGAN + timedelta(seconds=each) for each in (found, closed)]
    made = Fault(UUID(int=number), "row deleted", "missing_in_plugin", "A2", BEGAN, found=after[0], closed=after[1])
    made.sweeps, made.repair = 2 if found else 0, "API" if found else ""
    return made


def report(*faults: Fault) -> Report:
    planted = Planted()
    for each in faults:
        planted.add(each)
    made = Report(seconds=1800, faults=planted.faults, began=BEGAN)
    made.sweeps = [SweepLine("sweep.digest, full", "clean", 41, 1.5), SweepLine("sweep.recall", "running", 1, None)]
    made.canaries = Canaries(sweeps=41, planted=328, caught=328, distrusted=0)
    made.disturbances = [Disturbance("daemon", "A2", seconds) for seconds in (1.0, 3.0, 2.0)]
    made.memory = [MemorySample(5.0 * n, 1, (60 + n) * 1024 * 1024) for n in range(100)]
    return made


def test_a_good_run() -> None:
    made = report(fault(1, found=10, closed=20), fault(2, found=30, closed=31))
    made.verdict = Verdict(acknowledged=7)
    page = made.markdown()
    assert "**It passed:** acknowledged=0 planted=2 found=2 closed=2 false_alarms=0 killed=3" in page
    assert "2026-04-01 12:00 UTC, 30 minutes (half in A2, half in A3)" in page
    assert "| `missing_in_plugin` | row deleted | 2 | 2 | 2 | 20 s | 30 s | 2 |" in page
    assert "Repaired: 2 API." in page
    assert "| sweep.digest, full | clean | 41 | 1.50 s |" in page
    assert "| sweep.recall | running | 1 |  |" in page
    assert "328 planted, 328 caught" in page
    assert "| daemon | A2 | 3 | 2.0 s | 3.0 s |" in page
    assert "At most 159 MiB" in page
    assert page.count(" MiB |") <= 16
    assert "acknowledged=7 lost=0" in page


def test_a_bad_run_says_so_first() -> None:
    made = report(fault(1, found=None, closed=None))
    made.failure = "not found by 3 full sweeps"
    page = made.markdown()
    assert page.index("**Failed:** not found by 3 full sweeps") < page.index("## Traffic")
    assert "It passed" not in page
    assert "| `missing_in_plugin` | row deleted | 1 | 0 | 0 |  |  | 0 |" in page
