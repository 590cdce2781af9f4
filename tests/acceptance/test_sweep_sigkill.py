"""A digest sweep survives SIGKILL of the real daemon: the same run goes on, finds what is there, and is trusted."""

import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from cutover.embedded.processes import until
from tests.acceptance.conftest import MakeScene
from tests.acceptance.scene import add_memories

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]
_SWEPT = "SELECT count(*) FROM cutover.task_run WHERE kind = 'sweep.digest' AND state = 'finished'"
_CHECKPOINTS = "SELECT count(*) FROM cutover.task_checkpoint WHERE run_id = $1"


async def test_a_killed_sweep_goes_on_where_it_was(make_scene: MakeScene) -> None:
    made = await make_scene()
    ids = list(await add_memories(made.database_url, made.seats, 800))
    await made.enter("A1", "A2")
    await made.control.copy(timeout=120)
    connection = await asyncpg.connect(made.database_url)
    try:

        async def swept_after_the_backfill() -> bool:
            return bool(await connection.fetchval(_SWEPT))

        await until(swept_after_the_backfill, "the sweep that follows a backfill", timeout=60)
        wrong = set(ids[::100])
        await connection.execute(
            "UPDATE memory_plugin.memory_records SET content = content || '!' WHERE id = ANY ($1::uuid[])", list(wrong)
        )
        run = await made.control.start_digest_sweep(full=True)

        async def first_looks_are_on_record() -> bool:
            return int(await connection.fetchval(_CHECKPOINTS, run)) > 0

        # From here on only the second look, T_z later, is to come: killed before it, nothing may be confirmed yet.
        await until(first_looks_are_on_record, "a checkpoint", timeout=60, every=0.01)
        made.daemon.child.kill()
        assert await states(connection) == {"suspect"}
        assert await outcome(connection, run) is None
        await made.daemon.child.start()

        async def ended() -> bool:
            return await outcome(connection, run) is not None

        await until(ended, "the killed sweep to end", timeout=60)
        told = await outcome(connection, run)
        assert told is not None
        assert (told["outcome"], told["trusted"], told["confirmed"]) == ("divergent", True, {"content": len(wrong)})
        assert await connection.fetchval(_CHECKPOINTS, run) >= 1
        found = await connection.fetch("SELECT memory_id FROM cutover.divergence WHERE state = 'confirmed'")
        assert {row["memory_id"] for row in found} == wrong
    finally:
        await connection.close()


async def states(connection: "asyncpg.Connection[asyncpg.Record]") -> set[str]:
    return {row["state"] for row in await connection.fetch("SELECT DISTINCT state FROM cutover.divergence")}


async def outcome(connection: "asyncpg.Connection[asyncpg.Record]", run: UUID) -> dict[str, Any] | None:
    found = await connection.fetchval("SELECT outcome FROM cutover.task_run WHERE id = $1", run)
    return json.loads(found) if found is not None else None
