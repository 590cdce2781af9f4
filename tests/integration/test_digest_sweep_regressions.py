"""Ways in which a digest sweep once said clean, or divergent, and was wrong. Each was shown to fail before its fix."""

from typing import Any
from uuid import uuid4

import pytest

from cutover.domain.load_budget import LoadPolicy
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from cutover.embedded.processes import until
from tests.integration.digest_scene import INSERT, confirmed, digest, ended, findings, hurt
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD
from tests.integration.test_digest_sweep_course import made
from tests.integration.test_verify import mismatches, verify

COMMITS = on("POST", r"/memories$")
SMALL = LoadPolicy(chunk_seconds=0.0001, share=1.0, first=20, smallest=20)


async def evidence(s: Scene) -> Any:
    return (await s.tenant._readiness.gather()).digest


async def test_an_open_transaction_hides_nothing(database: str) -> None:
    """While any transaction is open, the oldest running one stands still; what was delivered since is settled all the
    same."""
    async with scene(database, phase=Phase.A1) as s:
        async with s.database.transaction() as idle:
            await idle.execute("CREATE TEMPORARY TABLE held_open (x int)")
            lost = await s.create(CHILD, "delivered while somebody's transaction is open")
            await s.quiet()
            await hurt(s, "DELETE FROM {records} WHERE id = $1", lost.id)
            for full in (True, False):
                await digest(s, full=full)
            assert await confirmed(s) == {(lost.id, "missing_in_plugin")}


async def test_a_database_that_was_moved_is_swept_whole(database: str) -> None:
    """After a dump and restore the log's transactions lie beyond the new server's present."""
    async with scene(database, phase=Phase.A1, rows=made(5)) as s:
        await s.enter(Phase.A2)
        lost = await s.create(CHILD, "logged on another server")
        await s.quiet()
        await digest(s)
        await s.database.execute("UPDATE cutover.delivery_log SET xid = '9000000000000'")
        await s.database.execute(
            "UPDATE cutover.task_run SET outcome = jsonb_set(outcome, '{snapshot}', '\"9000000000000:9000000000000:\"')"
            " WHERE kind = 'sweep.digest'"
        )
        await s.daemons[-1].abandon()
        await s.daemon()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", lost.id)
        assert (await digest(s, full=False))["full"] is True
        assert await confirmed(s) == {(lost.id, "missing_in_plugin")}


async def test_what_an_incremental_sweep_confirmed_closes_the_gate(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(5)) as s:
        await s.enter(Phase.A2)
        receipt = await s.create(CHILD, "delivered")
        await s.quiet()
        await digest(s)
        assert (await evidence(s)).open_findings == 0
        await s.edit(CHILD, receipt.id, "delivered again")
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", receipt.id)
        await digest(s, full=False)
        await s.tenant._readiness.fresh(Phase.A3)  # what costs a query is kept for a moment
        assert (await evidence(s)).open_findings == 1


async def test_a_sweep_begun_in_another_phase_begins_anew(database: str) -> None:
    load = LoadPolicy(chunk_seconds=0.0001, share=0.02, first=20, smallest=20)
    rows = made(160)
    async with scene(database, phase=Phase.A1, rows=rows, sweep_load=load) as s:
        assert s.tenant.digests is not None
        run = await s.tenant.digests.request(full=True, requested_by="schedule")

        async def begun() -> bool:
            sql = "SELECT count(*) FROM cutover.task_checkpoint WHERE run_id = $1"
            return bool(await s.database.fetchval(sql, run))

        await until(begun, "a first checkpoint", timeout=30, every=0.005)
        await s.daemons[-1].abandon()
        await s.database.execute("UPDATE cutover.task_run SET state = 'finished' WHERE id = $1", run)  # out of the way
        await s.daemon()
        await s.enter(Phase.A2)
        await s.quiet()
        await s.database.execute("UPDATE cutover.task_run SET state = 'running' WHERE id = $1", run)
        await hurt(s, "DELETE FROM {records} WHERE id = $1", min(row[0] for row in rows))
        await s.daemons[-1].abandon()
        await s.daemon(sweep_load=SMALL)
        outcome = await ended(s, run)
        assert (outcome["outcome"], outcome["expected_rows"], outcome["coverage"]) == ("divergent", 160, 1.0)


async def test_coverage_is_what_was_looked_at(database: str) -> None:
    rows = made(40)
    async with scene(database, phase=Phase.A1, rows=rows, sweep_load=SMALL) as s:
        for number in range(3):
            await s.commit("custom:x", f"native {number}", pin=True)
        await s.quiet()
        assert (await digest(s))["coverage"] == 0.0
        await s.enter(Phase.A2)
        await s.quiet()
        assert (await digest(s))["coverage"] == 1.0


async def test_verify_does_not_call_exact_what_waits_for_delivery(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(5)) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        assert s.proxy is not None
        await verify(s)
        s.proxy.rule(lambda request: COMMITS(request) and b"never" in request.body, answer(500))
        receipt = await s.create(CHILD, "never taken")
        await s.database.execute("UPDATE cutover.mark SET marked_at = marked_at - interval '1 minute'")
        outcome = await verify(s)
        assert (outcome["outcome"], outcome["waiting"]) == ("partial", 1), outcome
        assert "wait for delivery" in outcome["why"]
        assert await mismatches(s, outcome["run"]) == set()
        assert await s.content(receipt.id) is None


TIMES = {
    "updated_at lost": "propagation #- '{{cutover,updated_at}}'",
    "created_at another": "jsonb_set(propagation, '{{cutover,created_at}}', '\"1999-01-01T00:00:00.000000Z\"')",
    "created_at lost": "propagation #- '{{cutover,created_at}}'",
}


async def test_what_v1_readers_get_after_the_cutover_is_compared(database: str) -> None:
    rows = made(len(TIMES))
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        for row, change in zip(rows, TIMES.values(), strict=True):
            await hurt(s, f"UPDATE {{records}} SET propagation = {change} WHERE id = $1", row[0])
        await digest(s)
        assert await confirmed(s) == {(row[0], "provenance") for row in rows}


async def test_faults_of_another_sweep_are_nobodys_findings(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=made(5)) as s:
        await digest(s)
        # As if another daemon had planted them: not ours, and yet no memories.
        await s.database.execute("UPDATE cutover.canary SET planted_by = gen_random_uuid()")
        others = [row["memory_id"] for row in await s.database.fetch("SELECT memory_id FROM cutover.canary")]
        copy = "INSERT INTO cutover.canary SELECT gen_random_uuid(), fault, namespace, content, now(), planted_by"
        await s.database.execute(f"{copy} FROM cutover.canary")
        outcome = await digest(s)
        assert (outcome["outcome"], outcome["trusted"]) == ("clean", True), (outcome, await findings(s))
        assert others


@pytest.mark.parametrize("time", ["'20000-01-01'", "'0100-01-01 BC'", "'infinity'"])
async def test_a_time_that_no_client_can_hold_is_a_finding_and_no_failure(database: str, time: str) -> None:
    rows = made(5)
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await s.tenant._creation_times.flush()
        await hurt(s, f"UPDATE {{records}} SET created_at = {time} WHERE id = $1", rows[0][0])
        await hurt(s, "DELETE FROM {records} WHERE id = $1", rows[1][0])
        outcome = await digest(s)
        assert await confirmed(s) == {(rows[1][0], "missing_in_plugin")}
        assert outcome["mended"] == 1


async def test_an_acceptance_ends_with_the_next_change(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        receipt = await s.create(CHILD, "accepted as it is")
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", receipt.id)
        await digest(s)
        await s.database.execute(
            "UPDATE cutover.divergence SET state = 'accepted', accepted_by = 'a', accepted_at = now(), why = 'known'"
        )
        assert (await digest(s))["outcome"] == "clean"
        await s.edit(CHILD, receipt.id, "another thing")
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'wrong again' WHERE id = $1", receipt.id)
        await digest(s, full=False)
        assert await findings(s) == {(receipt.id, "content"): "confirmed"}


async def test_what_changed_while_nothing_was_captured_is_no_divergence_before_the_backfill(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        receipt = await s.create(CHILD, "delivered in the first generation")
        await s.quiet()
        await s.enter(Phase.A0)
        await s.database.execute("UPDATE agent_memories SET content = 'changed in A0' WHERE id = $1", receipt.id)
        await s.enter(Phase.A1)
        await s.quiet()
        assert (await digest(s))["outcome"] == "clean", await findings(s)


async def test_a_repair_that_was_not_delivered_yet_is_no_clean_sweep(database: str) -> None:
    rows = made(3)
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", rows[0][0])
        await digest(s)
        assert s.proxy is not None
        s.proxy.rule(COMMITS, answer(500))
        await s.database.execute("UPDATE cutover.divergence SET state = 'repaired', repair_by = 'a', repair_at = now()")
        await s.database.execute(
            "INSERT INTO cutover.mark (memory_id, rev, origin) VALUES ($1, nextval('cutover.rev_seq'), 'repair')",
            rows[0][0],
        )
        outcome = await digest(s)
        assert outcome["outcome"] != "clean", outcome


async def test_what_is_quarantined_and_yet_held_is_named(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=[(uuid4(), CHILD, "  ", "LOCAL")]) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        (blank,) = [row["memory_id"] for row in await s.database.fetch("SELECT memory_id FROM cutover.quarantine")]
        await s.create(CHILD, "makes the namespace")
        await s.quiet()
        await hurt(s, INSERT, blank, f"workspace:{CHILD}", "what it once said")
        await digest(s)
        assert await confirmed(s) == {(blank, "namespace")}
