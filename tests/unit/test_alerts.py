"""The alert and recording rules as files: how each is written, and that each has tests and a runbook (issue 5 §2,
observability §3, decision 0026). What they do is shown by promtool below, and live in tests/acceptance."""

import functools
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutover.metric_labels import OPERATIONS

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks"
BASE = "https://github.com/cutover/cutover/blob/main/docs/runbooks/"
TESTS = sorted((ALERTS / "tests").glob("*.yml"))
DASHBOARDS = ("cutover-overview", "cutover-divergence", "cutover-traffic", "cutover-backfill")
FLAPPING = (
    *("CutoverPluginDown", "CutoverRefusingTraffic", "CutoverBreakerFlapping", "CutoverDriftUnexplained"),
    *("CutoverWritesFailing", "CutoverTaskFailing"),
)
SEEN = ("CutoverBypassWriterSeen", "CutoverFrozenTableWritten", "CutoverFrozenTableRead")
NOT_CUTOVERS = {
    "up": {"job", "instance"},
    "process_start_time_seconds": {"job", "instance"},
    "ALERTS": {"alertname", "alertstate"},
}


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((ALERTS / name).read_text())["groups"] for rule in group["rules"]]


ALERT_RULES = rules("cutover.yml")
RECORDED = rules("recording.yml")
NAMES = sorted({rule["alert"] for rule in ALERT_RULES})
EACH = pytest.mark.parametrize(
    "rule", ALERT_RULES, ids=[" ".join([r["alert"], *filter(None, [r["labels"].get("window")])]) for r in ALERT_RULES]
)


def catalogue() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every metric of docs/metrics.md."""
    rows = re.findall(
        r"^\| `(cutover_\w+)` \| (\w+) \| ([^|]+) \| .+ \|$", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE
    )
    return {name: (kind, {label.strip() for label in labels.split(",")} - {"–"}) for name, kind, labels in rows}


METRICS = catalogue()


def selectors(expression: str) -> list[tuple[str, str, str, str]]:
    """Every selector of an expression: the function around it (or none), its name, its matchers, its window."""
    pattern = r"(?:(\w+)\(\s*)?(?<![\w:\"])(cutover_\w+|tenant:[\w:]+|up|process_start_time_seconds|ALERTS)(?![\w:])"
    pattern += r"\s*(\{[^}]*\})?\s*(\[\w+\])?"
    return re.findall(pattern, expression)


def test_there_is_an_alert_for_everything_the_design_names() -> None:
    assert (
        sorted(
            (
                *(
                    "CutoverDriftUnexplained",
                    "CutoverDivergenceConfirmed",
                    "CutoverDivergenceAgeing",
                    "CutoverSweepStale",
                ),
                *("CutoverSweepCanaryMissed", "CutoverPluginDown", "CutoverRefusingTraffic", "CutoverBreakerFlapping"),
                *(
                    "CutoverMarksAgeing",
                    "CutoverQuarantineNotEmpty",
                    "CutoverBackfillStalled",
                    "CutoverBypassWriterSeen",
                ),
                *("CutoverFrozenTableWritten", "CutoverFrozenTableRead", "CutoverFreezeBroken", "CutoverSoakReset"),
                *("CutoverPhaseStuckSwitching", "CutoverCertificateExpired", "CutoverDaemonAbsent"),
                *("CutoverPhaseDisagreement", "CutoverConfigDisagreement", "CutoverAuditBroken", "CutoverTaskFailing"),
                *("CutoverWriteErrorBudgetBurn", "CutoverWritesFailing", "CutoverDaemonMissing"),
            )
        )
        == NAMES
    )


@EACH
def test_an_alert_has_a_severity_a_static_summary_a_description_and_a_runbook(rule: dict[str, Any]) -> None:
    name, told = rule["alert"], rule["annotations"]
    assert re.fullmatch(r"Cutover([A-Z][a-z]+)+", name)
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert "{{" not in told["summary"]
    assert re.fullmatch(r"[A-Z][^\n]*\.", told["summary"]), "one sentence"
    assert "{{ $labels." in told["description"]
    assert told["runbook_url"] == f"{BASE}{name}.md"
    assert (RUNBOOKS / f"{name}.md").is_file()
    assert told["dashboard"] in DASHBOARDS
    assert rule["for"] not in ("0s", "0m"), "nothing fires at first sight"


@EACH
def test_gauges_are_looked_at_over_a_window_and_counters_as_increases(rule: dict[str, Any]) -> None:
    found = selectors(rule["expr"])
    assert found
    for around, metric, _, window in found:
        kind = METRICS[metric][0] if metric.startswith("cutover_") else "other"
        if kind == "counter":
            assert around == "increase", metric
            assert window
        elif metric == "cutover_daemons":  # compared with what was usual
            assert (around, window) in (("max_over_time", "[15m]"), ("", "[2h]")), (
                "quantile_over_time has its number first"
            )
        elif kind == "gauge":
            assert around in ("max_over_time", "min_over_time", "last_over_time"), f"{metric} in {around or 'nothing'}"
            assert window in ("[5m]", "[1m]")
            # Short windows are for what must be told within minutes, or must be forgotten when it has gone.
            if window == "[1m]":
                assert rule["alert"] in (
                    *("CutoverPluginDown", "CutoverRefusingTraffic", "CutoverPhaseDisagreement"),
                    *("CutoverConfigDisagreement", "CutoverMarksAgeing", "CutoverPhaseStuckSwitching"),
                )


@pytest.mark.parametrize("rule", [*ALERT_RULES, *RECORDED], ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_of_a_rule_is_in_the_catalogue_with_its_labels(rule: dict[str, Any]) -> None:
    recorded = {each["record"] for each in RECORDED}
    for _, metric, matchers, _ in selectors(rule["expr"]):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', matchers)))
        if metric.startswith("tenant:"):
            assert metric in recorded
        elif metric in NOT_CUTOVERS:
            assert used <= NOT_CUTOVERS[metric]
        else:
            assert used <= METRICS[metric][1], metric
    metrics = [name for _, name, _, _ in selectors(rule["expr"]) if name in METRICS]
    known = {"job", "instance"}.union(*(METRICS[name][1] for name in metrics)) | {"tenant"}
    for labels in re.findall(r"(?:by|on|group_left|group_right) \(([^)]*)\)", rule["expr"]):
        assert {label.strip() for label in labels.split(",")} - {""} <= known


def test_recorded_names_have_level_metric_and_operations() -> None:
    for rule in RECORDED:
        assert re.fullmatch(r"tenant:cutover_[a-z_]+:(ratio_)?increase\d+[mhd]", rule["record"])
        assert "alert" not in rule
    assert len({rule["record"] for rule in RECORDED}) == len(RECORDED)


def test_what_counts_as_a_write_are_all_writing_operations_and_no_other() -> None:
    reads = {"health", "search", "list_memories", "session_search", "pass_through", "mcp", "mcp_stream"}
    reads |= {"recall_memory", "search_memory", "list_writable_namespaces", "list_readable_namespaces"}
    every = {each for operations in OPERATIONS.values() for each in operations}
    for rule in RECORDED:
        for listed in re.findall(r'operation=~"([^"]+)"', rule["expr"]):
            assert set(listed.split("|")) == every - reads
            assert reads <= every


def test_the_burn_rates_are_the_four_pairs_and_guarded_against_little_traffic() -> None:
    burning = [rule for rule in ALERT_RULES if rule["alert"] == "CutoverWriteErrorBudgetBurn"]
    found = []
    for rule in burning:
        pairs = re.findall(r"ratio_increase(\w+) > ([\d.]+) \* 0\.001", rule["expr"])
        (long, rate), (short, same) = pairs
        assert rate == same
        assert f"tenant:cutover_writes_bad:increase{long} >= 10" in rule["expr"]
        assert rule["labels"]["window"] == long
        found.append((rate, long, short, rule["labels"]["severity"]))
    assert found == [
        ("14.4", "1h", "5m", "critical"),
        ("6", "6h", "30m", "critical"),
        ("3", "1d", "2h", "warning"),
        ("1", "3d", "6h", "warning"),
    ]


def test_an_absent_daemon_keeps_the_label_of_its_job() -> None:
    (rule,) = [rule for rule in ALERT_RULES if rule["alert"] == "CutoverDaemonAbsent"]
    assert 'absent(up{job="cutover"})' in rule["expr"]
    assert "sum" not in rule["expr"], "an aggregation would drop the label"


@pytest.mark.parametrize("name", [*FLAPPING, *SEEN])
def test_what_flaps_keeps_firing_for_a_while(name: str) -> None:
    assert all("keep_firing_for" in rule for rule in ALERT_RULES if rule["alert"] == name)


def test_every_alert_has_a_runbook_and_every_runbook_an_alert_and_a_line_in_the_index() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README") == NAMES
    index = (RUNBOOKS / "README.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| ([a-z, ]+) \| (.+) \|$", index, re.MULTILINE)
    assert sorted(name for name, _, _, _ in listed) == NAMES
    for name, file, severity, line in listed:
        assert name == file
        levels = {rule["labels"]["severity"] for rule in ALERT_RULES if rule["alert"] == name}
        assert set(severity.split(", ")) == levels, name
        assert line


# -- promtool


@pytest.mark.prometheus
def test_promtool_finds_nothing_to_complain_about() -> None:
    files = [str(ALERTS / name) for name in ("recording.yml", "cutover.yml")]
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.prometheus
@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_promtool_sees_every_alert_quiet_pending_firing_and_cleared(file: Path) -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", file.name], cwd=file.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@functools.cache
def parsed(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(file.read_text())["tests"]
    return found


def seconds(time: str) -> int:
    return sum(int(n) * {"h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([hms])", time))


def states(rule: dict[str, Any]) -> list[tuple[int, str]]:
    """The best sequence of states that some test of promtool asserts for this rule: each with its time, in seconds."""
    name, window = rule["alert"], rule["labels"].get("window")
    severity = f'severity="{rule["labels"]["severity"]}"'
    best: list[tuple[int, str]] = []
    for file in TESTS:
        for test in parsed(file):
            seen: dict[int, str] = {}
            for each in test.get("promql_expr_test", []):
                if f'alertname="{name}"' not in each["expr"]:
                    continue
                if window is not None and f'window="{window}"' not in each["expr"]:
                    continue
                samples = each.get("exp_samples", [])
                told = {found for sample in samples for found in re.findall(r'alertstate="(\w+)"', sample["labels"])}
                if severity not in "".join(sample["labels"] for sample in samples) and samples:
                    continue
                seen[seconds(each["eval_time"])] = told.pop() if told else "quiet"
            for each in test["alert_rule_test"]:
                expected = [alert["exp_labels"] for alert in each.get("exp_alerts", [])]
                if each["alertname"] == name and any(
                    rule["labels"].items() <= labels.items() and {"job", "severity"} <= labels.keys()
                    for labels in expected
                ):
                    seen[seconds(each["eval_time"])] = "firing"
            best = max(best, sorted(seen.items()), key=len)
    return best


@EACH
def test_every_alert_has_tests_for_all_four_states_in_their_order(rule: dict[str, Any]) -> None:
    told = [state for _, state in states(rule)]
    assert [state for state, _ in itertools.groupby(told)] == ["quiet", "pending", "firing", "quiet"]


@EACH
def test_every_alert_is_asked_one_evaluation_before_and_after_it_begins_fires_and_ends(rule: dict[str, Any]) -> None:
    told = states(rule)
    edges = {(was, now): (before, at) for (before, was), (at, now) in itertools.pairwise(told) if was != now}
    steps = {at - before for before, at in edges.values()}
    assert len(steps) == 1, f"asked in steps of {steps} seconds"
    (step,) = steps
    (_, pending), (_, fires) = edges["quiet", "pending"], edges["pending", "firing"]
    assert 0 <= fires - pending - seconds(rule["for"]) < step, "`for` is what lies between"


def test_the_search_for_states_would_miss_a_rule_without_tests() -> None:
    assert states({"alert": "CutoverUnheardOf", "labels": {"severity": "info"}}) == []
