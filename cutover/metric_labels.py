"""The values that labels of the metrics can have: bounded, and known before the first event.

Tenants come from the configuration. What is not on a list is counted as `other`.
"""

from typing import Final

from cutover.domain.backfill import REASONS
from cutover.domain.breaker import BreakerState
from cutover.domain.divergence import DivergenceClass
from cutover.domain.phase import Phase
from cutover.domain.recall import Direction
from cutover.domain.thresholds import THRESHOLDS as _THRESHOLDS

OTHER: Final = "other"

OPERATIONS: Final = {
    "plugin": ("health", "put_namespace", "patch_namespace", "delete_namespace", "commit", "search", "forget"),
    "memories": ("list_memories", "create_memory", "edit_memory", "delete_memory", "session_search", "pass_through"),
    "mcp": (
        *("mcp", "mcp_stream", "commit_memory", "recall_memory", "commit_memory_v2", "search_memory"),
        *("commit_summary", "list_writable_namespaces", "list_readable_namespaces", "forget_memory"),
    ),
}
REQUEST_OUTCOMES: Final = ("ok", "client_error", "refused", "error")
REFUSALS: Final = (
    "plugin_unhealthy",
    "breaker_open",
    "backlog",
    "overload",
    "phase_unconfirmed",
    "draining",
    "database",
    "held",
    "namespace_closed",
    "busy",
    "unresolved",
)
CERTIFIED: Final = tuple(phase.value for phase in Phase if phase is not Phase.A0)
"""The phases that a certificate can be for: a step forward leads to one of them."""
STORES: Final = ("legacy", "plugin", "journal")
STORE_OPERATIONS: Final = {
    "legacy": ("create", "replace", "edit", "delete", "list", "search", "session"),
    "journal": ("commit", "edit", "delete"),
    "plugin": ("commit", "forget", "search"),
}
STORE_OUTCOMES: Final = ("ok", "rejected", "failed", "ambiguous")
BREAKER_STATES: Final = tuple(state.value for state in BreakerState)
MARK_ORIGINS: Final = ("write", "bypass", "backfill", "repair", "reparent", "truncate", "purge", "journal", "kv")
DELIVERY_PATHS: Final = ("request", "reconciler")
DELIVERY_OUTCOMES: Final = ("delivered", "superseded", "retry", "ambiguous", "quarantined")
CAUSES: Final = ("in_flight", "not_backfilled", "quarantined", "accepted", "native", "kv", "unexplained")
ROW_STORES: Final = ("legacy", "plugin")
ROW_KINDS: Final = ("workspace", "team", "org", "custom", "unplaced")
DIVERGENCES: Final = tuple(cls.value for cls in DivergenceClass)
SETTLING: Final = ("accept", "repair", "retry", "acknowledge")
FAULTS: Final = ("missing", "changed", "extra", "resurrected")
SWEEPS: Final = ("count", "digest", "recall", "verify")
SWEEP_OUTCOMES: Final = ("clean", "drift", "divergent", "partial", "untrusted", "failed", "not_applicable")
BACKFILL_OUTCOMES: Final = ("marked", "copied", "unchanged", "already", "quarantined")
THROTTLES: Final = REASONS
VISIBILITY: Final = tuple(direction.value for direction in Direction)
THRESHOLDS: Final = _THRESHOLDS
TASKS: Final = (
    *("access", "archive", "backfill", "creation_times", "digest_sweep", "drop", "evidence", "findings", "freeze"),
    *("gates", "kv", "phase", "presence", "recall", "reconciler.backlog", "reconciler.claim", "reconciler.deliver"),
    *("reconciler.phase", "rehearsal", "settle", "shadow_read", "soak", "strays", "thaw", "verify"),
    *("vitals.audit", "vitals.certificates", "vitals.sweeps", "way_back", "write-tally"),
    OTHER,
)
"""Who can say `TaskFailed`."""
SHADOW_OUTCOMES: Final = ("match", "mismatch", "error", "dropped")
