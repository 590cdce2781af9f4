"""May legacy be left, and then be dropped: the freeze, the way back, others at the table, the soak, the archive."""

from cutover.domain.check import Check, Status, verdict
from cutover.domain.duration import spoken
from cutover.domain.evidence import Evidence


def freeze(e: Evidence) -> Check:
    """`agent_memories` is frozen as the phase asks, and nobody has tampered with that."""
    step = "cutover phase refreeze, after finding out who disabled, dropped or replaced the trigger cutover_freeze"
    if e.freeze is None:
        return Check.unknown("freeze", "boolean", "intact", e.unknown.get("freeze", "nobody looked"), step)
    asked = "is frozen for others" if e.freeze.wanted else "is not frozen"
    why = f"agent_memories {asked}, as {e.phase} asks" if e.freeze.intact else e.freeze.why
    if e.freeze.attempts:
        why += f"; {e.freeze.attempts} statements were refused so far"
    return Check.of("freeze", e.freeze.intact, e.freeze.intact, "boolean", "intact", why, step)


def capture(e: Evidence) -> Check:
    """Every writer past the daemon leaves a mark: the triggers that see to it are there and whole."""
    step = (
        "find out who disabled or dropped them, ALTER TABLE ... ENABLE ALWAYS TRIGGER each"
        " (gone: SELECT cutover.install_capture()), then run a digest sweep for what was written meanwhile"
    )
    if e.capture is None:
        return Check.unknown("capture", "boolean", "intact", e.unknown.get("capture", "nobody looked"), step)
    intact = not e.capture.missing
    why = "all triggers are there" if intact else f"missing, disabled or not ours: {', '.join(e.capture.missing)}"
    return Check.of("capture", intact, intact, "boolean", "intact", why, step)


def bypass_writers(e: Evidence) -> Check:
    """Nobody has written to `agent_memories` past the daemon for long enough."""
    threshold, step = (
        e.thresholds.shown("bypass_window"),
        "move those writers onto the daemon; cutover access names them",
    )
    if e.access is None:
        why = e.unknown.get("access", "nobody looked")
        return Check.unknown("bypass_writers", "seconds", threshold, why, step)
    seen = e.access
    good = seen.writes_clean_seconds >= e.thresholds.bypass_window
    why = _others(seen.writes_clean_seconds, seen.watched_seconds, "written", seen.writes, seen.writers)
    return Check.of("bypass_writers", good, round(seen.writes_clean_seconds, 1), "seconds", threshold, why, step)


def rehearsal(e: Evidence) -> Check:
    """The way back from A3 was rehearsed on a copy, with success, not long ago."""
    threshold, step, seen = e.thresholds.shown("rehearsal_age"), "cutover phase rehearse-rollback", e.rehearsal
    if seen is None:
        why = _none(e, "rehearsal", "the way back was never rehearsed")
        return Check.of("rehearsal", False, None, "seconds", threshold, why, step)
    good = seen.ok and 0 <= seen.age_seconds <= e.thresholds.rehearsal_age
    came = f"took {spoken(seen.seconds)} and lost nothing" if seen.ok else f"failed: {seen.why}"
    why = f"the last rehearsal of the way back, {spoken(seen.age_seconds)} ago, {came}"
    if good and not seen.whole:
        why += "; it was made on a part of the rows, so it says less of the rest and of how long the way back takes"
        return Check("rehearsal", Status.WARN, round(seen.age_seconds, 1), "seconds", threshold, why)
    return Check.of("rehearsal", good, round(seen.age_seconds, 1), "seconds", threshold, why, step)


def soak(e: Evidence) -> Check:
    """A3 has been green for long enough by the soak clock."""
    t, seen = e.thresholds, e.soak
    threshold = f"{t.shown('soak')}, sweeps apart {t.shown('count_gap')} (count), {t.shown('digest_gap')} (digest)"
    step = "cutover phase check A4 (wait, and mend what resets it)"
    if seen is None:
        return Check.unknown("soak", "seconds", threshold, e.unknown.get("soak") or "there is no soak clock", step)
    good = seen.green_seconds >= max(seen.required_seconds, e.thresholds.soak)
    parts = [f"{spoken(seen.green_seconds)} of {spoken(max(seen.required_seconds, e.thresholds.soak))} are green"]
    if not good and not seen.running:
        parts.append(f"it stands still and waits for {seen.waits_for or 'nobody knows what'}")
    if not good and seen.earliest is not None:
        parts.append(f"full on {seen.earliest:%Y-%m-%d %H:%M} UTC at the earliest")
    if seen.last_reset_why:
        parts.append(f"last reset: {seen.last_reset_why}")
    return Check.of("soak", good, round(seen.green_seconds, 1), "seconds", threshold, "; ".join(parts), step)


def foreign_access(e: Evidence) -> Check:
    """Nobody else has read or written `agent_memories` for long enough: whoever does would break with the drop."""
    threshold, step = (
        e.thresholds.shown("foreign_window"),
        "move those readers and writers away; cutover access names them",
    )
    if e.access is None:
        why = e.unknown.get("access", "nobody looked")
        return Check.unknown("foreign_access", "seconds", threshold, why, step)
    seen = e.access
    if seen.reads_unknown:
        look = "cutover status (does the task access fail, or does a stopped daemon keep its lock?)"
        return Check.unknown("foreign_access", "seconds", threshold, seen.reads_unknown, look)
    clean = min(seen.reads_clean_seconds, seen.writes_clean_seconds)
    reads = _others(seen.reads_clean_seconds, seen.watched_seconds, "read", seen.reads, seen.readers)
    writes = _others(seen.writes_clean_seconds, seen.watched_seconds, "written", seen.writes, seen.writers)
    good = clean >= e.thresholds.foreign_window
    return Check.of("foreign_access", good, round(clean, 1), "seconds", threshold, f"{reads}; {writes}", step)


def dependants(e: Evidence) -> Check:
    """No view, foreign key or function would break with the table: the drop is without CASCADE."""
    step = "drop those objects or point them elsewhere, then: cutover phase check A4"
    if e.drop is None:
        return Check.unknown("dependants", "objects", "= 0", e.unknown.get("drop") or "nobody looked", step)
    found = e.drop.dependants
    why = f"these depend on agent_memories: {', '.join(found)}" if found else "nothing depends on agent_memories"
    return Check.of("dependants", not found, len(found), "objects", "= 0", why, step)


def archive(e: Evidence) -> Check:
    """An archive of `agent_memories` was written, restored on trial, and holds every row that is there now."""
    threshold, seen = "restore-tested, covers every row", e.archive
    if seen is None:
        why = _none(e, "archive", "no archive has been written")
        return Check.of("archive", False, None, "seconds", threshold, why, "cutover archive create")
    why = seen.lacks or f"the archive {seen.path} covers every row and was restored on trial"
    age = round(seen.age_seconds, 1)
    return Check.of("archive", not seen.lacks, age, "seconds", threshold, why, "cutover archive create")


def drop(e: Evidence) -> Check:
    """Once in A4: how the drop goes. It warns until the table is gone and never fails: traffic does not need it."""
    threshold, seen = "dropped", e.drop
    if seen is None:
        why = f"not known: {e.unknown.get('drop') or 'nobody looked'}"
        return Check("drop", Status.WARN, None, "state", threshold, why, "cutover drop show")
    left = f"{spoken(seen.remaining)} of its hold are left" if seen.remaining else "its hold is over"
    step = seen.remedy or "cutover drop show"
    match seen.state:
        case "dropped":
            return Check("drop", Status.PASS, seen.state, "state", threshold, "agent_memories has been dropped")
        case "held" if not seen.blocked:
            why, step = f"agent_memories is held: {left}, then it is dropped", "cutover drop cancel (to keep the table)"
        case "held" | "blocked":
            why = f"agent_memories is held: {left}, but it is not dropped: {seen.blocked}"
        case "cancelled":
            why, step = "the drop was called off: agent_memories has its name and is kept", "cutover drop start"
        case _:
            why = "agent_memories has not been renamed: that comes with the step to A4"
            return Check("drop", verdict(True), seen.state, "state", threshold, why)
    return Check("drop", Status.WARN, seen.state, "state", threshold, why, step)


def _none(e: Evidence, part: str, words: str) -> str:
    """There is none, which is certain unless somebody says that it could not be looked at."""
    reason = e.unknown.get(part)
    return words if reason is None else f"not known: {reason}"


def _others(clean: float, watched: float, verb: str, times: int, by: tuple[str, ...]) -> str:
    """Who else, and for how long nobody has."""
    if not times:
        return f"nobody else has {verb} agent_memories in the {spoken(watched)} that were watched"
    names = f" (seen: {', '.join(by)})" if by else ""
    return f"others have {verb} agent_memories {times} times{names}, the last time {spoken(clean)} ago"
