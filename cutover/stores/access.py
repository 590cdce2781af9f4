"""Who else reads and writes `agent_memories`: the look that is made every second, and what it has come to."""

from cutover.domain.access import Access, Reader, Writer
from cutover.domain.phase import Phase
from cutover.stores.database import Database
from cutover.stores.sql import query

_READERS = """
select reader as name, scans, sightings, first_seen, last_seen from cutover.foreign_reader
order by last_seen desc, reader
"""


class AccessStore:
    """The record in one tenant's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, settle: float) -> tuple[int, tuple[str, ...]] | None:
        """Look now: new scans of others, and who was seen; None: somebody else has the lock of the look, which is not
        the same as nobody seen. `settle`: seconds after the cutover before it begins."""
        row = await self._database.fetchrow("select * from cutover.watch_access($1)", settle)
        return None if row is None or row["new_scans"] is None else (row["new_scans"], tuple(row["seen"]))

    async def access(self) -> Access:
        """Everything known now."""
        async with self._database.connection() as connection:
            # Before what is seen: nobody may have been seen later than now.
            writers = await connection.fetch(query("access_writers"))
            readers = await connection.fetch(_READERS)
            state = await connection.fetchrow(query("access"))
        assert state is not None  # noqa: S101 - phase_state has its one row
        return Access(
            now=state["now"],
            phase=Phase(state["phase"]),
            writes_since=state["writes_since"],
            reads_since=state["reads_since"],
            reads_why=state["reads_why"],
            looked_at=state["looked_at"],
            set_aside=state["set_aside"],
            writers=tuple(Writer(**each) for each in writers),
            readers=tuple(Reader(**each) for each in readers),
        )
