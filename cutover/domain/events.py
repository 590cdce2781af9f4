"""Facts the engine tells about itself. Metrics and logs listen; the engine knows neither (quality §1.12).

No event carries content or a secret. A label that becomes a metric label is bounded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from cutover.domain.drift import DriftLedger
from cutover.domain.phase import Phase


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; `tenant` is the configured label."""

    tenant: str


@dataclass(frozen=True, slots=True)
class RequestFinished(Event):
    """A face answered. `outcome`: ok, client_error, refused, error."""

    face: str
    operation: str
    outcome: str
    seconds: float
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class RequestRefused(Event):
    """Admission said no; nothing was written. `reason` as in `errors.Refused`."""

    reason: str


@dataclass(frozen=True, slots=True)
class StoreCalled(Event):
    """One call of a store: `store` legacy|plugin|journal; `outcome` ok|rejected|failed|ambiguous. `seconds` of a create
    count from when it queued for its batch. `trace_id`: of the request it was made for, where it was made for one."""

    store: str
    operation: str
    outcome: str
    seconds: float
    trace_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoreWritten(Event):
    """`count` writes reached (or failed to reach) a store: `outcome` ok|rejected|failed|ambiguous."""

    store: str
    outcome: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class DeliverySettled(Event):
    """A delivery ended: `outcome` delivered|superseded|retry|ambiguous|quarantined; `path` request|reconciler."""

    path: str
    outcome: str
    memory_id: UUID
    rev: int


@dataclass(frozen=True, slots=True)
class BypassWrites(Event):
    """Writers other than the daemon changed `agent_memories`."""

    writer: str
    count: int


@dataclass(frozen=True, slots=True)
class ForeignAccess(Event):
    """Scans and writes of `agent_memories` by others since each is watched, as of now; `readers` by name."""

    reads: int
    writes: int
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FrozenWritesRefused(Event):
    """The freeze refused `count` statements of a writer (application name and role)."""

    writer: str
    count: int


@dataclass(frozen=True, slots=True)
class FreezeLooked(Event):
    """The freeze was looked at: whether the phase asks for one, and whether it is whole (else why not)."""

    wanted: bool
    intact: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class WritesHeld(Event):
    """A try at a change of phase held new writes for `seconds`; `made`: the phase changed."""

    from_phase: Phase
    to_phase: Phase
    seconds: float
    made: bool


@dataclass(frozen=True, slots=True)
class RequestsHeld(Event):
    """So many writes wait at the door for a change of phase, as of now."""

    waiting: int


@dataclass(frozen=True, slots=True)
class ReadinessTold(Event):
    """Whether `/readyz` says that the tenant is served now, and which checks say otherwise."""

    ready: bool
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PhaseChanging(Event):
    """A change of phase began here at that Unix time, or (0) the last one ended, made or not."""

    started_unix: float


@dataclass(frozen=True, slots=True)
class CertificatesLooked(Event):
    """Per phase that a certificate is there for: when the newest one expires (Unix time), and how many approvals it
    lacks. A phase that is not named has none."""

    by_target: Mapping[Phase, tuple[float, int]]


@dataclass(frozen=True, slots=True)
class AuditLooked(Event):
    """The record of phase changes was verified; `why` it is not whole."""

    intact: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class ConfigTold(Event):
    """The settings in force. `digest`: 12 hex digits of their hash, equal where two daemons mean the same."""

    digest: str


@dataclass(frozen=True, slots=True)
class SweepsScheduled(Event):
    """How often each kind of sweep is due in the current phase, in seconds; 0: never."""

    every: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RecordedSweep:
    """A sweep with a result, as it is on record. `ended_unix`: by the database's clock."""

    ended_unix: float
    coverage: float


@dataclass(frozen=True, slots=True)
class RecordedCanary:
    """As `SweepCanary`, of the newest digest sweep on record that had faults planted."""

    planted: Mapping[str, int]
    caught: Mapping[str, int]
    trusted: bool


@dataclass(frozen=True, slots=True)
class SweepsRecorded(Event):
    """What the record says of the newest sweeps by kind, whichever daemon made them. A kind that is not named has come
    to no result yet. `ledger`: of the newest count sweep, None when there is none; `uncounted`: that sweep ended well
    and could count nothing."""

    by_kind: Mapping[str, RecordedSweep]
    canary: RecordedCanary | None
    ledger: DriftLedger | None = None
    uncounted: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseAnswered(Event):
    """The tenant's database answered the daemon just now."""


@dataclass(frozen=True, slots=True)
class DaemonsCounted(Event):
    """Daemons of this tenant that were heard of in the last minute, this one among them."""

    daemons: int


@dataclass(frozen=True, slots=True)
class MarkCounts(Event):
    """The backlog right now: marks by origin, for how many seconds the oldest of those has waited that are to be
    delivered now (None without one), and quarantined memories: all, and those that nobody has acknowledged."""

    by_origin: dict[str, int]
    oldest_seconds: float | None
    quarantined: int
    quarantine_blocking: int
    journal_rows: int


@dataclass(frozen=True, slots=True)
class PluginProbed(Event):
    """One probe of `/v1/health`."""

    up: bool
    seconds: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class BreakerChanged(Event):
    """The breaker went from one state to another."""

    from_state: str
    to_state: str
    reason: str


@dataclass(frozen=True, slots=True)
class PluginRestarted(Event):
    """The child process of `CUTOVER_PLUGIN_COMMAND` was started again."""

    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class PhaseChanged(Event):
    """This daemon learnt of a phase (at start, too: then `from_phase` is None)."""

    from_phase: Phase | None
    to_phase: Phase
    epoch: int
    entered_at_unix: float


@dataclass(frozen=True, slots=True)
class ShadowReadCompared(Event):
    """A sampled read was repeated on the plugin: `outcome` match|mismatch|error|dropped."""

    outcome: str
    overlap: float


@dataclass(frozen=True, slots=True)
class SweepFinished(Event):
    """A sweep ended: `outcome` clean|drift|divergent|partial|failed|not_applicable.

    `ledger` is None unless a count was had.
    """

    kind: str
    outcome: str
    seconds: float
    coverage: float
    ledger: DriftLedger | None


@dataclass(frozen=True, slots=True)
class DivergencesCounted(Event):
    """What is confirmed and open right now, by class, and when the oldest was first seen (Unix time; 0 when none)."""

    confirmed: dict[str, int]
    oldest_first_seen_unix: float


@dataclass(frozen=True, slots=True)
class FindingsSettled(Event):
    """An operator decided: `action` accept|repair|retry|acknowledge, for `count` findings or memories."""

    action: str
    count: int
    actor: str


@dataclass(frozen=True, slots=True)
class SweepCanary(Event):
    """How a sweep did on the faults planted for it: how many of each kind, and how many of them it caught."""

    kind: str
    planted: Mapping[str, int]
    caught: Mapping[str, int]
    trusted: bool


@dataclass(frozen=True, slots=True)
class RecallCompared(Event):
    """A recall sweep repeated `reads` reads on both stores: mean overlap@10 (0..1) and mean Kendall's tau-b (−1..1),
    None where nothing was left to compare; memories by which visibility differs, by `recall.Direction`."""

    overlap: float | None
    rank_agreement: float | None
    reads: int
    visibility: dict[str, int]


@dataclass(frozen=True, slots=True)
class BackfillAdvanced(Event):
    """A backfill took up a chunk, or (all rows 0) is held back. Rows: `marked` for delivery, `copied` or found
    `unchanged` by SQL, `already` marked by somebody else. `checkpoint`: progress was recorded."""

    marked: int
    copied: int
    unchanged: int
    already: int
    quarantined: int
    remaining: int
    rate: float
    eta_seconds: float
    throttled: str
    checkpoint: bool


@dataclass(frozen=True, slots=True)
class BackfillRests(Event):
    """This daemon carries out no backfill. `remaining`: rows that the newest run on record has still to take up."""

    remaining: int


@dataclass(frozen=True, slots=True)
class KvSwitched(Event):
    """A daemon applied its switch `CUTOVER_KV`: `did` installed|removed|kept."""

    on: bool
    did: str


@dataclass(frozen=True, slots=True)
class GateJudged(Event):
    """The gate of a phase was looked at: per check id, whether it passes (a warning passes)."""

    target: Phase
    checks: dict[str, bool]


@dataclass(frozen=True, slots=True)
class SoakTold(Event):
    """How far the soak clock is; 0 outside of A3."""

    green_seconds: float
    required_seconds: float


@dataclass(frozen=True, slots=True)
class DropLooked(Event):
    """Where the drop of `agent_memories` stands. `remaining`: seconds of its hold that are left, 0 without one;
    `blocked`: the hold is over, and something stands in the way."""

    remaining: float
    blocked: bool


@dataclass(frozen=True, slots=True)
class SoakReset(Event):
    """The soak clock went back to zero."""

    why: str
    lost_seconds: float


@dataclass(frozen=True, slots=True)
class ThresholdsTold(Event):
    """What this daemon's gates were told to ask for: per threshold, whether it is looser than its default."""

    loosened: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Rehearsed(Event):
    """The last rehearsal of the way back: how long the replay took, and when it ended by the database's clock.
    `fresh`: it ended just now, here; else this is from the record."""

    ok: bool
    seconds: float
    ended_at_unix: float
    why: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class TaskFailed(Event):
    """A background task met an error it can go on from; what ends a task ends the daemon."""

    task: str
    error: str
    what: str


Observer = Callable[[Event], None]
