"""The two ways in which a backfill gets rows to the plugin, one chunk at a time (architecture §5).

    contract   puts a mark on each row; the reconciler delivers what the row is at that moment, over HTTP, to any plugin
               (rows of workspace_memory always go this way: `KvDelivery`)
    database   copies the rows themselves into the built-in plugin's tables, under locks (decision 0013)

Neither can overtake a live edit or delete: the first because nothing but the mark's own delivery is ever sent, the
second because whoever changes a row waits for the chunk and marks the row then. What is kept of order: the deliveries
of one memory never overlap, and the newest state of it wins. Between memories nothing is promised, and nothing is
needed: the contract has no operation on two of them, and `created_at` carries the order that readers see.
"""

import time
from dataclasses import dataclass
from typing import Protocol

from cutover.domain.backfill import BackfillRequest, ChunkSize, Via
from cutover.domain.errors import CutoverError, DatabaseFault, DatabaseUnavailable, LockTimeout, OperatorError
from cutover.stores.backfill import BackfillStore
from cutover.stores.kv import KvStore
from cutover.stores.plugin_database import PluginDatabase

_PATIENCE = 4.0
"""A chunk may take so many times its target before it is given up: 0.6 s, less than PostgreSQL's deadlock_timeout."""
_BAD_VALUES = ("22", "23", "54")
"""Classes of SQLSTATE that speak of a row's values: data exceptions, constraints, limits."""


_KV_SWITCHED = ("CU003", "P0002")
"""K/V is not captured; or it is again, and the cursor of the earlier copy is gone."""


@dataclass(frozen=True, slots=True)
class Step:
    """One chunk. Rows; `held` is why nothing, or not all, could be taken up (one of `REASONS`), and empty else."""

    scanned: int = 0
    copied: int = 0
    unchanged: int = 0
    marked: int = 0
    already: int = 0
    quarantined: int = 0
    done: bool = False
    held: str = ""


class BackfillDelivery(Protocol):
    """One way to the plugin."""

    via: Via

    @property
    def rows(self) -> int:
        """How many rows the next chunk may have."""

    async def chunk(self, epoch: int, request: BackfillRequest, rows: int) -> Step:
        """Take up the next `rows`. Raises `StaleEpoch`, and what makes going on pointless."""


class ContractDelivery:
    """Marks `rows` per chunk."""

    via = Via.CONTRACT

    def __init__(self, store: BackfillStore, rows: int) -> None:
        self._store = store
        self._rows = rows

    @property
    def rows(self) -> int:
        """Always as many."""
        return self._rows

    async def chunk(self, epoch: int, request: BackfillRequest, rows: int) -> Step:
        """Put marks. A row whose mark somebody holds uncommitted is waited for by trying again."""
        try:
            found = await self._store.mark_chunk(epoch, request.scope, request.workspace, rows)
        except LockTimeout:
            return Step(held="row_locks")
        return Step(found.scanned, marked=found.marked, already=found.scanned - found.marked, done=found.done)


class KvDelivery:
    """Maps and marks `rows` of workspace_memory per chunk, in key order; the reconciler delivers them, too."""

    via = Via.CONTRACT

    def __init__(self, store: KvStore, rows: int) -> None:
        self._store = store
        self._rows = rows

    @property
    def rows(self) -> int:
        """Always as many."""
        return self._rows

    async def chunk(self, epoch: int, request: BackfillRequest, rows: int) -> Step:
        """Put marks. A row that somebody is about to delete is waited for by trying again."""
        del request
        try:
            found = await self._store.mark_chunk(epoch, rows)
        except LockTimeout:
            return Step(held="row_locks")
        except DatabaseFault as fault:
            if fault.sqlstate not in _KV_SWITCHED:
                raise
            raise OperatorError(
                "K/V was switched while its rows were copied, so the copy begins anew",
                next_step="with CUTOVER_KV=on: cutover backfill --source kv --apply",
            ) from None
        return Step(found.scanned, marked=found.marked, already=found.scanned - found.marked, done=found.done)


class DatabaseDelivery:
    """Copies in chunks that take about `target` seconds, at most `most` rows."""

    via = Via.DATABASE

    def __init__(self, store: BackfillStore, *, target: float, most: int) -> None:
        self._store = store
        self._size = ChunkSize(start=200, most=most, target=target)
        self._timeout = target * _PATIENCE

    @property
    def rows(self) -> int:
        """By the time that the last ones took."""
        return self._size.rows

    async def chunk(self, epoch: int, request: BackfillRequest, rows: int) -> Step:
        """Copy. What cannot be had in time, or holds a value that PostgreSQL will not copy, is tried in halves; a
        single row of that kind gets a mark, and the plugin's own answer decides about it."""
        started = time.monotonic()
        try:
            found = await self._store.copy_chunk(epoch, request.scope, request.workspace, rows, timeout=self._timeout)
        except LockTimeout:
            self._size.failed()
            return Step(held="row_locks")
        except DatabaseUnavailable:
            if rows == 1:
                return await self._mark_one(epoch, request)
            self._size.failed()
            return Step(held="database")
        except DatabaseFault as fault:
            if not fault.sqlstate.startswith(_BAD_VALUES):
                raise
            if rows == 1:
                return await self._mark_one(epoch, request)
            self._size.failed()
            return Step()
        if not found.blocked:
            self._size.took(found.scanned, time.monotonic() - started)
        return Step(
            found.scanned, found.copied, found.unchanged, found.handed_over, found.already, found.quarantined,
            found.done, "row_locks" if found.blocked else "",
        )  # fmt: skip

    async def _mark_one(self, epoch: int, request: BackfillRequest) -> Step:
        marked = await self._store.mark_chunk(epoch, request.scope, request.workspace, 1)
        return Step(marked.scanned, marked=marked.marked, already=marked.scanned - marked.marked, done=marked.done)


async def why_not_database(store: BackfillStore, plugin: PluginDatabase | None) -> str:
    """Why rows cannot be copied by SQL, in words for an operator; empty when they can. Raises what the plugin's
    database raises when it cannot be looked at."""
    if plugin is None:
        return "the plugin has no reachable database (MEMORY_PLUGIN_DATABASE_URL is none)"
    schema = await plugin.schema()
    if not schema.known:
        return f"the plugin's tables are not the known ones: {schema.why}"
    if not await store.shares_database_with(plugin.database):
        return "the plugin's tables are in another database than agent_memories"
    if missing := await store.missing_rights():
        return f"this role may not write {missing}"
    return ""


async def choose(wanted: Via, store: BackfillStore, plugin: PluginDatabase | None) -> tuple[Via, str]:
    """The way to use, and why. Raises `OperatorError` when `database` was asked for and cannot be, and
    `DatabaseUnavailable` when that cannot be told now."""
    if wanted is Via.CONTRACT:
        return Via.CONTRACT, "asked for"
    try:
        why_not = await why_not_database(store, plugin)
    except CutoverError as error:
        if wanted is Via.DATABASE:
            raise
        why_not = f"the plugin's database could not be looked at: {error.message}"
    if not why_not:
        return (
            Via.DATABASE,
            "asked for" if wanted is Via.DATABASE else "the plugin's tables share the tenant's database",
        )
    if wanted is Via.DATABASE:
        raise OperatorError(f"--via database cannot be used: {why_not}", next_step="use --via contract")
    return Via.CONTRACT, why_not
