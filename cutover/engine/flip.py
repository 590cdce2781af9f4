"""A2 → A3: the plugin becomes the authority, and `agent_memories` is frozen (architecture §6, decision 0020).

Before the hold: everything is copied, an incremental digest sweep is clean, marks are young, what was delivered since
the sweep has been looked at. Under the hold, all in one transaction: the writes under way end, the last marks go out,
the freeze waits for foreign writers and shuts the table, their marks go out, what changed since the last look is
compared, the phase row changes. Whatever fails on the way, PostgreSQL undoes all of it, the trigger too.
"""

from cutover.domain.errors import CutoverError, IllegalStep
from cutover.domain.phase import PhaseState
from cutover.engine.kv import KvSwitch
from cutover.engine.last_look import LastLook
from cutover.engine.reconciler import Reconciler
from cutover.engine.step import PlainStep, lock_phase, until_calm, until_none
from cutover.stores.backfill import BackfillStore
from cutover.stores.database import Connection, Database
from cutover.stores.freeze import FreezeStore
from cutover.stores.ledger import Ledger

_SWEEP_SECONDS = 40.0
# K/V rows may change while this waits, and their marks mean the same on either side: they are not waited for.
_MARKS = """
select exists (
    select from cutover.mark m
    where m.origin <> 'kv' and m.marked_at < clock_timestamp() - make_interval(secs => $1))
"""


class Flip(PlainStep):
    """The step."""

    hold_seconds: float = 1.4
    """Of 1.5 s; the rest is the commit's."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        reconciler: Reconciler,
        kv: KvSwitch,
        freeze: FreezeStore,
        look: LastLook,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._reconciler = reconciler
        self._kv = kv
        self._freeze = freeze
        self._look = look

    def planned(self) -> tuple[str, ...]:
        """In order."""
        return (
            "deliver the last marks",
            "freeze agent_memories: wait for foreign writers, then refuse INSERT, UPDATE and TRUNCATE",
            "deliver what foreign writers left",
            "compare what changed since the last look on both sides",
        )

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """Everything has been copied, looked for and compared."""
        cursors = await BackfillStore(self._database).cursors()
        if not any(c.scope == "tenant" and c.generation == before.generation and c.done for c in cursors):
            raise IllegalStep("the backfill has not reached every row", next_step="cutover backfill --apply")
        if await self._kv.is_behind():
            raise IllegalStep(
                "the backfill has not reached every K/V row",
                next_step="cutover backfill --apply --source kv, or start with CUTOVER_KV=off",
            )
        if await self._ledger.strays_pending():
            raise IllegalStep(
                "the plugin has not been searched yet for rows that legacy lost while it was in A0",
                next_step="it is tried every few seconds; the log's task.failed says what is in the way",
            )
        notes = await self._look.sweep(before.generation, _SWEEP_SECONDS)
        backlog = await self._ledger.backlog()
        if backlog.unacknowledged:
            notes += (f"{backlog.unacknowledged} memories are quarantined: readers will not see them in A3",)
        return notes

    async def calm(self) -> None:
        """Old marks would not go out within the hold, nor would a vacuum let the table be frozen."""
        await until_calm(self._database, self._reconciler, _MARKS)
        await self._freeze.send_vacuum_away()
        await self._look.catch_up()

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """Our own writers hold the phase lock while they wait for the table, never after: so it comes first."""
        await lock_phase(connection)
        await until_none(connection, _MARKS)
        await self._freeze.freeze_in(connection, "frozen", "cutover", "the plugin is the authority from A3 on")
        await until_none(connection, _MARKS)
        compared = await self._look.last()
        await connection.execute("select cutover.silence_journal()")
        return (f"{compared} memories changed since the last look and were compared under the hold",)

    async def in_the_way(self) -> str:
        """Who has the table."""
        try:
            return "; ".join(await self._freeze.in_the_way())
        except CutoverError as error:
            return f"not known: {error.message}"
