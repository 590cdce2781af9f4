"""Which findings are meant: the filters that operators use on divergences and on the quarantine."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cutover.domain.divergence import DivergenceClass, DivergenceState

WAITING = (DivergenceState.SUSPECT, DivergenceState.CONFIRMED, DivergenceState.REPAIRED)
"""States that still want something: a second look, somebody's decision, or a look after the repair."""


class QuarantineReason(StrEnum):
    """Why a memory cannot be placed. Persisted in `cutover.quarantine.reason`: never renamed."""

    NO_WORKSPACE = "no_workspace"
    WORKSPACE_GONE = "workspace_gone"
    EMPTY_CONTENT = "empty_content"
    REFUSED_BY_PLUGIN = "refused_by_plugin"
    ID_TAKEN = "id_taken"  # of a K/V row: a memory has the row's id


@dataclass(frozen=True, slots=True)
class FindingFilter:
    """Divergences that match everything that is given. Without `states`: those that wait (`WAITING`)."""

    ids: tuple[UUID, ...] = ()
    states: tuple[DivergenceState, ...] = ()
    classes: tuple[DivergenceClass, ...] = ()
    source: str | None = None
    namespace_kind: str | None = None
    workspace_id: UUID | None = None
    group: str | None = None
    closed: bool = False
    """Also those that went away, in whatever state."""

    @property
    def wanted_states(self) -> tuple[DivergenceState, ...]:
        """The states to look for; none: all of them."""
        return self.states if self.states or self.closed else WAITING


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Quarantined memories that match everything that is given. `acknowledged` None: both."""

    ids: tuple[UUID, ...] = ()
    reason: QuarantineReason | None = None
    acknowledged: bool | None = False
    workspace_id: UUID | None = None


def onset(
    latest_after: datetime | None, earliest_before: datetime, latest_before: datetime
) -> tuple[datetime | None, datetime]:
    """When a group of findings began, if they have one cause: the interval that all of theirs share.

    Each began after its own last good look and before the look that found it. One cause lies in all of these
    intervals, so between the latest `after` and the earliest `before`. Where there is no such moment they have more
    causes than one, and only the last `before` is certain.
    """
    if latest_after is None or latest_after < earliest_before:
        return latest_after, earliest_before
    return None, latest_before
