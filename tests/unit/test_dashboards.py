"""The dashboards as files: generated, linted by the 17 rules, complete against the metrics' catalogue, and linked with
alerts and runbooks. That every query finds data is for `tests/acceptance/test_dashboards_live.py`."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from dashboards.generate import DASHBOARDS, DIRECTORY, generated
from dashboards.interpolate import Asked, interpolated
from tests.dashboard_rules import (
    BOARDS,
    RULES,
    Board,
    Wrong,
    asked,
    excluded,
    exclusions,
    panels,
    rules_of_alerts,
    targets,
    variables,
)
from tests.promql_text import base_name, selectors

ROOT = Path(__file__).parents[2]
CATALOGUE = frozenset(re.findall(r"^\| `(cutover_\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
UIDS = ["cutover-backfill", "cutover-divergence", "cutover-overview", "cutover-traffic"]

NOT_SHOWN: dict[str, str] = {
    "cutover_phase_epoch": "what it tells, the ladder and the marks of phase changes show; alerts compare it",
}
"""Metrics of the catalogue that neither a dashboard nor an alert needs, and why."""

board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


def metrics(expressions: Iterator[str]) -> set[str]:
    return {base_name(each.metric, CATALOGUE) for expression in expressions for each in selectors(expression)}


# -- generated


def test_there_are_four_dashboards() -> None:
    assert sorted(BOARDS) == UIDS
    assert [BOARDS[uid]["uid"] for uid in UIDS] == UIDS
    assert len(DASHBOARDS) == len(UIDS)


def test_the_files_are_what_the_generator_writes() -> None:
    for name, text in generated().items():
        assert (DIRECTORY / name).read_text() == text, f"{name} is stale: python -m dashboards.generate"
    assert sorted(generated()) == [f"{uid}.json" for uid in UIDS]


# -- the rules of the linter


def test_there_are_seventeen_rules() -> None:
    assert len(RULES) == 17


@pytest.mark.prometheus
@pytest.mark.parametrize("rule", RULES)
@board
def test_rule(board: Board, rule: str) -> None:
    assert [each for each in RULES[rule](board) if not excluded(rule, board, each)] == []


def _first(board: Board) -> dict[str, Any]:
    return next(each for each in panels(board) if each["type"] == "timeseries")


def _variable(board: Board, name: str) -> dict[str, Any]:
    return next(each for each in board["templating"]["list"] if each["name"] == name)


def _replace(board: Board, old: str, new: str) -> None:
    target = next(each for _, _, each in targets(board) if old in each["expr"])
    target["expr"] = target["expr"].replace(old, new)


def _loki(board: Board, expr: str) -> None:
    _first(board)["targets"][0].update(datasource={"type": "loki", "uid": "$datasource"}, expr=expr)


PLANTS: dict[str, list[Callable[[Board], object]]] = {
    "template-datasource-rule": [
        lambda made: _variable(made, "datasource").update(label="Datasource"),
        lambda made: made["templating"]["list"].pop(0),
    ],
    "template-job-rule": [
        lambda made: _variable(made, "job").update(multi=False),
        lambda made: _variable(made, "job").update(name="jobs"),
        lambda made: _variable(made, "job").update(datasource={"uid": "prometheus-1"}),
    ],
    "template-instance-rule": [
        lambda made: _variable(made, "instance").update(allValue=".*"),
        lambda made: _variable(made, "instance").update(label="Daemon"),
    ],
    "template-label-promql-rule": [
        lambda made: _variable(made, "tenant").update(query="label_value(cutover_phase_index, tenant)"),
        lambda made: _variable(made, "tenant").update(query="label_values(cutover_phase_index{, tenant)"),
    ],
    "template-on-time-change-reload-rule": [lambda made: _variable(made, "tenant").update(refresh=1)],
    "panel-datasource-rule": [
        lambda made: _first(made).update(datasource={"type": "prometheus", "uid": "prometheus-1"}),
        lambda made: _first(made)["targets"][0].update(datasource={"type": "prometheus", "uid": "prometheus-1"}),
    ],
    "panel-title-description-rule": [
        lambda made: _first(made).update(title=""),
        lambda made: _first(made).pop("description"),
    ],
    "panel-units-rule": [
        lambda made: _first(made)["fieldConfig"]["defaults"].pop("unit"),
        lambda made: _first(made)["fieldConfig"]["defaults"].update(unit="rows"),
    ],
    "panel-no-targets-rule": [lambda made: _first(made).update(targets=[])],
    "target-logql-rule": [lambda made: _loki(made, '{job="cutover"}')],
    "target-logql-auto-rule": [lambda made: _loki(made, 'rate({job="cutover"}[5m])')],
    "target-promql-rule": [
        lambda made: _first(made)["targets"][0].update(expr="sum(cutover_phase_index"),
        lambda made: _first(made)["targets"][0].update(expr="rate(cutover_phase_index)"),
    ],
    "target-rate-interval-rule": [
        lambda made: _first(made)["targets"][0].update(expr="sum by (tenant) (rate(cutover_refused_total[5m]))")
    ],
    "target-job-rule": [lambda made: _replace(made, 'job=~"$job"', 'job="cutover"')],
    "target-instance-rule": [lambda made: _replace(made, 'instance=~"$instance", ', "")],
    "target-counter-agg-rule": [
        lambda made: _first(made)["targets"][0].update(expr="sum(cutover_refused_total)"),
        lambda made: _first(made)["targets"][0].update(expr="max_over_time(cutover_refused_total[5m])"),
    ],
    "uneditable-dashboard": [lambda made: made.update(editable=True), lambda made: made.pop("editable")],
}


@pytest.mark.prometheus
@pytest.mark.parametrize("rule", RULES)
def test_rule_can_fail(rule: str) -> None:
    for plant in PLANTS[rule]:
        made = copy.deepcopy(BOARDS["cutover-traffic"])
        assert list(RULES[rule](made)) == []
        plant(made)
        assert list(RULES[rule](made)) != []


def test_exclusions_have_a_reason_and_are_needed() -> None:
    boards = {each["title"]: each for each in BOARDS.values()}
    for rule, made in exclusions().items():
        assert len(made["reason"]) > 40
        for entry in made["entries"]:
            found = [each for each in RULES[rule](boards[entry["dashboard"]]) if each.panel == entry["panel"]]
            assert found, f"{rule}: {entry} leaves out nothing"
            assert isinstance(found[0], Wrong)


# -- what the linter does not look at


@board
def test_panels_have_ids_places_and_queries_of_their_own(board: Board) -> None:
    ids = [panel["id"] for panel in panels(board)]
    assert sorted(ids) == sorted(set(ids))
    assert min(ids) > 0
    assert len({panel["title"] for panel in panels(board)}) == len(ids)
    for panel in panels(board):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs))
    for one, other in combinations([panel["gridPos"] for panel in panels(board)], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, f"panels lie on each other: {one} {other}"


@board
def test_variables_are_data_source_job_instance_tenant(board: Board) -> None:
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "job", "instance", "tenant"]
    for each in variables(board, "query"):
        assert (each["multi"], each["includeAll"], each["allValue"], each["refresh"]) == (True, True, ".+", 2)


@board
def test_every_selector_of_a_tenants_series_is_narrowed_to_the_tenant(board: Board) -> None:
    of_the_process = {"cutover_build_info", "cutover_event_loop_lag_seconds", "process_start_time_seconds"}
    for title, _, target in targets(board):
        for each in selectors(target["expr"]):
            if base_name(each.metric, CATALOGUE) not in of_the_process:
                assert each.matchers["tenant"] in (("=~", "$tenant"), ("=~", "$tenant|")), title


@board
def test_annotations_mark_phase_changes_and_deploys(board: Board) -> None:
    made = {each["name"]: each for each in board["annotations"]["list"]}
    assert list(made) == ["Phase changes", "Daemon starts"]
    assert metrics(iter([made["Phase changes"]["expr"]])) == {
        "cutover_phase_entered_timestamp_seconds",
        "cutover_phase",
    }
    assert metrics(iter([made["Daemon starts"]["expr"]])) == {"process_start_time_seconds", "cutover_build_info"}
    assert all(each["useValueForTime"] and each["enable"] for each in made.values())


@board
def test_dashboards_link_to_each_other(board: Board) -> None:
    assert board["tags"] == ["cutover"]
    (link,) = board["links"]
    assert (link["type"], link["tags"], link["keepTime"], link["includeVars"]) == (
        "dashboards",
        ["cutover"],
        True,
        True,
    )
    for panel in panels(board):
        for each in panel.get("links", ()):
            if each["url"].startswith("/d/"):
                assert re.match(r"/d/([\w-]+)\?", each["url"])[1] in set(UIDS) - {board["uid"]}  # type: ignore[index]


def test_the_first_screen_of_the_overview_says_whether_to_promote_and_why_not() -> None:
    first = [each for each in panels(BOARDS["cutover-overview"]) if each["gridPos"]["y"] < 13]
    assert [each["title"] for each in first] == [
        "May I promote?",
        "Why not: failing checks of the next phase",
        "Firing alerts",
        "Phase ladder",
    ]
    assert max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in first) <= 13, "rows of 38 pixels: 494"


def test_a_failing_check_links_to_its_reason() -> None:
    panel = next(each for each in panels(BOARDS["cutover-overview"]) if each["title"].startswith("Why not"))
    (url,) = re.findall(r'"url": "(http:[^"]+)"', json.dumps(panel))
    assert url == "http://${__data.fields.Daemon}/tenants/${__data.fields.Tenant}/readyz/checks/${__data.fields.Check}"


# -- metrics


def test_every_metric_of_the_dashboards_is_in_the_catalogue() -> None:
    recorded = {rule["record"] for rule in rules_of_alerts() if "record" in rule}
    others = {"ALERTS", "process_start_time_seconds", *recorded}
    assert {name for board in BOARDS.values() for name in metrics(asked(board))} - CATALOGUE - others == set()


def test_every_metric_of_the_catalogue_is_shown_or_alerted_or_has_a_reason() -> None:
    shown = {name for board in BOARDS.values() for name in metrics(asked(board))}
    alerted = metrics(str(rule["expr"]) for rule in rules_of_alerts())
    assert CATALOGUE - shown - alerted - NOT_SHOWN.keys() == set()
    assert not NOT_SHOWN.keys() & shown, "no longer an exception"
    assert set(NOT_SHOWN) <= CATALOGUE


# -- variables in queries, as Grafana replaces them


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('up{job=~"$job"}', 'up{job=~".+"}'),
        ('up{instance=~"${instance}"}', 'up{instance=~"127\\\\.0\\\\.0\\\\.1:9090"}'),
        ('up{tenant=~"$tenant"}', 'up{tenant=~"(a|b)"}'),
        ("rate(a[$__rate_interval])", "rate(a[60s])"),
        ("max_over_time(a[$__range])", "max_over_time(a[3600s])"),
        ("a / $__range_s + $__interval_ms", "a / 3600 + 15000"),
        ('label_replace(a, "phase", "A$1", "n", "(.+)")', 'label_replace(a, "phase", "A$1", "n", "(.+)")'),
    ],
    ids=["all", "one", "several", "rate_interval", "range", "numbers", "no_variable"],
)
def test_variables_are_replaced_as_grafana_does(text: str, wanted: str) -> None:
    chosen = {"instance": ["127.0.0.1:9090"], "tenant": ["a", "b"]}
    assert interpolated(text, Asked(3600, 15, 300, chosen)) == wanted


@pytest.mark.parametrize(
    ("range_seconds", "scrape", "interval", "rate_interval"),
    [(3600, 15, 15, 60), (3600, 1, 15, 16), (86_400, 15, 300, 315), (60, 1, 1, 4)],
)
def test_intervals_follow_grafanas_rules(
    range_seconds: float, scrape: float, interval: float, rate_interval: float
) -> None:
    asked = Asked(range_seconds, scrape, 300)
    assert (asked.interval, asked.rate_interval) == (interval, rate_interval)
