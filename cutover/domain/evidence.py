"""The parts of `Evidence` that have an owner of their own: each is gathered by one module and judged in `gate.py`.

None in place of a part means: not known, which never passes a gate. Ages and durations are seconds by the tenant's
database clock.
"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class FreezeEvidence:
    """The freeze of `agent_memories` as it is against what the phase asks for. `why` says what is wrong with it."""

    wanted: bool
    intact: bool
    why: str = ""
    attempts: int = 0
    """Statements that it has refused so far."""


@dataclass(frozen=True, slots=True)
class RehearsalEvidence:
    """The last rehearsal of the way back. `seconds`: how long the replay took."""

    ok: bool
    age_seconds: float
    seconds: float
    why: str = ""


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


@dataclass(frozen=True, slots=True)
class DropEvidence:
    """What stands in the way of dropping the table: objects that depend on it, as PostgreSQL describes them."""

    dependants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AccessEvidence:
    """Others at `agent_memories`: writers from their marks, readers from the statistics net of our own work.

    `clean_seconds`: how long neither was seen; `by`: who, as `application_name/role`, where that was seen.
    """

    watched_seconds: float
    writes: int
    writes_clean_seconds: float
    writers: tuple[str, ...]
    reads: int
    reads_clean_seconds: float
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShadowEvidence:
    """How A1 has gone so far. `clean_seconds`: without unexplained drift, by count sweeps, since A1 was entered."""

    clean_seconds: float
    writes: int
    write_errors: int
