"""What nobody tells of himself: looked at now and then, for the metrics (decision 0025).

The record of phase changes is verified at start and every hour; certificates, the sweeps on record and the database
itself are looked at every few seconds. An alert must not depend on somebody asking, nor on which of several daemons
made a sweep, nor on when this one was started.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cutover.domain.errors import CutoverError
from cutover.domain.events import (
    AuditLooked,
    CertificatesLooked,
    ConfigTold,
    DatabaseAnswered,
    Observer,
    SweepsRecorded,
    SweepsScheduled,
    TaskFailed,
)
from cutover.domain.phase import Phase
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.promotion import Promotion
from cutover.engine.record import Record
from cutover.engine.sweep import recorded_ledger
from cutover.stores.database import Database
from cutover.stores.recorded_sweeps import recorded_sweeps

_LOOK_EVERY = 5.0
_AUDIT_EVERY = 3600.0
_AUDIT_AGAIN = 60.0
"""After a look at the record that did not come to a verdict."""
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class SweepIntervals:
    """Seconds between sweeps of each kind, as the settings say. `recall` 0: on demand only; `count` 0: the plugin
    cannot be counted, so that nobody may wait for a result."""

    count: float
    digest: float
    recall: float

    def in_phase(self, phase: Phase) -> Mapping[str, float]:
        """What is due there: digest sweeps need a plugin that holds something, recall sweeps two stores that answer
        reads. Verifications are asked for by people."""
        return {
            "count": self.count,
            "digest": self.digest if phase.needs_plugin else 0.0,
            "recall": self.recall if phase.dual_writes else 0.0,
            "verify": 0.0,
        }


class Vitals:
    """One tenant's."""

    def __init__(
        self,
        tenant: str,
        database: Database,
        record: Record,
        promotion: Promotion,
        phase: PhaseWatch,
        observer: Observer,
        *,
        intervals: SweepIntervals,
        configuration: str,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._record = record
        self._promotion = promotion
        self._phase = phase
        self._observer = observer
        self._intervals = intervals
        self._configuration = configuration

    async def run(self) -> None:
        """Look for ever. What a look fails at is told, and keeps the values it had."""
        self._observer(ConfigTold(self._tenant, self._configuration[:_DIGITS]))
        audit_due = time.monotonic()
        while True:
            await self._look("sweeps", self._sweeps)
            await self._look("certificates", self._certificates)
            if time.monotonic() >= audit_due:
                verified = await self._look("audit", self._audit)
                audit_due = time.monotonic() + (_AUDIT_EVERY if verified else _AUDIT_AGAIN)
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self, what: str, look: Callable[[], Awaitable[None]]) -> bool:
        try:
            await look()
        except CutoverError as error:
            self._observer(TaskFailed(self._tenant, f"vitals.{what}", type(error).__name__, error.message))
        except Exception as error:  # noqa: BLE001 - a record that somebody tampered with must not end the daemon
            # Its words are not shown: they may quote values.
            why = f"a fault of cutover, or a record that is none of cutover's: {type(error).__name__}"
            self._observer(TaskFailed(self._tenant, f"vitals.{what}", type(error).__name__, why))
        else:
            return True
        return False

    async def _sweeps(self) -> None:
        if (state := self._phase.state) is not None:
            self._observer(SweepsScheduled(self._tenant, self._intervals.in_phase(state.phase)))
        seen = await recorded_sweeps(self._database)
        self._observer(DatabaseAnswered(self._tenant))
        ledger = None if seen.counted is None else recorded_ledger(seen.counted)
        uncounted = seen.counted is not None and ledger is None
        self._observer(SweepsRecorded(self._tenant, seen.by_kind, seen.canary, ledger, uncounted))

    async def _certificates(self) -> None:
        self._observer(CertificatesLooked(self._tenant, await self._promotion.standing()))

    async def _audit(self) -> None:
        told = await self._record.audit(None)
        self._observer(AuditLooked(self._tenant, told["ok"], told["why"]))
