"""`cutover-traffic`: what callers get, and how long they wait for it."""

from typing import Final

from dashboards.frame import framed
from dashboards.panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, About, Place, Query, lines, states
from dashboards.promql import RATE, of, process, quantile, rate
from dashboards.sdk import models

UID: Final = "cutover-traffic"
_OUTCOMES: Final = {"ok": GREEN, "client_error": BLUE, "refused": ORANGE, "error": RED}


def _latency(metric: str, by: str, legend: str, *, exemplars: bool = False) -> list[Query]:
    return [
        Query(quantile(0.5, metric, by=by), f"{legend} p50"),
        Query(quantile(0.99, metric, by=by), f"{legend} p99", exemplars=exemplars),
    ]


def traffic() -> models.Dashboard:
    """The dashboard."""
    wrong = rate("cutover_store_writes_total", outcome="~failed|ambiguous")
    writes = rate("cutover_store_writes_total", by="tenant")
    breaker = " or ".join(
        f"{number} * {of('cutover_breaker_state', state=state)}"
        for number, state in ((3, "open"), (2, "half_open"), (1, "ramp"))
    )
    panels = [
        lines(
            1,
            "Requests by face",
            About("Requests answered per second: the plugin contract, v1's memory routes, the MCP bridge."),
            Place(0, 0, 8, 8),
            "reqps",
            [Query(rate("cutover_requests_total", by="face"), "{{face}}")],
            stacked=True,
        ),
        lines(
            2,
            "Requests by outcome",
            About(
                "What came of them. `refused` wrote nothing anywhere and may be repeated; `error` is ours.",
                runbooks=("CutoverWriteErrorBudgetBurn", "CutoverRefusingTraffic"),
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
            [Query(rate("cutover_refused_total", by="reason"), "{{reason}}")],
            stacked=True,
            top=1,
        ),
        lines(
            4,
            "Latency by face",
            About("From the request's head to its answer. Lines: 1.8 s, our objective; 2 s, when callers give up."),
            Place(0, 8, 8, 8),
            "s",
            _latency("cutover_request_duration_seconds", "face", "{{face}}", exemplars=True),
            steps=((1.8, YELLOW), (2, RED)),
        ),
        lines(
            5,
            "Latency by store",
            About("One call of a store, by operation. Line: 1.2 s, the objective of a delivery to the plugin."),
            Place(8, 8, 8, 8),
            "s",
            _latency("cutover_store_duration_seconds", "store, operation", "{{store}} {{operation}}", exemplars=True),
            steps=((1.2, RED),),
        ),
        lines(
            6,
            "Latency of the plugin's probe",
            About("The probe of the plugin's health.", runbooks=("CutoverPluginDown",)),
            Place(16, 8, 8, 8),
            "s",
            _latency("cutover_plugin_probe_duration_seconds", "tenant", "{{tenant}}", exemplars=True),
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
            [Query(rate("cutover_store_writes_total", by="store, outcome"), "{{store}} {{outcome}}")],
        ),
        lines(
            8,
            "Share of writes that went wrong",
            About(
                "Failed or ambiguous writes of all, per tenant. Line: the error budget of 0.1 %.",
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
            [Query(rate("cutover_deliveries_total", by="path, outcome"), "{{path}} {{outcome}}")],
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
            [
                Query(f"60 * {rate('cutover_breaker_transitions_total', by='to')}", "breaker to {{to}}"),
                Query(f"60 * sum(rate({of('cutover_plugin_restarts_total')}{RATE}))", "plugin restarted"),
            ],
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
        lines(
            13,
            "How long phase changes held writes",
            About("99 % of the tries stayed below. Line: 0.5 s, the objective of a hold."),
            Place(0, 31, 8, 7),
            "s",
            [
                Query(
                    f"histogram_quantile(0.99, sum by (to, le) (increase({of('cutover_writes_held_seconds_bucket')}"
                    "[$__range])))",
                    "to {{to}}",
                )
            ],
            steps=((0.5, RED),),
            top=0.6,
        ),
        lines(
            14,
            "Shadow reads",
            About("Sampled reads repeated on the plugin, by how they compared."),
            Place(8, 31, 8, 7),
            "rps",
            [Query(rate("cutover_shadow_reads_total", by="outcome"), "{{outcome}}")],
            stacked=True,
            colours={"match": GREEN, "mismatch": RED, "error": ORANGE, "dropped": GREY},
            top=1,
        ),
        lines(
            15,
            "Background tasks that failed",
            About(
                "Errors that a background task went on from, per minute.",
                runbooks=("CutoverTaskFailing",),
            ),
            Place(16, 31, 8, 7),
            "cpm",
            [Query(f"60 * {rate('cutover_task_failures_total', by='tenant, task')}", "{{tenant}} {{task}}")],
            top=1,
        ),
        lines(
            16,
            "Event loop lag",
            About("How late the event loop was for a timer, p99 per daemon. Above 0.1 s requests wait for the CPU."),
            Place(0, 38, 8, 7),
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
        lines(
            17,
            "CPU of the daemons",
            About("Seconds of CPU per second; one event loop cannot use more than 1 and a little."),
            Place(8, 38, 8, 7),
            "percentunit",
            [
                Query(f"sum by (instance) (rate({process('process_cpu_seconds_total')}{RATE}))", "{{instance}}"),
            ],
            steps=((1, RED),),
        ),
        lines(
            18,
            "Memory of the daemons",
            About("Resident memory. It should be flat under steady traffic."),
            Place(16, 38, 8, 7),
            "bytes",
            [Query(f"max by (instance) ({process('process_resident_memory_bytes')})", "{{instance}}")],
        ),
    ]
    return framed(
        UID,
        "Cutover / Traffic",
        "What callers get and how long they wait: rates, outcomes, latencies, the breaker, what is held and refused.",
        panels,
        since="now-1h",
    )
