"""`cutover-traffic`: what callers get, and how long they wait for it."""

from typing import Final

from dashboards.frame import framed
from dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    About,
    Column,
    Place,
    Query,
    by_tenant,
    lines,
    states,
)
from dashboards.promql import RATE, of, otherwise, process, quantile, rate, seen_rate, seen_rates
from dashboards.sdk import models

UID: Final = "cutover-traffic"
WRITES: Final = "|".join(
    (
        *("put_namespace", "patch_namespace", "delete_namespace", "commit", "forget"),
        *("create_memory", "edit_memory", "delete_memory"),
        *("commit_memory", "commit_memory_v2", "commit_summary", "forget_memory"),
    )
)
"""Operations that write; the objective of 99.9 % is about them (alerts/recording.yml has the same)."""
_OUTCOMES: Final = {"ok": GREEN, "client_error": BLUE, "refused": ORANGE, "error": RED}


def _latency(metric: str, by: str, legend: str, **labels: str) -> list[Query]:
    """Median and 99 %; what is slow leads to its trace."""
    return [
        Query(quantile(0.5, metric, by=by, **labels), f"{legend} p50"),
        Query(quantile(0.99, metric, by=by, **labels), f"{legend} p99", exemplars=True),
    ]


def traffic() -> models.Dashboard:
    """The dashboard."""
    wrong = rate("cutover_requests_total", operation=f"~{WRITES}", outcome="~error|refused")
    writes = rate("cutover_requests_total", operation=f"~{WRITES}")
    breaker = " or ".join(
        f"{number} * {of('cutover_breaker_state', state=state)}"
        for number, state in ((3, "open"), (2, "half_open"), (1, "ramp"))
    )
    tries = f"sum by (to) (increase({of('cutover_writes_held_seconds_count')}[$__range]))"
    held = f"sum by (to, le) (increase({of('cutover_writes_held_seconds_bucket')}[$__range]))"
    longest = f"histogram_quantile(0.99, {held})"
    changes = seen_rates(
        ("cutover_breaker_transitions_total", "to", "breaker to $1"),
        ("cutover_plugin_restarts_total", "tenant", "$1: plugin restarted"),
    )
    panels = [
        lines(
            1,
            "Requests by face",
            About("Requests answered per second: the plugin contract, v1's memory routes, the MCP bridge."),
            Place(0, 0, 8, 8),
            "reqps",
            [Query(seen_rate("cutover_requests_total", by="face"), "{{face}}")],
            stacked=True,
        ),
        lines(
            2,
            "Requests by outcome",
            About(
                "What came of them. `refused` wrote nothing anywhere and may be repeated; `error` is ours.",
                runbooks=("CutoverWriteErrorBudgetBurn", "CutoverRefusingTraffic", "CutoverWritesFailing"),
            ),
            Place(8, 0, 8, 8),
            "reqps",
            [Query(rate("cutover_requests_total", by="outcome"), "{{outcome}}")],
            stacked=True,
            colours=_OUTCOMES,
        ),
        lines(
            3,
            "Refused by reason",
            About(
                "Requests refused with nothing written to either store.",
                runbooks=("CutoverRefusingTraffic",),
            ),
            Place(16, 0, 8, 8),
            "reqps",
            [Query(seen_rate("cutover_refused_total", by="reason"), "{{reason}}")],
            stacked=True,
            top=1,
        ),
        lines(
            4,
            "Latency by face",
            About("From the request's head to its answer. Lines: 1.8 s, our objective; 2 s, when callers give up."),
            Place(0, 8, 8, 8),
            "s",
            _latency("cutover_request_duration_seconds", "face", "{{face}}", face="~plugin|memories|mcp"),
            steps=((1.8, YELLOW), (2, RED)),
        ),
        lines(
            5,
            "Latency by store",
            About("One call of a store. Line: 1.2 s, the objective of a delivery to the plugin."),
            Place(8, 8, 8, 8),
            "s",
            _latency("cutover_store_duration_seconds", "store", "{{store}}"),
            steps=((1.2, RED),),
        ),
        lines(
            6,
            "Latency of the plugin's probe",
            About("The probe of the plugin's health.", runbooks=("CutoverPluginDown",)),
            Place(16, 8, 8, 8),
            "s",
            _latency("cutover_plugin_probe_duration_seconds", "tenant", "{{tenant}}"),
            steps=((1.8, RED),),
        ),
        lines(
            7,
            "Writes by store and outcome",
            About(
                "`ambiguous` may yet happen: nobody sends it again until that is certain.",
                runbooks=("CutoverWriteErrorBudgetBurn",),
            ),
            Place(0, 16, 8, 8),
            "wps",
            [Query(seen_rate("cutover_store_writes_total", by="store, outcome"), "{{store}} {{outcome}}")],
        ),
        lines(
            8,
            "Share of writes that were not served",
            About(
                "Writes refused or failed, of all writes, per tenant. Line: 0.1 %, what the objective leaves."
                " A refusal hurts no store, but the agent's memory is not saved.",
                runbooks=("CutoverWriteErrorBudgetBurn",),
            ),
            Place(8, 16, 8, 8),
            "percentunit",
            [Query(f"{wrong} / clamp_min({writes}, 0.001)")],
            steps=((0.001, RED),),
            top=0.002,
        ),
        lines(
            9,
            "Deliveries to the plugin",
            About("By path (with the request, or later by the reconciler) and by what came of them."),
            Place(16, 16, 8, 8),
            "wps",
            [Query(seen_rate("cutover_deliveries_total", by="path, outcome"), "{{path}} {{outcome}}")],
        ),
        states(
            10,
            "Breaker",
            About(
                "Open: nothing is sent to the plugin. Half open: one request tries it. Ramp: more and more.",
                runbooks=("CutoverBreakerFlapping", "CutoverPluginDown"),
            ),
            Place(0, 24, 8, 7),
            [
                Query(
                    f"max by (tenant, instance) ({breaker})",
                    "{{tenant}} {{instance}}",
                )
            ],
            {0: ("closed", GREEN), 1: ("ramp", YELLOW), 2: ("half open", ORANGE), 3: ("open", RED)},
        ),
        lines(
            11,
            "Breaker's changes, plugin restarts",
            About(
                "Per minute. A breaker that opens and closes again and again points at a plugin that is barely alive.",
                runbooks=("CutoverBreakerFlapping",),
            ),
            Place(8, 24, 8, 7),
            "cpm",
            [Query(f"60 * ({changes})", "{{series}}")],
            top=1,
        ),
        lines(
            12,
            "Requests held by a phase change",
            About("Requests that wait at the door of a phase change, now."),
            Place(16, 24, 8, 7),
            "short",
            [Query(f"sum by (tenant) ({of('cutover_held_requests')})")],
            top=1,
        ),
        by_tenant(
            13,
            "How long phase changes held writes",
            About(
                "By the phase that was tried to enter, in the time range: how many tries there were, and how long 99 %"
                " of them held writes at most. The objective is 0.5 s.",
                runbooks=("CutoverPhaseStuckSwitching",),
            ),
            Place(0, 31, 8, 7),
            (
                Column("Tries", tries, "short"),
                Column(
                    "99 % below",
                    otherwise(f"{longest} and on (to) ({tries} > 0)", f"0 * {tries}", on="to"),
                    "s",
                    steps=((None, GREEN), (0.51, RED)),
                    words={0: ("–", GREY)},
                ),
            ),
            key=("to",),
        ),
        lines(
            14,
            "Shadow reads",
            About("Sampled reads repeated on the plugin, by how they compared."),
            Place(8, 31, 8, 7),
            "rps",
            [Query(seen_rate("cutover_shadow_reads_total", by="outcome"), "{{outcome}}")],
            stacked=True,
            colours={"match": GREEN, "mismatch": RED, "error": ORANGE, "dropped": GREY},
            top=1,
        ),
        lines(
            15,
            "Event loop lag",
            About("How late the event loop was for a timer, p99 per daemon. Above 0.1 s requests wait for the CPU."),
            Place(16, 31, 8, 7),
            "s",
            [
                Query(
                    "histogram_quantile(0.99, sum by (instance, le)"
                    f" (rate({process('cutover_event_loop_lag_seconds_bucket')}{RATE})))",
                    "{{instance}}",
                )
            ],
            steps=((0.1, RED),),
        ),
    ]
    return framed(
        UID,
        "Cutover / Traffic",
        "What callers get and how long they wait: rates, outcomes, latencies, the breaker, what is held and refused.",
        panels,
        since="now-1h",
    )
