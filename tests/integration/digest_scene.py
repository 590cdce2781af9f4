"""What tests of digest sweeps do with a scene: sweep, look at findings, hurt the plugin's tables."""

import contextlib
import json
from typing import Any
from uuid import UUID

from cutover.domain.errors import OperatorError
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene

INSERT = "INSERT INTO {records} (id, namespace, content, kind, source) VALUES ($1, $2, $3, 'fact', 'agent')"


async def hurt(s: Scene, sql: str, *arguments: object) -> None:
    """Change the plugin's tables behind everybody's back."""
    done = await s.plugin_database.execute(sql.format(records="memory_plugin.memory_records"), *arguments)
    assert done.endswith(" 1"), done


async def digest(s: Scene, *, full: bool = True, timeout: float = 60.0) -> dict[str, Any]:
    """A digest sweep to its end; its outcome as recorded."""
    return await ended(s, await request(s, full=full), timeout)


async def request(s: Scene, *, full: bool = True) -> UUID:
    """Ask for a digest sweep; after the one that follows a backfill, if that is still under way."""
    digests = s.tenant.digests
    assert digests is not None
    made: list[UUID] = []

    async def accepted() -> bool:
        with contextlib.suppress(OperatorError):
            made.append(await digests.request(full=full, requested_by="test"))
        return bool(made)

    await until(accepted, "a sweep to be accepted", timeout=60, every=0.02)
    return made[0]


async def swept_after_backfill(s: Scene) -> None:
    """Wait for the sweep that follows a backfill by itself."""

    async def swept() -> bool:
        return bool(
            await s.database.fetchval(
                "SELECT count(*) FROM cutover.task_run"
                " WHERE kind = 'sweep.digest' AND requested_by = 'backfill' AND state = 'finished'"
            )
        )

    await until(swept, "the sweep after the backfill", timeout=60)


async def ended(s: Scene, run: UUID, timeout: float = 60.0) -> dict[str, Any]:
    """The outcome of a run, once it has one."""

    async def over() -> bool:
        return bool(await s.database.fetchval("SELECT outcome IS NOT NULL FROM cutover.task_run WHERE id = $1", run))

    await until(over, "the sweep to end", timeout=timeout, every=0.02)
    outcome: dict[str, Any] = json.loads(
        await s.database.fetchval("SELECT outcome FROM cutover.task_run WHERE id = $1", run)
    )
    return outcome


async def findings(s: Scene, *, open_only: bool = True) -> dict[tuple[UUID, str], str]:
    """State by memory and class."""
    rows = await s.database.fetch(
        "SELECT memory_id, class, state FROM cutover.divergence WHERE closed_at IS NULL OR NOT $1", open_only
    )
    return {(row["memory_id"], row["class"]): row["state"] for row in rows}


async def confirmed(s: Scene) -> set[tuple[UUID, str]]:
    """What is confirmed and open."""
    return {key for key, state in (await findings(s)).items() if state == "confirmed"}
