"""Evidence on which every gate opens, for tests that spoil one thing at a time."""

from dataclasses import replace
from datetime import UTC, datetime

from cutover.domain.evidence import (
    AccessEvidence,
    ArchiveEvidence,
    CaptureEvidence,
    DigestEvidence,
    DropEvidence,
    Evidence,
    FreezeEvidence,
    RehearsalEvidence,
    ShadowEvidence,
    SoakEvidence,
    TablesEvidence,
    VectorEvidence,
)
from cutover.domain.phase import Phase

DAY = 86_400.0
VECTOR = VectorEvidence("memory_plugin", available=True, resolves=True)
TABLES = TablesEvidence(True, "the built-in plugin's schema", {}, ("memory_plugin", "public"), VECTOR, canary_here=True)
SHADOW = ShadowEvidence(clean_seconds=DAY, writes=1000, write_errors=1, sweeps=1440)
FREEZE = FreezeEvidence(wanted=True, intact=True)
REHEARSAL = RehearsalEvidence(ok=True, age_seconds=7 * DAY, seconds=42.0)
SOAK = SoakEvidence(30 * DAY, 30 * DAY, running=True, earliest=datetime(2026, 11, 20, tzinfo=UTC))
ACCESS = AccessEvidence(7 * DAY, 0, 7 * DAY, (), 0, 7 * DAY, ())
ARCHIVE = ArchiveEvidence("/var/lib/cutover/legacy.zst", 3600.0, restore_tested=True, covers=True)
DIGEST = DigestEvidence("clean", True, 1.0, 60.0)

GOOD = Evidence(
    phase=Phase.A0,
    database_reachable=True,
    schema_version=3,
    schema_expected=3,
    plugin_up=True,
    plugin_version="1.4.2",
    plugin_capabilities=frozenset({"fts", "ttl"}),
    plugin_healthy_seconds=600.0,
    plugin_watched_seconds=601.0,
    tables=TABLES,
    tenant_vector=VECTOR,
    canary_ok=True,
    canary_age_seconds=5.0,
    marks=0,
    unexplained=0,
    sweep_age_seconds=30.0,
    backfill_complete=True,
    backfill_remaining=0,
    quarantined=0,
    open_findings=0,
    digest=DIGEST,
    recall_overlap=0.9995,
    recall_visibility=0,
    recall_live=40,
    recall_compared=200,
    recall_coverage=1.0,
    recall_age_seconds=300.0,
    shadow=SHADOW,
    freeze=FREEZE,
    capture=CaptureEvidence(()),
    rehearsal=REHEARSAL,
    soak=SOAK,
    access=ACCESS,
    archive=ARCHIVE,
    drop=DropEvidence((), "dropped"),
)
BEFORE = {Phase.A1: Phase.A0, Phase.A2: Phase.A1, Phase.A3: Phase.A2, Phase.A4: Phase.A3}


def on_the_way_to(target: Phase, evidence: Evidence = GOOD) -> Evidence:
    """The same, of a tenant in the phase before `target`."""
    return replace(evidence, phase=BEFORE[target])
