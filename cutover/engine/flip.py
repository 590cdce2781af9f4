"""A2 → A3: the plugin becomes the authority (architecture §6)."""

from cutover.domain.errors import IllegalStep
from cutover.domain.phase import PhaseState
from cutover.engine.kv import KvSwitch
from cutover.engine.reconciler import Reconciler
from cutover.engine.step import PlainStep, lock_phase, until_calm, until_none
from cutover.stores.backfill import BackfillStore
from cutover.stores.database import Connection, Database
from cutover.stores.ledger import Ledger

_SILENCE_SECONDS = 600.0
# K/V rows may change while this waits, and their marks mean the same on either side: they are not waited for.
_MARKS = """
select exists (
    select from cutover.mark m
    where m.origin <> 'kv' and m.marked_at < clock_timestamp() - make_interval(secs => $1))
"""


class Flip(PlainStep):
    """The step."""

    def __init__(self, database: Database, ledger: Ledger, reconciler: Reconciler, kv: KvSwitch) -> None:
        self._database = database
        self._ledger = ledger
        self._reconciler = reconciler
        self._kv = kv

    def planned(self) -> tuple[str, ...]:
        """The marks."""
        return ("drain the marks",)

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """Everything has been copied and looked for."""
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
        backlog = await self._ledger.backlog()
        if backlog.unacknowledged:
            return (f"{backlog.unacknowledged} memories are quarantined: readers will not see them in A3",)
        return ()

    async def calm(self) -> None:
        """Old marks would not go out within the hold."""
        await until_calm(self._database, self._reconciler, _MARKS)

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """Hold the writes until the last marks are out."""
        await lock_phase(connection)
        await until_none(connection, _MARKS)
        await connection.execute("select cutover.silence_journal()", timeout=_SILENCE_SECONDS)
        return ()
