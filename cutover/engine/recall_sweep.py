"""The recall sweep: reads repeated on both stores (architecture §4), scheduled and on demand.

What is repeated: reads that callers made lately (`query_sample`), and for a few workspaces taken at random their lists
by scope, their namespaces in the contract's words, and a word of one of their memories. The second kind needs no
traffic, so there is evidence on a quiet tenant too; and it sees leaks that v1's routes filter out: a memory that lies
in another workspace's namespace is shown there by the contract's search only.

Two looks at least T_z apart. Whatever the first one finds odd is looked at again; a read counts with the better of its
two overlaps, and a visibility difference is called one only if both looks saw it and nothing was delivered for that
memory since the sweep began. One read at a time, each in the background's turn, resting as long as it worked.

Nothing of a query is logged, recorded or counted: reads are named by a keyed hash.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import fmean
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, RecallCompared, SweepFinished, TaskFailed
from cutover.domain.exact_search import queries_for, words_of
from cutover.domain.namespace import Scope
from cutover.domain.phase import PhaseState
from cutover.domain.recall import (
    DEPTH,
    Answers,
    Direction,
    Read,
    Tally,
    Visibility,
    comparable,
    must_probe,
    overlap_at,
    rank_agreement,
    verdict,
    visibility,
)
from cutover.domain.requests import ListMemories, SearchMemories
from cutover.engine.plugin_reads import CAP, Budget, PluginReads, Searches
from cutover.engine.query_sample import QuerySample
from cutover.engine.replay import replay
from cutover.stores.legacy import LegacyStore
from cutover.stores.recall import RecallStore
from cutover.stores.runs import Runs
from cutover.stores.task_lock import RECALL_SWEEP

KIND = "sweep.recall"
LOOK_SECONDS = 2.0
"""Time-out of each call of a look."""
_KEEP_DAYS = 30
_FINDINGS_KEPT = 50
_LOWEST_KEPT = 10
_LONGEST_REST = 0.25
_STALE_SECONDS = 3600.0
_LISTED = (None, Scope.LOCAL, Scope.TEAM, Scope.GLOBAL)


@dataclass(frozen=True, slots=True)
class RecallLimits:
    """How much one sweep may do. `seconds` bounds the looking; `recent_seconds` is at least T_z."""

    recent_seconds: float
    reads: int = 200
    workspaces: int = 20
    seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class _Look:
    """One look at one read. `seen`: rows that were compared; `odd`: it must be looked at again."""

    overlap: float
    agreement: float | None
    seen: int
    left_out: int
    visible: Visibility
    odd: bool
    partial: bool


@dataclass
class _Sweep:
    """A sweep under way."""

    state: PhaseState
    started: float
    horizon: str = ""
    planned: dict[Read, str] = field(default_factory=dict)
    """Each read with where it came from: `live` or `seed`."""
    workspaces: tuple[int, int] = (0, 0)
    looks: dict[Read, _Look] = field(default_factory=dict)
    failed: dict[Read, str] = field(default_factory=dict)


class RecallSweeper:
    """Recall sweeps of one tenant, one at a time. `run()` is a task of the daemon's group."""

    def __init__(
        self,
        tenant: str,
        store: RecallStore,
        legacy: LegacyStore,
        search: Searches,
        sample: QuerySample,
        runs: Runs,
        phase: Callable[[], PhaseState],
        observer: Observer,
        limits: RecallLimits,
        *,
        situation: Callable[[], Hashable] = lambda: None,
        chance: random.Random | None = None,
    ) -> None:
        """`situation`: something that differs when evidence should be had anew: the phase, the backfill's state."""
        self._tenant = tenant
        self._store = store
        self._legacy = legacy
        self._search = search
        self._plugin = PluginReads(legacy, search, timeout=LOOK_SECONDS)
        self._sample = sample
        self._runs = runs
        self._phase = phase
        self._observe = observer
        self._limits = limits
        self._situation = situation
        self._chance = chance or random.Random()  # noqa: S311 - a sample, not a secret
        self._lock = asyncio.Lock()
        self.last: dict[str, Any] | None = None
        self.result: dict[str, Any] | None = None
        """The last outcome that compared something, and when it was had."""
        self.finished_at: datetime | None = None
        self.progress: dict[str, Any] | None = None

    async def run(self, due: asyncio.Event | None) -> None:
        """Sweep whenever `due` is set, and whenever the situation has changed; for ever. None: on demand only."""
        if due is None:
            await asyncio.Event().wait()
            return
        seen: Hashable = None
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await due.wait()
            except TimeoutError:
                if self._situation() == seen:
                    continue
            due.clear()
            seen = self._situation()
            try:
                if self._phase().phase.dual_writes:
                    await self.sweep("schedule")
                else:  # no sweep will come to close what a daemon that was killed left open
                    await self._runs.interrupt_older(KIND, _STALE_SECONDS)
            except CutoverError as error:  # not even its record could be written
                self._observe(TaskFailed(self._tenant, "recall", type(error).__name__, error.message))

    async def sweep(self, requested_by: str) -> dict[str, Any]:
        """Sweep now; the outcome, as in `cutover.task_run`. A second caller waits for its own turn, as does another
        daemon: each repeats the reads of its own callers, but never two at once.

        Raises `CutoverError` when the tenant's database cannot take the record.
        """
        async with self._lock, self._runs.turn(RECALL_SWEEP, requested_by):
            started = time.monotonic()
            await self._runs.interrupt_older(KIND, _STALE_SECONDS)
            run = await self._runs.begin(KIND, requested_by, {"depth": DEPTH, "reads": self._limits.reads})
            try:
                outcome = await self._outcome(started)
            except CutoverError as error:
                outcome = {"outcome": "failed", "coverage": 0.0, "why": error.message}
            except BaseException:
                with contextlib.suppress(CutoverError):
                    await self._runs.finish(run, "interrupted", {"outcome": "failed", "why": "interrupted"})
                raise
            finally:
                self.progress = None
            outcome["seconds"] = round(time.monotonic() - started, 3)
            self.last = {**outcome, "run": str(run)}
            await self._runs.finish(run, "failed" if outcome["outcome"] == "failed" else "finished", outcome)
            await self._runs.prune(KIND, _KEEP_DAYS)
            self._tell(outcome)
            return self.last

    def _tell(self, outcome: dict[str, Any]) -> None:
        if outcome["outcome"] not in ("failed", "not_applicable"):
            self.result, self.finished_at = outcome, datetime.now(UTC)
            seen = outcome["visibility"]
            self._observe(
                RecallCompared(
                    self._tenant,
                    outcome["overlap"],
                    outcome["rank_agreement"],
                    outcome["reads"]["compared"],
                    {direction.value: seen[direction.value] for direction in Direction},
                )
            )
        self._observe(
            SweepFinished(self._tenant, "recall", outcome["outcome"], outcome["seconds"], outcome["coverage"], None)
        )

    async def _outcome(self, started: float) -> dict[str, Any]:
        state = self._phase()
        if (why := not_applicable(state)) is not None:
            return {"outcome": "not_applicable", "phase": state.phase.value, "coverage": 0.0, "why": why}
        sweep = _Sweep(state, started, await self._store.horizon())
        await self._plan(sweep)
        await self._look_at(sweep, tuple(sweep.planned))
        again = tuple(read for read, look in sweep.looks.items() if look.odd)
        if again:
            self._say(sweep, "waiting for the second look")
            first = dict(sweep.looks)
            await asyncio.sleep(self._limits.recent_seconds)
            for read in again:
                del sweep.looks[read]  # what is not seen twice is not compared
            await self._look_at(sweep, again)
            for read in again:
                if (look := sweep.looks.get(read)) is not None:
                    sweep.looks[read] = await self._both(sweep, read, first[read], look)
        return self._summary(sweep)

    # -- which reads

    async def _plan(self, sweep: _Sweep) -> None:
        sweep.planned.update((read, "live") for read in self._sample.take(self._limits.reads))
        chosen, of_all = await self._store.some_workspaces(self._limits.workspaces)
        sweep.workspaces = (len(chosen), of_all)
        readers = {read.workspace_id for read in sweep.planned if isinstance(read, ListMemories)}
        tree = await self._store.tree(readers.union(chosen))
        for read in tuple(sweep.planned):
            if isinstance(read, ListMemories) and read.workspace_id in tree:
                # From A3 on the same workspace reads through the contract too, where nothing filters but the namespace.
                for name in tree.readable(read.workspace_id):
                    sweep.planned.setdefault(SearchMemories((name,), read.query, limit=CAP), "seed")
        for workspace in chosen:
            for scope in _LISTED:
                sweep.planned.setdefault(ListMemories(workspace, scope), "seed")
            for name in tree.readable(workspace):
                sweep.planned.setdefault(SearchMemories((name,), limit=CAP), "seed")
            if word := await self._word_of(workspace):
                sweep.planned.setdefault(ListMemories(workspace, query=word), "seed")

    async def _word_of(self, workspace: UUID) -> str | None:
        rows = await self._legacy.list(ListMemories(workspace), timeout=LOOK_SECONDS)
        words = words_of(self._chance.choice(rows).content) if rows else ()
        return self._chance.choice(words[:DEPTH]) if words else None

    # -- looking

    async def _look_at(self, sweep: _Sweep, reads: Iterable[Read]) -> None:
        for read in reads:
            began = time.monotonic()
            if began - sweep.started > self._limits.seconds:
                return
            if self._phase().epoch != sweep.state.epoch:
                raise OperatorError("the tenant's phase changed during the sweep", next_step="run it again")
            self._say(sweep, "comparing")
            try:
                sweep.looks[read] = await self._look(read)
                sweep.failed.pop(read, None)
            except CutoverError as error:
                sweep.failed[read] = error.message
            await asyncio.sleep(min(_LONGEST_REST, time.monotonic() - began))

    def _say(self, sweep: _Sweep, doing: str) -> None:
        self.progress = {
            "doing": doing,
            "planned": len(sweep.planned),
            "compared": len(sweep.looks),
            "failed": len(sweep.failed),
        }

    async def _look(self, read: Read) -> _Look:
        budget = Budget(time.monotonic() + 2 * LOOK_SECONDS)
        replayed = await replay(self._legacy, self._plugin, read, budget=budget, timeout=LOOK_SECONDS)
        answers = replayed.answers
        # K/V rows are no part of what is compared, but are shown to somebody like everything else.
        shown = replace(answers, plugin=(*answers.plugin, *sorted(replayed.kv)))
        one_sided = shown.only_one_side
        unsettled: frozenset[UUID] = frozenset()
        visible = Visibility()
        if one_sided:
            unsettled = await self._legacy.unsettled(one_sided, seconds=self._limits.recent_seconds)
            visible = await self._visible(read, shown, unsettled)
        left, right = comparable(answers, unsettled | visible.expected)
        if left != right:
            timeless = await self._store.timeless({*left, *right})
            left, right = comparable(answers, unsettled | visible.expected | timeless)
        overlap, agreement = overlap_at(left, right), rank_agreement(left, right)
        return _Look(
            overlap,
            agreement,
            max(len(left), len(right)),
            len(unsettled),
            visible,
            overlap < 1.0 or (agreement is not None and agreement < 1.0) or bool(visible.more or visible.less),
            answers.partial,
        )

    async def _visible(self, read: Read, answers: Answers, unsettled: frozenset[UUID]) -> Visibility:
        known = await self._store.known(answers.only_one_side)
        owners = {memory.workspace_id for memory in known.values() if memory.workspace_id is not None}
        readers = {read.workspace_id} if isinstance(read, ListMemories) else set()
        tree = await self._store.tree(owners | readers)
        seen = visibility(read, answers, known, tree)
        less = seen.less - unsettled
        if less and must_probe(read, answers):
            places = {id_: place for id_ in less if (place := tree.place(known[id_])) is not None}
            less = await self._hidden(places)
        return Visibility(seen.more - unsettled, less, seen.expected)

    async def _hidden(self, places: dict[UUID, str]) -> frozenset[UUID]:
        """Those of the memories that the plugin does not show in their own namespace either, asked for by content."""
        contents = await self._store.contents(places)
        hidden: set[UUID] = set()
        for id_, place in places.items():
            if id_ in contents and not await self._shows(id_, place, contents[id_]):
                hidden.add(id_)
        return frozenset(hidden)

    async def _shows(self, memory_id: UUID, namespace: str, content: str) -> bool:
        for text in ("", *queries_for(content)):
            found = await self._search.search((namespace,), text, limit=CAP, timeout=LOOK_SECONDS)
            if any(memory.id == memory_id for memory in found):
                return True
        return False

    async def _both(self, sweep: _Sweep, read: Read, first: _Look, second: _Look) -> _Look:
        """What two looks at a read agree on: the better overlap, the visibility differences that both saw."""
        more, less = first.visible.more & second.visible.more, first.visible.less & second.visible.less
        touched: frozenset[UUID] = frozenset()
        if more or less:
            touched = await self._store.touched(more | less, sweep.horizon)
        better = max(first, second, key=lambda look: (look.overlap, look.agreement or 0.0))
        return _Look(
            better.overlap,
            better.agreement,
            second.seen,
            second.left_out,
            Visibility(more - touched, less - touched, second.visible.expected),
            second.odd,
            second.partial,
        )

    # -- what it comes to

    def _summary(self, sweep: _Sweep) -> dict[str, Any]:
        looks = sweep.looks
        filled = {read: look for read, look in looks.items() if look.seen}
        left_out = sum(look.left_out for look in looks.values())
        agreements = [look.agreement for look in filled.values() if look.agreement is not None]
        overlap = fmean(look.overlap for look in filled.values()) if filled else None
        if overlap is None and looks and not left_out:
            overlap = 1.0  # both stores answered every read with nothing
        directions = {
            Direction.MORE: {id_ for look in looks.values() for id_ in look.visible.more},
            Direction.LESS: {id_ for look in looks.values() for id_ in look.visible.less},
            Direction.EXPECTED: {id_ for look in looks.values() for id_ in look.visible.expected},
        }
        live = sum(sweep.planned[read] == "live" for read in looks)
        tally = Tally(
            len(sweep.planned), len(looks), len(sweep.failed), len(looks) - len(filled), live, left_out, overlap,
            len(directions[Direction.MORE]), len(directions[Direction.LESS]),
        )  # fmt: skip
        outcome, why = verdict(tally)
        if sweep.failed and outcome in ("partial", "failed"):
            why = f"{why}; for example: {next(iter(sweep.failed.values()))}"
        return {
            "outcome": outcome,
            "why": why,
            "phase": sweep.state.phase.value,
            "epoch": sweep.state.epoch,
            "coverage": round(len(looks) / len(sweep.planned), 4) if sweep.planned else 1.0,
            "depth": DEPTH,
            "overlap": overlap,
            "rank_agreement": fmean(agreements) if agreements else None,
            "reads": {
                "planned": tally.planned,
                "compared": tally.compared,
                "failed": tally.failed,
                "empty": tally.empty,
                "live": tally.live,
                "partial": sum(look.partial for look in looks.values()),
                "lower": sum(look.overlap < 1.0 for look in looks.values()),
            },
            "workspaces": {"looked_at": sweep.workspaces[0], "of": sweep.workspaces[1]},
            "left_out": left_out,
            "visibility": {direction.value: len(ids) for direction, ids in directions.items()},
            "findings": self._findings(looks),
            "lowest": self._lowest(filled),
        }

    def _findings(self, looks: dict[Read, _Look]) -> list[dict[str, Any]]:
        """The memories by which visibility differs, with the read that showed it; ids only."""
        found: dict[tuple[str, UUID], dict[str, Any]] = {}
        for read, look in looks.items():
            for direction, ids in ((Direction.MORE, look.visible.more), (Direction.LESS, look.visible.less)):
                for id_ in sorted(ids):
                    about = {"direction": direction.value, "memory_id": str(id_), **self._name(read)}
                    found.setdefault((direction, id_), about)
        return list(found.values())[:_FINDINGS_KEPT]

    def _lowest(self, looks: dict[Read, _Look]) -> list[dict[str, Any]]:
        worst = sorted(
            (look.overlap, number, read) for number, (read, look) in enumerate(looks.items()) if look.overlap < 1
        )
        return [{"overlap": round(overlap, 4), **self._name(read)} for overlap, _, read in worst[:_LOWEST_KEPT]]

    def _name(self, read: Read) -> dict[str, str]:
        return {"read": self._sample.name_of(read), "kind": "list" if isinstance(read, ListMemories) else "search"}


def not_applicable(state: PhaseState) -> str | None:
    """Why there is nothing to compare in this phase; None where there is."""
    if state.phase.dual_writes:
        return None
    if state.phase.plugin_is_authority:
        return f"in {state.phase} legacy is frozen: it does not answer as it would, so there is nothing to compare with"
    return f"in {state.phase} nothing is written to the plugin yet"
