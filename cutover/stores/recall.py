"""What a recall sweep asks the tenant's database: whose a memory is, the tree above a workspace, what has moved."""

from collections.abc import Iterable
from uuid import UUID

from cutover.domain.namespace import Scope
from cutover.domain.recall import Known, Node, Tree
from cutover.stores.database import Database
from cutover.stores.sql import query

_SECONDS = 10.0


class RecallStore:
    """Reads of one tenant's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, memories: Iterable[UUID]) -> dict[UUID, Known]:
        """Owner and scope, or namespace, of each memory that there is."""
        rows = await self._database.fetch(query("recall_known"), list(memories), timeout=_SECONDS)
        return {
            row["id"]: Known(row["workspace_id"], Scope(row["scope"]) if row["scope"] else None, row["namespace"])
            for row in rows
        }

    async def contents(self, memories: Iterable[UUID]) -> dict[UUID, str]:
        """What each memory says: to look for it by, and for nothing else."""
        rows = await self._database.fetch(query("recall_contents"), list(memories), timeout=_SECONDS)
        return {row["id"]: row["content"] for row in rows}

    async def tree(self, workspaces: Iterable[UUID]) -> Tree:
        """The workspaces that there are of these, with all above them."""
        rows = await self._database.fetch(query("recall_tree"), list(workspaces), timeout=_SECONDS)
        return Tree({row["id"]: Node(row["parent_id"], row["removed"]) for row in rows})

    async def some_workspaces(self, most: int) -> tuple[tuple[UUID, ...], int]:
        """At most `most` workspaces at random, and how many the tenant has."""
        rows = await self._database.fetch(query("recall_workspaces"), most, timeout=_SECONDS)
        return tuple(row["id"] for row in rows), rows[0]["of_all"] if rows else 0

    async def horizon(self) -> str:
        """A point in the history of transactions, for `touched`."""
        value: str = await self._database.fetchval(query("recall_horizon"), timeout=_SECONDS)
        return value

    async def timeless(self, memories: Iterable[UUID]) -> frozenset[UUID]:
        """Of these memories, those whose place among the newest is not defined: legacy knows no creation time."""
        rows = await self._database.fetch(query("recall_timeless"), list(memories), timeout=_SECONDS)
        return frozenset(row["id"] for row in rows)

    async def touched(self, memories: Iterable[UUID], horizon: str) -> frozenset[UUID]:
        """Of these memories, those marked now or delivered since `horizon`."""
        rows = await self._database.fetch(query("recall_touched"), list(memories), horizon, timeout=_SECONDS)
        return frozenset(row["memory_id"] for row in rows)
