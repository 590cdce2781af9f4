"""The last comparison before the plugin becomes the authority: what has changed since the stores were last swept.

A digest sweep is minutes old when writes are held, and the hold is too short for another. So the sweep is followed by
rounds: each looks at what was delivered since the one before, while traffic goes on, and what it cannot speak about
(still marked, or delivered while it looked) goes into the next. The last round is made under the hold, where nothing
moves: no mark is left, so no request is or may be under way, and one look is certain. What it has to look at is what
the last few hundred milliseconds brought.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any
from uuid import UUID

from cutover.domain.divergence import DivergenceClass
from cutover.domain.errors import IllegalStep, OperatorError
from cutover.engine.canary_faults import FAULTS_NAMESPACE
from cutover.engine.digest_look import Seen, look_at
from cutover.engine.digest_sweep import DigestSweeper
from cutover.engine.step import StillBusy
from cutover.stores.digest import DigestReader, Limits

_SALT = b"last look"
"""Nothing is aggregated here, so nobody gains by knowing it."""
_PAGE = 500
_MOST = 500
"""Memories that one look under the hold may take."""
_MOST_ROUNDS = 6
_MOST_BEFORE = 50_000
_STATEMENT_SECONDS = 10.0
_ORDER = frozenset({DivergenceClass.CREATED_AT})
"""Set behind the delivery (`creation_times.py`), and by every sweep where that failed."""


class LastLook:
    """For one tenant. `reader` None: the plugin's tables cannot be read, and the sweep itself is all there is."""

    def __init__(
        self, digests: DigestSweeper, reader: DigestReader | None, flush: Callable[[], Awaitable[None]]
    ) -> None:
        self._digests = digests
        self._reader = reader
        self._flush = flush
        self._since: str | None = None
        self._open: set[UUID] = set()

    async def sweep(self, generation: int, seconds: float) -> tuple[str, ...]:
        """Have an incremental sweep run, where there is a trusted sweep to build on; raises `IllegalStep` when that
        cannot be had within `seconds` or finds a difference. Gives notes for the operator."""
        self._since, self._open = None, set()
        last = self._digests.last
        if last is None or last.get("generation") != str(generation):
            return ("no trusted digest sweep of this generation to build on: the stores were not compared once more",)
        try:
            outcome = await self._digests.swept("phase", seconds)
        except OperatorError as error:
            raise IllegalStep(
                f"the digest sweep before the step did not come to an end: {error.message}",
                next_step="cutover sweep run --kind digest, then try again",
            ) from error
        if not outcome["trusted"] or outcome["outcome"] == "divergent":
            why = outcome.get("why") or _confirmed(outcome)
            raise IllegalStep(
                f"the digest sweep before the step is {outcome['outcome']}: {why}",
                next_step="cutover divergence list",
            )
        if self._reader is None:
            return ("the plugin's tables cannot be read: what changed since the sweep was not compared once more",)
        self._since = str(outcome["snapshot"])
        return (f"a digest sweep compared {outcome['compared']} memories, and was {outcome['outcome']}",)

    async def catch_up(self) -> None:
        """Round after round, while traffic goes on, until few enough are left for the hold."""
        if self._reader is None or self._since is None:
            return
        for _ in range(_MOST_ROUNDS):
            looked_at = await self._round(self._reader, _MOST_BEFORE)
            if looked_at <= _MOST // 2:
                return

    async def last(self) -> int:
        """Under the hold. Gives how many were compared; raises `IllegalStep` with those that differ, and `StillBusy`
        when there are too many."""
        if self._reader is None or self._since is None:
            return 0
        looked_at = await self._round(self._reader, _MOST)
        if self._open:
            raise IllegalStep(
                f"{len(self._open)} memories differ although nothing is on its way: {_some(self._open)}",
                next_step="cutover sweep run --kind digest, then cutover divergence list",
            )
        return looked_at

    async def _round(self, reader: DigestReader, most: int) -> int:
        assert self._since is not None  # noqa: S101 - both callers look
        await self._flush()
        now = (await reader.situation()).snapshot
        ids = set(self._open)
        past: UUID | None = None
        while page := await reader.delivered(self._since, now, past, _PAGE):
            ids.update(page)
            past = page[-1]
            if len(ids) > most:
                raise StillBusy(f"more than {most} memories changed since the stores were last compared")
        still: set[UUID] = set()
        limits = Limits(_STATEMENT_SECONDS)
        ordered = sorted(ids)
        for at in range(0, len(ordered), _PAGE):
            look = await look_at(reader, _SALT, ordered[at : at + _PAGE], limits, reached=True)
            still.update(memory_id for memory_id, seen in look.seen.items() if _undecided(seen))
        self._since, self._open = now, still
        return len(ids)


def _undecided(seen: Seen) -> bool:
    """Differs, or nothing can be said of it yet. Faults that a sweep has planted are no memories."""
    if seen.about.planted or (seen.held is not None and seen.held.namespace == FAULTS_NAMESPACE):
        return False
    if seen.expected is not None and seen.expected.source == "kv":
        return False  # its row may change at any time, and its mark means the same on either side of the step
    return seen.unsettled or bool(seen.classes - _ORDER)


def _confirmed(outcome: dict[str, Any]) -> str:
    return (
        ", ".join(f"{count} {what}" for what, count in sorted(outcome.get("confirmed", {}).items()))
        or "no reason given"
    )


def _some(ids: Collection[UUID]) -> str:
    first = ", ".join(str(each) for each in sorted(ids)[:5])
    return first if len(ids) <= 5 else f"{first} and {len(ids) - 5} more"
