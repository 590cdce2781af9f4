"""`cutover-backfill`: how far is the copy, how long will it take, and what holds it back?"""

from typing import Final

from dashboards.frame import framed
from dashboards.panels import GREEN, GREY, ORANGE, RED, About, Column, Place, Query, by_tenant, lines, states
from dashboards.promql import age, otherwise, seen_rate, summed, worst
from dashboards.sdk import models

UID: Final = "cutover-backfill"


def backfill() -> models.Dashboard:
    """The dashboard."""
    remaining = worst("cutover_backfill_remaining_rows")
    rows = summed("cutover_rows", by="tenant", once_by="tenant, kind", store="legacy")
    waiting = worst("cutover_drift_rows", cause="not_backfilled")
    done = otherwise(f"clamp_min(1 - {waiting} / ({rows} > 0), 0)", f"0 * {remaining} - 1")
    held_back = f"{worst('cutover_backfill_throttled', by='tenant, reason')} == 1"
    nothing = f'label_replace(0 * {remaining}, "reason", "nothing", "", "")'
    panels = [
        by_tenant(
            1,
            "Backfill now",
            About(
                "Per tenant: share of legacy's rows that no longer wait for it (by the last count sweep), rows left,"
                " pace, time left, and how long ago it made its last checkpoint, from which it goes on after a crash.",
                runbooks=("CutoverBackfillStalled",),
            ),
            Place(0, 0, 16, 6),
            (
                Column(
                    "Done",
                    done,
                    "percentunit",
                    steps=((None, "text"), (1, GREEN)),
                    words={-1: ("not counted", GREY)},
                ),
                Column("Rows left", remaining, "short"),
                Column("Rows per second", worst("cutover_backfill_rate_rows_per_second"), "short"),
                Column("Time left", worst("cutover_backfill_eta_seconds"), "s", words={0: ("–", GREY)}),
                Column(
                    "Last checkpoint ago",
                    age("cutover_task_last_checkpoint_timestamp_seconds", task="backfill"),
                    "s",
                    words={0: ("never", GREY)},
                ),
                Column("Quarantined", worst("cutover_quarantined"), "short"),
                Column("Blocking", worst("cutover_quarantine_blocking"), steps=((None, GREEN), (1, RED))),
            ),
        ),
        states(
            2,
            "Held back by",
            About(
                "What holds the backfill back: the operator, the plugin, latency, a backlog, locks, … `nothing` when"
                " it runs free or rests.",
                runbooks=("CutoverBackfillStalled",),
            ),
            Place(16, 0, 8, 6),
            [Query(otherwise(held_back, nothing), "{{tenant}}: {{reason}}")],
            {0: ("free", GREEN), 1: ("held back", ORANGE)},
        ),
        lines(
            3,
            "Rows left",
            About("Rows still to take up. A line that does not fall while the backfill runs is a stall."),
            Place(0, 6, 8, 8),
            "short",
            [Query(remaining)],
        ),
        lines(
            4,
            "Pace",
            About("Rows per second by the backfill's own measure; 0 while it rests."),
            Place(8, 6, 8, 8),
            "wps",
            [Query(worst("cutover_backfill_rate_rows_per_second"))],
        ),
        lines(
            5,
            "Time left",
            About("At the present pace; 0 when done or unknown."),
            Place(16, 6, 8, 8),
            "s",
            [Query(worst("cutover_backfill_eta_seconds"))],
        ),
        lines(
            6,
            "Rows taken up by outcome",
            About(
                "`copied` in bulk, `marked` for the reconciler to deliver, `already` there, …",
                runbooks=("CutoverQuarantineNotEmpty",),
            ),
            Place(0, 14, 8, 8),
            "wps",
            [Query(seen_rate("cutover_backfill_rows_total", by="outcome"), "{{outcome}}")],
            stacked=True,
            colours={"copied": GREEN, "quarantined": RED},
        ),
        lines(
            7,
            "Quarantined memories",
            About(
                "Memories that cannot be placed: all, and `blocking` those that nobody has acknowledged. Each has its"
                " reason: cutover quarantine list.",
                runbooks=("CutoverQuarantineNotEmpty",),
            ),
            Place(8, 14, 8, 8),
            "short",
            [
                Query(worst("cutover_quarantined"), "{{tenant}}: all"),
                Query(worst("cutover_quarantine_blocking"), "{{tenant}}: blocking"),
            ],
            steps=((1, RED),),
            dashed=": all$",
            top=2,
        ),
        lines(
            8,
            "Marks that wait for delivery",
            About(
                "The backfill leans back while this queue is long.",
                runbooks=("CutoverMarksAgeing",),
                details="cutover-divergence",
            ),
            Place(16, 14, 8, 8),
            "short",
            [Query(summed("cutover_marks", by="tenant", once_by="tenant, origin"))],
        ),
    ]
    return framed(
        UID,
        "Cutover / Backfill",
        "How far is the copy, how long will it take, and what holds it back? Progress, pace, time left, quarantine.",
        panels,
        since="now-6h",
    )
