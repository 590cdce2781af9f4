"""Faults that the soak plants in the plugin's own tables, past the daemon: every class, in memories that no caller
touches, so that what is found can be held against what was planted."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Self
from uuid import UUID, uuid4

import asyncpg

from cutover.embedded.callers import MemoriesCaller, Outcome, Seat
from cutover.embedded.processes import until
from cutover.embedded.stack import plugin_database_url

CREATED_AT = "created_at"
EXTRA = "missing_in_legacy"
RESURRECTED = "resurrected"
_COLUMNS = "id, namespace, content, kind, source, expires_at, propagation, pin, embedding, created_at"

# What is done to one row of the plugin: the class that a sweep must call it, and what is set.
_SPOILS = {
    "content replaced": ("content", "content = 'something else'"),
    "one letter changed": ("content", "content = overlay(content placing '~' from 3 for 1)"),
    "white space appended": ("content", "content = content || ' '"),
    "moved to another workspace": (
        "namespace",
        """namespace = (SELECT n.name FROM memory_plugin.memory_namespaces n
                        WHERE n.kind = 'workspace' AND n.name <> r.namespace ORDER BY random() LIMIT 1)""",
    ),
    "embedding lost": ("embedding", "embedding = NULL"),
    "embedding out of nowhere": ("embedding", "embedding = array_fill(0.5, ARRAY[1536])::vector"),
    "time of creation moved by a millisecond": (CREATED_AT, "created_at = created_at + interval '1 ms'"),
    "pinned": ("provenance", "pin = NOT pin"),
    "label changed": ("provenance", "propagation = jsonb_set(propagation, '{cutover,namespace}', '\"odd\"')"),
}
KEY_VALUE_FATES = {
    "K/V memory deleted": "missing_in_plugin",
    "K/V value changed": "content",
}
_EXTRA_ROW = """
INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)
SELECT $1, name, 'nobody wrote this', 'fact', 'agent' FROM memory_plugin.memory_namespaces
WHERE kind = 'workspace' ORDER BY random() LIMIT 1
"""
_FATES = (*_SPOILS, *KEY_VALUE_FATES, "row deleted", "a row that nobody wrote", "a deleted memory put back")


@dataclass(frozen=True, slots=True)
class Victim:
    """A memory of the sample that the callers were not told of."""

    memory_id: UUID
    seat: Seat
    embedding: bool


@dataclass(slots=True)
class Fault:
    """One fault and what became of it. Times are the database's."""

    memory_id: UUID
    what: str
    name: str
    """The class that a sweep must find."""
    phase: str
    planted: datetime
    found: datetime | None = None
    sweeps: int = 0
    """Full sweeps from its planting to its confirmation, that one included."""
    closed: datetime | None = None
    repair: str = ""
    """How it was repaired, once somebody did."""


@dataclass(slots=True)
class Planted:
    """All faults so far, by what a sweep should say of them."""

    faults: dict[tuple[UUID, str], Fault] = field(default_factory=dict)

    def add(self, fault: Fault) -> None:
        self.faults[(fault.memory_id, fault.name)] = fault

    @property
    def open(self) -> list[Fault]:
        """Not yet found, repaired and closed."""
        return [fault for fault in self.faults.values() if fault.closed is None]


class Saboteur:
    """Connections of its own to the plugin's database. An async context manager.

    Chooses each kind of fault equally often. `delete` lets a caller delete a memory through the daemon, and returns
    when that is certain.
    """

    def __init__(self, database_url: str, victims: Sequence[Victim], keys: Sequence[UUID], seed: int) -> None:
        """`keys`: K/V memories whose rows nobody changes."""
        self._url = database_url
        self._random = random.Random(seed)
        self._plain = [victim for victim in victims if not victim.embedding]
        self._embedded = [victim for victim in victims if victim.embedding]
        self._keys = self._random.sample(list(keys), len(keys))
        self._random.shuffle(self._plain)
        self._random.shuffle(self._embedded)
        self._fates: list[str] = []
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.planted = Planted()

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            plugin_database_url(self._url), min_size=1, max_size=4, server_settings={"application_name": "saboteur"}
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def plant(self, phase: str, caller: MemoriesCaller) -> Fault:
        """One more fault, in a memory that had none before."""
        connection = self._open()
        if not self._fates:
            self._fates = self._random.sample(_FATES, len(_FATES))
        what = self._fates.pop()
        if what == "a row that nobody wrote":
            memory_id, name = uuid4(), EXTRA
            await connection.execute(_EXTRA_ROW, memory_id)
        elif what == "a deleted memory put back":
            victim = self._plain.pop()
            memory_id, name = victim.memory_id, RESURRECTED
            await self._put_back(victim, caller)
        else:
            memory_id, name = await self._spoil(connection, what)
        fault = Fault(memory_id, what, name, phase, await connection.fetchval("SELECT clock_timestamp()"))
        self.planted.add(fault)
        return fault

    async def _spoil(self, connection: "asyncpg.Pool[asyncpg.Record]", what: str) -> tuple[UUID, str]:
        """Change or delete one row; gives its id and the class."""
        statement, name = "DELETE FROM memory_plugin.memory_records WHERE id = $1", "missing_in_plugin"
        if what in KEY_VALUE_FATES:
            memory_id, name = self._keys.pop(), KEY_VALUE_FATES[what]
            assignment = None if name == "missing_in_plugin" else "content = '\"odd\"'"
        else:
            memory_id = (self._embedded if what == "embedding lost" else self._plain).pop().memory_id
            name, assignment = _SPOILS.get(what, (name, None))
        if assignment is not None:
            statement = f"UPDATE memory_plugin.memory_records r SET {assignment} WHERE id = $1"
        if (changed := await connection.execute(statement, memory_id)).endswith(" 0"):
            raise LookupError(f"{what}: {changed}, but {memory_id} was delivered")
        return memory_id, name

    async def remove(self, memory_id: UUID) -> None:
        """What an operator does with a row that nobody wrote, having looked at it."""
        await self._open().execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", memory_id)

    async def _put_back(self, victim: Victim, caller: MemoriesCaller) -> None:
        connection = self._open()
        row = await connection.fetchrow(
            f"SELECT {_COLUMNS} FROM memory_plugin.memory_records WHERE id = $1", victim.memory_id
        )
        if row is None:
            raise LookupError(f"{victim.memory_id} was not delivered")

        async def deleted() -> bool:
            # The daemon may be dead, or refuse, or die with the call: then it is asked once more.
            reply = await caller.delete(victim.seat, victim.memory_id)
            return reply.outcome in (Outcome.DONE, Outcome.MISSING)

        await until(deleted, "a delete to be acknowledged", timeout=120, every=0.2)

        async def settled() -> bool:
            return not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM cutover.mark WHERE memory_id = $1) OR EXISTS (SELECT FROM cutover.journal"
                " WHERE memory_id = $1 AND state = 'intent') OR EXISTS (SELECT FROM memory_records WHERE id = $1)",
                victim.memory_id,
            )

        await until(settled, "the delete to be delivered", timeout=120, every=0.1)
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await connection.execute(f"INSERT INTO memory_records ({_COLUMNS}) VALUES ({places})", *row.values())

    def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._pool is None:
            raise LookupError("the saboteur is not at work")
        return self._pool
