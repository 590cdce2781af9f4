"""One digest sweep under way: the ranges or the deliveries it looks at, how hard it leans, what it has come to.

`digest_sweep.py` says when; `digest_settle.py` takes the second look.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from cutover.domain.divergence import DivergenceState
from cutover.domain.errors import OperatorError, StatementTimeout
from cutover.domain.phase import Phase
from cutover.engine.canary_faults import EXPECTED_FAULTS, FAULTS_NAMESPACE, HELD_FAULTS, judge
from cutover.engine.digest_compare import compare_range
from cutover.engine.digest_look import look_at, suspicion
from cutover.engine.digest_settle import SecondLooks
from cutover.engine.digest_tally import WHOLE_TENANT, DigestPolicy, DigestScope, DigestStores, Tally
from cutover.stores.digest import FIRST_ID, LAST_ID, Limits, Situation
from cutover.stores.digest_findings import BucketRows, Suspicion

_LOOK = 500
"""Memories per look."""
_BUSY_SECONDS = 0.5
_MANY_DELIVERED = 100_000
"""With more deliveries than this since the last sweep a full one is the quicker way to look at them."""


class DigestRun:
    """One sweep under way."""

    def __init__(
        self,
        stores: DigestStores,
        policy: DigestPolicy,
        run: UUID,
        tally: Tally,
        *,
        share: float,
        last: Mapping[str, Any] | None = None,
        scope: DigestScope = WHOLE_TENANT,
    ) -> None:
        """`share`: of the time, how much may be spent in statements. `last`: the outcome of the sweep before."""
        self._scope = scope
        self._stores = stores
        self._reader = stores.reader
        self._findings = stores.findings
        self._canaries = stores.canaries
        self._policy = policy
        self._last = last
        load = policy.load
        self._load = replace(load, share=share)
        self._limits = Limits(self._load.statement_timeout())
        self._run = run
        self._tally = tally
        self._salt = secrets.token_bytes(32)
        self._size = load.first
        self._planted: dict[UUID, str] = {}
        self._full = False
        self._why_waiting = ""
        self._started = time.monotonic()
        self._done_before = tally.compared
        self._statements = 0.0
        self.still_ours: Callable[[], Awaitable[None]] = _always
        """Raises when the lock that this run was begun under is lost."""

    # -- from outside -------------------------------------------------------------------------------------------

    def progress(self) -> dict[str, Any]:
        """How far, how fast, what holds it back."""
        elapsed = max(1e-3, time.monotonic() - self._started)
        rate = (self._tally.compared - self._done_before) / elapsed
        share = self._tally.position.int / LAST_ID.int if self._tally.position is not None else 0.0
        return {
            "run": str(self._run),
            "full": self._full,
            "compared": self._tally.compared,
            "share": round(share, 4),
            "rate_rows_per_second": round(rate, 1),
            "suspects": self._tally.suspects,
            "throttled": self._why_waiting,
        }

    def time_split(self, seconds: float) -> dict[str, Any]:
        """Where the time went: in the databases, on the way, in rests, in ourselves (seconds)."""
        clock = self._limits.clock
        own = max(0.0, seconds - self._statements - self._tally.throttled)
        return {
            "seconds_database": round(clock.database, 3),
            "seconds_transfer": round(clock.transfer, 3),
            "seconds_own": round(own, 3),
            "throttled_seconds": round(self._tally.throttled, 3),
        }

    # -- the whole ----------------------------------------------------------------------------------------------

    async def carry_out(self, full: bool) -> dict[str, Any]:
        """Sweep; gives the outcome. Raises `CutoverError` when it could not be finished."""
        situation = await self._reader.situation()
        if situation.phase is Phase.A0:
            why = "nothing captures changes in A0, so there is nothing the stores could be held to"
            return {"outcome": "partial", "trusted": False, "full": full, "coverage": 0.0, "why": why}
        since = None if full else await self._since(situation)
        self._full = since is None
        await self._begin(situation)
        if self._scope.workspace_id is not None:
            await self._one_workspace(self._scope.workspace_id)
        elif since is None:
            await self._whole()
        else:
            await self._changed(since, situation.snapshot)
        await self._faults_again()
        undecided = 0
        if judge(self._planted, self._tally.canary).trusted:
            # A sweep that is blind, or sees ghosts, confirms nothing and closes nothing.
            undecided = await self._settle()
        return await self._outcome(situation, undecided)

    async def _begin(self, situation: Situation) -> None:
        """Plant faults, or go on with those of a run that was killed. That one begins anew where its part was compared
        in another situation, or under faults that are not there any more."""
        tally = self._tally
        if tally.position is not None:
            self._planted = await self._canaries.planted_by(self._run)
            if tally.epoch == situation.epoch and self._planted:
                return
            self._tally = tally = Tally()
        tally.epoch, tally.snapshot = situation.epoch, situation.snapshot
        self._planted = await self._canaries.plant(self._run)

    async def _since(self, now: Situation) -> str | None:
        """The snapshot after which an incremental sweep looks; None: there is nothing to build on, so a full one."""
        last = self._last
        if last is None or last.get("generation") != str(now.generation) or not last.get("snapshot"):
            return None
        since = str(last["snapshot"])
        if _end_of(since) > _end_of(now.snapshot):
            return None  # of another server: the database was moved, or went back in time
        many = await self._reader.delivered_count(since, now.snapshot, _MANY_DELIVERED)
        return None if many >= _MANY_DELIVERED else since

    async def _outcome(self, situation: Situation, undecided: int) -> dict[str, Any]:
        tally = self._tally
        open_ = await self._findings.count_open()
        confirmed = open_[DivergenceState.CONFIRMED]
        verdict = judge(self._planted, tally.canary)
        repaired = sum(open_[DivergenceState.REPAIRED].values())
        waiting = 0
        if self._scope.everything:
            waiting = await self._reader.waiting(self._scope.workspace_id, self._policy.t_z)
        if not verdict.trusted:
            outcome, why = "untrusted", "planted faults were missed, or intact rows reported: this sweep is no evidence"
        elif sum(confirmed.values()):
            outcome, why = "divergent", ""
        elif undecided:
            outcome, why = "partial", f"{undecided} memories kept changing and could not be looked at twice in peace"
        elif repaired:
            outcome, why = "partial", f"{repaired} repaired findings still wait for their delivery"
        elif waiting:
            outcome, why = "partial", f"{waiting} memories wait for delivery (cutover status): they were not compared"
        else:
            outcome, why = "clean", ""
        return {
            "outcome": outcome,
            "trusted": verdict.trusted,
            "canary": verdict.as_json(),
            "full": self._full,
            "phase": situation.phase.value,
            "epoch": situation.epoch,
            "generation": str(situation.generation),
            "snapshot": tally.snapshot,
            "expected_rows": tally.expected_rows,
            "plugin_rows": tally.plugin_rows,
            "compared": tally.compared,
            "chunks": tally.chunks,
            "differing_buckets": tally.differing_buckets,
            "suspects": undecided,
            "confirmed": confirmed,
            "accepted": open_[DivergenceState.ACCEPTED],
            "mended": tally.mended,
            "in_flight": tally.in_flight,
            "waiting": waiting,
            "coverage": round(self._coverage(), 6),
            "why": why,
        }

    def _coverage(self) -> float:
        """The share of the expected rows that were compared; for an incremental one that of the sweep it builds on."""
        tally = self._tally
        if not self._full:
            return float((self._last or {}).get("coverage", 0.0))
        return 1.0 - tally.unreached / tally.expected_rows if tally.expected_rows else 1.0

    # -- a full sweep -------------------------------------------------------------------------------------------

    async def _whole(self) -> None:
        await self._reader.begin_full()
        if self._tally.done:
            return
        low = self._tally.position or FIRST_ID
        while True:
            await self._wait_while_busy()
            started = time.monotonic()
            size = self._size
            try:
                high = await self._chunk(low, await self._reader.edge(low, size, self._limits))
            except StatementTimeout:
                smaller = self._load.after_timeout(size)
                if smaller is None:
                    if self._limits.statement >= self._load.longest_of_all:
                        raise
                    self._limits.statement *= 2  # a few rows that take long are rather waited for than never compared
                self._size = smaller or size
                continue
            worked = time.monotonic() - started
            self._size = self._load.next_size(size, worked)
            if high == LAST_ID:
                return
            low = UUID(int=high.int + 1)
            await self._pause(self._load.rest(worked), "resting (CUTOVER_SWEEP_LOAD)")

    async def _chunk(self, low: UUID, high: UUID) -> UUID:
        """Compare one range, up to `high` or to where the backfill is; gives the end of what was compared."""
        situation = await self._check_phase()
        reached_to = situation.reached_to
        suspicions: list[Suspicion] = []
        buckets: tuple[BucketRows, ...] = ()
        all_reached = situation.everything_reached or self._scope.everything
        if all_reached or (reached_to is not None and low <= reached_to):
            if not all_reached and reached_to is not None:
                high = min(high, reached_to)
            found = await compare_range(self._reader, self._salt, low, high, self._limits)
            suspicions = await self._look(found.ids, reached=True)
            buckets = found.buckets
            planted = [fault for memory_id, fault in self._planted.items() if low <= memory_id <= high]
            here = found.expected_rows - sum(fault in EXPECTED_FAULTS for fault in planted)
            self._tally.expected_rows += here
            self._tally.compared += here
            self._tally.plugin_rows += found.held_rows - sum(fault in HELD_FAULTS for fault in planted)
            self._tally.differing_buckets += found.differing_buckets
            self._statements += found.seconds
        else:
            # Legacy rows need not be there yet; what is there must be right, and nothing else may be.
            there = [each for each in await self._reader.held_ids(low, high, self._limits) if each not in self._planted]
            must = await self._reader.must_be_there(low, high, self._limits)
            # What was delivered in an earlier generation may be stale: nothing captured changes in A0.
            began = situation.generation_began
            suspicions = [
                each
                for each in await self._look(sorted(set(there) - set(must)))
                if _is_ours(each) or began is None or (each.delivered_at is not None and each.delivered_at >= began)
            ]
            suspicions += await self._look(must, reached=True)
            self._tally.plugin_rows += len(there)
            self._tally.compared += len(there)
            rows = await self._reader.expected_count(low, high, self._limits)
            self._tally.expected_rows += rows
            self._tally.unreached += rows
        if self._scope.everything:
            self._tally.workspaces.update(await self._reader.expected_workspaces(low, high, self._limits))
            # Planted faults are of no workspace, and nobody's memories.
            self._tally.workspaces[None] -= sum(
                fault in EXPECTED_FAULTS for memory_id, fault in self._planted.items() if low <= memory_id <= high
            )
            if not self._tally.workspaces[None]:
                del self._tally.workspaces[None]
        self._tally.chunks += 1
        self._tally.suspects += len(suspicions)
        self._tally.position = UUID(int=high.int + 1) if high != LAST_ID else LAST_ID
        self._tally.done = int(high == LAST_ID)
        await self._findings.stretch(self._run, situation, suspicions, buckets, self._tally.as_json())
        return high

    # -- one workspace ------------------------------------------------------------------------------------------

    async def _one_workspace(self, workspace_id: UUID) -> None:
        """Look at every memory that is, or that the plugin says is, this workspace's. Planted faults come along."""
        expected = await self._reader.expected_of(workspace_id)
        ids = sorted({*expected, *await self._reader.held_of(workspace_id), *self._planted})
        for page in _pages(ids, _LOOK):
            await self._wait_while_busy()
            situation = await self._check_phase()
            suspicions = await self._look(page, reached=True)
            self._tally.compared += len(page) - len(self._planted.keys() & set(page))
            self._tally.suspects += len(suspicions)
            await self._findings.stretch(self._run, situation, suspicions, (), self._tally.as_json())
        self._tally.expected_rows = len(expected)
        self._tally.workspaces[workspace_id] = len(expected)

    # -- an incremental sweep -----------------------------------------------------------------------------------

    async def _changed(self, since: str, before: str) -> None:
        past: UUID | None = None
        for page in _pages(sorted(self._planted), _LOOK):
            await self._findings.suspect(self._run, await self._check_phase(), await self._look(page, reached=True))
        while ids := await self._reader.delivered(since, before, past, _LOOK):
            await self._wait_while_busy()
            started = time.monotonic()
            situation = await self._check_phase()
            suspicions = await self._look(ids, reached=True)
            past = ids[-1]
            self._tally.compared += len(ids)
            self._tally.expected_rows += len(ids)
            self._tally.suspects += len(suspicions)
            self._tally.chunks += 1
            await self._findings.stretch(self._run, situation, suspicions, (), self._tally.as_json())
            await self._pause(self._load.rest(time.monotonic() - started), "resting (CUTOVER_SWEEP_LOAD)")

    # -- looks --------------------------------------------------------------------------------------------------

    async def _look(self, ids: Collection[UUID], *, reached: bool = False) -> list[Suspicion]:
        """A first look at `ids`: what is suspect of them. Planted faults are put aside."""
        found: list[Suspicion] = []
        for page in _pages(list(ids), _LOOK):
            started = time.monotonic()
            look = await look_at(self._reader, self._salt, page, self._limits, reached=reached)
            self._statements += time.monotonic() - started
            for seen in look.seen.values():
                if seen.memory_id in self._planted:
                    self._tally.canary[seen.memory_id] = seen.classes
                elif seen.about.planted or (seen.held is not None and seen.held.namespace == FAULTS_NAMESPACE):
                    continue  # of another sweep, or left behind by one
                elif seen.unsettled:
                    self._tally.in_flight += 1
                elif seen.classes:
                    found.append(suspicion(seen))
        return found

    async def _faults_again(self) -> None:
        """Planted faults pass through a second look as well: only what both looks saw counts."""
        again = await look_at(self._reader, self._salt, sorted(self._planted), self._limits, reached=True)
        for memory_id, seen in again.seen.items():
            self._tally.canary[memory_id] = self._tally.canary.get(memory_id, frozenset()) & seen.classes

    async def _settle(self) -> int:
        """The second looks; gives how many findings stayed undecided."""
        looks = SecondLooks(
            self._reader, self._findings, self._run, self._salt, self._limits,
            t_z=self._policy.t_z, rounds=self._policy.rounds, mend_times=self._stores.mend_times,
            pause=self._pause, check_phase=self._check_phase, rest=self._rest, everything=self._full,
        )  # fmt: skip
        undecided = await looks.settle()
        self._tally.mended = looks.mended
        return undecided

    # -- not being in the way -----------------------------------------------------------------------------------

    async def _check_phase(self) -> Situation:
        await self.still_ours()
        situation = await self._reader.situation()
        self._limits.at_one_instant(situation)
        if situation.epoch != self._tally.epoch:
            raise OperatorError("the phase changed during the sweep", next_step="cutover sweep run --kind digest")
        return situation

    async def _wait_while_busy(self) -> None:
        while why := self._load.why_wait(*await self._reader.busy()):
            await self._pause(_BUSY_SECONDS, why)
            await self._check_phase()

    async def _rest(self, worked: float) -> None:
        self._statements += worked
        await self._pause(self._load.rest(worked), "resting (CUTOVER_SWEEP_LOAD)")
        await self._wait_while_busy()

    async def _pause(self, seconds: float, why: str) -> None:
        if seconds <= 0:
            return
        self._why_waiting = why
        await asyncio.sleep(seconds)
        self._why_waiting = ""
        self._tally.throttled += seconds


async def _always() -> None:
    return None


def _end_of(snapshot: str) -> int:
    """The first transaction that had not begun at a snapshot (`xmin:xmax:…`)."""
    return int(snapshot.split(":")[1])


def _is_ours(each: Suspicion) -> bool:
    """Whether a memory in a range that the backfill has not reached must be right all the same: natives and K/V rows
    live in the plugin only, and what nobody expects should not be there at all."""
    return each.expected is None or each.expected.source != "memory"


def _pages(ids: list[UUID], size: int) -> Iterable[list[UUID]]:
    for at in range(0, len(ids), size):
        yield ids[at : at + size]
