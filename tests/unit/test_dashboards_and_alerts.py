"""From an alert to its panel, from a panel to its runbook, and the same numbers in both."""

from pathlib import Path
from typing import Any

import pytest

from dashboards.panels import RUNBOOKS
from dashboards.traffic import WRITES
from tests.dashboard_rules import BOARDS, Board, panels, rules_of_alerts
from tests.promql_text import selectors

ROOT = Path(__file__).parents[2]
ALERTS: list[dict[str, Any]] = [rule for rule in rules_of_alerts() if "alert" in rule]


def test_the_share_of_bad_writes_is_the_objective_of_the_alerts() -> None:
    recorded = {
        value[1]
        for rule in rules_of_alerts()
        if "record" in rule
        for each in selectors(str(rule["expr"]))
        if (value := each.matchers.get("operation"))
    }
    assert recorded == {WRITES}


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_alert_panel_and_runbook_are_linked(alert: str) -> None:
    rules = [rule["annotations"] for rule in ALERTS if rule["alert"] == alert]
    (uid,) = {each["dashboard"] for each in rules}
    (runbook,) = {each["runbook_url"] for each in rules}
    assert runbook == f"{RUNBOOKS}/{alert}.md"
    links = [link["url"] for panel in panels(BOARDS[uid]) for link in panel.get("links", ())]
    assert runbook in links, f"no panel of {uid} leads to the runbook of {alert}"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_runbooks_that_panels_lead_to_are_there(board: Board) -> None:
    for panel in panels(board):
        for link in panel.get("links", ()):
            if link["url"].startswith(RUNBOOKS):
                file = ROOT / "docs" / "runbooks" / link["url"].rpartition("/")[2]
                assert file.is_file(), f"{panel['title']}: {file.name}"


@pytest.mark.parametrize("alert", sorted({rule["alert"] for rule in ALERTS}))
def test_a_runbook_names_the_panels_that_lead_to_it(alert: str) -> None:
    (uid,) = {rule["annotations"]["dashboard"] for rule in ALERTS if rule["alert"] == alert}
    page = (ROOT / "docs" / "runbooks" / f"{alert}.md").read_text()
    diagnosis = " ".join(page.partition("## Diagnosis")[2].partition("##")[0].split())
    url = f"{RUNBOOKS}/{alert}.md"
    titles = [each["title"] for each in panels(BOARDS[uid]) if url in [link["url"] for link in each.get("links", ())]]
    wanted = f"In Grafana: dashboard `{uid}`, " + " and ".join(f"*{title}*" for title in titles) + "."
    assert wanted in diagnosis
