"""The write path (architecture §3): mark and reconcile in A1 and A2, intent and journal in A3 and A4.

One write in A1 or A2, as the reader of a trace sees it:

  1. admission (`admission.py`), redaction, validation: nothing is written anywhere when one of them says no;
  2. one round trip: `cutover.create_memories` and its siblings write the legacy row and take the mark with a lease,
     in one transaction shared with whatever else queued meanwhile;
  3. the plugin gets the state within the delivery deadline, counted from the request's arrival;
  4. the mark is cleared where memory, rev and lease still match (off the request path, `settle.py`);
  5. the answer says `delivered` or `pending`. Pending is safe: legacy is the authority and the mark is durable.

A memory that has requests of its own under way is taken first (`inflight.py`), so that two edits reach the plugin in
the order in which they reached legacy. A write that cannot have its memory in time, or not the lease, does not send:
its mark does.

In A3 and A4 the intent is durable before the plugin is asked. After a definite no the intent is withdrawn before the
caller hears it; after an unclear outcome as well, and the mark brings the plugin back to the state before once T_z has
passed. An intent that a crash left behind is delivered: nobody was told no.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from cutover.domain.errors import (
    Conflict,
    CutoverError,
    DatabaseFault,
    DatabaseUnavailable,
    LockTimeout,
    NotFound,
    Refused,
    StaleEpoch,
)
from cutover.domain.events import DeliverySettled, Observer, StoreCalled, StoreWritten
from cutover.domain.phase import PhaseState
from cutover.domain.requests import Caller, Shadow
from cutover.engine.batch import NaturalBatcher
from cutover.engine.delivery import Deliverer, Delivery, Outcome, failure_note, settlement_of
from cutover.engine.inflight import Inflight
from cutover.engine.phase_watch import PhaseWatch
from cutover.engine.settle import Settler
from cutover.engine.shadow_time import WriteTally
from cutover.engine.trace import TRACE
from cutover.engine.verdicts import no_from_plugin
from cutover.stores.ledger import JournalCommit, Ledger, LegacyCreate, Settlement, WriteResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """Whether this write has its memory to itself. Not `ours`: it may write legacy, but its mark does the sending."""

    ours: bool
    settled: int | None
    """A lease on the memory that is over although the ledger may not know yet (see `settle.py`)."""


_SINGLES = 4
"""Rows of a broken batch that are tried at once: locked ones must not take all connections of the pool."""
_INFLIGHT_SHARE = 0.4
"""Share of the delivery deadline that a write may wait for an earlier one of the same memory."""


class WritePath:
    """Carries writes out for one tenant. Content and rights were decided before (`memory_service.py`)."""

    def __init__(
        self,
        tenant: str,
        ledger: Ledger,
        phase: PhaseWatch,
        deliverer: Deliverer,
        settler: Settler,
        inflight: Inflight,
        observer: Observer,
        tally: WriteTally,
        *,
        delivery_deadline: float,
        quarantine: float,
    ) -> None:
        self._tenant = tenant
        self._ledger = ledger
        self._phase = phase
        self._deliverer = deliverer
        self._settler = settler
        self._inflight = inflight
        self._observer = observer
        self._tally = tally
        self._deadline = delivery_deadline
        self._quarantine = quarantine
        # A request's own send ends by the deadline; T_z after that the plugin cannot act on it any more.
        self._quiet = delivery_deadline + quarantine
        self._creates: NaturalBatcher[LegacyCreate, WriteResult] = NaturalBatcher(
            self._run_creates, weight=lambda row: len(row.content), parallel=2
        )
        self._commits: NaturalBatcher[JournalCommit, WriteResult] = NaturalBatcher(
            self._run_commits, weight=lambda row: len(row.content), parallel=2
        )

    # -- what the service calls -------------------------------------------------------------------------------------

    async def create(self, row: LegacyCreate, caller: Caller, *, fresh: bool) -> tuple[WriteResult, Shadow | None]:
        """Write a new legacy row and deliver it (A0–A2). The status may be one that the caller must interpret."""
        if fresh:  # we minted the id: nobody else can know it
            return await self._create(row, caller)
        async with self._taken(row.id, caller, keyed=row.fingerprint is not None):
            return await self._create(row, caller)

    async def replace(
        self, row: LegacyCreate, caller: Caller, *, from_native: bool
    ) -> tuple[WriteResult, Shadow | None]:
        """A contract commit over an id that legacy (or, `from_native`, only the plugin) holds already (A0–A2)."""
        async with self._taken(row.id, caller) as turn:
            result = await self._fenced(
                "legacy",
                "replace",
                lambda state: self._ledger.replace(
                    state.epoch, self._quiet, turn.settled, row, from_native=from_native, lease=turn.ours
                ),
            )
            if result.status != "ok":
                return result, None
            return result, await self._deliver_marked(result, caller)

    async def edit(
        self, memory_id: UUID, workspace_id: UUID, content: str | None, label: str | None, caller: Caller
    ) -> tuple[WriteResult, Shadow | None]:
        """PATCH on legacy (A0–A2)."""
        async with self._taken(memory_id, caller) as turn:
            result = await self._fenced(
                "legacy",
                "edit",
                lambda state: self._ledger.edit(
                    state.epoch, self._quiet, turn.settled, memory_id, workspace_id, content, label, lease=turn.ours
                ),
            )
            if result.status != "ok":
                return result, None
            return result, await self._deliver_marked(result, caller)

    async def delete(
        self, memory_id: UUID, workspace_id: UUID | None, namespace: str | None, caller: Caller
    ) -> tuple[WriteResult, Shadow | None]:
        """DELETE on legacy (A0–A2)."""
        async with self._taken(memory_id, caller) as turn:
            result = await self._fenced(
                "legacy",
                "delete",
                lambda state: self._ledger.delete(
                    state.epoch, self._quiet, turn.settled, memory_id, workspace_id, namespace, lease=turn.ours
                ),
            )
            if result.status != "ok":
                return result, None
            return result, await self._deliver_marked(result, caller, forget=True)

    async def commit_journaled(self, row: JournalCommit, caller: Caller) -> WriteResult:
        """Create or replace through the journal; `native` and `ok` are both successes."""
        async with self._taken(row.id, caller, needed=not row.fresh, keyed=row.fingerprint is not None) as turn:
            _must_be_ours(turn)
            if turn.settled is not None:
                row = replace(row, settled=turn.settled)
            result = await self._fenced("journal", "commit", lambda _: self._commits.submit(row))
            if result.status == "stale":
                raise StaleEpoch("the tenant's phase changed while this request was on its way")
            if result.status in ("ok", "native"):
                await self._deliver_intent(_with_content(result, row), caller, native=result.status == "native")
            return result

    async def edit_journaled(
        self, memory_id: UUID, workspace_id: UUID, content: str | None, label: str | None, caller: Caller
    ) -> WriteResult:
        """PATCH through the journal (A3, A4)."""
        async with self._taken(memory_id, caller) as turn:
            _must_be_ours(turn)
            result = await self._fenced(
                "journal",
                "edit",
                lambda state: self._ledger.edit(
                    state.epoch, self._quiet, turn.settled, memory_id, workspace_id, content, label, journal=True
                ),
            )
            if result.status == "ok":
                await self._deliver_intent(result, caller, native=False)
            return result

    async def delete_journaled(
        self, memory_id: UUID, workspace_id: UUID | None, namespace: str | None, caller: Caller
    ) -> WriteResult:
        """DELETE through the journal (A3, A4, and natives before)."""
        async with self._taken(memory_id, caller) as turn:
            _must_be_ours(turn)
            result = await self._fenced(
                "journal",
                "delete",
                lambda state: self._ledger.delete(
                    state.epoch, self._quiet, turn.settled, memory_id, workspace_id, namespace, journal=True
                ),
            )
            if result.status in ("ok", "native"):
                await self._deliver_intent(result, caller, native=result.status == "native", forget=True)
            elif result.status == "unknown":
                await self._pass_on_forget(result, caller)
            return result

    async def is_pending(self, memory_id: UUID) -> bool:
        """Whether a memory still carries a mark (for the replay of an idempotent request)."""
        return not self._settler.is_delivered(memory_id) and bool(await self._ledger.marked_among([memory_id]))

    async def is_certain(self, memory_id: UUID) -> bool:
        """Whether the idempotent create of this id can no longer come to nothing.

        Its record is looked at last: a withdrawal takes it along, and must not slip in between.
        """
        if self._settler.is_delivered(memory_id):
            return True
        return not await self._ledger.is_open(memory_id) and await self._ledger.key_exists(memory_id)

    async def _create(self, row: LegacyCreate, caller: Caller) -> tuple[WriteResult, Shadow | None]:
        result = await self._create_once_more_if_cut_off(row)
        if result.status != "ok":
            return result, None
        result = _with_content(result, row)
        return result, await self._deliver_marked(result, caller)

    # -- the memory, and the phase ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _taken(
        self, memory_id: UUID, caller: Caller, *, needed: bool = True, keyed: bool = False
    ) -> AsyncIterator[Turn]:
        """Hold the memory in this process, if it can be had in time.

        When it cannot, the write may still change legacy, but sends nothing: that is its mark's business (`Turn`).
        Not `needed`: we minted the id, nobody else can know it. `keyed`: who cannot have it in time is told that a
        request of the same key still runs (409). It waits first: the holder may be the reconciler.
        """
        if not needed:
            yield Turn(ours=True, settled=None)
            return
        left = caller.arrived + self._deadline * _INFLIGHT_SHARE - time.monotonic()
        if not await self._inflight.acquire(memory_id, left):
            if keyed:
                raise Conflict("a request with this Idempotency-Key is still running", next_step="wait for its answer")
            yield Turn(ours=False, settled=None)
            return
        try:
            yield Turn(ours=True, settled=self._settler.settled_lease(memory_id))
        finally:
            self._inflight.release(memory_id)

    async def _fenced(self, store: str, operation: str, call: Callable[[PhaseState], Awaitable[T]]) -> T:
        """Run under the believed epoch; when it is stale, reload the phase so that the caller can route anew.

        `store` and `operation`: what it is told as; a create's wait for its batch is part of it.
        """
        started, outcome = time.monotonic(), "failed"
        try:
            try:
                result = await call(self._phase.current())
            except LockTimeout:
                # Nothing was written. Most often it was a change of parents, which is over by now.
                result = await call(self._phase.current())
            outcome = "ok"
        except StaleEpoch:
            await self._phase.reload()
            raise
        finally:
            seconds = time.monotonic() - started
            self._observer(StoreCalled(self._tenant, store, operation, outcome, seconds, TRACE.get()))
        return result

    async def _create_once_more_if_cut_off(self, row: LegacyCreate) -> WriteResult:
        """A connection that broke while the batch ran leaves its fate open. The same ids make asking again safe."""
        cut_off = False
        try:
            result = await self._fenced("legacy", "create", lambda _: self._creates.submit(row))
        except DatabaseUnavailable:
            cut_off = True
            result = await self._fenced("legacy", "create", lambda _: self._creates.submit(row))
        if result.status == "exists" and row.fingerprint is not None and not cut_off:
            # Another daemon was quicker with the same key; by now its record can be seen.
            return await self._fenced("legacy", "create", lambda _: self._creates.submit(row))
        if cut_off and result.status in ("exists", "replay"):
            # It had been committed. The mark is there; its lease ended with the answer we never got.
            return await self._fenced("legacy", "create", lambda state: self._recover(state, row, result))
        return result

    async def _recover(self, state: PhaseState, row: LegacyCreate, result: WriteResult) -> WriteResult:
        again = await self._ledger.edit(state.epoch, 0.0, None, row.id, row.workspace_id, None, None, lease=False)
        same = again.status == "unchanged" and again.content == row.content and again.scope is row.scope
        return _revive(again) if same else result

    async def _run_creates(self, rows: Sequence[LegacyCreate]) -> Sequence[WriteResult | Exception]:
        epoch = self._phase.current().epoch
        try:
            return await self._ledger.create(epoch, self._quiet, rows)
        except (DatabaseFault, LockTimeout):
            if len(rows) == 1:
                raise
            return await self._one_by_one(lambda row: self._ledger.create(epoch, self._quiet, [row]), rows)

    async def _run_commits(self, rows: Sequence[JournalCommit]) -> Sequence[WriteResult | Exception]:
        epoch = self._phase.current().epoch
        order = sorted(range(len(rows)), key=lambda i: rows[i].id.bytes)  # one lock order in every daemon
        ordered = [rows[i] for i in order]
        try:
            results: Sequence[WriteResult | Exception] = await self._ledger.begin_commits(epoch, self._quiet, ordered)
        except (DatabaseFault, LockTimeout):
            if len(rows) == 1:
                raise
            results = await self._one_by_one(lambda row: self._ledger.begin_commits(epoch, self._quiet, [row]), ordered)
        back: list[WriteResult | Exception] = [DatabaseFault("no result")] * len(rows)
        for position, result in zip(order, results, strict=True):
            back[position] = result
        return back

    @staticmethod
    async def _one_by_one(
        call: Callable[[T], Awaitable[list[WriteResult]]], rows: Sequence[T]
    ) -> list[WriteResult | Exception]:
        """One row the database cannot take, or that somebody has locked, must not fail its neighbours in the batch."""
        some = asyncio.Semaphore(_SINGLES)

        async def one(row: T) -> WriteResult | Exception:
            async with some:
                try:
                    return (await call(row))[0]
                except CutoverError as error:
                    return error

        return list(await asyncio.gather(*(one(row) for row in rows)))

    # -- to the plugin -----------------------------------------------------------------------------------------------

    async def _deliver_marked(self, result: WriteResult, caller: Caller, *, forget: bool = False) -> Shadow | None:
        """Steps 3–5 for a legacy write. None in A0, where there is no mark."""
        self._observer(StoreWritten(self._tenant, "legacy", "ok"))
        if result.rev is None:
            return None
        if result.lease_id is None:
            return Shadow.PENDING
        if not forget and (result.namespace is None or not result.content.strip()):
            # The plugin takes no such memory. The reconciler quarantines it with its reason.
            self._settler.note(Settlement(result.memory_id, result.rev, result.lease_id, None, "unsent"))
            return Shadow.PENDING
        headers = _headers(caller)
        send = self._deliverer.forget if forget else self._deliverer.upsert
        delivery = await send(result, caller.arrived + self._deadline, headers=headers)
        self._settle(result, delivery)
        if delivery.outcome in (Outcome.FAILED, Outcome.AMBIGUOUS):
            self._tally.undelivered()
        return Shadow.DELIVERED if delivery.outcome is Outcome.DELIVERED else Shadow.PENDING

    def _settle(self, result: WriteResult, delivery: Delivery) -> None:
        assert result.rev is not None  # noqa: S101
        assert result.lease_id is not None  # noqa: S101
        outcome, note = settlement_of(delivery)
        if outcome == "quarantined":
            # Not from here: the plugin may still show an earlier form. The reconciler forgets that, then quarantines.
            outcome = "unsent"
        self._settler.note(Settlement(result.memory_id, result.rev, result.lease_id, result.seq, outcome, 0.05, note))
        word = "retry" if outcome in ("failed", "unsent") else outcome  # the reconciler takes over
        self._observer(DeliverySettled(self._tenant, "request", word, result.memory_id, result.rev))

    async def _pass_on_forget(self, result: WriteResult, caller: Caller) -> None:
        """Forget what only the plugin knows. There is no state to bring back, so an unclear outcome stays unclear."""
        delivery = await self._deliverer.forget(result, caller.arrived + self._deadline, headers=_headers(caller))
        if delivery.outcome is Outcome.AMBIGUOUS:
            raise self._open_ended()
        if delivery.outcome is not Outcome.DELIVERED:
            raise no_from_plugin(delivery, self._quarantine)
        if delivery.absent:
            raise NotFound("no such memory in this namespace")

    async def _deliver_intent(self, result: WriteResult, caller: Caller, *, native: bool, forget: bool = False) -> None:
        """Carry an intent to the plugin and settle it; raises what the caller must be told when it did not work."""
        assert result.rev is not None  # noqa: S101
        assert result.lease_id is not None  # noqa: S101
        self._observer(StoreWritten(self._tenant, "journal", "ok"))
        send = self._deliverer.forget if forget else self._deliverer.upsert
        delivery = await send(result, caller.arrived + self._deadline, headers=_headers(caller))
        if delivery.outcome is Outcome.DELIVERED:
            settlement = Settlement(result.memory_id, result.rev, result.lease_id, result.seq, "delivered")
            self._observer(DeliverySettled(self._tenant, "request", "delivered", result.memory_id, result.rev))
            if native:
                await self._settler.settle(settlement)  # searches in A1 and A2 read natives from our own table
            else:
                self._settler.note(settlement)
            return
        ambiguous = delivery.outcome is Outcome.AMBIGUOUS
        await self._withdraw(result, delivery, ambiguous=ambiguous)
        raise no_from_plugin(delivery, self._quarantine)

    async def _withdraw(self, result: WriteResult, delivery: Delivery, *, ambiguous: bool) -> None:
        note = failure_note(delivery.error)
        try:
            withdrawn = await self._ledger.withdraw(result, ambiguous=ambiguous, note=note)
        except CutoverError as error:
            raise self._open_ended() from error
        if not withdrawn:
            raise self._open_ended()
        word = "ambiguous" if ambiguous else "retry"
        self._observer(DeliverySettled(self._tenant, "request", word, result.memory_id, result.rev or 0))

    def _open_ended(self) -> Refused:
        """An intent stands although its caller gets no: the only honest word is that it may still happen."""
        return Refused(
            "unresolved",
            "the write could not be completed and could not be taken back: it may still be carried out",
            retry_after=self._quarantine,
            next_step="read the memory back before writing it again",
        )


def _headers(caller: Caller) -> dict[str, str] | None:
    return {"traceparent": caller.traceparent} if caller.traceparent else None


def _with_content(result: WriteResult, row: LegacyCreate | JournalCommit) -> WriteResult:
    """A create's result comes back without what was sent; put it in rather than send it over the wire twice."""
    return replace(
        result,
        content=row.content,
        label=row.label or result.label,
        scope=result.scope,
        kind=row.kind if isinstance(row, JournalCommit) else "fact",
        source=row.source,
        expires_at=row.expires_at if isinstance(row, JournalCommit) else None,
        pin=row.pin,
        propagation=json.loads(row.propagation) if row.propagation is not None else None,
        embedding=tuple(json.loads(row.embedding)) if row.embedding is not None else None,
    )


def _must_be_ours(turn: Turn) -> None:
    """A journal write cannot leave the sending to somebody else: its caller waits for the plugin's word."""
    if not turn.ours:
        raise Refused("busy", "an earlier write of this memory has not ended yet", retry_after=1)


def _revive(result: WriteResult) -> WriteResult:
    return replace(result, status="ok", lease_id=None)
