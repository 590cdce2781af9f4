"""Every query of every dashboard finds data: a real Prometheus scrapes a real daemon under the demo's traffic, whose
plugin dies, whose table others write, whose backfill runs and whose plugin's rows are changed behind its back.

One tenant lives through it (`dashboards/scene.py`, which the pictures are made from as well) and everything is asked at
the end; the tests look at the answers.
"""

import asyncio
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
from cutover.embedded.prometheus import Prometheus
from dashboards.interpolate import Asked, interpolated
from dashboards.scene import Scene, Story, scene
from tests.dashboard_rules import BOARDS, Board, panels, query_of, rules_of_alerts, variables
from tests.promql_text import Selector, selectors

pytestmark = [pytest.mark.acceptance, pytest.mark.prometheus, pytest.mark.timeout(300)]

RULES = sorted((Path(__file__).parents[2] / "alerts").glob("*.yml"))
Series = list[tuple[dict[str, str], list[float]]]

board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())


@dataclass
class Answers:
    """What Prometheus said at the end. `panels`: series by dashboard, panel and query; `variables`: values by dashboard
    and name; `annotations`: series by dashboard and name; `alerts`: how many series a selector of the rules finds;
    `reasons`: what the daemon says to the link of each failing check."""

    panels: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    variables: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    annotations: dict[tuple[str, str], Series] = field(default_factory=dict)
    alerts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, dict[str, Any]] = field(default_factory=dict)


async def _live(directory: Path) -> Answers:
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        async with scene(postgres, directory, memories=600, rules=RULES) as live:
            story = Story(live)
            await story.shadow()
            await story.plugin_dies(seconds=1.0)
            await story.stranger_writes()
            await story.backfill(rate=200.0)
            await story.divergence()
            await story.recall()
            return await _asked(live)


async def _asked(live: Scene) -> Answers:
    asked, made, prometheus = live.asked(), Answers(), live.prometheus
    for uid, each in BOARDS.items():
        for panel in panels(each):
            for target in panel["targets"]:
                expr = interpolated(target["expr"], asked)
                made.panels[uid, panel["title"], target["refId"]] = await _series(
                    prometheus, expr, asked, instant=target.get("instant", False)
                )
        for annotation in each["annotations"]["list"]:
            expr = interpolated(annotation["expr"], asked)
            made.annotations[uid, annotation["name"]] = await _series(prometheus, expr, asked, instant=False)
        for variable in variables(each, "query"):
            match, _, label = query_of(variable).removeprefix("label_values(").rstrip(")").rpartition(", ")
            made.variables[uid, variable["name"]] = await prometheus.label_values(label, interpolated(match, asked))
    for name in {_as_written(one) for rule in rules_of_alerts() for one in selectors(str(rule["expr"]))}:
        made.alerts[name] = len(await prometheus.query(name))
    failing = made.panels["cutover-overview", "Why not: failing checks of the next phase", "A"]
    async with aiohttp.ClientSession() as session:
        for labels, _ in failing:
            url = f"http://{labels['instance']}/tenants/{labels['tenant']}/readyz/checks/{labels['check']}"
            async with session.get(url) as response:
                made.reasons[labels["check"]] = {"http": response.status, **await response.json()}
    return made


def _as_written(one: Selector) -> str:
    """A selector without its range."""
    matchers = [f'{name}{operator}"{value}"' for name, (operator, value) in one.matchers.items()]
    return f"{one.metric}{{{', '.join(matchers)}}}"


async def _series(prometheus: Prometheus, expr: str, asked: Asked, *, instant: bool) -> Series:
    if instant:
        return [(dict(each.labels), [each.value]) for each in await prometheus.query(expr)]
    now = time.time()
    told = await prometheus.query_range(expr, start=now - asked.range_seconds, end=now, step=asked.interval)
    return [(labels, [value for _, value in points]) for labels, points in told]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Lived through once."""
    return asyncio.run(_live(tmp_path_factory.mktemp("live")))


def _finite(series: Series) -> list[float]:
    return [value for _, points in series for value in points if math.isfinite(value)]


@board
def test_every_panels_every_query_returns_data(answers: Answers, board: Board) -> None:
    asked = {key: _finite(series) for key, series in answers.panels.items() if key[0] == board["uid"]}
    assert len(asked) == sum(len(panel["targets"]) for panel in panels(board))
    assert [key for key, values in asked.items() if not values] == []


@board
def test_none_stands_beside_no_other_series(answers: Answers, board: Board) -> None:
    """Where something happened at any time of the range, nothing is called none."""
    asked = {key: series for key, series in answers.panels.items() if key[0] == board["uid"]}
    assert [
        key for key, series in asked.items() if len(series) > 1 and any("none" in each.values() for each, _ in series)
    ] == []


@board
def test_every_variable_has_values(answers: Answers, board: Board) -> None:
    found = {name: values for (uid, name), values in answers.variables.items() if uid == board["uid"]}
    assert (found["job"], found["tenant"]) == (["cutover"], ["sample"])
    assert len(found["instance"]) == 1


@board
def test_annotations_are_at_the_times_of_phase_changes_and_starts(answers: Answers, board: Board) -> None:
    phases = answers.annotations[board["uid"], "Phase changes"]
    assert {"A1", "A2"} <= {labels["phase"] for labels, _ in phases}
    ((labels, points),) = answers.annotations[board["uid"], "Daemon starts"]
    assert labels["version"]
    for at in (*points, *(at for labels, found in phases if labels["phase"] != "A0" for at in found)):
        assert time.time() - 900 < at / 1000 < time.time(), "milliseconds since 1970, of a moment ago"


def test_every_metric_that_alerts_name_is_there(answers: Answers) -> None:
    assert len(answers.alerts) > 40
    assert {name for name, found in answers.alerts.items() if not found and not name.startswith("ALERTS")} == set()


def test_the_overview_says_which_checks_fail_and_their_link_says_why(answers: Answers) -> None:
    assert "rehearsal" in answers.reasons, "nobody rehearsed the way back"
    for name, told in answers.reasons.items():
        (check,) = told["checks"][name]
        assert told["http"] in (200, 503)
        assert check["output"]
        assert check["status"] != "fail" or check["next"]


@pytest.mark.parametrize(
    ("uid", "title", "labels", "at_least"),
    [
        ("cutover-overview", "Phase ladder", {"tenant": "sample"}, 2),
        ("cutover-overview", "Refused requests by reason", {"reason": "plugin_unhealthy"}, 0.01),
        ("cutover-overview", "Other writers of agent_memories", {"writer": "other"}, 0.01),
        ("cutover-divergence", "Rows by store", {"tenant": "sample", "store": "legacy"}, 600),
        ("cutover-divergence", "Drift ledger: difference by cause", {"cause": "not_backfilled"}, 1),
        ("cutover-divergence", "Confirmed differences by class", {"class": "content"}, 1),
        ("cutover-divergence", "Age of the oldest difference", {"tenant": "sample"}, 0.1),
        ("cutover-divergence", "Planted faults caught", {"tenant": "sample", "fault": "missing"}, 1),
        ("cutover-divergence", "Sweeps by outcome", {"outcome": "clean"}, 0.01),
        ("cutover-traffic", "Breaker", {"tenant": "sample"}, 3),
        ("cutover-traffic", "Share of writes that were not served", {"tenant": "sample"}, 0.01),
        ("cutover-traffic", "Requests by face", {"face": "memories"}, 0.01),
        ("cutover-traffic", "Shadow reads", {"outcome": "match"}, 0.01),
        ("cutover-backfill", "Rows taken up by outcome", {"outcome": "copied"}, 0.01),
        ("cutover-backfill", "Rows left", {"tenant": "sample"}, 1),
        ("cutover-backfill", "Quarantined memories", {"tenant": "sample"}, 1),
    ],
)
def test_what_happened_is_seen(answers: Answers, uid: str, title: str, labels: dict[str, str], at_least: float) -> None:
    found = [
        (has, points)
        for (board, panel, _), series in answers.panels.items()
        if (board, panel) == (uid, title)
        for has, points in series
        if labels.items() <= has.items()
    ]
    assert max(_finite(found), default=-1) >= at_least


def test_the_plugins_absence_is_seen(answers: Answers) -> None:
    ((_, up),) = answers.panels["cutover-overview", "Plugin", "A"]
    assert set(up) == {0, 1}


@pytest.mark.parametrize(
    ("uid", "title", "label"),
    [
        ("cutover-traffic", "Deliveries to the plugin", "outcome"),
        ("cutover-traffic", "Requests by outcome", "outcome"),
        ("cutover-traffic", "Refused by reason", "reason"),
        ("cutover-divergence", "Marks by origin", "origin"),
        ("cutover-divergence", "Sweeps by outcome", "outcome"),
    ],
)
def test_what_happened_has_a_name(answers: Answers, uid: str, title: str, label: str) -> None:
    """`other` is for what nobody foresaw; all of this was planned."""
    series = [made for key, found in answers.panels.items() if key[:2] == (uid, title) for made in found]
    assert "other" not in {labels[label] for labels, points in series if max(points) > 0}
