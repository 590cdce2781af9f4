"""K/V in the ledger: typed calls of migration 009 (decision 0014)."""

from cutover.stores.backfill import BackfillCursor, MarkedChunk, cursor_of
from cutover.stores.database import Connection, Database

_LOCK_TIMEOUT_MS = 400
_TIDY = 5000


class KvStore:
    """One tenant's K/V rows as schema `cutover` knows them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lacks(self) -> str | None:
        """What `public.workspace_memory` lacks for K/V, in words; None when it has all."""
        value: str | None = await self._database.fetchval("select cutover.kv_lacks()")
        return value

    async def switch(self, on: bool) -> str:
        """Install or remove the capture, as the switch and the phase say; installed, removed or kept.

        Raises `LockTimeout` while somebody has the table.
        """
        async with self._database.transaction() as connection:
            await connection.execute(f"set local lock_timeout = {_LOCK_TIMEOUT_MS}")
            return str(await connection.fetchval("select cutover.switch_kv($1)", on))

    async def tidy(self) -> int:
        """After a switch: mark what the plugin must forget; gives how many. Nothing to do nearly always."""
        if not await self._database.fetchval("select untidy from cutover.kv_capture"):
            return 0
        found = 0
        while now := await self._database.fetchval("select cutover.kv_tidy($1)", _TIDY, timeout=60.0):
            found += now
        await self._database.execute("select cutover.kv_tidied()", timeout=60.0)
        return found

    async def captured(self) -> bool:
        """Whether the table's writers leave marks."""
        return bool(await self._database.fetchval("select captured from cutover.kv_capture", timeout=5.0))

    async def is_behind(self) -> bool:
        """Whether K/V is captured and its backfill has not reached every row in this generation."""
        sql = (
            "select c.captured and not exists (select from cutover.backfill_cursor b, cutover.phase_state s"
            " where b.scope = 'kv' and b.generation = s.generation and b.done) from cutover.kv_capture c"
        )
        return bool(await self._database.fetchval(sql, timeout=5.0))

    async def open_backfill(self, epoch: int) -> BackfillCursor:
        """The K/V cursor, begun anew when it belongs to an earlier generation. Raises `StaleEpoch`."""
        row = await self._database.fetchrow("select * from cutover.open_kv_backfill($1)", epoch, timeout=60.0)
        assert row is not None  # noqa: S101
        return cursor_of(row)

    async def mark_chunk(self, epoch: int, limit: int) -> MarkedChunk:
        """Map and mark the next `limit` rows in key order. Raises `StaleEpoch`, `LockTimeout`."""
        row = await self._database.fetchrow(
            "select * from cutover.kv_backfill_chunk($1, $2)", epoch, limit, timeout=60.0
        )
        assert row is not None  # noqa: S101
        return MarkedChunk(row["scanned"], row["marked"], row["done"])

    # -- inside a phase change's transaction ----------------------------------------

    @staticmethod
    async def enter_a1(connection: Connection, *, on: bool) -> None:
        """Capture from here on, or (switched off) not."""
        await connection.execute(f"select cutover.{'install' if on else 'remove'}_kv_capture()")

    @staticmethod
    async def enter_a0(connection: Connection) -> None:
        """Nothing is captured in A0."""
        await connection.execute("select cutover.remove_kv_capture()")
