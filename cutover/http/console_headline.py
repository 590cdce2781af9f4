"""The four things somebody must see in two seconds: which phase, is it healthy, is anything lost, what to do next.

Pure: facts in, sentences out. What is worse is said first, and exactly one next step is named.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from cutover.domain.check import Check, Status
from cutover.domain.phase import Phase
from cutover.http.console_facts import Facts
from cutover.http.console_words import count, lasted, seconds_since

IN_WORDS: Final = {
    Phase.A0: "legacy alone; the plugin gets nothing yet",
    Phase.A1: "legacy answers; every write goes to both stores",
    Phase.A2: "legacy answers; every write goes to both stores while the old rows are copied",
    Phase.A3: "the plugin answers and takes the writes; legacy is frozen",
    Phase.A4: "the plugin alone; legacy is archived and dropped",
}
_LONGEST_REASON = 180


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the four. `words`: a sentence below the short answer. `command`: what to type."""

    status: Status
    short: str
    words: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Headline:
    """All four."""

    phase: Answer
    healthy: Answer
    lost: Answer
    next: Answer

    @property
    def spoken(self) -> str:
        """What a screen reader is told when it changes: nothing in it moves by itself."""
        return f"{self.phase.short}. {self.healthy.short}. {self.lost.short}. Next: {self.next.short}."


def headline(facts: Facts) -> Headline:
    """The four answers."""
    healthy, lost = _healthy(facts), _lost(facts)
    following = _next(facts, healthy, lost)
    # One command is said once: as the next step.
    healthy, lost = (
        replace(each, command="") if each.command == following.command else each for each in (healthy, lost)
    )
    return Headline(_phase(facts), healthy, lost, following)


def _phase(facts: Facts) -> Answer:
    state = facts.state
    if state is None:
        return Answer(Status.FAIL, "Phase not known", "the database has not confirmed it", "cutover doctor")
    short = f"{state.phase} {state.phase.meaning}"
    if changing := facts.status.get("changing"):
        return Answer(Status.WARN, f"{state.phase} → {changing['to']}", f"under way: {changing['doing']}")
    serving = facts.serving
    if serving is None or any(check.id == "phase" and check.status is Status.FAIL for check in serving.checks):
        then = facts.at - timedelta(seconds=facts.confirmed_seconds_ago)
        return Answer(Status.WARN, short, f"as of {then:%H:%M} UTC: the database does not say so now")
    return Answer(Status.PASS, short, IN_WORDS[state.phase])


def _healthy(facts: Facts) -> Answer:
    made, status = facts.serving, facts.status
    if made is None or made.status is Status.FAIL:
        failed = first_failing(made.checks) if made is not None else None
        why, command = (failed.output, failed.next) if failed is not None else ("nothing is known", "cutover doctor")
        return Answer(Status.FAIL, "Refusing traffic", why, command)
    state = facts.state
    held = facts.phases.get(state.phase) if state is not None else None
    # What is lost has an answer of its own.
    others = tuple(check for check in held.checks if check.id != "unexplained_drift") if held is not None else ()
    if (broken := first_failing(others)) is not None:
        return Answer(Status.FAIL, "Not healthy", broken.output, broken.next)
    plugin = status.get("plugin") or {}
    if plugin and not plugin.get("up") and state is not None:  # A0 only: elsewhere traffic is refused
        return Answer(Status.WARN, "Serving, plugin down", str(plugin.get("why") or ""), "cutover doctor")
    marks = status.get("marks") or {}
    waiting = f"; {count(marks['total'], 'write')} on the way" if marks.get("total") else ""
    return Answer(Status.PASS, "Healthy", f"traffic is served{waiting}")


def _lost(facts: Facts) -> Answer:
    """Worst first: what is certain, then what is not accounted for, then what is not known. `pass` needs evidence that
    the gates themselves would take: a fresh count, and a full digest sweep that was clean, trusted and whole."""
    status, state = facts.status, facts.state
    found = status.get("divergences") or {}
    confirmed = sum((found.get("confirmed") or {}).values())
    unexplained, blocking = facts.unexplained, status.get("quarantine_blocking") or 0
    drift = status.get("drift")
    if unexplained:
        age = seconds_since(facts.unexplained_since, facts.at)
        words = "missing in the plugin" if unexplained > 0 else "too many in the plugin"
        since = f", for {lasted(age)}" if age is not None else ""
        what = f"{count(abs(unexplained), 'row')} unexplained"
        return Answer(Status.FAIL, what, f"{words}, and no cause accounts for them{since}", _GROUPS)
    if confirmed:
        oldest = found.get("oldest_seconds")
        words = "the stores differ, seen by two looks"
        since = f"; the oldest for {lasted(oldest)}" if oldest is not None else ""
        return Answer(Status.FAIL, f"{count(confirmed, 'difference')} confirmed", words + since, _GROUPS)
    if blocking:
        words = "the plugin would not take them; they are safe in legacy, and block the cutover"
        return Answer(Status.WARN, f"{blocking} in quarantine", words, "cutover quarantine list")
    if (why := facts.missing.get("status")) is not None:
        return Answer(Status.WARN, "Not known", why, "cutover doctor")
    if state is None or unexplained is None:
        why = (drift or {}).get("why") or "no count sweep has come to a result yet"
        return Answer(Status.WARN, "Not known", why, "cutover sweep run --kind count")
    ended = seconds_since((drift or {}).get("finished_at"), facts.at)
    counted = f"every row is accounted for{f', {lasted(ended)} ago' if ended is not None else ''}"
    if state.phase is Phase.A4:
        return Answer(Status.PASS, "Nothing lost", f"{counted}; legacy is compared no more")
    if (stale := _not_passing(facts, "sweep_fresh")) is not None:
        return Answer(Status.WARN, "Not known now", stale.output, stale.next)
    if not state.phase.needs_plugin:
        return Answer(Status.PASS, "Nothing lost", f"{counted}; legacy alone is in use")
    if (unproven := _not_passing(facts, "digest")) is not None:
        return Answer(Status.WARN, "Counts agree", f"contents are not proven: {unproven.output}", unproven.next)
    return Answer(Status.PASS, "Nothing lost", f"{counted}; {_seen(facts, 'digest').output}")


_NOBODY = Check("", Status.FAIL, None, "", "", "no gate that asks for it could be judged", "cutover doctor")


def _seen(facts: Facts, id_: str) -> Check:
    """What the gate of a later phase says of it: it asks the same of every phase that asks."""
    made = (facts.phases.get(phase) for phase in reversed(Phase))
    return next((check for each in made if each is not None for check in each.checks if check.id == id_), _NOBODY)


def _not_passing(facts: Facts, id_: str) -> Check | None:
    check = _seen(facts, id_)
    return None if check.status is Status.PASS else check


_GROUPS = "cutover divergence list --groups"


def _next(facts: Facts, healthy: Answer, lost: Answer) -> Answer:
    if changing := facts.status.get("changing"):
        return Answer(Status.WARN, "Wait for the step", f"{changing['to']}: {changing['doing']}", "cutover phase show")
    for trouble, short in ((healthy, "Mend this first"), (lost, "Find the cause")):
        if trouble.status is Status.FAIL:
            return Answer(Status.FAIL, short, "", trouble.command)
    target = facts.next_phase
    if target is None:
        return _nowhere(facts)
    made = facts.phases.get(target)
    if made is None:
        return Answer(Status.WARN, f"Look at {target}", "its gate could not be judged", f"cutover phase check {target}")
    if (copying := _copying(facts)) is not None:
        return copying
    if (closed := first_failing(made.checks)) is not None:
        number = sum(check.status is Status.FAIL for check in made.checks)
        return Answer(
            Status.WARN,
            f"{target} is closed by {count(number, 'check')}",
            _clipped(closed.output),
            closed.next or f"cutover phase check {target}",
        )
    return _open(facts, target)


def _copying(facts: Facts) -> Answer | None:
    """A backfill that has begun is what to wait for, whatever else closes the gate."""
    told = facts.status.get("backfill") or {}
    if told.get("state") == "paused":
        by = told.get("paused_by") or "somebody"
        return Answer(Status.WARN, "Resume the backfill", f"paused by {by}", "cutover backfill --resume")
    if told.get("state") != "running":
        return None
    eta = told.get("eta_seconds")
    left = f"about {lasted(eta)} left" if eta is not None else "time left not known"
    held = f"; held back: {told['throttled']}" if told.get("throttled") else ""
    words = f"{count(told['remaining'], 'row')} to go, {left}{held}"
    return Answer(Status.PASS, "Wait for the backfill", words)


def _open(facts: Facts, target: Phase) -> Answer:
    """The gate is open: who must do what."""
    good = [each for each in facts.certificates if each["target"] == target and each["void"] is None]
    if good:
        one = next((each for each in good if not each["approvals_missing"]), good[0])
        short = one["hash"][:12]
        if one["approvals_missing"]:
            words = f"certificate {short}, asked for by {one['requested_by']}, waits for it"
            approve = f"cutover phase approve {short} --as NAME"
            return Answer(Status.PASS, f"{count(one['approvals_missing'], 'approval')} for {target}", words, approve)
        return Answer(
            Status.PASS,
            f"Promote to {target}",
            f"certificate {short} is good",
            f"cutover phase promote {target} --certificate {short}",
        )
    if target in (Phase.A3, Phase.A4):
        return Answer(
            Status.PASS,
            f"Certify {target}",
            "its gate is open; two people must approve",
            f"cutover phase certify {target}",
        )
    return Answer(Status.PASS, f"Promote to {target}", "its gate is open", f"cutover phase promote {target}")


def _nowhere(facts: Facts) -> Answer:
    if facts.state is None:
        return Answer(Status.FAIL, "Look at the database", "the phase is not confirmed", "cutover doctor")
    drop = facts.status.get("drop") or {}
    if drop.get("state") in (None, "none", "dropped"):
        return Answer(Status.PASS, "Nothing", "the cutover is done", "")
    return Answer(Status.WARN, f"The drop is {drop['state']}", str(drop.get("blocked") or ""), "cutover drop show")


def first_failing(checks: tuple[Check, ...]) -> Check | None:
    """The first check that fails, or None."""
    return next((check for check in checks if check.status is Status.FAIL), None)


def _clipped(words: str) -> str:
    return words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON].rstrip()} …"
