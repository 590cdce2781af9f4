"""A3 → A2: what was written since the cutover goes back into legacy, exactly (architecture §6)."""

from cutover.domain.phase import PhaseState
from cutover.engine.drop import disown
from cutover.engine.reconciler import Reconciler
from cutover.engine.step import PlainStep, lock_phase, until_calm, until_none
from cutover.stores.database import Connection, Database
from cutover.stores.drop import DropStore
from cutover.stores.freeze import FreezeStore

_REPLAY_SECONDS = 600.0
# Intents whose caller may still be told no. The rest of them is replayed as it stands: a rollback must not need the
# plugin, because a dead one is a reason for it.
_INTENTS_UNDER_WAY = """
select exists (
    select from cutover.mark m join cutover.journal j on j.memory_id = m.memory_id and j.state = 'intent'
    where m.ambiguous and m.due_at > clock_timestamp() and m.sent_at < clock_timestamp() - make_interval(secs => $1))
"""


class WayBack(PlainStep):
    """The step."""

    def __init__(self, database: Database, reconciler: Reconciler) -> None:
        self._database = database
        self._reconciler = reconciler
        self._drops = DropStore(database)

    def planned(self) -> tuple[str, ...]:
        """The replay."""
        return ("replay the journal into agent_memories",)

    async def prepare(self, before: PhaseState) -> tuple[str, ...]:
        """What the journal took over for A4 is legacy's again: that is nothing to replay."""
        del before
        await disown(self._drops)
        return ()

    async def calm(self) -> None:
        """Intents under way end first."""
        await until_calm(self._database, self._reconciler, _INTENTS_UNDER_WAY)

    async def carry_out(self, connection: Connection) -> tuple[str, ...]:
        """Hold the writes, replay."""
        await lock_phase(connection)
        await until_none(connection, _INTENTS_UNDER_WAY)
        await connection.execute("delete from cutover.journal where adopted")  # by another daemon, since `prepare`
        await FreezeStore.ease_in(connection, "thawing", "cutover")
        row = await connection.fetchrow("select * from cutover.replay_journal()", timeout=_REPLAY_SECONDS)
        assert row is not None  # noqa: S101 - the function gives one row
        await FreezeStore.ease_in(connection, "open", "cutover")
        replayed = f"{row['upserted']} writes and {row['deleted']} deletes since the cutover were replayed into legacy"
        return (replayed, f"{row['natives']} memories have no v1 form and stay plugin-only")
