"""Reads by phase (architecture §1): A0–A2 are answered by legacy, A3 and A4 by the plugin.

There is no third way. When the store of the phase cannot answer, its error goes to the caller; the other store is
never asked instead (architecture §1). Whether a read is admitted at all is decided before, in `memory_service`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from cutover.domain.errors import InvalidRequest
from cutover.domain.events import Observer, StoreCalled
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.requests import Caller, ListMemories, MemoryPage, SearchMemories, SearchResult, SessionPage
from cutover.engine.plugin_reads import CAP, DEFAULT_SEARCH_LIMIT, Budget, PluginReads, clean, unique
from cutover.engine.shadow_read import ShadowReader
from cutover.engine.trace import TRACE
from cutover.engine.v1_view import shown
from cutover.stores.legacy import MAX_SESSION_LIMIT, LegacyStore, session_item


class Reads:
    """The reads of one tenant, on every face."""

    def __init__(
        self,
        *,
        tenant: str,
        legacy: LegacyStore,
        plugin: PluginReads,
        phase: Callable[[], PhaseState],
        observer: Observer,
        shadow: ShadowReader,
    ) -> None:
        self._tenant = tenant
        self._legacy = legacy
        self._plugin = plugin
        self._phase = phase
        self._observe = observer
        self._shadow = shadow

    async def list(self, request: ListMemories, caller: Caller) -> MemoryPage:
        """v1's list and search; GLOBAL content comes wrapped. Raises `Refused`, `StoreError`."""
        phase, budget = self._begin(request.query, caller)
        if phase.plugin_is_authority:
            page = await self._plugin.list(request, budget=budget)
        else:
            started = time.monotonic()
            page = MemoryPage(await self._legacy.list(request, timeout=budget.left()))
            self._read_legacy("list", started)
            if phase.dual_writes:
                self._shadow.offer(request)
        return MemoryPage(tuple(map(shown, page.memories)), page.partial)

    async def session_search(self, workspace_id: UUID, query: str, limit: int, caller: Caller) -> SessionPage:
        """Activity and memory rows of one workspace together, newest first; `limit` clamps to 1..200."""
        limit = min(max(limit, 1), MAX_SESSION_LIMIT)
        phase, budget = self._begin(query, caller)
        if phase.plugin_is_authority:
            found = await self._plugin.own_rows(workspace_id, query, limit, budget=budget)
        else:
            started = time.monotonic()
            rows = await self._legacy.session_memories(workspace_id, query, limit, timeout=budget.left())
            self._read_legacy("session", started)
            found = MemoryPage(rows)
        activity = await self._legacy.session_activity(workspace_id, query, limit, timeout=budget.left())
        items = [*activity, *map(session_item, found.memories)]
        items.sort(key=lambda item: (-item.created_at.timestamp(), item.id.int))
        return SessionPage(tuple(items[:limit]), found.partial)

    async def search(self, request: SearchMemories, caller: Caller) -> SearchResult:
        """The contract's search. Content as stored; natives merged in while legacy is the authority."""
        phase, budget = self._begin(request.query, caller)
        request = replace(request, namespaces=unique(request.namespaces))
        if phase.plugin_is_authority:
            return await self._plugin.search(request, budget=budget)
        started = time.monotonic()
        limit = request.limit or DEFAULT_SEARCH_LIMIT
        found = await self._legacy.search(
            request.namespaces,
            text=request.query,
            kinds=request.kinds,
            limit=limit,
            natives=phase.dual_writes,
            embedding=request.embedding,
            timeout=budget.left(),
        )
        self._read_legacy("search", started)
        result = SearchResult(tuple(map(clean, found)))
        if not phase.dual_writes:
            return result
        if request.embedding is not None and await self._legacy.has_embedding():
            return await self._with_natives(request, result, limit, budget)
        self._shadow.offer(request)
        return result

    async def _with_natives(
        self, request: SearchMemories, result: SearchResult, limit: int, budget: Budget
    ) -> SearchResult:
        """Natives' embeddings are with the plugin alone: it ranks them, by the same cosine."""
        known = await self._legacy.natives_in(request.namespaces, timeout=budget.left())
        if not known:
            self._shadow.offer(request)
            return result
        natives, hidden = await self._plugin.natives(request, known, budget=budget)
        merged = sorted(
            (*result.memories, *natives),
            key=lambda memory: (-(memory.score or 0.0), -memory.created_at.timestamp(), memory.id.int),
        )
        return SearchResult(tuple(merged[:limit]), partial=hidden and len(natives) < min(limit, CAP))

    def _begin(self, text: str, caller: Caller) -> tuple[Phase, Budget]:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidRequest("the query holds a character that no memory can hold (NUL, or half of a pair)")
        return self._phase().phase, Budget.of(caller)

    def _read_legacy(self, operation: str, started: float) -> None:
        seconds = time.monotonic() - started
        self._observe(StoreCalled(self._tenant, "legacy", operation, "ok", seconds, TRACE.get()))
