"""One read repeated on both stores: legacy as it answers now, the plugin by the code that answers from A3 on."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from cutover.domain.memory import LegacyMemory
from cutover.domain.recall import Answers, Read
from cutover.domain.requests import ListMemories
from cutover.engine.plugin_reads import DEFAULT_SEARCH_LIMIT, Budget, PluginReads
from cutover.stores.legacy import MAX_LIST_LIMIT, LegacyStore


@dataclass(frozen=True, slots=True)
class Replayed:
    """Both answers as ids; `rows` are legacy's where the read is one of v1's routes. `kv`: K/V rows that the plugin
    showed besides; legacy never shows them, so they are not in `answers` (decision 0014)."""

    answers: Answers
    rows: Sequence[LegacyMemory] = ()
    kv: frozenset[UUID] = frozenset()


async def replay(legacy: LegacyStore, plugin: PluginReads, read: Read, *, budget: Budget, timeout: float) -> Replayed:
    """Read both sides, one after the other. `timeout`: seconds for legacy; the plugin's own is in `plugin`.

    Raises what the stores raise.
    """
    if isinstance(read, ListMemories):
        rows = await legacy.list(read, timeout=timeout)
        page = await plugin.list(read, budget=budget)
        limit = min(max(read.limit, 1), MAX_LIST_LIMIT)
        answers = Answers(tuple(row.id for row in rows), tuple(row.id for row in page.memories), limit, page.partial)
        return Replayed(answers, rows)
    limit = read.limit or DEFAULT_SEARCH_LIMIT
    found = await legacy.search(
        read.namespaces,
        text=read.query,
        kinds=read.kinds,
        limit=limit,
        natives=True,
        embedding=read.embedding,
        timeout=timeout,
    )
    result, kv = await plugin.search_apart(read, budget=budget)
    answers = Answers(
        tuple(memory.id for memory in found), tuple(memory.id for memory in result.memories), limit, result.partial
    )
    return Replayed(answers, kv=kv)
