"""Do the sweeps say that the stores agree."""

from cutover.domain.check import Check, Status, verdict
from cutover.domain.evidence import Evidence
from cutover.domain.recall import DEPTH, OVERLAP_REQUIRED


def unexplained(e: Evidence) -> Check:
    """The drift ledger accounts for every row by which the stores differ."""
    good = e.unexplained == 0
    seen = "not known: no count sweep has finished" if e.unexplained is None else f"{e.unexplained} rows"
    why = f"unexplained drift: {seen}"
    return Check(
        "unexplained_drift",
        verdict(good),
        e.unexplained,
        "rows",
        "= 0",
        why,
        "" if good else "cutover sweep run --kind count",
    )


def sweep_fresh(e: Evidence) -> Check:
    """The last count sweep is recent enough to be believed."""
    age = e.sweep_age_seconds
    good = age is not None and age <= e.sweep_max_age_seconds
    why = "no count sweep has finished" if age is None else f"the last count sweep ended {age:.0f} s ago"
    return Check(
        "sweep_fresh",
        verdict(good),
        None if age is None else round(age, 1),
        "seconds",
        f"<= {e.sweep_max_age_seconds:.0f}",
        why,
        "" if good else "cutover sweep run --kind count",
    )


def digest(e: Evidence) -> Check:
    """The last full digest sweep looked at every memory, found no difference, and caught every fault planted for it."""
    seen = e.digest
    good = False
    if seen is None:
        why = "no full digest sweep has come to an end since this phase was entered"
    elif not seen.trusted:
        why = "the last full digest sweep missed planted faults, so it proves nothing"
    elif seen.age_seconds > e.digest_max_age_seconds:
        why = f"the last full digest sweep ended {seen.age_seconds / 3600:.1f} h ago"
    elif seen.outcome != "clean":
        why = f"the last full digest sweep was {seen.outcome}"
    elif seen.coverage < 1:
        why = f"the last full digest sweep could look at {seen.coverage:.1%} of the memories"
    elif seen.open_findings:
        why = f"{seen.open_findings} findings are open: confirmed, or repaired and not seen in order yet"
    else:
        good, why = True, f"the last full digest sweep was clean and trusted, {seen.age_seconds / 60:.0f} min ago"
    divergent = seen is not None and (seen.outcome == "divergent" or seen.open_findings > 0)
    next_step = "cutover divergence list --groups" if divergent else ""
    return Check(
        "digest",
        verdict(good),
        None if seen is None else seen.outcome,
        "outcome",
        f"clean, trusted, whole, within {e.digest_max_age_seconds / 3600:.0f} h",
        why,
        "" if good else next_step or "cutover sweep run --kind digest --full",
    )


def recall(e: Evidence) -> Check:
    """The plugin answers as legacy does, and shows every reader exactly what they may see."""
    age = e.recall_age_seconds
    if e.recall_overlap is None or e.recall_visibility is None or age is None:
        seen, good = "no recall sweep has come to a result", False
    elif age > e.recall_max_age_seconds:
        seen, good = f"the last recall sweep ended {age:.0f} s ago", False
    else:
        seen = f"overlap@{DEPTH} {e.recall_overlap:.4f}, visibility differs for {e.recall_visibility} memories"
        good = e.recall_overlap >= OVERLAP_REQUIRED and e.recall_visibility == 0
    status = verdict(good)
    if good and e.recall_live == 0:
        status, seen = Status.WARN, f"{seen}; no live queries were sampled, only lists of workspaces"
    return Check(
        "recall",
        status,
        e.recall_overlap,
        "ratio",
        f">= {OVERLAP_REQUIRED}, no visibility differences, within {e.recall_max_age_seconds:.0f} s",
        f"recall: {seen}",
        "" if good else "cutover sweep run --kind recall",
    )
