"""Others at `agent_memories`: who they are, since when none was there, and what to do about them (decision 0024)."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from cutover.domain.evidence import AccessEvidence
from cutover.domain.phase import Phase

CASCADE = "CASCADE"
"""The operation of writes that a foreign key of `workspaces` made: whoever deleted the workspace does not know the
table, and goes on working without it."""
REFUSED = "REFUSED"
"""The operation of statements that the freeze refused: their writer is still there."""
UNNAMED = "unnamed"
"""The reader of scans that were counted while nobody, or more than one, was seen at the table."""
LOOK_SECONDS = 1.0
"""How often readers are looked for."""
BLIND_SECONDS = 3 * LOOK_SECONDS + 12.0
"""After so long without a look nothing is known of readers: three looks, and a busy database or a restart between."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Rows (or TRUNCATEs) that `name` (application name and role) changed by one operation."""

    name: str
    operation: str
    writes: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Reader:
    """`scans`: counted while only this one was seen. `sightings`: looks, about one a second, that saw it."""

    name: str
    scans: int
    sightings: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Access:
    """Everything known at `now`, by the tenant's database clock.

    `writes_since`: since when every write leaves a trace (A1 was entered); `reads_since`: since when no scan was
    missed; None: not watched. `set_aside`: scans put down to work of our own that died with its daemon.
    """

    now: datetime
    phase: Phase
    writes_since: datetime | None
    reads_since: datetime | None
    reads_why: str = ""
    looked_at: datetime | None = None
    set_aside: int = 0
    writers: tuple[Writer, ...] = field(default=())
    readers: tuple[Reader, ...] = field(default=())

    @property
    def direct(self) -> tuple[Writer, ...]:
        """Writers that know the table, since A1 was entered."""
        return tuple(
            each
            for each in self.writers
            if each.operation != CASCADE and self.writes_since is not None and each.last_seen >= self.writes_since
        )

    @property
    def reading(self) -> tuple[Reader, ...]:
        """Readers since watching began."""
        return tuple(
            each for each in self.readers if self.reads_since is not None and each.last_seen >= self.reads_since
        )

    def evidence(self) -> AccessEvidence:
        """For the gates. Watched is what the next gate asks about: the writers before the cutover, the readers (and
        writers) after it."""
        direct, reading = self.direct, self.reading
        since = self.reads_since if self.phase in (Phase.A3, Phase.A4) else self.writes_since
        return AccessEvidence(
            watched_seconds=self._age(since),
            writes=sum(each.writes for each in direct),
            writes_clean_seconds=self._clean(self.writes_since, (each.last_seen for each in direct)),
            writers=tuple(sorted({each.name for each in direct})),
            reads=sum(each.scans for each in reading),
            reads_clean_seconds=self._clean(self.reads_since, (each.last_seen for each in reading)),
            readers=tuple(sorted(each.name for each in reading)),
            reads_unknown=self.blind,
        )

    @property
    def blind(self) -> str:
        """Why it is not known whether anybody read lately; empty while looks are made."""
        if self.reads_since is None or self.looked_at is None:
            return ""
        ago = (self.now - self.looked_at).total_seconds()
        if 0 <= ago <= BLIND_SECONDS:
            return ""
        return (
            f"readers were last looked for at {self.looked_at.isoformat(timespec='seconds')}, and it is"
            f" {self.now.isoformat(timespec='seconds')}: whoever read since then was not seen"
        )

    def _age(self, since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (self.now - since).total_seconds())

    def _clean(self, since: datetime | None, seen: Iterable[datetime]) -> float:
        return self._age(since if since is None else max((since, *seen)))

    def in_short(self) -> dict[str, Any]:
        """The evidence, for `status`."""
        told = asdict(self.evidence())
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        evidence = self.evidence()
        return {
            "writes": {
                "watched_seconds": round(self._age(self.writes_since), 3),
                "clean_seconds": round(evidence.writes_clean_seconds, 3),
                "count": evidence.writes,
                "by": [
                    {
                        "name": each.name,
                        "operation": each.operation,
                        "count": each.writes,
                        "first_seen": each.first_seen.isoformat(),
                        "last_seen": each.last_seen.isoformat(),
                        "next": writer_remedy(each),
                    }
                    for each in self.writers
                ],
            },
            "reads": {
                "watched_seconds": round(self._age(self.reads_since), 3),
                "clean_seconds": round(evidence.reads_clean_seconds, 3),
                "count": evidence.reads,
                "began_with": self.reads_why,
                "unknown": self.blind,
                "looked_at": None if self.looked_at is None else self.looked_at.isoformat(),
                "set_aside": self.set_aside,
                "by": [
                    {
                        "name": each.name,
                        "count": each.scans,
                        "sightings": each.sightings,
                        "first_seen": each.first_seen.isoformat(),
                        "last_seen": each.last_seen.isoformat(),
                        "next": reader_remedy(each),
                    }
                    for each in self.readers
                ],
            },
        }


def writer_remedy(writer: Writer) -> str:
    """What to do about one writer."""
    if writer.operation == CASCADE:
        return "nothing: it deletes workspaces, and the memories went with them"
    if writer.operation == REFUSED:
        return f"{writer.name} fails already: have it write through the memories face (or the plugin face)"
    return f"have {writer.name} write through the memories face (or the plugin face): its SQL fails after the cutover"


def reader_remedy(reader: Reader) -> str:
    """What to do about one reader."""
    if reader.name == UNNAMED:
        return "too short to be seen: set log_statement or look at pg_stat_statements for queries on agent_memories"
    return f"have {reader.name} read through the memories face: its SQL fails once the table is dropped"
