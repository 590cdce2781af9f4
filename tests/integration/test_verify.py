"""Verify: exact at any size, per workspace, with every mismatching id (architecture §5, domain §4.3)."""

import json
from typing import Any
from uuid import UUID, uuid4

from cutover.domain.phase import Phase
from tests.integration.digest_scene import INSERT, ended, findings, hurt
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT


async def verify(s: Scene, workspace_id: UUID | None = None) -> dict[str, Any]:
    run = (await s.tenant.operations.start_verify(workspace_id=workspace_id, actor="test"))["run"]
    outcome = await ended(s, UUID(run))
    outcome["run"] = UUID(run)
    return outcome


async def mismatches(s: Scene, run: UUID, limit: int = 1000) -> set[tuple[str, str]]:
    """All of them, page by page."""
    found: set[tuple[str, str]] = set()
    after = None
    while True:
        page = await s.tenant.operations.verify_mismatches(run, after=after, limit=limit)
        found |= {(each["id"], each["class"]) for each in page["mismatches"]}
        after = page["next"]
        if after is None:
            return found


def by_workspace(outcome: dict[str, Any]) -> dict[str | None, tuple[int, int, int]]:
    return {
        each["workspace"]: (each["memories"], each["quarantined"], each["mismatches"]) for each in outcome["workspaces"]
    }


async def test_a_workspace_of_more_than_a_hundred_memories_is_exact(database: str) -> None:
    rows: list[tuple[Any, ...]] = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(250)]
    rows += [(uuid4(), ROOT, f"memory {n}", "GLOBAL") for n in range(30)]
    rows += [(uuid4(), None, "of nobody", "LOCAL"), (uuid4(), CHILD, "  ", "TEAM")]
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        outcome = await verify(s)
        assert (outcome["outcome"], outcome["trusted"], outcome["mismatches"]) == ("clean", True, 0), outcome
        told = by_workspace(outcome)
        assert told[str(CHILD)] == (250, 1, 0)
        assert told[str(ROOT)] == (30, 0, 0)
        assert told[None][1] == 1
        # One hurt row among them is named, and nothing else.
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", rows[123][0])
        again = await verify(s)
        assert again["outcome"] == "divergent"
        assert await mismatches(s, again["run"]) == {(str(rows[123][0]), "content")}
        assert by_workspace(again)[str(CHILD)] == (250, 1, 1)


async def test_what_is_not_copied_yet_is_a_mismatch_here_and_no_divergence(database: str) -> None:
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(23)]
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        outcome = await verify(s)
        assert outcome["mismatches"] == 23
        assert await mismatches(s, outcome["run"], limit=5) == {(str(row[0]), "missing_in_plugin") for row in rows}
        assert await findings(s, open_only=False) == {}


async def test_one_workspace_only(database: str) -> None:
    rows = [(uuid4(), CHILD if n % 2 else ROOT, f"memory {n}", "LOCAL") for n in range(20)]
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        mine, theirs = rows[1][0], rows[0][0]
        extra = uuid4()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", mine)
        await hurt(s, "DELETE FROM {records} WHERE id = $1", theirs)
        await hurt(s, INSERT, extra, f"workspace:{CHILD}", "nobody knows")
        outcome = await verify(s, CHILD)
        assert outcome["trusted"], outcome
        assert await mismatches(s, outcome["run"]) == {
            (str(mine), "missing_in_plugin"),
            (str(extra), "missing_in_legacy"),
        }
        assert json.dumps(outcome["workspaces"])  # what the API gives
        assert by_workspace(outcome)[str(CHILD)][0] == 10
