"""One step of the phase machine: what must be true before it, what it does in its one transaction, what comes after.

`Transition` runs every step in the same way; a module per step says what is particular to it (`stand_up`, `flip`,
`way_back`, `drop`). The transaction that changes the phase row also does everything that the step needs in the
database, so PostgreSQL itself sees to it that a step is wholly taken or not at all, whenever the daemon dies.
"""

import asyncio
import time
from typing import Protocol

from cutover.domain.errors import CutoverError, IllegalStep
from cutover.domain.phase import PhaseState
from cutover.engine.reconciler import Reconciler
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

HOLD_SECONDS = 0.8
"""How long writes may be held while what a step waits for ends."""
_CALM_SECONDS = 30.0


class StillBusy(CutoverError):
    """What a step waits for had not ended when the hold was over: the step is undone and tried again."""


class Step(Protocol):
    """From one phase to a neighbour of it."""

    hold_seconds: float
    """How long `carry_out` may hold writes before it is undone."""
    doing: str
    """What it is at and how far, in words, while it is taken."""

    def planned(self) -> tuple[str, ...]:
        """What the step does between holding the writes and setting the phase row, in order, for `--dry-run`."""
        ...

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """Before anything is locked or held: raises `IllegalStep` where the step cannot be taken. Notes for the
        operator."""
        ...

    async def calm(self) -> None:
        """Before every try, still without holding anybody up: wait until a try has a chance."""
        ...

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """In the step's transaction. The first thing is `lock_phase`, unless the step says why not. Raises
        `StillBusy` or `LockTimeout` to be undone and tried again."""
        ...

    async def after(self) -> tuple[str, ...]:
        """The phase has changed, whatever comes of this: what fails here is tried again until it is done."""
        ...

    async def in_the_way(self) -> str:
        """After a try that could not have its locks: who holds them, in words; empty where nobody can be named."""
        ...


class PlainStep:
    """A step that needs nothing but the phase row."""

    hold_seconds: float = 5.0
    doing = ""

    def planned(self) -> tuple[str, ...]:
        """Nothing more."""
        return ()

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """Nothing is needed."""
        del before
        return ()

    async def calm(self) -> None:
        """Nothing is waited for."""

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """Hold the phase still."""
        await lock_phase(connection)
        return ()

    async def after(self) -> tuple[str, ...]:
        """Nothing is left to do."""
        return ()

    async def in_the_way(self) -> str:
        """Nobody in particular."""
        return ""


async def who_is_in_the_way(database: Database, *, readers: bool = False) -> str:
    """Sessions of others that a step may have to wait for, in words; the oldest first."""
    try:
        return "; ".join([row["who"] for row in await database.fetch(query("step_in_the_way"), readers)])
    except CutoverError as error:
        return f"not known: {error.message}"


async def lock_phase(connection: Connection) -> None:
    """Wait for the writes under way; those that come wait for this transaction."""
    await connection.execute("select pg_advisory_xact_lock(cutover.phase_lock_key())")


async def until_calm(database: Database, reconciler: Reconciler, waited_for: str) -> None:
    """Without holding anybody up: wait until nothing of `waited_for` is older than a delivery takes. Old ones would
    not go out within the hold, and every try that fails has held writes for nothing.

    `waited_for`: a query with one parameter, seconds, whether anything older than that is left.
    """
    until = time.monotonic() + _CALM_SECONDS
    while time.monotonic() < until:
        if not await database.fetchval(waited_for, 1.0):
            return
        reconciler.wake()
        await asyncio.sleep(0.05)
    raise IllegalStep(
        f"memories still wait for delivery after {_CALM_SECONDS:g} s",
        next_step="`cutover status` shows what waits; is the plugin well, is a foreign transaction open?",
    )


async def until_none(connection: Connection, waited_for: str) -> None:
    """Writes are held; wait for the last deliveries, for as long as their callers can bear it."""
    until = time.monotonic() + HOLD_SECONDS
    while await connection.fetchval(waited_for, 0.0):
        if time.monotonic() >= until:
            raise StillBusy("memories still wait for delivery")
        await asyncio.sleep(0.01)
