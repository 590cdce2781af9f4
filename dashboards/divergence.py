"""`cutover-divergence`: do both stores hold the same, and how do we know? The panel that rows are watched on."""

from typing import Final

from dashboards.frame import framed
from dashboards.panels import GREEN, GREY, ORANGE, RED, About, Column, Place, Query, by_tenant, lines
from dashboards.promql import age, farthest, least, of, seen, seen_rate, summed, worst
from dashboards.sdk import models

UID: Final = "cutover-divergence"
_CAUSES: Final = {
    "unexplained": RED,
    "in_flight": "light-blue",
    "not_backfilled": "blue",
    "quarantined": "orange",
    "accepted": GREY,
    "native": "light-purple",
    "kv": "purple",
}


def divergence() -> models.Dashboard:
    """The dashboard."""
    fresh = age("cutover_sweep_last_success_timestamp_seconds", by="tenant, kind")
    every = worst("cutover_sweep_interval_seconds", by="tenant, kind")
    took = of("cutover_sweep_duration_seconds_sum")
    ended = of("cutover_sweep_duration_seconds_count")
    panels = [
        lines(
            1,
            "Rows by store",
            About(
                "What the last count sweep found in each store. The lines of a tenant need not meet: the ledger beside"
                " says why. Nothing for a tenant whose plugin is reached over its contract alone: its rows cannot be"
                " counted.",
                runbooks=("CutoverDriftUnexplained",),
            ),
            Place(0, 0, 12, 8),
            "short",
            [Query(summed("cutover_rows", by="tenant, store", once_by="tenant, store, kind"), "{{tenant}} {{store}}")],
        ),
        lines(
            2,
            "Drift ledger: difference by cause",
            About(
                "Per tenant: legacy − plugin = in flight + not backfilled + quarantined + accepted − native − kv +"
                " unexplained. Only unexplained rows are a reason to be woken.",
                runbooks=("CutoverDriftUnexplained",),
                details="cutover-backfill",
            ),
            Place(12, 0, 12, 8),
            "short",
            [Query(farthest("cutover_drift_rows", by="tenant, cause"), "{{tenant}} {{cause}}")],
            stacked=True,
            colours={f".* {cause}": colour for cause, colour in _CAUSES.items()},
        ),
        lines(
            3,
            "Unexplained rows",
            About(
                "The ledger's remainder per tenant; below 0 the plugin holds more than it should. Nothing where nothing"
                " was counted.",
                runbooks=("CutoverDriftUnexplained",),
            ),
            Place(0, 8, 8, 7),
            "short",
            [Query(farthest("cutover_drift_rows", cause="unexplained"))],
            steps=((-1, RED), (1, RED)),
            top=2,
            zero=False,
        ),
        lines(
            4,
            "Confirmed differences by class",
            About(
                "Rows that a digest sweep found different twice, and nobody has settled: cutover divergence list.",
                runbooks=("CutoverDivergenceConfirmed",),
            ),
            Place(8, 8, 8, 7),
            "short",
            [Query(seen("cutover_divergent_rows", by="class", once_by="tenant, class"), "{{class}}")],
            stacked=True,
            top=2,
        ),
        lines(
            5,
            "Age of the oldest difference",
            About(
                "How long the oldest confirmed and open difference has been known; 0 without one.",
                runbooks=("CutoverDivergenceAgeing",),
            ),
            Place(16, 8, 8, 7),
            "s",
            [Query(age("cutover_divergence_first_seen_timestamp_seconds"))],
            top=60,
        ),
        by_tenant(
            6,
            "Sweeps",
            About(
                "Per tenant and kind: how long ago a sweep last ended with a result, how often it is scheduled, what"
                " share of the rows it could look at, how long it took. Rows behind the contract alone cannot be"
                " counted: there count sweeps see nothing and are not waited for.",
                runbooks=("CutoverSweepStale",),
            ),
            Place(0, 15, 12, 8),
            (
                Column("Last result ago", fresh, "s", words={0: ("never", GREY)}),
                Column("Scheduled every", every, "s", words={0: ("not scheduled", GREY)}),
                Column(
                    "Coverage",
                    worst("cutover_sweep_coverage_ratio", by="tenant, kind"),
                    "percentunit",
                    words={0: ("nothing seen", GREY)},
                ),
                Column(
                    "Mean duration",
                    f"sum by (tenant, kind) (increase({took}[$__range]))"
                    f" / clamp_min(sum by (tenant, kind) (increase({ended}[$__range])), 1)",
                    "s",
                ),
            ),
            key=("tenant", "kind"),
        ),
        lines(
            7,
            "Sweeps behind schedule",
            About(
                "Age of the last result in scheduled intervals, for the kinds that are scheduled. Above 2, two runs"
                " were missed.",
                runbooks=("CutoverSweepStale",),
            ),
            Place(12, 15, 12, 8),
            "short",
            [Query(f"{fresh} / ({every} > 0)", "{{tenant}} {{kind}}")],
            steps=((2, RED),),
            top=2.5,
        ),
        lines(
            8,
            "Sweeps by outcome",
            About(
                "Sweeps that ended, per minute. `untrusted` missed a planted fault; `partial` could not see every row.",
                runbooks=("CutoverSweepCanaryMissed",),
            ),
            Place(0, 23, 6, 7),
            "cpm",
            [Query(f"60 * ({seen_rate('cutover_sweeps_total', by='outcome')})", "{{outcome}}")],
            stacked=True,
            colours={"clean": GREEN, "drift": ORANGE, "divergent": RED, "failed": RED, "untrusted": RED},
        ),
        lines(
            9,
            "Planted faults caught",
            About(
                "Before a digest sweep looks, faults are planted on copies; a sweep that misses one is not believed."
                " Trusted is 1 when it caught all and reported no intact row. Nothing before the first sweep.",
                runbooks=("CutoverSweepCanaryMissed",),
            ),
            Place(6, 23, 6, 7),
            "percentunit",
            [
                Query(least("cutover_sweep_canary_caught", by="tenant, fault"), "{{tenant}} {{fault}}"),
                Query(least("cutover_sweep_trusted"), "{{tenant}} trusted"),
            ],
            top=1,
        ),
        lines(
            10,
            "Recall: answers alike?",
            About(
                "Mean overlap of shadow reads and of the last recall sweep, and Kendall's tau-b of the order (−1 to 1)."
                " Nothing before the first comparison, because 0 would be a lie.",
            ),
            Place(12, 23, 6, 7),
            "percentunit",
            [
                Query(least("cutover_recall_overlap_ratio", by="tenant, source"), "{{tenant}} overlap, {{source}}"),
                Query(least("cutover_recall_rank_agreement"), "{{tenant}} order"),
            ],
            top=1,
        ),
        lines(
            11,
            "Seen in one store only",
            About(
                "Memories that readers see in one store only, at the last recall sweep. plugin_shows_more is a leak,"
                " plugin_shows_less a memory its readers lost; expected are GLOBAL memories of other roots.",
            ),
            Place(18, 23, 6, 7),
            "short",
            [
                Query(
                    summed("cutover_recall_visibility_differences", by="direction", once_by="tenant, direction"),
                    "{{direction}}",
                )
            ],
            colours={"plugin_shows_more": RED, "plugin_shows_less": ORANGE, "expected": GREY},
            top=2,
        ),
        lines(
            12,
            "Marks by origin",
            About(
                "Memories that must be delivered to the plugin again. Some under traffic are normal; a number that"
                " only grows is not.",
                runbooks=("CutoverMarksAgeing",),
            ),
            Place(0, 30, 8, 7),
            "short",
            [Query(seen("cutover_marks", by="origin", once_by="tenant, origin"), "{{origin}}")],
            stacked=True,
        ),
        lines(
            13,
            "Age of the oldest mark",
            About(
                "How long the oldest mark that is to be delivered has waited; 0 without one. Marks of a paused"
                " backfill, and all of them in A0, wait for nobody and have no age.",
                runbooks=("CutoverMarksAgeing",),
            ),
            Place(8, 30, 8, 7),
            "s",
            [Query(age("cutover_marks_oldest_timestamp_seconds"))],
            top=5,
        ),
        lines(
            14,
            "Findings settled",
            About("Findings that operators accepted, repaired, retried or acknowledged, per minute."),
            Place(16, 30, 8, 7),
            "cpm",
            [Query(f"60 * ({seen_rate('cutover_findings_settled_total', by='action')})", "{{action}}")],
            top=1,
        ),
    ]
    return framed(
        UID,
        "Cutover / Divergence",
        "Do both stores hold the same, and how do we know? Rows, the drift ledger, differences, sweeps, recall, marks.",
        panels,
        since="now-24h",
    )
