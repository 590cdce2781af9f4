"""Reads that the plugin answers: all of them from A3 on, and the sampled ones that shadow reads repeat in A1 and A2.

The same code serves both, so that what shadow reads prove is what callers get after the cutover.

v1's visibility in the contract's words (architecture §2): a scope becomes the namespaces that hold its rows, and what
does not belong to the reader is filtered out of the answer by `propagation.cutover.workspace_id`. One intended
change: GLOBAL shows the reader's own root's rows, not every row of the database (domain §3).

The contract has no cursor and gives at most 100 memories (domain §3). Each namespace is asked for by itself, so that
a large one does not crowd out the others; where rows cut off by the cap could belong to the answer, it is `partial`.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self
from uuid import UUID

from cutover.domain.errors import NotFound, PluginError, PluginRejected, Refused
from cutover.domain.events import Observer, StoreCalled
from cutover.domain.memory import Kind, LegacyMemory, PluginMemory
from cutover.domain.namespace import Scope, WorkspaceTree, name_for
from cutover.domain.propagation import KEY, unpack
from cutover.domain.requests import Caller, ListMemories, MemoryPage, SearchMemories, SearchResult
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.trace import TRACE
from cutover.engine.v1_view import holds_first, in_order, row_of
from cutover.stores.legacy import MAX_LIST_LIMIT, LegacyStore

CAP = 100
"""Most memories that one search of the contract gives."""
ALL = 3 * CAP
"""More rows than the three namespaces of a workspace can give."""
DEFAULT_SEARCH_LIMIT = 20
_SHOWN_BY_V1 = frozenset({Kind.FACT})
"""Asked for by kind, so that summaries and K/V rows of a namespace do not fill an answer that shows none of them."""
PLUGIN_SECONDS = 2.0
PLUGIN_FACE_SECONDS = 1.6
"""From arrival: workspace-server's plugin client gives up at 2 s (domain §2)."""
MEMORIES_FACE_SECONDS = 8.0
"""From arrival: the agent runtime gives up at 10 s (domain §2)."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a read may take, and what goes along with it to the plugin."""

    deadline: float
    """`time.monotonic()` seconds."""
    headers: Mapping[str, str] | None = None

    @classmethod
    def of(cls, caller: Caller) -> Self:
        """What this caller waits for (domain §2), counted from when the request arrived."""
        seconds = PLUGIN_FACE_SECONDS if caller.face == "plugin" else MEMORIES_FACE_SECONDS
        headers = {"traceparent": caller.traceparent} if caller.traceparent else None
        return cls((caller.arrived or time.monotonic()) + seconds, headers)

    def left(self) -> float:
        """Seconds left, above 0. Raises `Refused` when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Refused("overload", "the request waited too long to be answered in time", next_step="try again")
        return left


@dataclass(frozen=True, slots=True)
class _Scan:
    """Which namespaces hold the rows, and whose rows there the reader sees."""

    namespaces: tuple[str, ...]
    sees: Callable[[LegacyMemory], bool]


@dataclass(frozen=True, slots=True)
class Reporting:
    """Who is told how a caller's reads went: the metrics, and the breaker that refuses the next callers."""

    tenant: str
    observer: Observer
    health: PluginHealthMonitor

    def answered(self, outcome: str, started: float, generation: int) -> None:
        """The plugin answered: `ok` or `rejected`."""
        self.health.succeeded(generation)
        self._told(outcome, started)

    def failed(self, error: PluginError, started: float, generation: int, *, fair: bool) -> None:
        """It did not. Unless `fair`, it had too little time for that to say anything about it."""
        if fair:
            self.health.failed(generation)
        outcome = "ambiguous" if error.ambiguous else "failed"
        self._told(outcome, started)

    def _told(self, outcome: str, started: float) -> None:
        seconds = time.monotonic() - started
        self.observer(StoreCalled(self.tenant, "plugin", "search", outcome, seconds, TRACE.get()))


class Searches(Protocol):
    """The contract's search, however it is sent: at once, or in the background's turn."""

    async def search(
        self,
        namespaces: Collection[str],
        query: str = "",
        kinds: Collection[Kind] = (),
        limit: int | None = None,
        embedding: Collection[float] | None = None,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> list[PluginMemory]:
        """As `PluginClient.search`."""


class PluginReads:
    """v1's and the contract's reads on the plugin. Raises `PluginError`s; never looks at `agent_memories`.

    `timeout` bounds one call of the plugin in seconds. Without `reporting` failures are nobody's business but the
    caller's, as for shadow reads: those must not open the breaker on live traffic.
    """

    def __init__(
        self,
        legacy: LegacyStore,
        plugin: Searches,
        *,
        timeout: float = PLUGIN_SECONDS,
        reporting: Reporting | None = None,
    ) -> None:
        self._legacy = legacy  # the workspace tree only: `workspaces` outlives `agent_memories`
        self._plugin = plugin
        self._timeout = timeout
        self._reporting = reporting

    async def list(self, request: ListMemories, *, budget: Budget) -> MemoryPage:
        """v1's list (domain §2). Content as stored: the caller wraps GLOBAL."""
        try:
            scan = await self._scan(request.workspace_id, request.scope)
        except NotFound:
            return MemoryPage(())  # as v1 answers for a workspace without rows

        def sees(row: LegacyMemory) -> bool:
            return scan.sees(row) and (request.label is None or row.label == request.label)

        limit = min(max(request.limit, 1), MAX_LIST_LIMIT)
        return await self._rows(scan.namespaces, sees, request.query, limit, budget)

    async def own_rows(self, workspace_id: UUID, text: str, limit: int, *, budget: Budget) -> MemoryPage:
        """Rows of one workspace that hold `text` as session-search understands it, newest first, as stored.

        The contract cannot search for a substring of two characters or more, so the newest rows and those that full
        text finds are both looked at; `partial` where that may not have been all.
        """
        try:
            scan = await self._scan(workspace_id, None)
        except NotFound:
            return MemoryPage(())
        if not text:
            # A namespace gives at most CAP rows: for a longer page any that hit the cap may have hidden some.
            page = await self._rows(scan.namespaces, scan.sees, "", limit, budget)
            return MemoryPage(page.memories[:limit], page.partial)
        newest, matching = await asyncio.gather(
            self._rows(scan.namespaces, scan.sees, "", ALL, budget),
            self._rows(scan.namespaces, scan.sees, text, ALL, budget),
        )
        found = {row.id: replace(row, similarity_score=None) for row in (*matching.memories, *newest.memories)}
        needle = text.casefold()
        kept = [
            row
            for row in found.values()
            if any(needle in field.casefold() for field in (row.content, row.scope, row.label))
        ]
        return MemoryPage(tuple(in_order(kept)[:limit]), newest.partial)

    async def search(self, request: SearchMemories, *, budget: Budget) -> SearchResult:
        """The contract's search, passed on. Our part of `propagation` is taken off again, and `created_at` is the
        memory's own where the plugin only knows when it was delivered (domain §4.8)."""
        limit = request.limit or DEFAULT_SEARCH_LIMIT
        found = await self._ask(replace(request, limit=limit), budget)
        return SearchResult(_in_own_order(request, found))

    async def search_apart(self, request: SearchMemories, *, budget: Budget) -> tuple[SearchResult, frozenset[UUID]]:
        """The same as if there were no K/V rows, which is how it is answered before A3; and those of them seen.

        Where there are any, checkpoints are asked for apart, because K/V rows could fill an answer alone.
        """
        limit = request.limit or DEFAULT_SEARCH_LIMIT
        request = replace(request, limit=limit)
        found = list(await self._ask(request, budget))
        kv = frozenset(memory.id for memory in found if is_kv(memory))
        if not kv:
            return SearchResult(_in_own_order(request, found)), kv
        others = (request.kinds or frozenset(Kind)) - {Kind.CHECKPOINT}
        found = list(await self._ask(replace(request, kinds=others), budget)) if others else []
        checkpoints = await self._ask(replace(request, kinds=frozenset({Kind.CHECKPOINT}), limit=CAP), budget)
        kv |= frozenset(memory.id for memory in checkpoints if is_kv(memory))
        found += [memory for memory in checkpoints if memory.id not in kv]
        found.sort(key=lambda memory: -(memory.score or 0.0))
        return SearchResult(_in_own_order(request, found)[:limit], partial=len(checkpoints) >= CAP), kv

    async def natives(
        self, request: SearchMemories, known: frozenset[UUID], *, budget: Budget
    ) -> tuple[tuple[PluginMemory, ...], bool]:
        """What the plugin finds among the `known` ids, and whether the cap may have hidden some."""
        found = await self._ask(replace(request, limit=CAP), budget)
        kept = tuple(clean(memory) for memory in found if memory.id in known)
        return kept, len(found) >= CAP and len(kept) < len(known)

    async def _rows(
        self, namespaces: Sequence[str], sees: Callable[[LegacyMemory], bool], text: str, limit: int, budget: Budget
    ) -> MemoryPage:
        answers = await asyncio.gather(
            *(self._ask(SearchMemories((name,), text, _SHOWN_BY_V1, CAP), budget) for name in namespaces)
        )
        rows: dict[UUID, LegacyMemory] = {}
        partial = False
        for answer in answers:
            kept = [row for row in map(row_of, answer) if row is not None and sees(row)]
            partial = partial or (len(answer) >= CAP and not holds_first(kept, limit))
            rows.update((row.id, row) for row in kept)
        return MemoryPage(tuple(in_order(rows.values())[:limit]), partial)

    async def _ask(self, request: SearchMemories, budget: Budget) -> Sequence[PluginMemory]:
        timeout = min(self._timeout, budget.left())
        reporting = self._reporting
        started, generation = time.monotonic(), reporting.health.generation if reporting else 0
        try:
            found = await self._plugin.search(
                request.namespaces,
                request.query,
                request.kinds,
                request.limit,
                request.embedding,
                timeout=timeout,
                headers=budget.headers,
            )
        except PluginRejected:
            if reporting:
                reporting.answered("rejected", started, generation)
            raise
        except PluginError as error:
            if reporting:
                reporting.failed(error, started, generation, fair=timeout >= self._timeout / 2)
            raise
        if reporting:
            reporting.answered("ok", started, generation)
        return found

    async def _scan(self, workspace_id: UUID, scope: Scope | None) -> _Scan:
        tree = await self._legacy.tree(workspace_id)
        if scope is Scope.TEAM:
            return await self._team(tree)
        if scope is Scope.GLOBAL:
            return _Scan((tree.namespace(Scope.GLOBAL),), lambda row: True)
        namespaces = unique(tree.readable()) if scope is None else (tree.namespace(Scope.LOCAL),)
        return _Scan(namespaces, lambda row: row.workspace_id == workspace_id)

    async def _team(self, tree: WorkspaceTree) -> _Scan:
        # The head's own TEAM rows lie in its parent's team where the tree is deeper than one level.
        head = tree.parent_id or tree.workspace_id
        members = await self._legacy.team_members(head)
        visible = frozenset(member.workspace_id for member in members)
        namespaces = unique(name_for(Scope.TEAM, member.parent_id or member.workspace_id) for member in members)
        return _Scan(namespaces, lambda row: row.workspace_id in visible)


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names in their order, each once: two namespaces of a root are anchored at itself."""
    return tuple(dict.fromkeys(names))


def _in_own_order(request: SearchMemories, found: Iterable[PluginMemory]) -> tuple[PluginMemory, ...]:
    """What the plugin found, in its order, which is by creation where nothing is scored: then by the memories' own."""
    memories = [own_times(memory) for memory in found]
    if request.embedding is None and len(request.query) < 2:
        memories.sort(key=lambda memory: (not memory.pin, -memory.created_at.timestamp(), memory.id.int))
    return tuple(clean(memory) for memory in memories)


def own_times(memory: PluginMemory) -> PluginMemory:
    """The memory with the `created_at` it was delivered with."""
    known = unpack(memory.propagation).provenance
    if known is None or known.created_at is None:
        return memory
    return replace(memory, created_at=known.created_at)


def clean(memory: PluginMemory) -> PluginMemory:
    """The memory with the caller's own `propagation` only. A K/V row had no caller, and keeps what names its key."""
    if memory.propagation is None:
        return memory
    known = unpack(memory.propagation)
    return replace(memory, propagation=known.caller if known.kv is None else {KEY: {"kv": known.kv}})


def is_kv(memory: PluginMemory) -> bool:
    """Whether this is the memory of a K/V row, as the plugin gives it or as `clean` leaves it."""
    ours = memory.propagation.get(KEY) if isinstance(memory.propagation, dict) else None
    return isinstance(ours, dict) and isinstance(ours.get("kv"), dict)
