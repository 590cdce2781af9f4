"""`cutover-overview`: may I promote, and if not why? The first screen answers it; below is what changed and when."""

from typing import Final

from dashboards.frame import framed
from dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PHASES,
    RED,
    RUNBOOKS,
    YELLOW,
    About,
    Column,
    Place,
    Query,
    by_tenant,
    lines,
    listing,
    states,
)
from dashboards.promql import age, least, next_phase, of, otherwise, process, rate, seen_rate, seen_rates, worst
from dashboards.sdk import models

UID: Final = "cutover-overview"
_OFF_ON: Final = {0.0: ("no", RED), 1.0: ("yes", GREEN)}
_NOT_ZERO: Final = ((None, GREEN), (1, RED))
_FAILING: Final = (
    f"(max by (tenant, instance, phase, check) ({of('cutover_gate_check')}) == bool 0)"
    f" and on (tenant, phase) {next_phase()}"
)
_UNEXPLAINED: Final = f"max by (tenant) (abs({of('cutover_drift_rows', cause='unexplained')}))"
_LEFT: Final = f"max by (tenant, target) (clamp_min({of('cutover_certificate_expires_timestamp_seconds')} - time(), 0))"
_LAST_PHASE: Final = f"{worst('cutover_phase_index')} == 4"


def _tenants() -> tuple[Column, ...]:
    failing = f"sum by (tenant) (max by (tenant, check) ({_FAILING}))"
    missing = (
        f"max by (tenant) ({of('cutover_certificate_approvals_missing')}"
        f" and on (tenant, target) {next_phase('target')})"
    )
    green = worst("cutover_soak_green_seconds")
    return (
        Column("Phase", worst("cutover_phase_index"), words=PHASES, width=120),
        Column("In it for", age("cutover_phase_entered_timestamp_seconds"), "s"),
        Column(
            "Next phase: failing checks",
            otherwise(failing, f"0 * ({_LAST_PHASE}) - 1"),
            steps=_NOT_ZERO,
            words={-1: ("last phase", GREY), 0: ("0: gate open", GREEN)},
        ),
        Column(
            "Certificate left",
            otherwise(
                f"max by (tenant) ({_LEFT} and on (tenant, target) {next_phase('target')})", f"0 * ({_LAST_PHASE})"
            ),
            "s",
            words={0: ("none", GREY)},
        ),
        Column("Approvals missing", otherwise(missing, f"0 * ({_LAST_PHASE})"), steps=((None, "text"), (1, ORANGE))),
        Column(
            "Unexplained rows",
            otherwise(_UNEXPLAINED, f"0 * {worst('cutover_phase_index')} - 1"),
            steps=_NOT_ZERO,
            words={-1: ("not counted", GREY)},
        ),
        Column(
            "Oldest difference",
            age("cutover_divergence_first_seen_timestamp_seconds"),
            "s",
            steps=((None, GREEN), (1, ORANGE), (3600, RED)),
            words={0: ("none", GREEN)},
        ),
        Column("Plugin up", least("cutover_plugin_up"), words=_OFF_ON),
        Column("Ready", least("cutover_ready"), words=_OFF_ON),
        Column(
            "Held now",
            f"sum by (tenant) ({of('cutover_held_requests')})",
            steps=((None, GREEN), (1, YELLOW), (50, RED)),
        ),
        Column("Refused", rate("cutover_refused_total"), "reqps", steps=((None, GREEN), (0.001, RED))),
        Column(
            "Soak",
            f"clamp_max({green} / clamp_min({worst('cutover_soak_required_seconds')}, 1), 1)",
            "percentunit",
            steps=((None, "text"), (1, GREEN)),
        ),
    )


def overview() -> models.Dashboard:
    """The dashboard."""
    firing = (
        'max by (alertname, severity, tenant) (ALERTS{job=~"$job", tenant=~"$tenant|", alertname=~"Cutover.+",'
        ' alertstate="firing"})'
    )
    # Of the rules' own series, one that is there whenever a daemon is scraped and the rules are evaluated.
    evaluated = 'count(tenant:cutover_writes:increase5m{job=~"$job", tenant=~"$tenant"}) > 0'
    nothing_fires = f'label_replace(0 * ({evaluated}), "alertname", "none", "", "")'
    no_rules = 'label_replace(vector(0), "alertname", "rules not loaded", "", "")'
    others = seen_rates(
        ("cutover_bypass_writes_total", "writer", "$1 wrote"),
        ("cutover_frozen_writes_refused_total", "writer", "$1 was refused"),
    )
    certified = f"max_over_time({of('cutover_certificate_expires_timestamp_seconds')}[$__range] @ end()) > 0"
    no_certificate = f'label_replace(0 * max({_LEFT}), "tenant", "none", "", "") unless on () ({certified})'
    panels = [
        by_tenant(
            1,
            "May I promote?",
            About(
                "One row per tenant. The next phase may be entered when no check of its gate fails; A3 and A4 need"
                " approvals as well. The failing checks are named below.",
                details="cutover-divergence",
            ),
            Place(0, 0, 24, 5),
            _tenants(),
        ),
        listing(
            2,
            "Why not: failing checks of the next phase",
            About(
                "The checks that keep the next phase's gate closed. Follow a check's link for its measured value, its"
                " threshold, the reason and the command to run next; or: cutover phase check."
            ),
            Place(0, 5, 9, 8),
            otherwise(
                f"({_FAILING}) == 1",
                f'label_replace(0 * {worst("cutover_phase_index")}, "check", "none fails", "", "")',
            ),
            {"tenant": "Tenant", "phase": "To enter", "check": "Check", "instance": "Daemon"},
            Column("Verdict", "", words={0: ("gate open", GREEN), 1: ("fails", RED)}, width=90),
            links={
                "Check": (
                    "Reason and next step, from the daemon",
                    "http://${__data.fields.Daemon}/tenants/${__data.fields.Tenant}/readyz/checks/${__data.fields.Check}",
                )
            },
        ),
        listing(
            3,
            "Firing alerts",
            About(
                "What fires now, each with a link to its runbook: meaning, impact, diagnosis, the commands to type."
                " `rules not loaded`: Prometheus evaluates none of alerts/*.yml, so nothing can fire.",
            ),
            Place(9, 5, 8, 8),
            otherwise(firing, otherwise(nothing_fires, no_rules, on=""), on=""),
            {"alertname": "Alert", "severity": "Severity", "tenant": "Tenant"},
            colours={"Severity": {"critical": RED, "warning": ORANGE, "info": BLUE}},
            links={"Alert": ("Open the runbook", f"{RUNBOOKS}/${{__value.text}}.md")},
        ),
        states(
            4,
            "Phase ladder",
            About(
                "Which phase each tenant was in. A step back is as legitimate as a step forward.",
                runbooks=("CutoverPhaseStuckSwitching", "CutoverPhaseDisagreement"),
            ),
            Place(17, 5, 7, 8),
            [Query(worst("cutover_phase_index"))],
            PHASES,
        ),
        lines(
            5,
            "Unexplained drift",
            About(
                "Rows, too many or too few, that no cause of the ledger explains. Anything but 0 is a reason"
                " to look, and closes the gates. Nothing where nothing was counted.",
                runbooks=("CutoverDriftUnexplained",),
                details="cutover-divergence",
            ),
            Place(0, 13, 8, 7),
            "short",
            [Query(_UNEXPLAINED)],
            steps=((1, RED),),
            top=2,
        ),
        lines(
            6,
            "Refused requests by reason",
            About(
                "Requests turned away with nothing written to either store.",
                runbooks=("CutoverRefusingTraffic", "CutoverPluginDown"),
                details="cutover-traffic",
            ),
            Place(8, 13, 8, 7),
            "reqps",
            [Query(seen_rate("cutover_refused_total", by="reason"), "{{reason}}")],
            stacked=True,
            top=1,
        ),
        states(
            7,
            "Plugin",
            About(
                "Whether the plugin's last probe was good. While it is down in A1 and later, writes are refused.",
                runbooks=("CutoverPluginDown", "CutoverBreakerFlapping"),
                details="cutover-traffic",
            ),
            Place(16, 13, 8, 7),
            [Query(least("cutover_plugin_up"))],
            {0: ("down", RED), 1: ("up", GREEN)},
        ),
        lines(
            8,
            "Soak of A3",
            About(
                "How long A3 has been green, and how long it must be before A4. A fall to 0 is a reset.",
                runbooks=("CutoverSoakReset",),
            ),
            Place(0, 20, 8, 7),
            "s",
            [
                Query(worst("cutover_soak_green_seconds"), "{{tenant}} green"),
                Query(worst("cutover_soak_required_seconds"), "{{tenant}} required"),
            ],
            dashed=" required$",
        ),
        lines(
            9,
            "Phase change under way",
            About(
                "How long the change under way has taken; 0 without one. Requests wait at its door for 1.5 s at most"
                " (column Held now).",
                runbooks=("CutoverPhaseStuckSwitching",),
                details="cutover-traffic",
            ),
            Place(8, 20, 8, 7),
            "s",
            [Query(age("cutover_phase_change_started_timestamp_seconds"))],
            top=1,
        ),
        lines(
            10,
            "Time left of certificates",
            About(
                "How long the newest certificate for a phase is still good; at 0 it has to be asked for again.",
                runbooks=("CutoverCertificateExpired",),
            ),
            Place(16, 20, 8, 7),
            "s",
            [
                Query(otherwise(f"({_LEFT}) > 0", no_certificate, on=""), "{{tenant}} {{target}}"),
            ],
        ),
        by_tenant(
            11,
            "Others at agent_memories",
            About(
                "Is legacy ready to be left? Scans by others since the cutover, rows they changed since A1, whether the"
                " freeze is as the phase asks, intents in the journal of A3, whether workspace_memory is copied.",
                runbooks=("CutoverFrozenTableRead", "CutoverFreezeBroken"),
            ),
            Place(12, 27, 12, 4),
            (
                Column("Foreign reads", worst("cutover_legacy_foreign_reads")),
                Column("Foreign writes", worst("cutover_legacy_foreign_writes")),
                Column("Freeze", least("cutover_freeze_intact"), words={0: ("broken", RED), 1: ("in order", GREEN)}),
                Column("Journal", worst("cutover_journal_rows")),
                Column("K/V", worst("cutover_kv_switch"), words={0: ("off", GREY), 1: ("on", GREEN)}),
            ),
        ),
        lines(
            12,
            "Other writers of agent_memories",
            About(
                "Rows per minute that others changed past the daemon (triggers capture them), and statements that the"
                " freeze of A3 refused.",
                runbooks=("CutoverBypassWriterSeen", "CutoverFrozenTableWritten"),
            ),
            Place(0, 27, 12, 8),
            "cpm",
            [Query(f"60 * ({others})", "{{series}}")],
            top=1,
        ),
        listing(
            13,
            "Daemons",
            About(
                "Every daemon with what it runs, by how long it has been up. Daemons of one tenant must show one hash"
                " of their settings.",
                runbooks=("CutoverDaemonAbsent", "CutoverDaemonMissing", "CutoverConfigDisagreement"),
            ),
            Place(12, 35, 12, 4),
            f"max by (instance, tenant, hash) ({of('cutover_config_info')})"
            f" * on (instance) group_left (version) max by (instance, version) ({process('cutover_build_info')})"
            f" * on (instance) group_left () max by (instance) (time() - {process('process_start_time_seconds')})",
            {"instance": "Daemon", "tenant": "Tenant", "version": "Version", "hash": "Settings"},
            Column("Up for", "", "s"),
        ),
        by_tenant(
            14,
            "Standing",
            About(
                "What should never need looking at: daemons heard of in the last minute, the database (what comes from"
                " it is no newer), the chain of phase changes, thresholds that ask for less than by default.",
                runbooks=("CutoverAuditBroken",),
            ),
            Place(12, 31, 12, 4),
            (
                Column("Daemons", worst("cutover_daemons"), steps=((None, RED), (1, "text"))),
                Column(
                    "Database answered ago",
                    age("cutover_database_last_answer_timestamp_seconds"),
                    "s",
                    steps=((None, GREEN), (60, RED)),
                    words={0: ("never", RED)},
                ),
                Column("Record intact", least("cutover_audit_intact"), words=_OFF_ON),
                Column(
                    "Loosened",
                    f"sum by (tenant) (max by (tenant, threshold) ({of('cutover_gate_threshold_loosened')}))",
                    steps=((None, GREEN), (1, ORANGE)),
                ),
            ),
        ),
        lines(
            15,
            "Background tasks that failed",
            About("Errors that a background task went on from, per minute.", runbooks=("CutoverTaskFailing",)),
            Place(0, 35, 12, 8),
            "cpm",
            [Query(f"60 * ({seen_rate('cutover_task_failures_total', by='tenant, task')})", "{{tenant}} {{task}}")],
            top=1,
        ),
        by_tenant(
            16,
            "The way back, and the drop",
            About(
                "When the way back was last rehearsed well and how long its replay took; how often the soak was reset;"
                " how long the hold of A4 lasts, and whether something keeps it from ending.",
                runbooks=("CutoverSoakReset",),
            ),
            Place(12, 39, 12, 4),
            (
                Column(
                    "Rehearsed", worst("cutover_rollback_last_rehearsal_ok"), words={0: ("no", GREY), 1: ("yes", GREEN)}
                ),
                Column(
                    "Rehearsed ago",
                    age("cutover_rollback_last_rehearsal_timestamp_seconds"),
                    "s",
                    words={0: ("–", GREY)},
                ),
                Column(
                    "Replay took",
                    worst("cutover_rollback_last_rehearsal_duration_seconds"),
                    "s",
                    words={0: ("–", GREY)},
                ),
                Column(
                    "Soak resets",
                    f"sum by (tenant) (increase({of('cutover_soak_resets_total')}[$__range]))",
                    "short",
                    steps=((None, GREEN), (1, RED)),
                ),
                Column("Hold left", worst("cutover_drop_hold_remaining_seconds"), "s", words={0: ("none", GREY)}),
                Column("Blocked", worst("cutover_drop_blocked"), words={0: ("no", GREEN), 1: ("yes", ORANGE)}),
            ),
        ),
    ]
    return framed(
        UID,
        "Cutover / Overview",
        "May I promote, and if not why? Phases, gates with reasons, unexplained drift, refusals, the plugin, the soak.",
        panels,
        since="now-6h",
    )
