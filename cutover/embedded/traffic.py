"""Live traffic on a tenant: seeded, bounded in rate and time, every operation in a history.

Workers choose an operation and a memory, call one face (or write SQL past all of them) and note what they may believe
afterwards. Several workers may work on one memory at once: what may be found in the end is then for the history
checker to say. Every content is unique, so what is found can be traced to the operation that wrote it.

Creates over REST carry an Idempotency-Key and are sent again with it where the answer was lost, until they are
acknowledged: one memory must come of it, and its id be told. Creates over MCP cannot be traced when their answer is
lost: they are counted, and left to the sweeps.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from uuid import UUID, uuid5

import aiohttp

from cutover.embedded.callers import Http, McpCaller, MemoriesCaller, Outcome, PluginCaller, Reply, Seat, SqlCaller
from cutover.embedded.history import History, Operation, OperationKind, OperationOutcome
from cutover.embedded.processes import Addresses, until

_WORDS = (  # noqa: SIM905 -- readable as it is
    "invoice customer staging deploy review prefers weekly report export disk retry webhook signature key rotates "
    "Grüße naïve 東京 café über release branch customer meeting notes budget travel policy answer"
).split()
_PREFER_RECENT = 200
_NOT_IN_A0 = "in phase A0 only"
_ATTEMPTS = 40
_RETRY_SECONDS = 0.5


@dataclass(slots=True)
class Known:
    """A memory that somebody may edit or delete."""

    memory_id: UUID
    seat: Seat
    scope: str


@dataclass(slots=True)
class Tally:
    """What the traffic came to, for progress lines and final words."""

    acknowledged: int = 0
    acknowledged_by_daemon: int = 0
    """Without the writes by direct SQL."""
    refused: int = 0
    unknown: int = 0
    missing: int = 0
    reads: int = 0
    untraceable: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    """Answers that no documented rule explains."""
    last_done: float = 0.0
    """`time.monotonic()` of the latest acknowledged write over HTTP."""


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each operation is chosen, relative to each other."""

    create: int = 24
    edit: int = 18
    delete: int = 12
    recall: int = 10
    mcp_commit: int = 8
    mcp_recall: int = 5
    contract_commit: int = 10
    contract_forget: int = 5
    contract_search: int = 5
    sql_insert: int = 4
    sql_update: int = 4
    sql_delete: int = 2
    sql_bulk: int = 1

    def names(self) -> tuple[list[str], list[int]]:
        """Names and weights, for a weighted choice."""
        weights = {name: int(getattr(self, name)) for name in self.__slots__}
        return list(weights), list(weights.values())


class Traffic:
    """Workers on the faces of one daemon (or several: a worker's daemon is chosen by its number).

    An async context manager; `run()` inside it works until `stop()` or the end of `seconds`.
    """

    def __init__(
        self,
        addresses: Sequence[Addresses],
        seats: Sequence[Seat],
        database_url: str,
        history: History,
        *,
        seed: int = 0,
        workers: int = 8,
        rate: float = 120.0,
        mix: Mix | None = None,
        tenant: str | None = None,
        caller_seconds: float = 10.0,
    ) -> None:
        self._addresses = addresses
        self._seats = list(seats)
        self._database_url = database_url
        self._history = history
        self._random = random.Random(seed)
        self._seed = seed
        self._workers = workers
        self._pause = workers / rate
        self._names, self._weights = (mix or Mix()).names()
        self._prefix = "" if tenant is None else f"/tenants/{tenant}"
        self._seconds = caller_seconds
        self._known: list[Known] = []
        self._number = 0
        self._stopping = asyncio.Event()
        self._sql_allowed = True
        self._sql_running = 0
        self._running = 0
        self._going = asyncio.Event()
        self._going.set()
        self._stack = contextlib.AsyncExitStack()
        self.tally = Tally()

    async def __aenter__(self) -> Self:
        # No limit of connections: the workers are the limit.
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # -- control ----------------------------------------------------------------------------------------------------

    def know(self, memory_id: UUID, seat: Seat, scope: str) -> None:
        """A memory that was there before: workers may edit and delete it. The history must hold its content."""
        self._known.append(Known(memory_id, seat, scope))

    def stop(self) -> None:
        """Let every worker finish the call it is in."""
        self._stopping.set()
        self._going.set()

    async def pause(self) -> None:
        """Hold every worker; returns when no call is under way."""
        self._going.clear()
        await until(self._none(lambda: self._running), "calls under way to end", timeout=60)

    def go_on(self) -> None:
        """End a pause."""
        self._going.set()

    async def stop_sql(self) -> None:
        """No direct SQL from here on; returns when none is under way."""
        self._sql_allowed = False
        await until(self._none(lambda: self._sql_running), "statements under way to end", timeout=60)

    @staticmethod
    def _none(count: Callable[[], int]) -> Callable[[], Awaitable[bool]]:
        async def condition() -> bool:
            return count() == 0

        return condition

    def allow_sql(self) -> None:
        """Direct SQL again."""
        self._sql_allowed = True

    async def run(self, seconds: float | None = None) -> Tally:
        """Work until `stop()`, at most `seconds`."""
        workers = [asyncio.create_task(self._work(number), name=f"traffic-{number}") for number in range(self._workers)]
        waiting = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([waiting, *workers], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            for task in done:
                await task  # a worker that ended by itself has failed
            await asyncio.gather(*workers)
        finally:
            for task in (*workers, waiting):
                task.cancel()
            await asyncio.gather(*workers, waiting, return_exceptions=True)
        return self.tally

    # -- one worker -------------------------------------------------------------------------------------------------

    async def _work(self, number: int) -> None:
        at = self._addresses[number % len(self._addresses)]
        worker = _Worker(self, random.Random(self._seed * 1009 + number), at)
        try:
            while not self._stopping.is_set():
                await self._going.wait()
                began = time.monotonic()
                self._running += 1
                try:
                    await worker.step()
                finally:
                    self._running -= 1
                pause = self._pause * worker.random.uniform(0.5, 1.5) - (time.monotonic() - began)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), max(0.0, pause))
        finally:
            await worker.close()

    def content(self, chooser: random.Random) -> tuple[int, str]:
        """The next number and a content that holds it."""
        self._number += 1
        return self._number, f"{' '.join(chooser.choices(_WORDS, k=8))} item {self._seed}.{self._number}"

    # -- what workers share -----------------------------------------------------------------------------------------

    @property
    def seats(self) -> list[Seat]:
        """Who acts."""
        return self._seats

    def choose_operation(self, chooser: random.Random) -> str:
        """An operation by the mix; a SQL one is replaced by a create where SQL is not allowed (any more)."""
        name = chooser.choices(self._names, self._weights)[0]
        return name if self._sql_allowed or not name.startswith("sql_") else "create"

    def choose_memory(self, chooser: random.Random) -> Known | None:
        """One that exists as far as we know, rather a recent one: that is where writes meet each other."""
        if not self._known:
            return None
        first = max(0, len(self._known) - _PREFER_RECENT) if chooser.random() < 0.7 else 0
        return self._known[chooser.randrange(first, len(self._known))]

    def forget(self, known: Known) -> None:
        """It is deleted: nobody needs to try any more (some will: they chose it before)."""
        with contextlib.suppress(ValueError):
            self._known.remove(known)

    def http(self, base: str) -> Http:
        """Connections to one face."""
        return Http(self._session, base + self._prefix, seconds=self._seconds)

    def sql(self) -> SqlCaller:
        """A direct connection."""
        return SqlCaller(self._database_url)

    @contextlib.contextmanager
    def sql_under_way(self) -> Iterator[bool]:
        """Counts a direct statement; False when they are not allowed any more."""
        self._sql_running += 1
        try:
            yield self._sql_allowed
        finally:
            self._sql_running -= 1

    def note(self, kind: OperationKind, memory_id: UUID, content: str | None, reply: Reply, began: float) -> None:
        """One operation for the history and the tally."""
        outcome = {
            Outcome.DONE: OperationOutcome.ACKNOWLEDGED,
            Outcome.REFUSED: OperationOutcome.REFUSED,
            Outcome.MISSING: OperationOutcome.REFUSED,
            Outcome.UNKNOWN: OperationOutcome.UNKNOWN,
        }[reply.outcome]
        self._history.record(Operation(kind, memory_id, content, began, time.monotonic(), outcome))
        self.count(reply)
        if reply.outcome is Outcome.DONE:
            self.tally.acknowledged += 1
            if reply.status:
                self.tally.acknowledged_by_daemon += 1
                self.tally.last_done = time.monotonic()

    def count(self, reply: Reply) -> None:
        """An answer, of a read or a write."""
        tally = self.tally
        tally.statuses[reply.status] += 1
        tally.refused += reply.outcome is Outcome.REFUSED
        tally.unknown += reply.outcome is Outcome.UNKNOWN
        tally.missing += reply.outcome is Outcome.MISSING
        # A team: namespace below a root's child has no place in legacy: A0 says so, later phases keep a native.
        if reply.status >= 400 and reply.status not in (404, 409, 503) and _NOT_IN_A0 not in reply.words:
            tally.faults.append(f"{reply.status}: {reply.words}")


class _Worker:
    """One caller after another on one thread of control; `step` makes one operation."""

    def __init__(self, traffic: Traffic, chooser: random.Random, at: Addresses) -> None:
        self._traffic = traffic
        self.random = chooser
        memories = traffic.http(at.memories)
        self._memories = MemoriesCaller(memories)
        self._mcp = McpCaller(memories)
        self._plugin = PluginCaller(traffic.http(at.plugin))
        self._sql = traffic.sql()

    async def close(self) -> None:
        await self._sql.close()

    async def step(self) -> None:
        """Choose and do."""
        name = self._traffic.choose_operation(self.random)
        method: Callable[[], Awaitable[None]] = getattr(self, f"_{name}")
        if name.startswith("sql_"):
            with self._traffic.sql_under_way() as allowed:
                if allowed:
                    await method()
            return
        await method()

    def _seat(self) -> Seat:
        return self.random.choice(self._traffic.seats)

    def _scope(self, seat: Seat) -> str:
        choices = ("LOCAL", "LOCAL", "LOCAL", "TEAM", "GLOBAL") if seat.is_root else ("LOCAL", "LOCAL", "TEAM")
        return self.random.choice(choices)

    # -- memories face ----------------------------------------------------------------------------------------------

    async def _create(self) -> None:
        seat = self._seat()
        scope = self._scope(seat)
        number, content = self._traffic.content(self.random)
        began = time.monotonic()
        reply = await self._memories.create(seat, content, scope, "facts", f"traffic-{number}")
        if reply.outcome is Outcome.UNKNOWN:
            reply = await self._ask_again(seat, content, scope, f"traffic-{number}")
        self._created(reply, seat, scope, content, began)

    async def _ask_again(self, seat: Seat, content: str, scope: str, key: str) -> Reply:
        """The same create until it is acknowledged: a refusal now says nothing about the first one."""
        for _ in range(_ATTEMPTS):
            await asyncio.sleep(_RETRY_SECONDS)
            reply = await self._memories.create(seat, content, scope, "facts", key)
            self._traffic.count(reply)
            if reply.outcome is Outcome.DONE:
                return reply
        return Reply(Outcome.UNKNOWN)

    def _created(self, reply: Reply, seat: Seat, scope: str, content: str, began: float) -> None:
        if reply.memory_id is None:
            self._traffic.count(reply)
            self._traffic.tally.untraceable += reply.outcome is Outcome.UNKNOWN
            return
        self._traffic.note(OperationKind.CREATE, reply.memory_id, content, reply, began)
        self._traffic.know(reply.memory_id, seat, scope)

    async def _edit(self) -> None:
        known = self._traffic.choose_memory(self.random)
        if known is None:
            return
        _, content = self._traffic.content(self.random)
        began = time.monotonic()
        reply = await self._memories.edit(known.seat, known.memory_id, content)
        self._traffic.note(OperationKind.EDIT, known.memory_id, content, reply, began)

    async def _delete(self) -> None:
        known = self._traffic.choose_memory(self.random)
        if known is None:
            return
        began = time.monotonic()
        reply = await self._memories.delete(known.seat, known.memory_id)
        self._after_delete(known, reply, began)

    def _after_delete(self, known: Known, reply: Reply, began: float) -> None:
        self._traffic.note(OperationKind.DELETE, known.memory_id, None, reply, began)
        if reply.outcome in (Outcome.DONE, Outcome.MISSING):
            self._traffic.forget(known)

    async def _recall(self) -> None:
        query, scope = self.random.choice(("", "", *_WORDS)), self.random.choice(("", "LOCAL", "TEAM", "GLOBAL"))
        self._read(await self._memories.recall(self._seat(), query, scope))

    def _read(self, reply: Reply) -> None:
        self._traffic.count(reply)
        self._traffic.tally.reads += reply.outcome is Outcome.DONE

    # -- MCP --------------------------------------------------------------------------------------------------------

    async def _mcp_commit(self) -> None:
        seat = self._seat()
        scope = self.random.choice(("LOCAL", "TEAM"))
        _, content = self._traffic.content(self.random)
        began = time.monotonic()
        self._created(await self._mcp.commit(seat, content, scope), seat, scope, content, began)

    async def _mcp_recall(self) -> None:
        self._read(await self._mcp.recall(self._seat(), self.random.choice(("", *_WORDS))))

    # -- plugin face ------------------------------------------------------------------------------------------------

    async def _contract_commit(self) -> None:
        """A new memory with its caller's own id, or another content for one that exists."""
        known = self._traffic.choose_memory(self.random) if self.random.random() < 0.3 else None
        number, content = self._traffic.content(self.random)
        began = time.monotonic()
        if known is not None:
            reply = await self._plugin.commit(known.seat.namespace(known.scope), known.memory_id, content)
            self._traffic.note(OperationKind.REPLACE, known.memory_id, content, reply, began)
            return
        seat = self._seat()
        scope = self._scope(seat)
        memory_id = uuid5(seat.workspace_id, f"contract-{number}")
        reply = await self._plugin.commit(seat.namespace(scope), memory_id, content)
        self._traffic.note(OperationKind.REPLACE, memory_id, content, reply, began)

    async def _contract_forget(self) -> None:
        known = self._traffic.choose_memory(self.random)
        if known is None:
            return
        began = time.monotonic()
        reply = await self._plugin.forget(known.seat.namespace(known.scope), known.memory_id)
        self._after_delete(known, reply, began)

    async def _contract_search(self) -> None:
        seat = self._seat()
        names = [seat.namespace(scope) for scope in ("LOCAL", "TEAM", "GLOBAL")]
        self._read(await self._plugin.search(names, self.random.choice(("", *_WORDS)), limit=20))

    # -- direct SQL -------------------------------------------------------------------------------------------------

    async def _sql_insert(self) -> None:
        seat = self._seat()
        scope = self._scope(seat)
        number, content = self._traffic.content(self.random)
        memory_id = uuid5(seat.workspace_id, f"sql-{number}")
        began = time.monotonic()
        reply = await self._sql.insert(seat, memory_id, content, scope)
        self._traffic.note(OperationKind.CREATE, memory_id, content, reply, began)
        if reply.outcome is Outcome.DONE:
            self._traffic.know(memory_id, seat, scope)

    async def _sql_update(self) -> None:
        known = self._traffic.choose_memory(self.random)
        if known is None:
            return
        _, content = self._traffic.content(self.random)
        began = time.monotonic()
        reply = await self._sql.update(known.memory_id, content)
        self._traffic.note(OperationKind.EDIT, known.memory_id, content, reply, began)

    async def _sql_delete(self) -> None:
        known = self._traffic.choose_memory(self.random)
        if known is None:
            return
        began = time.monotonic()
        self._after_delete(known, await self._sql.delete(known.memory_id), began)

    async def _sql_bulk(self) -> None:
        contents = {}
        for _ in range(10):
            known = self._traffic.choose_memory(self.random)
            if known is not None:
                contents[known.memory_id] = self._traffic.content(self.random)[1]
        if not contents:
            return
        began = time.monotonic()
        reply = await self._sql.replace_many(contents)
        there = {item["id"] for item in reply.items}
        for memory_id, content in contents.items():
            missing = reply.outcome is Outcome.DONE and memory_id not in there
            each = Reply(Outcome.MISSING) if missing else Reply(reply.outcome)
            self._traffic.note(OperationKind.EDIT, memory_id, content, each, began)
