"""How A1 goes, from the record: the sweeps in `cutover.task_run` and the counted writes in `cutover.write_tally`."""

from cutover.domain.evidence import ShadowEvidence
from cutover.stores.database import Database
from cutover.stores.sql import query

_ADD = """
insert into cutover.write_tally as t (epoch, writes, errors) values ($1, $2, $3)
on conflict (epoch) do update
set writes = t.writes + excluded.writes, errors = t.errors + excluded.errors, updated_at = clock_timestamp()
"""


class ShadowStore:
    """One tenant's record of A1. Raises the errors of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, epoch: int, writes: int, errors: int) -> None:
        """Add what one daemon has counted since it last said so."""
        await self._database.execute(_ADD, epoch, writes, errors)

    async def evidence(self, epoch: int, *, contract_only: bool, gap: float) -> ShadowEvidence:
        """The stay in A1 that is `epoch`. `gap`: seconds without a sweep that are too long to count."""
        swept = await self._database.fetchrow(query("shadow_sweeps"), contract_only, gap)
        told = await self._database.fetchrow("select writes, errors from cutover.write_tally where epoch = $1", epoch)
        assert swept is not None  # noqa: S101 - aggregates give one row
        writes, errors = (told["writes"], told["errors"]) if told is not None else (0, 0)
        return ShadowEvidence(writes=writes, write_errors=errors, **dict(swept))
