"""What the last verification found, for people: mismatches by id, and sums by workspace."""

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from cutover.domain.errors import InvalidRequest
from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One memory and one way in which it differs. Lengths are bytes; hashes are keyed with a salt that is gone."""

    memory_id: UUID
    what: str
    workspace_id: UUID | None = None
    namespace: str | None = None
    expected_length: int | None = None
    plugin_length: int | None = None

    @property
    def key(self) -> str:
        """Its place in the order, for paging."""
        return f"{self.memory_id}.{self.what}"

    @classmethod
    def from_key(cls, key: str) -> Self:
        """The place that `key` names; raises `InvalidRequest`."""
        memory_id, _, what = key.partition(".")
        try:
            return cls(UUID(memory_id), what)
        except ValueError:
            raise InvalidRequest("after: not a place in this list", next_step="give `next` of the last page") from None

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        return {
            "id": str(self.memory_id),
            "class": self.what,
            "workspace": str(self.workspace_id) if self.workspace_id is not None else None,
            "namespace": self.namespace,
            "expected_length": self.expected_length,
            "plugin_length": self.plugin_length,
        }


class VerifyFindings:
    """Reads `cutover.verify_finding`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, past: Mismatch | None, limit: int) -> list[Mismatch]:
        """The next `limit` mismatches past one, by id and class."""
        rows = await self._database.fetch(
            query("verify_mismatches"),
            past.memory_id if past is not None else None,
            past.what if past is not None else "",
            limit,
        )
        return [
            Mismatch(
                row["memory_id"], row["class"], row["workspace_id"], row["namespace"], row["expected_length"],
                row["plugin_length"],
            )
            for row in rows
        ]  # fmt: skip

    async def by_workspace(self) -> dict[UUID | None, int]:
        """Mismatching memories by workspace; None: of no workspace that is known."""
        rows = await self._database.fetch(
            "select workspace_id, count(distinct memory_id) as rows from cutover.verify_finding"
            " where state = 'confirmed' group by 1",
            timeout=60.0,
        )
        return {row["workspace_id"]: row["rows"] for row in rows}

    async def quarantined(self, workspace_id: UUID | None) -> dict[UUID | None, int]:
        """Quarantined memories by workspace (of one workspace, if given)."""
        rows = await self._database.fetch(
            "select workspace_id, count(*) as rows from cutover.quarantine"
            " where $1::uuid is null or workspace_id = $1 group by 1",
            workspace_id,
        )
        return {row["workspace_id"]: row["rows"] for row in rows}
