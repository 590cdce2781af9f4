"""Do the sweeps say that the stores agree, and for how long have they."""

from cutover.domain.check import Check, Status, verdict
from cutover.domain.duration import spoken
from cutover.domain.evidence import Evidence
from cutover.domain.recall import DEPTH

_COUNT = "cutover sweep run --kind count"
_FULL = "cutover sweep run --kind digest --full"
RECALL_COVERAGE = 0.9
"""The share of its reads that a recall sweep must have compared: what failed or was not reached proves nothing."""


def shadow_clean(e: Evidence) -> Check:
    """Sweeps have found nothing unexplained for long enough, since A1 was entered, by the database's clock."""
    threshold, seen = e.thresholds.shown("shadow_clean"), e.shadow
    step = "cutover sweep list --kind count (it counts while sweeps run and find nothing)"
    if seen is None:
        why = e.unknown.get("shadow", "the sweeps of A1 were not looked at")
        return Check.unknown("shadow_clean", "seconds", threshold, why, step)
    parts = [f"clean for {spoken(seen.clean_seconds)} by {seen.sweeps} sweeps in a row"]
    if seen.dirty_seconds_ago is not None:
        parts.append(f"a sweep found a difference {spoken(seen.dirty_seconds_ago)} ago")
    if seen.missing_seconds:
        parts.append(f"{spoken(seen.missing_seconds)} without sweeps do not count")
    good = seen.clean_seconds >= e.thresholds.shadow_clean
    value = round(seen.clean_seconds, 1)
    return Check.of("shadow_clean", good, value, "seconds", threshold, "; ".join(parts), step)


def unexplained(e: Evidence) -> Check:
    """The drift ledger accounts for every row by which the stores differ."""
    if e.contract_only:
        why = "the contract cannot count rows: digest sweeps list and sample instead"
        return Check("unexplained_drift", Status.WARN, None, "rows", "= 0", why)
    why = e.unknown.get("sweeps", "no count sweep has finished")
    seen = f"not known: {why}" if e.unexplained is None else f"{e.unexplained} rows"
    why = f"unexplained drift: {seen}"
    return Check.of("unexplained_drift", e.unexplained == 0, e.unexplained, "rows", "= 0", why, _COUNT)


def sweep_fresh(e: Evidence) -> Check:
    """The last count sweep is recent enough to be believed."""
    age = e.sweep_age_seconds
    good = age is not None and 0 <= age <= e.thresholds.sweep_age
    why = e.unknown.get("sweeps", "no count sweep has finished") if age is None else _ended("count", age)
    seen = None if age is None else round(age, 1)
    return Check.of("sweep_fresh", good, seen, "seconds", e.thresholds.shown("sweep_age"), why, _COUNT)


def findings(e: Evidence) -> Check:
    """No confirmed difference is open: none that nobody accepted, repaired and had found in order again."""
    seen = e.open_findings
    if seen is None:
        why = e.unknown.get("open_findings", "nobody looked")
        return Check.unknown("findings", "findings", "= 0", why, "cutover divergence list --groups")
    why = f"{seen} findings are open: confirmed, or repaired and not seen in order yet"
    return Check.of("findings", seen == 0, seen, "findings", "= 0", why, "cutover divergence list --groups")


def digest(e: Evidence) -> Check:
    """The last full digest sweep looked at every memory, found no difference, and caught every fault planted for it."""
    seen, good, step = e.digest, False, _FULL
    if seen is None:
        why = e.unknown.get("digest") or "no full digest sweep has come to an end since this phase was entered"
    elif not seen.trusted:
        why = "the last full digest sweep missed planted faults, so it proves nothing"
    elif seen.age_seconds < 0:
        why = _ended("full digest", seen.age_seconds)
    elif seen.newer_bad:
        why = f"the last full digest sweep counts no more: {seen.newer_bad}"
    elif seen.age_seconds > e.thresholds.digest_age:
        why = f"the last full digest sweep ended {seen.age_seconds / 3600:.1f} h ago"
    elif seen.coverage < 1:
        why = f"the last full digest sweep could look at {seen.coverage:.1%} of the memories"
        if e.contract_only:
            why += ": the contract shows no more than that, and going on takes an override with both approvals"
            step = "set MEMORY_PLUGIN_DATABASE_URL, or: cutover phase certify --help (about --override)"
    elif seen.outcome != "clean":
        why = f"the last full digest sweep was {seen.outcome}"
    elif seen.open_findings:
        why = f"{seen.open_findings} findings are open: confirmed, or repaired and not seen in order yet"
    else:
        good, why = True, f"the last full digest sweep was clean and trusted, {seen.age_seconds / 60:.0f} min ago"
    if seen is not None and (seen.outcome == "divergent" or seen.open_findings > 0):
        step = "cutover divergence list --groups"
    outcome = None if seen is None else seen.outcome
    threshold = f"clean, trusted, whole, age {e.thresholds.shown('digest_age')}"
    return Check.of("digest", good, outcome, "outcome", threshold, why, step)


def recall(e: Evidence) -> Check:
    """The plugin answers as legacy does, and shows every reader exactly what they may see."""
    age = e.recall_age_seconds
    if e.recall_overlap is None or e.recall_visibility is None or age is None:
        seen, good = e.unknown.get("recall") or e.unknown.get("sweeps") or "no recall sweep has come to a result", False
    elif not 0 <= age <= e.thresholds.recall_age:
        seen, good = _ended("recall", age), False
    elif not e.recall_compared or e.recall_coverage is None or e.recall_coverage < RECALL_COVERAGE:
        share = f"{e.recall_coverage or 0:.1%} of its reads"
        seen, good = f"the last recall sweep could compare {share} ({e.recall_compared})", False
    else:
        seen = f"overlap@{DEPTH} {e.recall_overlap:.4f}, visibility differs for {e.recall_visibility} memories"
        good = e.recall_overlap >= e.thresholds.recall_overlap and e.recall_visibility == 0
    status = verdict(good)
    if good and e.recall_live == 0:
        status, seen = Status.WARN, f"{seen}; no live queries were sampled, only lists of workspaces"
    asked = e.thresholds.shown("recall_overlap")
    return Check(
        "recall",
        status,
        e.recall_overlap,
        "ratio",
        f"{asked} of >= {RECALL_COVERAGE:.0%} of the reads, no visibility differences,"
        f" age {e.thresholds.shown('recall_age')}",
        f"recall: {seen}",
        "" if good else "cutover sweep run --kind recall",
    )


def _ended(kind: str, age: float) -> str:
    """How long ago; the database's clock may have been put back since."""
    if age < 0:
        return f"the last {kind} sweep ends {-age:.0f} s in the future: the database's clock was put back"
    return f"the last {kind} sweep ended {age:.0f} s ago"
