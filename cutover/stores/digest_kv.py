"""K/V rows as digest sweeps expect them (decision 0014).

Which id a row must have is computed here, from workspace and key, and not believed: the copier's mapping only says
which rows lie in a range of ids. A row that is mapped to another id is not expected there, so what was delivered under
the wrong id shows as nobody's; and rows that have no mapping although all have been reached are expected all the same.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from cutover.stores.database import Database
from cutover.stores.sql import query

MAX_UNMAPPED = 10_000
NO_ROWS = query("digest_kv_none")
"""For tenants without K/V, where the table need not exist."""


@dataclass(frozen=True, slots=True)
class KvRows:
    """Rows that are looked for, as columns: the id that each must have, workspace, key."""

    ids: list[UUID] = field(default_factory=list)
    workspaces: list[UUID] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def add(self, workspace_id: UUID, key: str) -> None:
        """One more."""
        self.ids.append(uuid.uuid5(workspace_id, key))
        self.workspaces.append(workspace_id)
        self.keys.append(key)


class KvExpectation:
    """What one tenant's K/V rows add to the expected side."""

    def __init__(self, tenant: Database) -> None:
        self._tenant = tenant
        self._unmapped: dict[UUID, tuple[UUID, str]] = {}

    async def scan(self) -> None:
        """Look, once per full sweep, for rows that got past the capture. The first `MAX_UNMAPPED` are enough."""
        self._unmapped = {}
        if not await self._captured():
            return
        for row in await self._tenant.fetch(query("digest_kv_unmapped"), MAX_UNMAPPED, timeout=60.0):
            self._unmapped[uuid.uuid5(row["workspace_id"], row["key"])] = (row["workspace_id"], row["key"])

    async def between(self, low: UUID, high: UUID) -> KvRows | None:
        """Rows whose ids lie in a range; None where K/V is not captured."""
        where = "k.memory_id BETWEEN $1 AND $2"
        return await self._rows(where, low, high, unmapped=[each for each in self._unmapped if low <= each <= high])

    async def among(self, ids: Collection[UUID]) -> KvRows | None:
        """Those of `ids` that K/V rows have; None where K/V is not captured."""
        wanted = list(ids)
        return await self._rows(
            "k.memory_id = ANY ($1::uuid[])", wanted, unmapped=[each for each in wanted if each in self._unmapped]
        )

    async def _rows(self, where: str, *arguments: object, unmapped: list[UUID]) -> KvRows | None:
        if not await self._captured():
            return None
        found = KvRows()
        sql = f"SELECT k.memory_id, k.workspace_id, k.key FROM cutover.kv k WHERE {where}"
        for row in await self._tenant.fetch(sql, *arguments, timeout=30.0):
            if row["memory_id"] == uuid.uuid5(row["workspace_id"], row["key"]):
                found.add(row["workspace_id"], row["key"])
        known = set(found.ids)
        for memory_id in unmapped:
            if memory_id not in known:
                found.add(*self._unmapped[memory_id])
        return found

    async def _captured(self) -> bool:
        return bool(await self._tenant.fetchval("SELECT captured FROM cutover.kv_capture"))
