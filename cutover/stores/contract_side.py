"""What the tenant's database can say for a sweep of a plugin that has no database to look into (architecture §4).

The expected side is the digest sweep's own. What comes besides is what looking through the contract needs: which
namespaces there are and a draw of ids from each, where a memory belongs and what it says, where else it may lie.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from cutover.domain.errors import DatabaseFault
from cutover.stores.database import Database
from cutover.stores.digest import LAST_ID, DigestReader, Limits
from cutover.stores.recall import RecallStore
from cutover.stores.sql import query

_RANGE = "BETWEEN $2::uuid AND $3::uuid"
_IDS = "= ANY ($2::uuid[])"


@dataclass(frozen=True, slots=True)
class Share:
    """A namespace's part of a range: its expected rows, and some of their ids drawn at random."""

    namespace: str
    rows: int
    ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a memory belongs, and what it says. The content is for searching with and for nothing else."""

    namespace: str
    content: str


class ContractSide(DigestReader):
    """The tenant's side of one tenant; the plugin's is read by whoever derives from this. Raises as `DigestReader`."""

    def __init__(self, tenant: Database, *, leaving_out: tuple[str, ...]) -> None:
        super().__init__(tenant, tenant, leaving_out=leaving_out)

    async def edge(self, low: UUID, rows: int, limits: Limits) -> UUID:
        """The end of a range from `low` that holds at most `rows` expected rows."""
        found = await self._timed(self._tenant, query("digest_edge_expected"), limits, low, rows)
        return min((row["edge"] for row in found if row["rows"] >= rows), default=LAST_ID)

    async def inventory(self, key: bytes, low: UUID, high: UUID, most: int, limits: Limits) -> list[Share]:
        """Expected rows of a range by namespace, with at most `most` ids of each, drawn by `key`."""
        sql, kv = await self._expected("contract_inventory", _RANGE, 5, await self._kv.between(low, high))
        rows = await self._timed(self._tenant, sql, limits, key, low, high, most, *kv)
        return [Share(row["namespace"], row["of_all"], tuple(row["ids"])) for row in rows]

    async def wanted(self, ids: Collection[UUID], limits: Limits) -> dict[UUID, Wanted]:
        """Where expected memories belong and what they say; those that are not expected are not there."""
        sql, kv = await self._expected("contract_contents", _IDS, 3, await self._kv.among(ids))
        rows = await self._timed(self._tenant, sql, limits, b"", list(ids), *kv)
        return {row["id"]: Wanted(row["namespace"], row["content"]) for row in rows}

    async def places(self, ids: Collection[UUID]) -> dict[UUID, set[str]]:
        """Other namespaces in which memories may be held."""
        found: dict[UUID, set[str]] = {}
        for row in await self._tenant.fetch(query("contract_places"), list(ids), timeout=30.0):
            found.setdefault(row["id"], set()).add(row["namespace"])
        return found

    async def readable(self, workspace_id: UUID) -> tuple[str, ...]:
        """The namespaces a workspace reads; none for an unknown one."""
        tree = await RecallStore(self._tenant).tree([workspace_id])
        return tree.readable(workspace_id) if workspace_id in tree else ()

    async def namespaces(self, past: str, most: int) -> list[str]:
        """Names, ascending, of namespaces that may hold something of ours."""
        rows = await self._tenant.fetch(query("contract_namespaces"), past, most, timeout=30.0)
        return [row["namespace"] for row in rows if row["namespace"] not in self._leaving_out]

    async def full_text_finds(self, content: str, text: str) -> bool:
        """Whether full text finds `text` in `content`; False as well for content that full text cannot take."""
        try:
            return bool(await self._tenant.fetchval(query("contract_matching"), content, text, timeout=10.0))
        except DatabaseFault:
            return False
