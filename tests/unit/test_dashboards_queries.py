"""Queries that decide, on series made up for them: several tenants, two daemons of one of them, every kind of phase."""

import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards.interpolate import interpolated
from tests.dashboard_rules import ASKED, BOARDS, panels

pytestmark = pytest.mark.prometheus

JOB = 'job="cutover"'
SERIES = {
    # a: in A1, served by two daemons, one of which sees a failing check. c: in A2 with an open gate. b: in A4.
    'cutover_phase_index{tenant="a", instance="1", JOB}': 1,
    'cutover_phase_index{tenant="a", instance="2", JOB}': 1,
    'cutover_phase_index{tenant="b", instance="1", JOB}': 4,
    'cutover_phase_index{tenant="c", instance="1", JOB}': 2,
    'cutover_gate_check{tenant="a", instance="1", phase="A2", check="findings", JOB}': 0,
    'cutover_gate_check{tenant="a", instance="2", phase="A2", check="findings", JOB}': 1,
    'cutover_gate_check{tenant="a", instance="1", phase="A2", check="plugin", JOB}': 1,
    'cutover_gate_check{tenant="a", instance="2", phase="A2", check="plugin", JOB}': 1,
    'cutover_gate_check{tenant="a", instance="1", phase="A3", check="digest", JOB}': 0,
    'cutover_gate_check{tenant="b", instance="1", phase="A4", check="soak", JOB}': 0,
    'cutover_gate_check{tenant="c", instance="1", phase="A3", check="digest", JOB}': 1,
    'cutover_certificate_approvals_missing{tenant="a", target="A2", instance="1", JOB}': 2,
    'cutover_certificate_approvals_missing{tenant="a", target="A3", instance="1", JOB}': 9,
    'cutover_certificate_approvals_missing{tenant="c", target="A3", instance="1", JOB}': 0,
    'cutover_rows{tenant="a", instance="1", store="legacy", kind="workspace", JOB}': 10,
    'cutover_rows{tenant="a", instance="2", store="legacy", kind="workspace", JOB}': 10,
    'cutover_rows{tenant="a", instance="1", store="legacy", kind="team", JOB}': 5,
    'cutover_drift_rows{tenant="a", instance="1", cause="unexplained", JOB}': -3,
    'cutover_drift_rows{tenant="a", instance="2", cause="unexplained", JOB}': 0,
    'cutover_drift_rows{tenant="a", instance="1", cause="not_backfilled", JOB}': 3,
    'cutover_drift_rows{tenant="c", instance="1", cause="unexplained", JOB}': 3,
    'cutover_drift_rows{tenant="c", instance="2", cause="unexplained", JOB}': 2,
    'cutover_held_requests{tenant="a", instance="1", JOB}': 2,
    'cutover_held_requests{tenant="a", instance="2", JOB}': 3,
    'cutover_marks_oldest_timestamp_seconds{tenant="a", instance="1", JOB}': 0,
    'cutover_marks_oldest_timestamp_seconds{tenant="c", instance="1", JOB}': 200,
    'cutover_breaker_state{tenant="a", instance="1", state="open", JOB}': 0,
    'cutover_breaker_state{tenant="a", instance="1", state="half_open", JOB}': 1,
    'cutover_breaker_state{tenant="a", instance="1", state="ramp", JOB}': 0,
    'cutover_backfill_throttled{tenant="a", reason="plugin", instance="1", JOB}': 1,
    'cutover_backfill_throttled{tenant="a", reason="rate", instance="1", JOB}': 0,
    'cutover_backfill_remaining_rows{tenant="a", instance="1", JOB}': 7,
    'cutover_backfill_remaining_rows{tenant="c", instance="1", JOB}': 0,
    'cutover_config_info{tenant="a", hash="abc", instance="1", JOB}': 1,
    'cutover_config_info{tenant="b", hash="def", instance="1", JOB}': 1,
    'cutover_build_info{version="1.0", instance="1", JOB}': 1,
    'process_start_time_seconds{instance="1", JOB}': 100,
}
AT = 300
"""Seconds since 1970 at which everything is asked."""


@pytest.mark.parametrize(
    ("uid", "title", "ref", "wanted"),
    [
        ("cutover-overview", "May I promote?", "C", {'{tenant="a"}': 1, '{tenant="b"}': -1, '{tenant="c"}': 0}),
        ("cutover-overview", "May I promote?", "E", {'{tenant="a"}': 2, '{tenant="b"}': 0, '{tenant="c"}': 0}),
        ("cutover-overview", "May I promote?", "F", {'{tenant="a"}': 3, '{tenant="b"}': -1, '{tenant="c"}': 3}),
        ("cutover-overview", "May I promote?", "J", {'{tenant="a"}': 5}),
        (
            "cutover-overview",
            "Why not: failing checks of the next phase",
            "A",
            {
                '{tenant="a", instance="1", phase="A2", check="findings"}': 1,
                '{tenant="b", check="none fails"}': 0,
                '{tenant="c", check="none fails"}': 0,
            },
        ),
        ("cutover-overview", "Firing alerts", "A", {'{alertname="rules not loaded"}': 0}),
        (
            "cutover-overview",
            "Daemons",
            "A",
            {
                '{instance="1", tenant="a", hash="abc", version="1.0"}': 200,
                '{instance="1", tenant="b", hash="def", version="1.0"}': 200,
            },
        ),
        ("cutover-divergence", "Rows by store", "A", {'{tenant="a", store="legacy"}': 15}),
        (
            "cutover-divergence",
            "Drift ledger: difference by cause",
            "A",
            {
                '{tenant="a", cause="unexplained"}': -3,
                '{tenant="a", cause="not_backfilled"}': 3,
                '{tenant="c", cause="unexplained"}': 3,
            },
        ),
        ("cutover-divergence", "Unexplained rows", "A", {'{tenant="a"}': -3, '{tenant="c"}': 3}),
        ("cutover-backfill", "Backfill now", "A", {'{tenant="a"}': 0.8, '{tenant="c"}': -1}),
        ("cutover-divergence", "Age of the oldest mark", "A", {'{tenant="a"}': 0, '{tenant="c"}': 100}),
        ("cutover-traffic", "Breaker", "A", {'{tenant="a", instance="1"}': 2}),
        (
            "cutover-backfill",
            "Held back by",
            "A",
            {'{tenant="a", reason="plugin"}': 1, '{tenant="c", reason="nothing"}': 0},
        ),
    ],
)
def test_what_a_query_makes_of_it(uid: str, title: str, ref: str, wanted: dict[str, float], tmp_path: Path) -> None:
    asked(uid, title, ref, wanted, tmp_path)


QUIET = {
    'cutover_bypass_writes_total{tenant="a", instance="1", writer="psql", JOB}': "0x10",
    'cutover_frozen_writes_refused_total{tenant="a", instance="1", writer="psql", JOB}': "0x10",
    'cutover_breaker_transitions_total{tenant="a", instance="1", to="open", JOB}': "0x10",
    'cutover_plugin_restarts_total{tenant="a", instance="1", JOB}': "0x10",
}
LOADED = {'tenant:cutover_writes:increase5m{tenant="a", JOB}': "0x10"}
FIRES = {'ALERTS{tenant="a", alertname="CutoverPluginDown", severity="critical", alertstate="firing", JOB}': "1x10"}
OTHERS = ("cutover-overview", "Other writers of agent_memories")
CHANGES = ("cutover-traffic", "Breaker's changes, plugin restarts")
ALERTS = ("cutover-overview", "Firing alerts")


def moving(name: str) -> dict[str, str]:
    """One of the quiet series goes up by 60 a minute in both daemons."""
    (key,) = [each for each in QUIET if each.startswith(name)]
    other = key.replace('instance="1"', 'instance="2"')
    return {**QUIET, key: "0+60x10", other: "0+60x10"}


@pytest.mark.parametrize(
    ("panel", "more", "wanted"),
    [
        (OTHERS, QUIET, {'{series="none"}': 0}),
        (OTHERS, moving("cutover_bypass"), {'{writer="psql", series="psql wrote"}': 120}),
        (OTHERS, moving("cutover_frozen"), {'{writer="psql", series="psql was refused"}': 120}),
        (CHANGES, QUIET, {'{series="none"}': 0}),
        (CHANGES, moving("cutover_breaker"), {'{to="open", series="breaker to open"}': 120}),
        (CHANGES, moving("cutover_plugin"), {'{tenant="a", series="a: plugin restarted"}': 120}),
        (ALERTS, LOADED, {'{alertname="none"}': 0}),
        (ALERTS, LOADED | FIRES, {'{tenant="a", alertname="CutoverPluginDown", severity="critical"}': 1}),
        (ALERTS, FIRES, {'{tenant="a", alertname="CutoverPluginDown", severity="critical"}': 1}),
    ],
    ids=[
        *("nobody else", "others wrote", "others were refused"),
        *("nothing changed", "the breaker opened", "the plugin restarted"),
        *("nothing fires", "one fires", "one fires and the other file is missing"),
    ],
)
def test_none_is_said_once_and_only_where_there_is_nothing(
    panel: tuple[str, str], more: dict[str, str], wanted: dict[str, float], tmp_path: Path
) -> None:
    asked(*panel, "A", wanted, tmp_path, more)


def asked(
    uid: str, title: str, ref: str, wanted: dict[str, float], tmp_path: Path, more: dict[str, str] | None = None
) -> None:
    """The query gives that, of the series above and of more."""
    panel = next(each for each in panels(BOARDS[uid]) if each["title"] == title)
    expr = next(target["expr"] for target in panel["targets"] if target["refId"] == ref)
    case = {
        "interval": "60s",
        "input_series": [
            {"series": name.replace("JOB", JOB), "values": values}
            for name, values in ({name: f"{value}x10" for name, value in SERIES.items()} | (more or {})).items()
        ],
        "promql_expr_test": [
            {
                "expr": interpolated(expr, ASKED),
                "eval_time": f"{AT}s",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in wanted.items()],
            }
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [], "tests": [case]}))
    told = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
