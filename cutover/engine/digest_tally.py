"""What a digest run is given, and what it has come to so far: policy, stores, scope, the tally of its checkpoints."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from cutover.domain.divergence import DivergenceClass
from cutover.domain.load_budget import DEFAULT_LOAD, LoadPolicy
from cutover.engine.canary_faults import CanaryFaults
from cutover.engine.digest_settle import MendTimes
from cutover.stores.digest import DigestReader
from cutover.stores.digest_findings import DigestFindings

_COUNTS = (
    *("expected_rows", "plugin_rows", "compared", "chunks", "differing_buckets", "suspects", "in_flight"),
    *("unreached", "epoch", "done"),
)


@dataclass(frozen=True, slots=True)
class DigestPolicy:
    """`t_z`: seconds between two looks; `rounds`: how often what keeps changing is looked at again; `load`: how hard a
    scheduled sweep may lean on the databases. One that an operator asks for rests less (`operator_share`)."""

    t_z: float
    load: LoadPolicy = DEFAULT_LOAD
    operator_share: float = 1.0
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class DigestStores:
    """What a sweep works on. `mend_times` sets creation times in the plugin's database."""

    reader: DigestReader
    findings: DigestFindings
    canaries: CanaryFaults
    mend_times: MendTimes


@dataclass(frozen=True, slots=True)
class DigestScope:
    """What a run looks at. `everything`: as if the backfill had been everywhere, so that whatever it has not copied yet
    counts as missing (verify). `workspace_id`: this workspace's memories only."""

    everything: bool = False
    workspace_id: UUID | None = None
    sample: int | None = None
    """Rows drawn from each namespace where the plugin can only be asked through the contract; None: as usual."""


WHOLE_TENANT = DigestScope()


@dataclass(slots=True)
class Tally:
    """What one sweep has come to so far; kept in its checkpoints. Rows and seconds."""

    position: UUID | None = None
    """Full sweeps: every id below is done."""
    expected_rows: int = 0
    plugin_rows: int = 0
    compared: int = 0
    chunks: int = 0
    differing_buckets: int = 0
    suspects: int = 0
    in_flight: int = 0
    unreached: int = 0
    """Expected rows in ranges that the backfill had not reached when they were looked at."""
    done: int = 0
    """1 once every range was compared: what is left are the second looks."""
    epoch: int = 0
    snapshot: str = ""
    """Taken when the sweep began: what was delivered after it is the next incremental sweep's."""
    mended: int = 0
    throttled: float = 0.0
    canary: dict[UUID, frozenset[DivergenceClass]] = field(default_factory=dict)
    workspaces: Counter[UUID | None] = field(default_factory=Counter)
    """Expected rows by workspace, where they are asked for. Not part of a checkpoint."""

    def as_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "position": str(self.position) if self.position else None,
            "snapshot": self.snapshot,
            **{name: getattr(self, name) for name in _COUNTS},
            "canary": {str(key): sorted(value) for key, value in self.canary.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Tally":
        """What `as_json` gave. Raises `ValueError`, `TypeError` or `AttributeError` for anything else."""
        tally = cls(position=UUID(data["position"]) if data.get("position") else None)
        tally.snapshot = str(data.get("snapshot", ""))
        for name in _COUNTS:
            setattr(tally, name, int(data.get(name, 0)))
        for key, value in data.get("canary", {}).items():
            tally.canary[UUID(key)] = frozenset(DivergenceClass(each) for each in value)
        return tally
