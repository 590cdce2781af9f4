"""Has everything arrived at the plugin: marks, backfill, quarantine."""

from cutover.domain.check import Check, verdict
from cutover.domain.evidence import Evidence


def marks_drained(e: Evidence) -> Check:
    """Nothing waits for delivery but what live traffic has in flight."""
    good = e.marks is not None and (e.marks <= e.marks_drained_below or e.oldest_mark_seconds < e.marks_drained_within)
    seen = "an unknown number of" if e.marks is None else str(e.marks)
    why = f"{seen} marks wait for delivery, the oldest for {e.oldest_mark_seconds:.0f} s"
    threshold = f"<= {e.marks_drained_below}, or none older than {e.marks_drained_within:.0f} s"
    next_step = "" if good else "cutover status (is the plugin healthy, is the backfill still running?)"
    return Check("marks", verdict(good), e.marks, "marks", threshold, why, next_step)


def backfill(e: Evidence) -> Check:
    """Every row that was there before A1 has been taken up by the backfill."""
    why = (
        "the backfill is complete"
        if e.backfill_complete
        else "no backfill has been run"
        if e.backfill_remaining is None
        else f"{e.backfill_remaining} rows are still to be copied"
    )
    next_step = "" if e.backfill_complete else "cutover backfill --apply"
    return Check("backfill", verdict(e.backfill_complete), e.backfill_remaining, "rows", "complete", why, next_step)


def quarantine(e: Evidence) -> Check:
    """What cannot be placed has been resolved, or acknowledged one by one."""
    open_ = None if e.quarantined is None else max(0, e.quarantined - e.quarantine_acknowledged)
    good = open_ == 0
    seen = "an unknown number of" if open_ is None else str(open_)
    why = f"{seen} memories are quarantined"
    next_step = "" if good else "cutover quarantine list"
    return Check("quarantine", verdict(good), open_, "memories", "= 0", why, next_step)
