"""Shadow reads: proof from live traffic that the plugin would answer as legacy does (architecture §1, §4 "recall").

In A1 and A2 a share of the reads is repeated on the plugin, off the request path, by the very code that answers from
A3 on. The caller never waits for it: an offer is one random number and one append to a bounded queue; when the queue
is full the offer is dropped and counted.

What is no mismatch:
* the intended change: GLOBAL rows of another root than the reader's (domain §3), and rows that belong to no namespace;
* memories by which the stores may differ just now: marked, quarantined, not reached by the backfill, or changed
  within the last seconds;
* what the contract's cap may have hidden (`partial`), and rows behind the last one of a full page.

Whatever is left is looked at again, on both sides, after a pause. Only ids that both looks agree on are a mismatch:
one look at two stores is not one instant.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from cutover.domain.errors import CutoverError
from cutover.domain.events import Observer, ShadowReadCompared, TaskFailed
from cutover.domain.memory import LegacyMemory
from cutover.domain.namespace import Scope
from cutover.domain.phase import PhaseState
from cutover.domain.requests import ListMemories, SearchMemories
from cutover.engine.plugin_reads import Budget, PluginReads
from cutover.engine.query_sample import QuerySample
from cutover.engine.replay import replay
from cutover.stores.legacy import LegacyStore

CAPACITY = 256
LOOK_SECONDS = 2.0
"""Time-out of each call of a look."""
_ERROR = "error"


@dataclass(frozen=True, slots=True)
class Answers:
    """One read as both stores answer it: ids in order. `expected` are legacy's that the plugin is meant not to show."""

    legacy: tuple[UUID, ...]
    plugin: tuple[UUID, ...]
    expected: frozenset[UUID]
    limit: int
    partial: bool


def differing(answers: Answers) -> frozenset[UUID]:
    """Ids that only one side shows, less what the intended change and the cut at `limit` explain."""
    legacy, plugin = frozenset(answers.legacy), frozenset(answers.plugin)
    missing = legacy - answers.expected - plugin
    if answers.partial:
        missing = frozenset()
    full = len(answers.legacy) >= answers.limit
    # A full page of legacy hides rows too; were one of them wrongly here, one that is shown there would be missing.
    extra = frozenset() if full else plugin - legacy
    return missing | extra


def overlap(answers: Answers, ignored: frozenset[UUID]) -> float:
    """Average overlap of the two rankings, 0..1: the mean over every depth k of the share of ids that the first k of
    both have in common. It is 1 for equal rankings, and an exchange near the top weighs more than one at the end."""
    shown = frozenset(answers.legacy) - answers.expected - ignored
    full = len(answers.legacy) >= answers.limit
    # Where legacy's page was cut, what else the plugin shows may be what would have come next.
    right = [id_ for id_ in answers.plugin if id_ in shown or not (full or id_ in ignored)]
    left = [id_ for id_ in answers.legacy if id_ in shown and (id_ in right or not answers.partial)]
    depth = max(len(left), len(right))
    if not depth:
        return 1.0
    seen_left: set[UUID] = set()
    seen_right: set[UUID] = set()
    total = 0.0
    for k in range(depth):
        seen_left.update(left[k : k + 1])
        seen_right.update(right[k : k + 1])
        total += len(seen_left & seen_right) / max(len(seen_left), len(seen_right))
    return total / depth


@dataclass(frozen=True, slots=True)
class _Look:
    """A read to compare. `suspects` are the ids the first look could not explain; None before it."""

    read: ListMemories | SearchMemories
    suspects: frozenset[UUID] | None = None
    not_before: float = 0.0


class ShadowReader:
    """Compares a sample of one tenant's reads. `run()` is a task of the daemon's group; offers never block."""

    def __init__(
        self,
        *,
        tenant: str,
        legacy: LegacyStore,
        plugin: PluginReads,
        phase: Callable[[], PhaseState],
        observer: Observer,
        ratio: float,
        recent_seconds: float = 5.0,
        capacity: int = CAPACITY,
        chance: Callable[[], float] = random.random,
        sample: QuerySample | None = None,
    ) -> None:
        self._tenant = tenant
        self._legacy = legacy
        self._plugin = plugin
        self._phase = phase
        self._observe = observer
        self._ratio = ratio
        self._recent = recent_seconds
        self._capacity = capacity
        self._chance = chance
        self._sample = sample
        self._fresh: deque[_Look] = deque()
        self._again: deque[_Look] = deque()  # in the order of `not_before`: every pause is equally long
        self._offered = asyncio.Event()

    def offer(self, read: ListMemories | SearchMemories) -> None:
        """A read that legacy has just answered. Both sides are read anew when its turn comes: seconds may pass.

        Recall sweeps repeat such reads too: `sample` is offered every one, whatever the ratio.
        """
        if self._sample is not None:
            self._sample.offer(read)
        if self._chance() >= self._ratio:
            return
        if len(self._fresh) + len(self._again) >= self._capacity:
            self._observe(ShadowReadCompared(self._tenant, "dropped", 0.0))
            return
        self._fresh.append(_Look(read))
        self._offered.set()

    async def run(self) -> None:
        """Compare what is offered, one read at a time, for ever."""
        while True:
            look = await self._next()
            try:
                if self._phase().phase.dual_writes:  # else the sides are not meant to agree any more
                    await self._compare(look)
            except CutoverError:
                self._observe(ShadowReadCompared(self._tenant, _ERROR, 0.0))
            except Exception as error:  # noqa: BLE001 - a fault in comparing must not take live traffic down with it
                self._observe(ShadowReadCompared(self._tenant, _ERROR, 0.0))
                self._observe(TaskFailed(self._tenant, "shadow_read", type(error).__name__, "comparing a read"))

    async def _next(self) -> _Look:
        while True:
            now = time.monotonic()
            if self._again and self._again[0].not_before <= now:
                return self._again.popleft()
            if self._fresh:
                return self._fresh.popleft()
            self._offered.clear()
            pause = self._again[0].not_before - now if self._again else None
            try:
                async with asyncio.timeout(pause):
                    await self._offered.wait()
            except TimeoutError:
                continue

    async def _compare(self, look: _Look) -> None:
        answers = await self._answers(look.read)
        suspects = differing(answers)
        if look.suspects is not None:
            suspects &= look.suspects
        explained: frozenset[UUID] = frozenset()
        if suspects:
            explained = await self._legacy.unsettled(suspects, seconds=self._recent)
            suspects -= explained
        if suspects and look.suspects is None:
            self._again.append(_Look(look.read, suspects, time.monotonic() + self._recent))
            return
        outcome = "mismatch" if suspects else "match"
        ignored = differing(answers) - suspects
        self._observe(ShadowReadCompared(self._tenant, outcome, overlap(answers, ignored)))

    async def _answers(self, read: ListMemories | SearchMemories) -> Answers:
        budget = Budget(time.monotonic() + 2 * LOOK_SECONDS)
        answered = await replay(self._legacy, self._plugin, read, budget=budget, timeout=LOOK_SECONDS)
        expected: frozenset[UUID] = frozenset()
        if isinstance(read, ListMemories):
            expected = await self._not_for(read, answered.rows)
        pages = answered.answers
        return Answers(pages.legacy, pages.plugin, expected, pages.limit, pages.partial)

    async def _not_for(self, read: ListMemories, rows: Sequence[LegacyMemory]) -> frozenset[UUID]:
        """Rows that v1 shows and v2 is meant not to: GLOBAL ones of another root, and those of no workspace."""
        foreign = {row.id for row in rows if row.workspace_id is None}
        if any(row.scope is Scope.GLOBAL for row in rows):
            reader = (await self._legacy.tree(read.workspace_id)).root_id
            writers = {row.workspace_id for row in rows if row.scope is Scope.GLOBAL and row.workspace_id is not None}
            roots = {writer: (await self._legacy.tree(writer)).root_id for writer in writers}
            foreign |= {
                row.id
                for row in rows
                if row.scope is Scope.GLOBAL and row.workspace_id is not None and roots[row.workspace_id] != reader
            }
        return frozenset(foreign)
