"""The soak clock: green time between clean sweeps only; red resets; missing or partial pauses; clocks may jump."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.soak_clock import (
    COUNT,
    DIGEST,
    Observation,
    SoakRules,
    SoakState,
    Verdict,
    advance,
    earliest,
    verdict_of,
    waits_for,
)

T0 = datetime(2026, 3, 1, tzinfo=UTC)
RULES = SoakRules(count_gap=120.0, digest_gap=1200.0, full_max_age=129_600.0)
DAY = 86_400.0


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def seen(
    witness: str, seconds: float, verdict: Verdict = Verdict.GREEN, *, full: bool = False, took: float = 0.0
) -> Observation:
    return Observation(witness, verdict, at(seconds), took, full=full, why=f"{witness} said {verdict}")


def run(*observations: Observation, state: SoakState | None = None) -> SoakState:
    state = state or SoakState(epoch=4)
    for each in observations:
        state = advance(state, each, RULES)
    return state


def clean(begin: float, end: float) -> list[Observation]:
    """Everything as it should be: a full digest sweep, then digests and counts on time."""
    made = [seen(DIGEST, begin, full=True)]
    made += [seen(DIGEST, t) for t in _steps(begin + 600, end, 600)]
    made += [seen(COUNT, t) for t in _steps(begin, end, 60)]
    return sorted(made, key=lambda each: each.at)


def _steps(begin: float, end: float, step: float) -> list[float]:
    return [begin + n * step for n in range(int((end - begin) // step) + 1)]


def test_an_hour_of_clean_sweeps_is_an_hour_of_green_time() -> None:
    state = run(*clean(0, 3600))
    assert state.green_seconds == 3600
    assert waits_for(state, at(3610), RULES) == ""
    assert earliest(state, at(3610), 7200) == at(3610 + 3600)


def test_nothing_accrues_without_every_one_of_the_witnesses() -> None:
    everything = clean(0, 3600)
    for kept in (
        [each for each in everything if each.witness == COUNT],
        [each for each in everything if each.witness == DIGEST],
        [each for each in everything if not each.full],
    ):
        assert run(*kept).green_seconds == 0


def test_nothing_accrues_after_the_last_sweep() -> None:
    state = run(*clean(0, 3600))
    assert waits_for(state, at(3600 + 121), RULES).startswith("a count sweep")
    assert state.green_seconds == 3600


@pytest.mark.parametrize("witness", [COUNT, DIGEST])
def test_red_resets_and_says_why(witness: str) -> None:
    state = run(*clean(0, 3600), seen(witness, 3630, Verdict.RED))
    assert state.green_seconds == 0
    assert (state.resets, state.last_reset_at) == (1, at(3630))
    assert state.last_reset_why == f"{witness} said red"
    assert waits_for(state, at(3631), RULES) != ""
    # And what lay before it is never credited afterwards.
    later = run(*clean(4200, 4800), state=state)
    assert later.green_seconds <= 600
    assert later.green_seconds > 0
    assert later.last_reset_why == f"{witness} said red"


def test_after_a_red_digest_a_full_one_is_needed_again() -> None:
    state = run(*clean(0, 3600), seen(DIGEST, 3630, Verdict.RED))
    without = [each for each in clean(4200, 7800) if not each.full]
    assert run(*without, state=state).green_seconds == 0
    assert "full digest sweep" in waits_for(run(*without, state=state), at(7801), RULES)
    assert run(*clean(4200, 7800), state=state).green_seconds == 3600


@pytest.mark.parametrize("witness", [COUNT, DIGEST])
@pytest.mark.parametrize("how", ["partial", "missing"])
def test_a_missing_or_partial_sweep_pauses(witness: str, how: str) -> None:
    everything = clean(0, 7200)
    gap = range(1200, 3601)
    course: list[Observation] = []
    for each in everything:
        seconds = (each.at - T0).total_seconds()
        if each.witness != witness or seconds not in gap:
            course.append(each)
        elif how == "partial":
            course.append(seen(witness, seconds, Verdict.NOTHING))
    state = run(*course)
    step = 60 if witness == COUNT else 600
    # From the last clean one before to the first one after nothing counts; before and after everything does.
    assert state.green_seconds == 7200 - (3600 + step - (1200 - step))
    assert state.resets == 0


def test_one_sweep_of_each_kind_may_fall_out() -> None:
    course = [each for each in clean(0, 3600) if each.at not in (at(1800), at(120))]
    assert run(*course).green_seconds == 3600


def test_a_full_sweep_may_take_its_time() -> None:
    # Two hours, in which no other digest sweep ran: the time it took is known from a clock that cannot jump.
    counts = [seen(COUNT, t) for t in _steps(0, 7800, 60)]
    course = [seen(DIGEST, 0, full=True), *counts, seen(DIGEST, 7800, full=True, took=7200)]
    assert run(*sorted(course, key=lambda each: each.at)).green_seconds == 7800
    hidden = [seen(DIGEST, 0, full=True), *counts, seen(DIGEST, 7800, full=True, took=5)]
    assert run(*sorted(hidden, key=lambda each: each.at)).green_seconds == 0


def test_a_full_sweep_that_is_too_old_pauses() -> None:
    state = run(*clean(0, 2 * DAY))
    assert state.green_seconds == RULES.full_max_age
    assert "newer full digest sweep" in waits_for(state, at(2 * DAY), RULES)


def test_a_daily_full_sweep_keeps_it_running() -> None:
    course = sorted(
        [*clean(0, 3 * DAY), seen(DIGEST, DAY, full=True), seen(DIGEST, 2 * DAY, full=True)], key=lambda each: each.at
    )
    assert run(*course).green_seconds == 3 * DAY


@pytest.mark.parametrize("jump", [DAY, -DAY, 30 * DAY, -3600.0], ids=["day-on", "day-back", "month-on", "hour-back"])
@pytest.mark.parametrize("and_back", [True, False], ids=["and-back", "for-good"])
def test_a_jump_of_the_databases_clock_adds_nothing_and_takes_nothing_away(jump: float, and_back: bool) -> None:
    before = run(*clean(0, 3600))
    away = run(*clean(3660 + jump, 7260 + jump), state=before)
    assert before.green_seconds + 3600 - 1200 <= away.green_seconds <= before.green_seconds + 3600 + 120
    if and_back:
        back = run(*clean(7320, 10_920), state=away)
        assert away.green_seconds + 3600 - 1200 <= back.green_seconds <= away.green_seconds + 3600 + 120
        assert back.resets == 0


def test_sweeps_of_two_daemons_count_once() -> None:
    one = clean(0, 3600)
    other = [seen(each.witness, (each.at - T0).total_seconds() + 7, full=each.full) for each in one]
    both = sorted([*one, *other], key=lambda each: each.at)
    assert 3600 <= run(*both).green_seconds <= 3607
    twice = [each for each in one for _ in range(2)]
    assert run(*twice).green_seconds == 3600


@pytest.mark.parametrize(
    ("witness", "outcome", "trusted", "coverage"),
    list(itertools.product(
        (COUNT, DIGEST),
        ("clean", "drift", "divergent", "partial", "untrusted", "failed", "not_applicable"),
        (True, False),
        (1.0, 0.99, 0.0),
    )),
)  # fmt: skip
def test_what_an_outcome_says(witness: str, outcome: str, trusted: bool, coverage: float) -> None:
    verdict = verdict_of(witness, outcome, trusted=trusted, coverage=coverage)
    if outcome in ("drift", "divergent", "untrusted"):
        assert verdict is Verdict.RED
    elif outcome == "clean" and coverage == 1.0 and (trusted or witness == COUNT):
        assert verdict is Verdict.GREEN
    else:
        assert verdict is Verdict.NOTHING


def test_a_witness_that_is_none() -> None:
    with pytest.raises(ValueError, match="recall"):
        verdict_of("recall", "clean", trusted=True, coverage=1.0)


observations = st.lists(
    st.tuples(
        st.sampled_from((COUNT, DIGEST)),
        st.sampled_from((Verdict.GREEN, Verdict.GREEN, Verdict.GREEN, Verdict.NOTHING, Verdict.RED)),
        st.floats(min_value=0, max_value=300, allow_nan=False),  # since the one before
        st.sampled_from((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, DAY, -DAY)),  # how the clock jumps before it
        st.booleans(),
    ),
    max_size=80,
)


@given(observations)
def test_never_more_than_the_time_that_passed_since_the_last_red(
    course: list[tuple[str, Verdict, float, float, bool]],
) -> None:
    state = SoakState(epoch=4)
    real, clock, since_red, jumps = 0.0, 0.0, 0.0, 0
    for witness, verdict, passed, jump, full in course:
        real, clock, jumps = real + passed, clock + passed + jump, jumps + (jump != 0)
        before = state
        state = advance(state, seen(witness, clock, verdict, full=full), RULES)
        if verdict is Verdict.RED:
            since_red = real
            assert state.green_seconds == 0
        else:
            assert state.green_seconds >= before.green_seconds, "only red takes time away"
        if verdict is Verdict.NOTHING:
            assert state.green_seconds == before.green_seconds
        # A jump can hide in the gap that is allowed, and nowhere else.
        assert state.green_seconds <= real - since_red + 1e-6 + jumps * RULES.max_gap(COUNT)
    assert waits_for(state, at(clock), RULES) or state.full.until is not None


@given(observations, st.integers(min_value=0, max_value=80))
def test_it_does_not_matter_where_a_daemon_stops_and_the_next_goes_on(
    course: list[tuple[str, Verdict, float, float, bool]], cut: int
) -> None:
    clock, made = 0.0, []
    for witness, verdict, passed, jump, full in course:
        clock += passed + jump
        made.append(seen(witness, clock, verdict, full=full))
    assert run(*made[cut:], state=run(*made[:cut])) == run(*made)
