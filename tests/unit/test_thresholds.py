"""Thresholds are shown with their values, and what is looser than its default says so."""

from dataclasses import replace

import pytest

from cutover.domain.duration import spoken
from cutover.domain.thresholds import DEFAULTS, THRESHOLDS, GateThresholds

UPPER = {
    "write_errors", "rehearsal_age", "certificate_validity",
    "sweep_age", "digest_age", "recall_age", "count_gap", "digest_gap",
}  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (90, "90 s"),
        (119.9, "120 s"),
        (120, "2 min"),
        (600, "10 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (86_400, "24 h"),
        (172_800, "2 d"),
        (2_592_000, "30 d"),
        (-86_400, "-24 h"),
    ],
)
def test_a_length_is_written_in_its_natural_unit(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


@pytest.mark.parametrize("name", THRESHOLDS)
def test_each_threshold_is_loosened_on_its_own_side_only(name: str) -> None:
    default = getattr(DEFAULTS, name)
    more, less = replace(DEFAULTS, **{name: default * 1.5}), replace(DEFAULTS, **{name: default / 2})
    looser, stricter = (more, less) if name in UPPER else (less, more)
    assert [each.name for each in looser.loosened()] == [name]
    assert stricter.loosened() == ()
    assert looser.shown(name).startswith("<= " if name in UPPER else ">= ")
    assert "(loosened from " in looser.shown(name)
    assert "loosened" not in stricter.shown(name)
    assert looser.as_json()["loosened"] == [looser.loosened()[0].words]
    assert looser.as_json()["values"][name] == getattr(looser, name)


def test_the_defaults_are_the_design_s_and_not_loosened() -> None:
    assert DEFAULTS.loosened() == ()
    assert DEFAULTS.shown("plugin_healthy") == ">= 10 min"
    assert DEFAULTS.shown("shadow_clean") == ">= 24 h"
    assert DEFAULTS.shown("write_errors") == "<= 0.1 %"
    assert DEFAULTS.shown("recall_overlap") == ">= 99.9 %"
    assert DEFAULTS.shown("soak") == ">= 30 d"
    assert GateThresholds(soak=5.0).loosened()[0].words == "soak is 5 s, loosened from 30 d"


def test_longer_intervals_of_sweeps_loosen_what_follows_from_them_and_are_not_hidden() -> None:
    plain = DEFAULTS.for_intervals(count=60, digest=600, full=86_400, recall=900)
    assert plain == DEFAULTS
    long = DEFAULTS.for_intervals(count=86_400, digest=86_400, full=7 * 86_400, recall=86_400)
    assert {each.name for each in long.loosened()} == {
        "sweep_age",
        "digest_age",
        "recall_age",
        "count_gap",
        "digest_gap",
    }
    assert long.shown("sweep_age") == "<= 3 d (loosened from 3 min)"
    assert DEFAULTS.for_intervals(count=1, digest=1, full=1, recall=1).loosened() == ()
