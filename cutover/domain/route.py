"""Which way a write goes: a pure function of the phase and of what v1 can hold (architecture §1, §2)."""

from enum import StrEnum

from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.domain.requests import CommitMemory


class Way(StrEnum):
    """The path of one write."""

    LEGACY = "legacy"  # A0: the legacy row, nothing else
    DUAL = "dual"  # A1, A2: the legacy row with its mark, then the plugin
    JOURNAL = "journal"  # intent, plugin, applied: all of A3 and A4, and natives from A1 on
    REFUSED = "refused"  # A0 and legacy has no place for it


def way_of(phase: Phase, *, held_by_legacy: bool) -> Way:
    """The path of a write in `phase`; `held_by_legacy`: v1 has a form and a place for it."""
    if phase.plugin_is_authority:
        return Way.JOURNAL
    if phase is Phase.A0:
        return Way.LEGACY if held_by_legacy else Way.REFUSED
    return Way.DUAL if held_by_legacy else Way.JOURNAL


def has_v1_form(request: CommitMemory) -> bool:
    """Whether a row of `agent_memories` can stand for it: facts that do not expire.

    Source, pin and propagation have no column either, but they change nothing a v1 reader sees; they are kept beside
    the row (`cutover.extra`).
    """
    return request.kind is Kind.FACT and request.expires_at is None
