"""Values in pictures of dashboards: as Grafana writes and colours them, and an error where that is not known."""

import math
from typing import Any

import pytest

from dashboards.page import visible
from dashboards.render import seen_hash
from dashboards.values import PALETTE, NotDrawn, colour, mapped, merged, series_colours, shown, worded


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "none", "0"),
        (3.0, "none", "3"),
        (2540.0, "none", "2540"),
        (0.0, "short", "0"),
        (0.25, "short", "0.25"),
        (2540.0, "short", "2.54 K"),
        (12_345_678.0, "short", "12.3 Mil"),
        (-2000.0, "short", "-2 K"),
        (0.0, "s", "0 s"),
        (0.000_25, "s", "250 µs"),
        (0.1234, "s", "123 ms"),
        (59.0, "s", "59 s"),
        (60.0, "s", "1 min"),
        (70.0, "s", "1.17 mins"),
        (3600.0, "s", "1 hour"),
        (-7200.0, "s", "-2 hours"),
        (172_800.0, "s", "2 days"),
        (2_592_000.0, "s", "4.29 weeks"),
        (0.0, "bytes", "0 B"),
        (1536.0, "bytes", "1.5 KiB"),
        (83_886_080.0, "bytes", "80 MiB"),
        (0.559, "percentunit", "55.9%"),
        (1.0, "percentunit", "100%"),
        (12.34, "reqps", "12.3 req/s"),
        (1500.0, "wps", "1.5 K wr/s"),
        (0.0, "rps", "0 rd/s"),
        (20.0, "cpm", "20 c/m"),
        (math.nan, "s", "NaN"),
        (math.inf, "s", "+Inf"),
    ],
)
def test_a_value_in_its_unit(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_what_is_not_known_is_an_error_and_not_a_guess() -> None:
    with pytest.raises(NotDrawn, match="furlongs"):
        shown(1.0, "furlongs")
    with pytest.raises(NotDrawn, match="mauve"):
        colour("mauve")
    with pytest.raises(NotDrawn, match="byFrameRefID"):
        merged({"overrides": [{"matcher": {"id": "byFrameRefID", "options": "A"}, "properties": []}]}, "a")
    with pytest.raises(NotDrawn, match="range"):
        worded(1.0, {"mappings": [{"type": "range", "options": {}}]})


def test_an_unknown_kind_of_panel_is_an_error_and_not_a_blank() -> None:
    with pytest.raises(NotDrawn, match="'Map' is of type 'geomap'"):
        visible({"panels": [{"type": "geomap", "title": "Map"}]})


STEPS = {"mode": "absolute", "steps": [{"value": None, "color": "green"}, {"value": 1, "color": "red"}]}
WORDS = [{"type": "value", "options": {"0": {"text": "down", "color": "orange", "index": 0}}}]


def test_mappings_come_before_thresholds_and_units() -> None:
    field = {"unit": "s", "thresholds": STEPS, "mappings": WORDS}
    assert worded(0.0, field) == ("down", colour("orange"))
    assert worded(0.5, field) == ("500 ms", colour("green"))
    assert worded(1.0, field) == ("1 s", colour("red"))


def test_words_are_mapped_as_well() -> None:
    severity = [{"type": "value", "options": {"critical": {"color": "red", "index": 0}}}]
    assert mapped("critical", {"mappings": severity}) == ("critical", colour("red"))
    assert mapped("info", {"mappings": severity}) is None


def test_overrides_win_over_defaults_and_do_not_leak() -> None:
    config: dict[str, Any] = {
        "defaults": {"unit": "s", "custom": {"lineWidth": 1}},
        "overrides": [
            {"matcher": {"id": "byRegexp", "options": "/^re/"}, "properties": [{"id": "custom.lineWidth", "value": 4}]},
            {"matcher": {"id": "byName", "options": "rest"}, "properties": [{"id": "unit", "value": "bytes"}]},
        ],
    }
    assert merged(config, "rest") == {"unit": "bytes", "custom": {"lineWidth": 4}}
    assert merged(config, "other") == {"unit": "s", "custom": {"lineWidth": 1}}


def test_series_of_a_panel_have_colours_of_their_own_that_stay() -> None:
    names = [f"series {number}" for number in range(len(PALETTE))]
    made = series_colours(names, {})
    assert sorted(made) == sorted(PALETTE)
    assert series_colours(names, {}) == made
    red = {
        "matcher": {"id": "byRegexp", "options": "/^series 3$/"},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": "#123456"}}],
    }
    assert series_colours(names, {"overrides": [red]})[3] == "#123456"


def test_the_hash_is_of_what_can_be_seen() -> None:
    panel = {
        "id": 1,
        "type": "table",
        "title": "b",
        "description": "c",
        "targets": [{"expr": "d", "editorMode": "code"}],
    }
    rest = {"annotations": {"list": [{"name": "n", "iconColor": "red"}]}, "templating": {"list": [{"name": "tenant"}]}}
    board = {"title": "a", "uid": "u", "panels": [panel], **rest}

    def changed(**keys: object) -> str:
        return seen_hash({**board, "panels": [{**panel, **keys}]})

    assert seen_hash({**board, "uid": "x"}) == seen_hash(board)
    assert changed(description="more", id=2, links=[{}], targets=[{"expr": "d"}]) == seen_hash(board)
    others = [
        changed(targets=[{"expr": "e"}]),
        changed(title="e"),
        changed(type="timeseries"),
        changed(options={"legend": {"showLegend": False}}),
        changed(fieldConfig={"defaults": {"unit": "s"}}),
        seen_hash({**board, "title": "e"}),
        seen_hash({**board, "annotations": {"list": [{"name": "n", "iconColor": "blue"}]}}),
        seen_hash({**board, "templating": {"list": []}}),
    ]
    assert len({seen_hash(board), *others}) == 1 + len(others)
