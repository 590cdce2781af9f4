"""Digest sweeps of a plugin that has no reachable database: its side is read through the contract (architecture §4).

    all expected rows counted by namespace, some ids of each drawn at random ── one salt for the whole sweep
    namespace by namespace: listed ── an answer below the cap is all of it: compared exactly, what is extra as well
                                   └─ else the drawn rows are looked up by what they say, the listed ones compared
    then as every digest sweep: second looks T_z later, findings, planted faults

Such a sweep is never *clean*. Embeddings cannot be seen, nor namespaces that nobody knows of, nor what is extra behind
the newest 100 of a namespace. So at its best it is `partial`, and says how much it saw: `coverage` (the share of the
expected rows that were compared), and `bound_95`: with 95 % confidence no larger share of the rows in sampled
namespaces differs. A row that could not be looked up counts against the bound as if it differed.

An incremental sweep looks up what was delivered since the last one, each row by itself. A sweep that was killed begins
anew: it has looked at a draw, and the draw is kept nowhere.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cutover.domain.sampling import Stratum, overall_bound
from cutover.engine.contract_reader import ContractReader
from cutover.engine.digest_run import DigestRun
from cutover.engine.digest_tally import DigestPolicy, DigestScope, DigestStores, Tally
from cutover.stores.contract_side import Share
from cutover.stores.digest import FIRST_ID, LAST_ID, Situation
from cutover.stores.digest_findings import Suspicion

SAMPLE = 300
"""Rows drawn from each namespace: none found differing among them bounds the share at about 1 %."""
MANY_DELIVERED = 2000
"""With more deliveries than this since the last sweep the next one is full."""
_LOOK = 500
"""Memories per look, and at most so many namespaces besides."""
_NAMESPACES = 50
_PAGE = 1000


@dataclass(slots=True)
class _Namespace:
    """One namespace of the sweep: its expected rows, the drawn ids, and, once listed, whether that was all of it."""

    rows: int
    ids: tuple[UUID, ...] = ()
    whole: bool = False
    looked_at: bool = False

    @property
    def exact(self) -> bool:
        """Every row of it was compared."""
        return self.whole and len(self.ids) >= self.rows


class Draw:
    """Expected rows by namespace: counts, and a draw without replacement of at most `most` ids of each.

    The draw is by the order of a keyed hash, so ranges can be added one by one.
    """

    def __init__(self, key: bytes, most: int) -> None:
        self._key = key
        self._most = most
        self._rows: dict[str, int] = {}
        self._ids: dict[str, bytes] = {}  # 16 bytes an id: a large tenant has many namespaces

    def add(self, shares: Iterable[Share]) -> None:
        """The next range."""
        for share in shares:
            self._rows[share.namespace] = self._rows.get(share.namespace, 0) + share.rows
            packed = self._ids.get(share.namespace, b"") + b"".join(id_.bytes for id_ in share.ids)
            if len(packed) > 16 * self._most:
                drawn = sorted((packed[at : at + 16] for at in range(0, len(packed), 16)), key=self._place)
                packed = b"".join(drawn[: self._most])
            self._ids[share.namespace] = packed

    def _place(self, raw: bytes) -> bytes:
        return hashlib.sha256(self._key + raw).digest()

    @property
    def rows(self) -> int:
        """Expected rows of all namespaces."""
        return sum(self._rows.values())

    def names(self) -> list[str]:
        """Every namespace with expected rows, ascending."""
        return sorted(self._rows)

    def of(self, name: str) -> tuple[int, tuple[UUID, ...]]:
        """Rows of a namespace, and the ids drawn from it."""
        packed = self._ids.get(name, b"")
        return self._rows.get(name, 0), tuple(UUID(bytes=packed[at : at + 16]) for at in range(0, len(packed), 16))


class ContractRun(DigestRun):
    """One sweep through the contract. `stores.reader` is a `ContractReader`."""

    def __init__(
        self,
        stores: DigestStores,
        policy: DigestPolicy,
        run: UUID,
        tally: Tally,
        *,
        share: float,
        last: Mapping[str, Any] | None = None,
        scope: DigestScope = DigestScope(),  # noqa: B008 - frozen
    ) -> None:
        fresh = tally if tally == Tally() else Tally()  # what an interrupted run had come to is not gone on from
        super().__init__(stores, policy, run, fresh, share=share, last=last, scope=scope)
        assert isinstance(stores.reader, ContractReader)  # noqa: S101 - how this is put together
        self._contract = stores.reader
        self._namespaces: dict[str, _Namespace] = {}
        self._rows = 0
        self._beyond = 0
        """Rows that the backfill has not reached."""
        self._must: list[UUID] = []
        """Natives and planted faults behind its reach: they must be there all the same."""

    async def carry_out(self, full: bool) -> dict[str, Any]:
        """As `DigestRun.carry_out`; the outcome also has `via`, `listed`, `sampled`, `not_findable`, `bound_95`."""
        self._contract.begin()
        return await super().carry_out(full)

    def progress(self) -> dict[str, Any]:
        """As `DigestRun.progress`; the share is that of the namespaces' rows."""
        drawn = sum(each.rows for each in self._namespaces.values())
        return super().progress() | {"share": round(drawn / self._rows, 4) if self._rows else 0.0}

    async def _since(self, now: Situation) -> str | None:
        """As `DigestRun._since`; beyond so many deliveries a draw tells more than looking every one of them up."""
        since = await super()._since(now)
        if since is None:
            return None
        many = await self._reader.delivered_count(since, now.snapshot, MANY_DELIVERED)
        return None if many >= MANY_DELIVERED else since

    async def _whole(self) -> None:
        draw = await self._drawn()
        self._rows = self._tally.expected_rows = draw.rows + self._beyond
        async for names in self._pages(draw):
            await self._wait_while_busy()
            started = time.monotonic()
            situation = await self._check_phase()
            for name in names:
                rows, ids = draw.of(name)
                self._namespaces[name] = _Namespace(rows, ids)
            suspicions = await self._look_into(names)
            self._tally.chunks += 1
            self._tally.suspects += len(suspicions)
            await self._findings.stretch(self._run, situation, suspicions, (), self._tally.as_json())
            await self._pause(self._load.rest(time.monotonic() - started), "resting (CUTOVER_SWEEP_LOAD)")
        suspicions = await self._look(self._must, reached=True)
        await self._findings.suspect(self._run, await self._check_phase(), suspicions)

    async def _one_workspace(self, workspace_id: UUID) -> None:
        await super()._one_workspace(workspace_id)
        self._rows = self._tally.expected_rows

    async def _drawn(self) -> Draw:
        """What the backfill has reached, drawn from range by range. Rows behind it are counted and not drawn: they may
        be missing, and what is there of them is seen in the listings."""
        draw = Draw(self._salt, self._scope.sample or SAMPLE)
        situation = await self._check_phase()
        reached = LAST_ID if situation.everything_reached or self._scope.everything else situation.reached_to
        low = FIRST_ID
        while reached is not None and low <= reached:
            await self._wait_while_busy()
            started = time.monotonic()
            high = min(reached, await self._reader.edge(low, self._size, self._limits))
            draw.add(await self._contract.inventory(self._salt, low, high, self._scope.sample or SAMPLE, self._limits))
            if self._scope.everything:
                self._tally.workspaces.update(await self._reader.expected_workspaces(low, high, self._limits))
            worked = time.monotonic() - started
            self._statements += worked
            if high == LAST_ID:
                return draw
            low = UUID(int=high.int + 1)
            self._size = self._load.next_size(self._size, worked)
            await self._pause(self._load.rest(worked), "resting (CUTOVER_SWEEP_LOAD)")
        self._beyond = await self._reader.expected_count(low, LAST_ID, self._limits)
        self._must = await self._reader.must_be_there(low, LAST_ID, self._limits)
        return draw

    async def _pages(self, draw: Draw) -> AsyncIterator[list[str]]:
        """Namespaces with expected rows, then all others that may hold something, in pages of a look each."""
        for page in _pages_of(draw.names(), lambda name: len(draw.of(name)[1])):
            yield page
        known, past = frozenset(draw.names()), ""
        while names := await self._contract.namespaces(past, _PAGE):
            past = names[-1]
            for page in _pages_of([name for name in names if name not in known], lambda _: 0):
                yield page

    async def _look_into(self, names: Sequence[str]) -> list[Suspicion]:
        """Look at what is expected in some namespaces, and at whatever else they hold."""
        ids = sorted({id_ for name in names for id_ in self._namespaces[name].ids})
        self._contract.also_list(names)
        if ids:
            suspicions = await self._look(ids, reached=self._scope.everything)
        else:
            suspicions = []
            await self._contract.held(self._salt, (), self._limits)
        extras = self._contract.extras(ids)
        for name in names:
            each = self._namespaces[name]
            each.whole, each.looked_at = self._contract.whole.get(name, False), True
            self._tally.compared += len(each.ids)
        self._tally.plugin_rows += len(ids) + len(extras)
        return suspicions + await self._look(extras, reached=self._scope.everything)

    async def _outcome(self, situation: Situation, undecided: int) -> dict[str, Any]:
        outcome = await super()._outcome(situation, undecided)
        listed = [each for each in self._namespaces.values() if each.exact]
        sampled = [each for each in self._namespaces.values() if not each.exact and each.rows]
        not_findable = self._contract.not_findable
        open_ = await self._open()
        strata = [
            Stratum(each.rows, len(each.ids), sum(id_ in open_ or id_ in not_findable for id_ in each.ids))
            for each in sampled
        ]
        seen = self._tally.compared - len(not_findable)
        bound = overall_bound(strata)
        outcome |= {
            "via": "contract",
            "listed": len(listed),
            "sampled": sum(each.drawn for each in strata),
            "sampled_namespaces": len(sampled),
            "not_findable": len(not_findable),
            "bound_95": None if bound is None else round(bound, 6),
            "coverage": round(min(1.0, max(0, seen) / self._rows), 6) if self._rows else float(not self._full),
            "in_flight": max(0, outcome["in_flight"] - len(not_findable)),
        }
        if outcome["outcome"] == "clean":
            outcome["outcome"] = "partial"
        if outcome["outcome"] == "partial" and not outcome["why"]:
            outcome["why"] = (
                f"seen through the contract: {outcome['listed']} namespaces listed whole, {len(sampled)} sampled;"
                " embeddings, and namespaces that nobody knows of, cannot be seen"
            )
        return outcome

    async def _open(self) -> frozenset[UUID]:
        """Memories with an open finding."""
        found: set[UUID] = set()
        past: UUID | None = None
        while page := await self._findings.open(past, _PAGE):
            past = page[-1].memory_id
            found |= {each.memory_id for each in page}
        return frozenset(found)


def _pages_of(names: Sequence[str], weight: Callable[[str], int]) -> Iterator[list[str]]:
    page: list[str] = []
    rows = 0
    for name in names:
        if page and (rows + weight(name) > _LOOK or len(page) >= _NAMESPACES):
            yield page
            page, rows = [], 0
        page.append(name)
        rows += weight(name)
    if page:
        yield page
