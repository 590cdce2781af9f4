"""The course of digest sweeps: incremental ones, live traffic, crashes, busy databases, findings that come and go."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

from cutover.domain.errors import OperatorError
from cutover.domain.load_budget import LoadPolicy
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.integration.digest_scene import (
    INSERT,
    confirmed,
    digest,
    ended,
    findings,
    hurt,
    request,
    swept_after_backfill,
)
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT

SMALL = LoadPolicy(chunk_seconds=0.0001, share=1.0, first=20, smallest=20)
"""Chunks so small that a few rows take many."""


def made(count: int) -> list[tuple[Any, ...]]:
    return [
        (uuid4(), CHILD if n % 2 else ROOT, f"memory {n}", ("LOCAL", "TEAM", "GLOBAL")[n % 3]) for n in range(count)
    ]


async def test_before_the_backfill_what_is_missing_is_no_divergence_and_what_is_there_must_be_right(
    database: str,
) -> None:
    rows = made(50)
    async with scene(database, phase=Phase.A1, rows=rows, sweep_load=SMALL) as s:
        assert (await digest(s))["outcome"] == "clean"
        await s.edit(CHILD, rows[1][0], "edited, so delivered")
        await s.quiet()
        extra = uuid4()
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", rows[1][0])
        await hurt(s, INSERT, extra, (await s.plugin(rows[1][0]))["namespace"], "nobody knows")  # type: ignore[index]
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert outcome["coverage"] < 1
        assert await confirmed(s) == {(rows[1][0], "content"), (extra, "missing_in_legacy")}
        # Deleting it there is seen by an incremental sweep, which knows that it was delivered.
        await s.edit(CHILD, rows[3][0], "delivered, then lost")
        await s.quiet()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", rows[3][0])
        assert (await digest(s, full=False))["full"] is False
        assert (rows[3][0], "missing_in_plugin") in await confirmed(s)


async def test_an_incremental_sweep_looks_at_what_was_delivered_since(database: str) -> None:
    rows = made(200)
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        first = await digest(s, full=False)
        assert first["full"] is True, "there was nothing to build on"
        await s.enter(Phase.A2)
        await s.quiet()
        await digest(s, full=True)
        old, changed = rows[0][0], await s.create(CHILD, "new")
        await s.quiet()
        await hurt(
            s,
            "UPDATE {records} SET content = 'other' WHERE id = ANY ($1::uuid[]) AND id = $2",
            [changed.id],
            changed.id,
        )
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", old)
        second = await digest(s, full=False)
        assert (second["full"], second["trusted"]) == (False, True), second
        assert second["compared"] < 50
        assert await confirmed(s) == {(changed.id, "content")}
        # What changed without a delivery is what full sweeps are for.
        await digest(s, full=True)
        assert await confirmed(s) == {(changed.id, "content"), (old, "content")}


async def test_findings_say_when_they_began_close_by_themselves_and_come_back(database: str) -> None:
    rows = made(30)
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await digest(s)
        between = await s.database.fetchval("SELECT clock_timestamp()")
        await hurt(s, "UPDATE {records} SET content = content || '!' WHERE id = $1", rows[0][0])
        after = await s.database.fetchval("SELECT clock_timestamp()")
        await digest(s)
        found = await one(s, rows[0][0])
        assert found["onset_after"] < between < after < found["onset_before"]
        assert (found["state"], found["namespace_kind"], found["source"]) == ("confirmed", "workspace", "memory")
        assert found["expected_length"] + 1 == found["plugin_length"]
        assert found["expected_hash"] != found["plugin_hash"]
        await hurt(s, "UPDATE {records} SET content = left(content, -1) WHERE id = $1", rows[0][0])
        assert (await digest(s, full=False))["outcome"] == "clean"
        closed = await one(s, rows[0][0])
        assert (closed["state"], closed["closed_by"]) == ("repaired", "itself")
        await hurt(s, "UPDATE {records} SET content = content || '!' WHERE id = $1", rows[0][0])
        await digest(s)
        again = await one(s, rows[0][0])
        assert (again["state"], again["closed_at"]) == ("confirmed", None)
        assert again["first_seen"] > closed["closed_at"]


async def one(s: Scene, memory_id: UUID) -> dict[str, Any]:
    found = await s.database.fetchrow("SELECT * FROM cutover.divergence WHERE memory_id = $1", memory_id)
    assert found is not None
    return dict(found)


@contextlib.asynccontextmanager
async def traffic(s: Scene, ids: list[UUID]) -> AsyncIterator[None]:
    """Creates, edits and deletes all the time, some memories again and again, some past the daemon."""

    async def forever(number: int) -> None:
        mine: list[UUID] = []
        for turn in range(1_000_000):
            with contextlib.suppress(Exception):  # refused for a moment: callers try again
                receipt = await s.create(CHILD, f"live {number} {turn}")
                mine.append(receipt.id)
                await s.edit(CHILD, ids[0], f"hot {number} {turn}")
                await s.edit(CHILD, mine[turn % len(mine)], f"again {turn}")
                if turn % 3 == 2:
                    await s.delete(CHILD, mine.pop(0))
                await s.database.execute(
                    "UPDATE agent_memories SET content = $2 WHERE id = $1", ids[1 + turn % 5], f"past the daemon {turn}"
                )

    tasks = [asyncio.create_task(forever(number)) for number in range(3)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_live_traffic_raises_no_false_alarm_and_hides_no_real_one(database: str) -> None:
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(300)]
    ids = [row[0] for row in rows]
    async with scene(database, phase=Phase.A1, rows=rows, sweep_load=SMALL) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", ids[100])
        async with traffic(s, ids):
            for full in (True, False, True):
                outcome = await digest(s, full=full)
                assert outcome["trusted"], outcome
                assert await confirmed(s) == {(ids[100], "content")}, outcome
        await s.quiet()
        await digest(s)
        assert await findings(s) == {(ids[100], "content"): "confirmed"}


async def checkpoints(s: Scene, run: UUID) -> int:
    return int(await s.database.fetchval("SELECT count(*) FROM cutover.task_checkpoint WHERE run_id = $1", run))


async def test_killed_at_every_checkpoint_it_goes_on_and_finds_all(database: str) -> None:
    rows = made(160)
    # Resting long between its chunks, so that each can be killed however slow the machine is.
    slow = replace(SMALL, share=0.02)
    async with scene(database, phase=Phase.A1, rows=rows, sweep_load=slow) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        wrong = {row[0] for row in rows[::20]}
        for memory_id in wrong:
            await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", memory_id)
        assert s.tenant.digests is not None
        run = await s.tenant.digests.request(full=True, requested_by="schedule")
        for seen in range(1, 200):

            async def further(seen: int = seen) -> bool:
                ended_now = await s.database.fetchval(
                    "SELECT outcome IS NOT NULL FROM cutover.task_run WHERE id = $1", run
                )
                return bool(ended_now) or await checkpoints(s, run) >= seen

            await until(further, "another checkpoint", timeout=30, every=0.001)
            if await s.database.fetchval("SELECT outcome IS NOT NULL FROM cutover.task_run WHERE id = $1", run):
                break
            await s.daemons[-1].abandon()
            await s.daemon()
        outcome = await ended(s, run)
        assert len(s.daemons) > 4, "it was over before anything could be killed"
        assert (outcome["outcome"], outcome["trusted"]) == ("divergent", True), outcome
        assert outcome["expected_rows"] == 160
        assert await confirmed(s) == {(memory_id, "content") for memory_id in wrong}
        positions = [
            json.loads(row["data"])["position"]
            for row in await s.database.fetch(
                "SELECT data FROM cutover.task_checkpoint WHERE run_id = $1 ORDER BY seq", run
            )
        ]
        assert positions == sorted(positions), "a range was gone through again"


async def test_a_sweep_that_cannot_see_is_not_trusted(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(5)) as s:
        # The plugin loses what is planted as extra, so that the sweep cannot find it.
        await s.plugin_database.execute("""
            CREATE FUNCTION public.lose() RETURNS trigger LANGUAGE plpgsql AS $$ begin
                if new.content like 'planted extra%' then return null; end if; return new; end $$;
            CREATE TRIGGER lose BEFORE INSERT ON memory_plugin.memory_records
                FOR EACH ROW EXECUTE FUNCTION public.lose();
        """)
        outcome = await digest(s)
        assert outcome["trusted"] is False
        assert outcome["canary"]["caught"] == {"missing": 2, "changed": 2, "extra": 0, "resurrected": 2}
        assert "no evidence" in outcome["why"]
        await s.plugin_database.execute("DROP TRIGGER lose ON memory_plugin.memory_records")
        assert (await digest(s))["trusted"] is True


async def test_a_busy_database_is_left_alone(database: str) -> None:
    load = LoadPolicy(max_active=2, share=1.0)
    async with scene(database, phase=Phase.A1, rows=made(5), sweep_load=load) as s:
        busy = [asyncio.create_task(s.database.fetchval("SELECT pg_sleep(60)", timeout=90)) for _ in range(3)]
        run = await request(s)

        async def waits() -> bool:
            progress = s.tenant.digests.progress if s.tenant.digests is not None else None
            return progress is not None and "sessions at work" in progress["throttled"]

        try:
            await until(waits, "the sweep to wait", timeout=20, every=0.02)
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
        assert (await ended(s, run))["outcome"] == "clean"


async def test_no_statement_of_a_sweep_waits_longer_than_it_may(database: str) -> None:
    load = LoadPolicy(chunk_seconds=0.01, longest_statement=0.3, longest_of_all=0.5, first=1000, smallest=20, share=1.0)
    async with scene(database, phase=Phase.A1, rows=made(100), sweep_load=load) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        async with s.database.transaction() as blocker:
            await blocker.execute("LOCK TABLE agent_memories IN ACCESS EXCLUSIVE MODE")
            outcome = await digest(s)
        # Tried again with smaller chunks, then given up with the reason. It neither hung nor called anything clean.
        assert outcome["outcome"] == "failed"
        assert "57014" in outcome["why"]
        assert (await digest(s))["outcome"] == "clean"


async def test_a_phase_change_ends_a_sweep_with_the_reason(database: str) -> None:
    load = LoadPolicy(max_active=0, share=1.0)  # waits until nobody else is at work
    async with scene(database, phase=Phase.A1, rows=made(5), sweep_load=load) as s:
        busy = asyncio.create_task(s.database.fetchval("SELECT pg_sleep(60)", timeout=90))
        run = await request(s)

        async def waits() -> bool:
            progress = s.tenant.digests.progress if s.tenant.digests is not None else None
            return progress is not None and bool(progress["throttled"])

        await until(waits, "the sweep to wait", timeout=20, every=0.02)
        await s.step(Phase.A2)
        outcome = await ended(s, run)
        assert (outcome["outcome"], outcome["why"]) == ("failed", "the phase changed during the sweep")
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        assert (await digest(s))["outcome"] == "clean"


async def test_in_a0_nothing_can_be_said(database: str) -> None:
    async with scene(database, rows=made(3)) as s:
        outcome = await digest(s)
        assert (outcome["outcome"], outcome["trusted"]) == ("partial", False)
        assert "A0" in outcome["why"]


async def test_two_daemons_do_not_sweep_at_once(database: str) -> None:
    load = LoadPolicy(max_active=0, share=1.0)
    async with scene(database, phase=Phase.A1, rows=made(5), sweep_load=load) as s:
        busy = asyncio.create_task(s.database.fetchval("SELECT pg_sleep(60)", timeout=90))
        first = s.tenant.digests
        assert first is not None
        run = await request(s)

        async def under_way() -> bool:
            return first.progress is not None and bool(first.progress["throttled"])

        await until(under_way, "the first sweep", timeout=20, every=0.02)
        await s.daemon()
        outcome = await digest(s)
        assert outcome["outcome"] == "failed"
        assert "another sweep" in outcome["why"]
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        assert (await ended(s, run))["outcome"] == "clean"


async def test_times_of_a_finding_are_the_databases_own(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(3)) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        (wrong,) = [row["id"] for row in await s.database.fetch("SELECT id FROM agent_memories LIMIT 1")]
        await hurt(s, "DELETE FROM {records} WHERE id = $1", wrong)
        await digest(s)
        found = await one(s, wrong)
        now: datetime = await s.database.fetchval("SELECT clock_timestamp()")
        assert found["first_seen"] <= found["confirmed_at"] <= now
        assert (found["confirmed_at"] - found["looked_at"]).total_seconds() >= 1.2


async def test_a_finished_backfill_is_followed_by_a_full_sweep(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(20), digest_after_backfill=True) as s:
        await s.enter(Phase.A2)
        await swept_after_backfill(s)
        evidence = (await s.tenant._readiness.gather()).digest
        assert evidence is not None
        assert (evidence.outcome, evidence.trusted, evidence.coverage) == ("clean", True, 1.0)
        await s.enter(Phase.A0)
        await s.enter(Phase.A1)
        assert (await s.tenant._readiness.gather()).digest is None, "evidence of an earlier generation"


async def test_a_sweep_that_is_wanted_and_cannot_be_made_is_tried_again_in_peace(database: str) -> None:
    # It was begun anew more than a hundred times a second while the plugin was away.
    async with scene(database, phase=Phase.A2) as s:
        assert s.proxy is not None
        fault = s.proxy.rule(on("PUT", r"/v1/namespaces/"), answer(500))
        s.tenant.digests.wish("schedule")
        failed = "SELECT started_at FROM cutover.task_run WHERE kind = 'sweep.digest' AND state = 'failed' ORDER BY 1"

        async def thrice() -> bool:
            return len(await s.database.fetch(failed)) >= 3

        await until(thrice, "three sweeps to fail", timeout=30)
        began = [row["started_at"] for row in await s.database.fetch(failed)]
        assert min(later - earlier for earlier, later in pairwise(began)).total_seconds() > 1
        before = await s.count("cutover.task_run WHERE kind = 'sweep.digest' AND outcome ->> 'outcome' = 'clean'")
        fault.off()

        async def clean() -> bool:
            found = await s.count("cutover.task_run WHERE kind = 'sweep.digest' AND outcome ->> 'outcome' = 'clean'")
            return found > before

        await until(clean, "the sweep that is wanted", timeout=30)


async def test_of_many_that_ask_at_once_one_gets_a_sweep(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(3)) as s:
        digests = s.tenant.digests
        assert digests is not None
        answers = await asyncio.gather(
            *(digests.request(full=True, requested_by="test") for _ in range(5)), return_exceptions=True
        )
        runs = [each for each in answers if isinstance(each, UUID)]
        assert len(runs) == 1
        assert all(isinstance(each, OperatorError | UUID) for each in answers)
        await ended(s, runs[0])
        assert await s.database.fetchval("SELECT count(*) FROM cutover.task_run WHERE kind = 'sweep.digest'") == 1


async def test_old_deliveries_are_forgotten_once_they_were_swept(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        for number in range(5):
            await s.create(CHILD, f"memory {number}")
        await s.quiet()
        assert await s.count("cutover.delivery_log") == 5
        await s.database.execute("UPDATE cutover.delivery_log SET at = now() - interval '4 days' WHERE memory_id IN"
                                 " (SELECT memory_id FROM cutover.delivery_log LIMIT 3)")  # fmt: skip
        await digest(s, full=True)
        # The update gave them later transactions, which the first sweep had not seen the end of.
        await digest(s, full=True)
        assert await s.count("cutover.delivery_log") == 2


async def test_a_sweep_that_proved_nothing_does_not_put_the_next_one_off(database: str) -> None:
    async with scene(database, rows=made(3)) as s:
        assert (await digest(s, full=True))["outcome"] == "partial"  # in A0
        await s.step(Phase.A1)
        assert s.tenant.digests is not None
        await s.tenant.digests.full_due(86_400)

        async def swept() -> bool:
            last = s.tenant.digests.last if s.tenant.digests is not None else None
            return last is not None and bool(last["full"]) and bool(last["trusted"])

        await until(swept, "the full sweep that is due", timeout=30)
        runs = await s.count("cutover.task_run WHERE kind = 'sweep.digest'")
        await s.tenant.digests.full_due(86_400)
        assert await s.count("cutover.task_run WHERE kind = 'sweep.digest'") == runs
