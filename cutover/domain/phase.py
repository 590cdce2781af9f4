"""The phases of a cutover and what each of them means for traffic (architecture §1)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Phase(StrEnum):
    """Persisted in `cutover.phase_state` and `cutover.phase_event`: never rename or renumber a value."""

    A0 = "A0"  # stand-up: legacy only
    A1 = "A1"  # shadow: legacy, then plugin; legacy is the authority
    A2 = "A2"  # backfill: as A1, while the old rows are copied
    A3 = "A3"  # cutover: plugin only; legacy frozen
    A4 = "A4"  # drop: plugin only; legacy archived and dropped

    @property
    def order(self) -> int:
        """0 for A0 … 4 for A4."""
        return int(self.value[1])

    @property
    def meaning(self) -> str:
        """The phase's name as operators say it."""
        return ("stand-up", "shadow", "backfill", "cutover", "drop")[self.order]

    @property
    def plugin_is_authority(self) -> bool:
        """Whether reads are answered from the plugin and writes go to it alone."""
        return self.order >= 3

    @property
    def needs_plugin(self) -> bool:
        """Whether an unhealthy plugin refuses traffic (everywhere but A0)."""
        return self.order >= 1

    @property
    def dual_writes(self) -> bool:
        """Whether a write goes to legacy first and to the plugin second (A1, A2)."""
        return self in (Phase.A1, Phase.A2)


@dataclass(frozen=True, slots=True)
class PhaseState:
    """The tenant's one phase row. `epoch` grows by one at every change and fences every write."""

    phase: Phase
    epoch: int
    entered_at: datetime
    generation: int
    """How many times A1 was entered: a higher generation makes an older backfill cursor void."""


def step(current: Phase, target: Phase) -> str | None:
    """Why `current` → `target` is not a legal step, or None when it is (architecture §1: one at a time)."""
    if current == target:
        return f"the tenant is already in {current}"
    if current is Phase.A4:
        return "A4 is the point of no return; an archive can be restored, the phase cannot go back"
    if abs(target.order - current.order) != 1:
        return f"steps go one at a time: from {current} the next is A{current.order + 1}" + (
            f" or back to A{current.order - 1}" if current.order else ""
        )
    return None
