"""`Evidence`: what is known about one tenant at one moment. Each part of it has one owner, which gathers it
(`engine/readiness.py: sources`); it is judged in `checks/`.

None in place of a part means: not known, which never passes a gate. Ages and durations are seconds by the tenant's
database clock, where a field does not say otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cutover.domain.phase import Phase
from cutover.domain.thresholds import DEFAULTS, GateThresholds


@dataclass(frozen=True, slots=True)
class FreezeEvidence:
    """The freeze of `agent_memories` as it is against what the phase asks for. `why` says what is wrong with it."""

    wanted: bool
    intact: bool
    why: str = ""
    attempts: int = 0
    """Statements that it has refused so far."""


@dataclass(frozen=True, slots=True)
class CaptureEvidence:
    """`missing`: triggers of capture that are gone, disabled or not ours; empty in A0, where none is asked for."""

    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RehearsalEvidence:
    """The last rehearsal of the way back. `seconds`: how long the replay took; `whole`: with all rows, not a part."""

    ok: bool
    age_seconds: float
    seconds: float
    why: str = ""
    whole: bool = True


@dataclass(frozen=True, slots=True)
class SoakEvidence:
    """The soak clock. `earliest`: when it can be full if nothing happens; `waits_for`: what it stands still for."""

    green_seconds: float
    required_seconds: float
    running: bool
    waits_for: str = ""
    earliest: datetime | None = None
    last_reset_why: str = ""


@dataclass(frozen=True, slots=True)
class ArchiveEvidence:
    """The newest complete archive. `restore_tested`: its restore into a scratch schema gave the same digests."""

    path: str
    age_seconds: float
    restore_tested: bool
    covers: bool
    """Whether it holds every row that legacy has now."""
    why: str = ""

    @property
    def lacks(self) -> str:
        """Why it does not do in place of the table, in words; empty where it does."""
        if not self.covers:
            return f"the archive {self.path} does not hold every row: {self.why or 'rows came later'}"
        if not self.restore_tested:
            return f"the archive {self.path} was not restored on trial: {self.why}"
        return ""


@dataclass(frozen=True, slots=True)
class DropEvidence:
    """The drop of the table. `dependants`: objects that depend on it, as PostgreSQL describes them.

    `state`: none, held, blocked, cancelled, dropped. `remaining`: seconds of the hold that are left; None unless it is
    held. `blocked`: what stands in the way of the drop, also while the hold lasts; `remedy`: the command for that.
    """

    dependants: tuple[str, ...]
    state: str = "none"
    remaining: float | None = None
    blocked: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class AccessEvidence:
    """Others at `agent_memories`: writers from their marks, readers from the statistics net of our own work.

    `clean_seconds`: how long neither was seen; `by`: who, as `application_name/role`, where that was seen.
    `reads_unknown`: why it is not known whether anybody read lately; empty when it is.
    """

    watched_seconds: float
    writes: int
    writes_clean_seconds: float
    writers: tuple[str, ...]
    reads: int
    reads_clean_seconds: float
    readers: tuple[str, ...]
    reads_unknown: str = ""


@dataclass(frozen=True, slots=True)
class ShadowEvidence:
    """How A1 has gone since it was entered, from the record in the database: restarts lose none of it.

    `clean_seconds`: time covered by clean sweeps in a row since the last one that found something. `missing_seconds`:
    time since then that lies in gaps between sweeps, and so counts for nothing. `dirty_seconds_ago`: when a sweep last
    found something; None: never. `writes`: what callers wrote; `write_errors`: those of them that failed, or were
    refused, by a fault that was not the caller's.
    """

    clean_seconds: float
    writes: int
    write_errors: int
    sweeps: int = 0
    missing_seconds: float = 0.0
    dirty_seconds_ago: float | None = None


@dataclass(frozen=True, slots=True)
class VectorEvidence:
    """pgvector in one database: the schema it is installed in (None: it is not), whether it could be installed, and
    whether the name `vector` means it on a connection there."""

    schema: str | None
    available: bool
    resolves: bool


@dataclass(frozen=True, slots=True)
class TablesEvidence:
    """The plugin's database, on a connection of our own with `MEMORY_PLUGIN_DATABASE_URL`."""

    schema_known: bool
    schema_why: str
    strays: Mapping[str, int]
    """Rows per populated table of the plugin's names in `public`, which the plugin does not see (domain §3)."""
    search_path: tuple[str, ...]
    """The schemas that such a connection looks in, in order."""
    vector: VectorEvidence
    canary_here: bool | None
    """Whether the namespace of the canaries is in `memory_plugin`; None: its table cannot be read."""


@dataclass(frozen=True, slots=True)
class DigestEvidence:
    """What a full digest sweep came to. `coverage` is a share of the expected memories."""

    outcome: str
    trusted: bool
    coverage: float
    age_seconds: float
    open_findings: int = 0
    """Confirmed findings, and repaired ones that no sweep has found in order yet, as of now."""
    newer_bad: str = ""
    """What a later sweep says against it; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one tenant at one moment. None means: not known, which never passes a gate."""

    phase: Phase | None = None
    draining: bool = False
    refusing: str = ""
    """Why memory traffic is refused right now; empty when it is not."""

    database_reachable: bool = False
    database_why: str = ""
    schema_version: int | None = None
    """The number of the newest migration applied to schema `cutover`."""
    schema_expected: int = 0

    plugin_up: bool = False
    plugin_why: str = ""
    plugin_version: str | None = None
    plugin_capabilities: frozenset[str] = field(default_factory=frozenset)
    plugin_healthy_seconds: float | None = None
    """Healthy without a break for this long, by this daemon's own clock and observation; None: not healthy."""
    plugin_watched_seconds: float = 0.0
    """How long this daemon has been looking: it knows nothing of the time before its start."""
    contract_only: bool = False
    """`MEMORY_PLUGIN_DATABASE_URL=none`: there is no database of the plugin's to look at."""
    tables: TablesEvidence | None = None
    tenant_vector: VectorEvidence | None = None
    """pgvector in the tenant's own database."""
    canary_ok: bool | None = None
    """The last canary that was written to, searched on and forgotten by the plugin; None: none was sent yet."""
    canary_why: str = ""
    canary_age_seconds: float | None = None
    canary_max_age_seconds: float = 60.0

    marks: int | None = None
    oldest_mark_seconds: float = 0.0
    marks_drained_below: int = 0
    """Marks that count as drained: live traffic always has a few in flight."""
    marks_drained_within: float = 30.0
    """Seconds: a backlog whose oldest mark is younger than this is in flight, not stuck."""
    unexplained: int | None = None
    sweep_age_seconds: float | None = None
    backfill_complete: bool = False
    backfill_remaining: int | None = None
    quarantined: int | None = None
    quarantine_acknowledged: int = 0

    open_findings: int | None = None
    """Confirmed differences, and repaired ones that no sweep has found in order yet."""
    digest: DigestEvidence | None = None
    """The last full digest sweep of this phase's epoch; None: there was none."""
    recall_overlap: float | None = None
    """Mean overlap@10 of the last recall sweep, 0..1."""
    recall_visibility: int | None = None
    """Memories that the plugin shows to readers who may not see them, or hides from those who may."""
    recall_live: int = 0
    """Reads of that sweep which callers had made."""
    recall_coverage: float | None = None
    """The share of the reads it planned that it could compare, 0..1."""
    recall_compared: int = 0
    recall_age_seconds: float | None = None

    thresholds: GateThresholds = DEFAULTS
    shadow: ShadowEvidence | None = None
    freeze: FreezeEvidence | None = None
    capture: CaptureEvidence | None = None
    rehearsal: RehearsalEvidence | None = None
    soak: SoakEvidence | None = None
    access: AccessEvidence | None = None
    archive: ArchiveEvidence | None = None
    drop: DropEvidence | None = None

    unknown: Mapping[str, str] = field(default_factory=dict)
    """Why a part is not known, by the name of its field: what its owner said, or that it did not answer in time."""
