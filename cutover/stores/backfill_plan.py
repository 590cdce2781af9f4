"""What a backfill would do: counts only, nothing is changed (`cutover backfill --dry-run`)."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """Rows to copy, and rows that cannot be placed, by reason."""

    rows: int
    workspaces: int
    no_workspace: int
    workspace_gone: int
    empty_content: int

    @property
    def placeable(self) -> int:
        """Rows that will be delivered."""
        return self.rows - self.no_workspace - self.workspace_gone - self.empty_content

    def as_json(self) -> dict[str, Any]:
        """For the ops API and the CLI."""
        return {
            "rows": self.rows,
            "workspaces": self.workspaces,
            "placeable": self.placeable,
            "quarantine": {
                "no_workspace": self.no_workspace,
                "workspace_gone": self.workspace_gone,
                "empty_content": self.empty_content,
            },
        }


async def plan_backfill(database: Database, workspace_id: UUID | None) -> BackfillPlan:
    """Count what there is to copy, of one workspace or all."""
    row = await database.fetchrow(query("backfill_plan"), workspace_id, timeout=120.0)
    assert row is not None  # noqa: S101 - an aggregate gives one row
    return BackfillPlan(
        row["rows"], row["workspaces"], row["no_workspace"], row["workspace_gone"], row["empty_content"]
    )


async def plan_kv_backfill(database: Database) -> BackfillPlan:
    """The same for K/V rows."""
    row = await database.fetchrow(query("backfill_plan_kv"), timeout=120.0)
    assert row is not None  # noqa: S101
    return BackfillPlan(row["rows"], row["workspaces"], 0, row["workspace_gone"], 0)


async def workspace_exists(database: Database, workspace_id: UUID) -> bool:
    """Whether the tree knows this workspace, or legacy holds rows of it."""
    sql = (
        "select exists (select from public.workspaces where id = $1)"
        " or exists (select from public.agent_memories where workspace_id = $1)"
    )
    return bool(await database.fetchval(sql, workspace_id))
