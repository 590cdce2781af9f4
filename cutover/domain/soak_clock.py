"""The soak clock: how long A3 has been green (architecture §6). Pure: no clock of its own, no I/O.

Three witnesses are asked, all of them sweeps: `count` (every minute), `digest` (every ten minutes, full or not) and
`full` (once a day). Time is green only where it lies between two clean sweeps of one witness, one right after the
other; and it counts only where all of that holds for `count` and for `digest` at once, behind a `full` one of this
stay in A3 that is not too old. Nothing is ever credited in advance, and nothing for time in which nobody looked.

All times are the tenant's database's. So a daemon's clock may say what it likes. When the database's own clock jumps,
the gap between two sweeps is too long, or negative, and what lies in such a gap is not credited: a jump of a day adds
nothing and takes nothing away.

Red is a certain difference or a sweep that cannot be trusted: the clock goes back to zero, and says why. A sweep that
is missing, partial or failed proves nothing in either direction: the clock stands still until two clean ones follow
each other again.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

COUNT = "count"
DIGEST = "digest"
WITNESSES = (COUNT, DIGEST)


class Verdict(StrEnum):
    """What one sweep says about the time that it closes."""

    GREEN = "green"  # complete, trusted, clean
    RED = "red"  # the stores certainly differ, or the sweep is blind
    NOTHING = "nothing"  # partial, failed: proves nothing


@dataclass(frozen=True, slots=True)
class SoakRules:
    """Seconds. How far two sweeps of a witness may lie apart (`domain/thresholds.py`: what is longer than the default
    is shown as loosened), and `full_max_age` for the full digest sweep behind it all."""

    count_gap: float
    digest_gap: float
    full_max_age: float

    def max_gap(self, witness: str) -> float:
        """How far two sweeps of a witness may lie apart, the time that the later one took itself left out."""
        return self.count_gap if witness == COUNT else self.digest_gap


@dataclass(frozen=True, slots=True)
class Observation:
    """One sweep that ended. `at`: by the database's clock; `seconds`: how long it took, by a clock that cannot jump."""

    witness: str
    verdict: Verdict
    at: datetime
    seconds: float = 0.0
    full: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Clean sweeps of one witness that followed each other: when the first ended, and the last. None: none."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class SoakState:
    """The clock of one stay in A3 (`epoch`). `credited_to`: whatever lies before it is settled, green or not."""

    epoch: int
    green_seconds: float = 0.0
    credited_to: datetime | None = None
    count: Run = field(default_factory=Run)
    digest: Run = field(default_factory=Run)
    full: Run = field(default_factory=Run)
    resets: int = 0
    last_reset_at: datetime | None = None
    last_reset_why: str = ""

    def run(self, witness: str) -> Run:
        """Of one witness."""
        return self.count if witness == COUNT else self.digest


def verdict_of(witness: str, outcome: str, *, trusted: bool, coverage: float) -> Verdict:
    """What a sweep's recorded outcome says. Raises `ValueError` for a witness that is not one."""
    if witness not in WITNESSES:
        raise ValueError(f"{witness} is no witness of the soak clock")
    if outcome in ("drift", "divergent", "untrusted"):
        return Verdict.RED
    if outcome == "clean" and coverage >= 1.0 and (trusted or witness == COUNT):
        return Verdict.GREEN
    return Verdict.NOTHING


def advance(state: SoakState, seen: Observation, rules: SoakRules) -> SoakState:
    """The clock after one more sweep."""
    state = _put_back(state, seen, rules)
    if seen.verdict is Verdict.RED:
        return _reset(state, seen)
    if seen.verdict is Verdict.NOTHING:
        return _with_run(state, seen.witness, Run())
    state = _with_run(state, seen.witness, _extended(state.run(seen.witness), seen, rules.max_gap(seen.witness)))
    if seen.full and seen.witness == DIGEST:
        state = replace(state, full=_extended(state.full, seen, rules.full_max_age))
    return _credited(state, rules)


def waits_for(state: SoakState, now: datetime, rules: SoakRules) -> str:
    """What the clock stands still for at `now` (the database's clock); empty while it runs."""
    if (full := state.full.until) is None:
        return "a full digest sweep that is clean and trusted (cutover sweep run --kind digest --full)"
    if not timedelta(0) <= now - full <= timedelta(seconds=rules.full_max_age):
        return f"a newer full digest sweep: the last clean one ended at {full.isoformat(timespec='seconds')}"
    for witness in WITNESSES:
        until = state.run(witness).until
        if until is None:
            return f"a clean {witness} sweep: none has ended, or the last one proved nothing"
        if not timedelta(0) <= now - until <= timedelta(seconds=rules.max_gap(witness)):
            return f"a {witness} sweep: the last clean one ended at {until.isoformat(timespec='seconds')}"
    return ""


def earliest(state: SoakState, now: datetime, required: float) -> datetime:
    """When the clock can be full at the soonest, if nothing but clean sweeps comes from now on."""
    return now + timedelta(seconds=max(0.0, required - state.green_seconds))


def _extended(run: Run, seen: Observation, max_gap: float) -> Run:
    if run.since is None or run.until is None:
        return Run(seen.at, seen.at)
    if seen.at <= run.until:
        return run  # another daemon's sweep that ended a little earlier adds nothing
    unseen = (seen.at - run.until).total_seconds() - max(0.0, seen.seconds)
    return Run(run.since, seen.at) if unseen <= max_gap else Run(seen.at, seen.at)


def _put_back(state: SoakState, seen: Observation, rules: SoakRules) -> SoakState:
    """Where the database's clock was put back, nothing that was seen before can be joined to what comes now."""
    known = [t for t in (state.count.until, state.digest.until, state.full.until, state.credited_to) if t is not None]
    if not known or (max(known) - seen.at).total_seconds() <= rules.max_gap(DIGEST):
        return state
    full = Run() if state.full.until is not None and state.full.until > seen.at else state.full
    return replace(state, count=Run(), digest=Run(), full=full, credited_to=seen.at)


def _credited(state: SoakState, rules: SoakRules) -> SoakState:
    """Count the time that all witnesses have closed and that was not counted yet."""
    runs = (state.count, state.digest, state.full)
    since = [run.since for run in runs if run.since is not None]
    until = [run.until for run in (state.count, state.digest) if run.until is not None]
    if len(since) < len(runs) or state.full.until is None:
        return state
    end = min(*until, state.full.until + timedelta(seconds=rules.full_max_age))
    start = max(*since, state.credited_to or since[0])
    if end <= start:
        return state
    return replace(state, green_seconds=state.green_seconds + (end - start).total_seconds(), credited_to=end)


def _reset(state: SoakState, seen: Observation) -> SoakState:
    return replace(
        _with_run(state, seen.witness, Run()),
        green_seconds=0.0,
        credited_to=seen.at,
        # What a difference was found behind is proven anew, whole.
        full=Run() if seen.witness == DIGEST else state.full,
        resets=state.resets + 1,
        last_reset_at=seen.at,
        last_reset_why=seen.why,
    )


def _with_run(state: SoakState, witness: str, run: Run) -> SoakState:
    return replace(state, count=run) if witness == COUNT else replace(state, digest=run)
