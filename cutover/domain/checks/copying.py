"""Has everything arrived at the plugin, and did the writes of A1 go well: marks, errors, backfill, quarantine."""

from cutover.domain.check import Check, Status
from cutover.domain.evidence import Evidence


def marks_drained(e: Evidence) -> Check:
    """Nothing waits for delivery but what live traffic has in flight."""
    good = e.marks is not None and (e.marks <= e.marks_drained_below or e.oldest_mark_seconds < e.marks_drained_within)
    seen = "an unknown number of" if e.marks is None else str(e.marks)
    why = f"{seen} marks wait for delivery, the oldest for {e.oldest_mark_seconds:.0f} s"
    threshold = f"<= {e.marks_drained_below}, or none older than {e.marks_drained_within:.0f} s"
    step = "cutover status (is the plugin healthy, is the backfill still running?)"
    return Check.of("marks", good, e.marks, "marks", threshold, why, step)


def write_errors(e: Evidence) -> Check:
    """Of what callers have written since A1 was entered, hardly anything failed by a fault that was not theirs."""
    threshold = e.thresholds.shown("write_errors")
    step = "cutover status (what refuses or fails?); going back to A0 and into A1 again starts a new count"
    if e.shadow is None:
        why = e.unknown.get("shadow", "writes since A1 were not counted")
        return Check.unknown("write_errors", "ratio", threshold, why, step)
    writes, errors = e.shadow.writes, e.shadow.write_errors
    if not writes and not errors:
        why = "nobody has written since A1 was entered, so nothing is known of how writes go"
        return Check("write_errors", Status.WARN, None, "ratio", threshold, why, "write something, or go on knowingly")
    share = errors / writes if writes else 1.0
    why = f"{errors} of {writes} writes since A1 was entered failed or were refused"
    return Check.of("write_errors", share <= e.thresholds.write_errors, round(share, 6), "ratio", threshold, why, step)


def backfill(e: Evidence) -> Check:
    """Every row that was there before A1, of every workspace, has been taken up; K/V rows too where they are copied."""
    if e.backfill_complete:
        why = "the backfill has reached every row of every workspace"
    elif e.backfill_remaining is None:
        why = e.unknown.get("backfill_complete", "no backfill has been run")
    else:
        why = f"the backfill is not complete: {e.backfill_remaining} rows are still to be copied, as far as is known"
    return Check.of(
        "backfill",
        e.backfill_complete,
        0 if e.backfill_complete else e.backfill_remaining,
        "rows",
        "complete",
        why,
        "cutover backfill --apply (with CUTOVER_KV=on also: --source kv)",
    )


def quarantine(e: Evidence) -> Check:
    """What cannot be placed has been resolved, or acknowledged one by one."""
    open_ = None if e.quarantined is None else max(0, e.quarantined - e.quarantine_acknowledged)
    seen = "an unknown number of" if open_ is None else str(open_)
    why = f"{seen} memories are quarantined and not acknowledged"
    return Check.of("quarantine", open_ == 0, open_, "memories", "= 0", why, "cutover quarantine list")
