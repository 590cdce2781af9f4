"""What one tenant is made of (architecture §9)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cutover.domain.breaker import BreakerPolicy, ProbePolicy
from cutover.domain.load_budget import DEFAULT_LOAD, LoadPolicy
from cutover.domain.thresholds import DEFAULTS, GateThresholds
from cutover.engine.backfill_progress import BackfillLimits


@dataclass(frozen=True, slots=True)
class TenantOptions:
    """What one tenant is made of. Times in seconds; see the settings of the same names for meaning and bounds."""

    name: str
    database_url: str
    plugin_url: str
    plugin_database_url: str | None
    plugin_command: tuple[str, ...] | None
    pool_size: int
    plugin_timeout: float
    probe_interval: float
    probe_timeout: float
    probe_policy: ProbePolicy
    breaker_policy: BreakerPolicy
    refuse: Literal["all", "writes"]
    max_in_flight: int
    max_backlog: int
    delivery_deadline: float
    quarantine: float
    phase_lease: float
    reconciler_senders: int
    shadow_ratio: float
    sweep_interval: float
    backfill: BackfillLimits
    digest_interval: float = 600.0
    digest_full_interval: float = 86_400.0
    digest_after_backfill: bool = True
    sweep_load: LoadPolicy = DEFAULT_LOAD
    recall_interval: float = 900.0
    """0: recall sweeps on demand only."""
    kv: bool = False
    """Whether rows of workspace_memory are copied too."""
    thresholds: GateThresholds = DEFAULTS
    config_hash: str = ""
    """Over the daemon's settings: certificates are bound to it."""
    compared: Mapping[str, str] = field(default_factory=dict)
    """The same settings by variable, without secrets, for other daemons to compare with theirs."""
    archive_directory: Path | None = None
