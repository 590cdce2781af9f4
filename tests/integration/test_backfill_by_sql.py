"""`--via database` as a whole run: when it is chosen, what it leaves to the contract, crashes, controls, progress."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cutover.domain.backfill import REASONS, Via
from cutover.domain.errors import InvalidRequest, NotFound, OperatorError
from cutover.domain.events import BackfillAdvanced
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import on
from cutover.embedded.processes import until
from cutover.engine.backfill_progress import BackfillLimits
from tests.conftest import MakeDatabase
from tests.integration.lock_scene import foreign_transaction
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD

COMMITS = on("POST", r"/memories$")
LIMITS = BackfillLimits(chunk=50, rate=0.0, queue=1000, pause_file=None)


def key(number: int) -> UUID:
    return UUID(int=number << 96)


def rows(count: int) -> list[tuple[UUID, UUID, str, str]]:
    return [(key(number), CHILD, f"row {number}", "LOCAL") for number in range(1, count + 1)]


async def in_a2(s: Scene) -> None:
    await s.step(Phase.A1)
    await s.step(Phase.A2)


async def start(s: Scene, **options: Any) -> dict[str, Any]:
    return await s.tenant.operations.start_backfill(**{"apply": True, "actor": "ada", **options})


async def reaches(s: Scene, shows: Callable[[dict[str, Any]], bool], timeout: float = 20) -> dict[str, Any]:
    told: dict[str, Any] = {}

    async def condition() -> bool:
        told.update(await s.tenant.operations.backfill_status())
        return shows(told)

    await until(condition, "the progress that is waited for", timeout=timeout, every=0.01)
    return told


async def run_state(s: Scene, run: str) -> str:
    state = await s.database.fetchval("SELECT state FROM cutover.task_run WHERE id = $1::text::uuid", run)
    return str(state)


async def exact(s: Scene) -> None:
    await s.quiet()
    assert await s.differences() == []


# -- the choice ----------------------------------------


async def test_sql_is_chosen_where_it_can_be_used_and_nothing_is_sent(database: str) -> None:
    async with scene(database, rows=rows(300), backfill=LIMITS) as s:
        assert s.proxy is not None
        await in_a2(s)
        before = len([r for r in s.proxy.seen if COMMITS(r) and b"canary" not in r.body])
        told = await s.backfill()
        assert (told["via"], told["state"], told["scanned"], told["copied"]) == ("database", "finished", 300, 300)
        assert "share" in told["via_why"]
        assert len([r for r in s.proxy.seen if COMMITS(r) and b"canary" not in r.body]) == before
        await exact(s)
        assert await s.count("cutover.delivery_log") == 0


async def test_the_contract_is_used_where_the_tables_are_elsewhere_and_says_so(make_database: MakeDatabase) -> None:
    async with scene(
        await make_database(), plugin_at=await make_database(legacy=False), rows=rows(20), backfill=LIMITS
    ) as s:
        await in_a2(s)
        error = await refused(start(s, via=Via.DATABASE), OperatorError)
        assert "another database" in str(error)
        told = await s.backfill()
        assert (told["via"], told["scanned"]) == ("contract", 20)
        assert "another database" in told["via_why"]
        await exact(s)


async def test_unknown_tables_are_not_written(database: str) -> None:
    async with scene(database, rows=rows(20), backfill=LIMITS) as s:
        await in_a2(s)
        await s.database.execute("ALTER TABLE memory_plugin.memory_records ADD COLUMN shard integer NOT NULL DEFAULT 0")
        await s.database.execute("ALTER TABLE memory_plugin.memory_records ALTER COLUMN shard DROP DEFAULT")
        error = await refused(start(s, via=Via.DATABASE), OperatorError)
        assert "demands a column shard" in str(error)
        await s.database.execute("ALTER TABLE memory_plugin.memory_records DROP COLUMN shard")
        assert (await s.backfill())["via"] == "database"


async def test_no_plugin_database_means_the_contract(database: str) -> None:
    async with scene(database, rows=rows(20), backfill=LIMITS, plugin_database_url="none") as s:
        await in_a2(s)
        assert "no reachable database" in str(await refused(start(s, via=Via.DATABASE), OperatorError))
        assert (await s.backfill())["via"] == "contract"
        await exact(s)


async def test_what_a_run_is_asked_for_is_checked(database: str, tmp_path: Path) -> None:
    async with scene(database, rows=rows(5), backfill=LIMITS) as s:
        await in_a2(s)
        await refused(start(s, workspace_id=UUID(int=404)), NotFound)
        await refused(start(s, pause_file=str(tmp_path / "nowhere" / "pause")), InvalidRequest)
        await refused(start(s, pause_file="pause"), InvalidRequest)
        assert await s.count("cutover.task_run WHERE kind = 'backfill'") == 0
        assert (await s.backfill())["scanned"] == 5


# -- rows that resist ----------------------------------------


async def test_a_row_that_sql_cannot_copy_goes_over_the_contract(database: str) -> None:
    async with scene(database, rows=rows(40), backfill=LIMITS) as s:
        await in_a2(s)
        await s.database.execute(
            "ALTER TABLE memory_plugin.memory_records ADD CONSTRAINT whim CHECK (content NOT LIKE 'row 17')"
        )
        started = await start(s, via=Via.DATABASE)
        told = await reaches(s, lambda told: told["throttled"] == "delivering")
        assert (told["scanned"], told["copied"], told["marked"]) == (40, 39, 1)
        assert set(await s.marks()) == {key(17)}, "the plugin itself decides about it"
        await s.database.execute("ALTER TABLE memory_plugin.memory_records DROP CONSTRAINT whim")
        await reaches(s, lambda told: told["state"] == "finished" and told["run"] == started["run"])
        await exact(s)


async def test_a_row_that_somebody_changes_for_long_is_named_as_the_reason(database: str) -> None:
    async with scene(database, rows=rows(40), backfill=LIMITS) as s:
        await in_a2(s)
        async with foreign_transaction(database) as stranger:
            await stranger.execute("UPDATE agent_memories SET content = 'theirs' WHERE id = $1", key(20))
            await start(s)
            told = await reaches(s, lambda told: told["throttled"] == "row_locks")
            assert told["scanned"] == 19
            await s.edit(CHILD, key(30), "nobody else waits")
            await stranger.execute("COMMIT")
        await reaches(s, lambda told: told["state"] == "finished" and told["scanned"] == 40)
        await exact(s)
        assert await s.content(key(20)) == "theirs"


async def test_chunks_that_the_server_cuts_short_are_tried_smaller(database: str) -> None:
    async with scene(database, rows=rows(60), backfill=LIMITS) as s:
        await in_a2(s)
        # Every row takes a while, so that no chunk of more than a few is done before the server's time-out.
        await s.database.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_sleep(0.05); RETURN new; END $$;"
            "CREATE TRIGGER slow BEFORE INSERT ON memory_plugin.memory_records FOR EACH ROW EXECUTE FUNCTION slow();"
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1000', current_database()); END $$"
        )
        await s.daemons[-1].stop()
        await s.daemon()
        await start(s, via=Via.DATABASE)
        told = await reaches(s, lambda told: told["throttled"] == "database")
        assert told["state"] == "running"
        told = await reaches(s, lambda told: told["state"] == "finished", timeout=60)
        assert (told["scanned"], told["copied"]) == (60, 60)
        await exact(s)


async def test_a_lost_right_ends_the_run_with_words(database: str) -> None:
    async with scene(database, rows=rows(40), backfill=LIMITS) as s:
        await in_a2(s)
        await start(s, via=Via.DATABASE, rate=20)
        await reaches(s, lambda told: told["scanned"] > 0)
        await s.database.execute("ALTER TABLE memory_plugin.memory_records RENAME COLUMN pin TO pinned")
        told = await reaches(s, lambda told: told["state"] == "failed")
        assert "copy_chunk" in told["why"]
        await s.database.execute("ALTER TABLE memory_plugin.memory_records RENAME COLUMN pinned TO pin")
        assert (await s.backfill())["scanned"] == 40
        await exact(s)


# -- crashes ----------------------------------------


@pytest.mark.parametrize("via", [Via.DATABASE, Via.CONTRACT])
async def test_a_daemon_that_dies_after_each_checkpoint_is_succeeded(database: str, via: Via) -> None:
    chunk = replace(LIMITS, chunk=5, copy_chunk=5, chunk_seconds=10.0)
    async with scene(database, rows=rows(40), backfill=chunk) as s:
        await in_a2(s)
        started = await start(s, via=via, rate=25)
        seen: list[int] = []
        while True:
            last = seen[-1] if seen else 0

            async def checkpoint(last: int = last) -> bool:
                newest = await s.database.fetchval("SELECT max(seq) FROM cutover.task_checkpoint")
                return bool(newest is not None and newest > last)

            told = await s.tenant.operations.backfill_status()
            if told["state"] in ("idle", "finished"):
                break
            if told["scanned"] < 40:
                await until(checkpoint, "a checkpoint", timeout=20, every=0.002)
                seen.append(await s.database.fetchval("SELECT max(seq) FROM cutover.task_checkpoint"))
                await s.daemons[-1].abandon()
                await s.daemon()

                # The run goes on, unless its last record was written just before its daemon died.
                async def succeeded() -> bool:
                    told = await s.tenant.operations.backfill_status()
                    return told.get("run") == started["run"] or await run_state(s, started["run"]) == "finished"

                await until(succeeded, "the next daemon to take the run up", timeout=20, every=0.01)
            else:
                await reaches(s, lambda told: told["state"] == "finished")
        assert len(seen) >= 4
        await exact(s)
        outcome = await s.database.fetchval(
            "SELECT outcome FROM cutover.task_run WHERE id = $1::text::uuid AND state = 'finished'", started["run"]
        )
        assert json.loads(outcome)["via"] == via
        scanned = [
            row["scanned"]
            for row in await s.database.fetch(
                "SELECT (data ->> 'scanned')::int AS scanned FROM cutover.task_checkpoint"
                " WHERE run_id = $1::text::uuid ORDER BY seq", started["run"],
            )
        ]  # fmt: skip
        assert scanned == sorted(scanned)
        assert scanned[-1] == await s.database.fetchval("SELECT scanned FROM cutover.backfill_cursor") == 40, (
            "none twice"
        )
        assert await s.count("cutover.task_run WHERE kind = 'backfill'") == 1


async def test_a_resumed_run_keeps_what_it_was_asked_for(database: str, tmp_path: Path) -> None:
    stop = tmp_path / "pause"
    async with scene(database, rows=rows(60), backfill=LIMITS) as s:
        await in_a2(s)
        started = await start(s, via=Via.DATABASE, rate=50.0, limit=45, pause_file=str(stop))
        await reaches(s, lambda told: told["scanned"] >= 5)
        stop.touch()
        await reaches(s, lambda told: (told["state"], told["throttled"]) == ("paused", "pause_file"))
        await s.daemons[-1].abandon()
        await s.daemon()
        told = await reaches(s, lambda told: told["state"] == "paused")
        assert (told["run"], told["via"], told["rate_limit"], told["limit"]) == (started["run"], "database", 50.0, 45)
        assert (told["throttled"], told["requested_by"]) == ("pause_file", "ada")
        assert told["eta_seconds"] is None
        stop.unlink()
        told = await reaches(s, lambda told: told["state"] == "finished")
        assert told["scanned"] == 45
        assert await s.count("memory_plugin.memory_records WHERE content LIKE 'row%'") == 45


async def test_one_daemon_at_a_time_and_the_other_goes_on_when_it_dies(database: str) -> None:
    async with scene(database, rows=rows(60), backfill=LIMITS) as s:
        await in_a2(s)
        first = s.daemons[0]
        started = await start(s, rate=20.0)
        second = await s.daemon()
        await second.tenant.phase.reload()
        error = await refused(second.tenant.operations.start_backfill(apply=True, actor="b"), OperatorError)
        assert "another daemon" in str(error)
        assert (await second.tenant.operations.backfill_status())["state"] == "elsewhere"
        await first.abandon()
        told = await reaches(s, lambda told: told["state"] == "finished")
        assert (told["run"], told["scanned"]) == (started["run"], 60)
        assert await s.count("cutover.task_run WHERE kind = 'backfill'") == 1
        await exact(s)


# -- controls ----------------------------------------


async def controls(s: Scene) -> list[tuple[str, str]]:
    found = await s.database.fetch(
        "SELECT data ->> 'control' AS control, data ->> 'by' AS by FROM cutover.task_checkpoint"
        " WHERE data ? 'control' ORDER BY seq"
    )
    return [(row["control"], row["by"]) for row in found]


async def test_who_pauses_is_recorded_and_a_paused_run_stays_paused_over_a_restart(database: str) -> None:
    async with scene(database, rows=rows(60), backfill=LIMITS) as s:
        await in_a2(s)
        await start(s, rate=50.0)
        await s.tenant.operations.pause_backfill(paused=True, actor="grace")
        told = await reaches(s, lambda told: told["state"] == "paused")
        assert (told["throttled"], told["paused_by"], told["eta_seconds"]) == ("operator", "grace", None)
        await s.daemons[-1].abandon()
        await s.daemon()
        told = await reaches(s, lambda told: told["state"] == "paused")
        assert told["paused_by"] == "grace"
        await s.tenant.operations.pause_backfill(paused=False, actor="ada")
        await reaches(s, lambda told: told["state"] == "finished" and told["scanned"] == 60)
        assert await controls(s) == [("pause", "grace"), ("resume", "ada")]
        await refused(s.tenant.operations.pause_backfill(paused=True, actor="ada"), OperatorError)


async def test_a_pause_holds_the_deliveries_of_the_backfill_but_not_live_ones(database: str) -> None:
    async with scene(database, rows=rows(600), backfill=replace(LIMITS, via=Via.CONTRACT, chunk=600)) as s:
        assert s.proxy is not None
        await in_a2(s)
        held = s.proxy.hold(lambda request: COMMITS(request) and b"row " in request.body)
        await start(s)
        await asyncio.wait_for(held.arrived.wait(), 10)
        await s.tenant.operations.pause_backfill(paused=True, actor="ada")
        await held.release()
        await reaches(s, lambda told: told["state"] == "paused")
        made = await s.create(CHILD, "live")
        assert await s.content(made.id) == "live"
        waiting = await s.count("cutover.mark WHERE lease_id IS NULL")
        assert waiting > 0, "what had not been claimed waits"
        await s.tenant.operations.pause_backfill(paused=False, actor="ada")
        await reaches(s, lambda told: told["state"] == "finished")
        await exact(s)


@pytest.mark.parametrize("via", [Via.DATABASE, Via.CONTRACT])
@pytest.mark.parametrize("paused", [False, True], ids=["running", "paused"])
async def test_an_aborted_run_ends_and_the_next_goes_on(database: str, via: Via, paused: bool) -> None:
    async with scene(database, rows=rows(60), backfill=LIMITS) as s:
        await refused(s.tenant.operations.abort_backfill(actor="ada"), OperatorError)
        await in_a2(s)
        started = await start(s, rate=20.0, via=via)
        await reaches(s, lambda told: told["scanned"] >= 2)
        if paused:
            await s.tenant.operations.pause_backfill(paused=True, actor="ada")
        await s.tenant.operations.abort_backfill(actor="grace")
        told = await reaches(s, lambda told: told["state"] == "aborted")
        assert told["why"] == "aborted by grace"
        run = await s.database.fetchrow(
            "SELECT state, outcome ->> 'state' AS outcome, outcome ->> 'why' AS why"
            " FROM cutover.task_run WHERE id = $1",
            UUID(started["run"]),
        )
        assert run is not None
        assert tuple(run) == ("interrupted", "aborted", "aborted by grace")
        await s.quiet()
        assert told["scanned"] < 60
        assert not await s.tenant._backfill.complete()
        again = await s.backfill(via=via)
        assert (again["state"], again["scanned"]) == ("finished", 60)
        await exact(s)


async def test_a_rate_is_kept_and_shown(database: str) -> None:
    async with scene(database, rows=rows(60), backfill=LIMITS) as s:
        await in_a2(s)
        began = asyncio.get_running_loop().time()
        await start(s, rate=40.0)
        told = await reaches(s, lambda told: told["throttled"] == "rate" and told["scanned"] > 0)
        assert told["state"] == "running"
        await reaches(s, lambda told: told["state"] == "finished")
        assert asyncio.get_running_loop().time() - began >= 60 / 40 - 0.1


async def test_progress_tells_the_truth(database: str) -> None:
    async with scene(database, rows=rows(100), backfill=LIMITS) as s:
        await in_a2(s)
        await start(s, rate=50.0)
        told = await reaches(s, lambda told: told["scanned"] >= 30 and told["rate_rows_per_second"] > 0)
        assert told["remaining"] == 100 - told["scanned"]
        held = await s.count("memory_plugin.memory_records WHERE content LIKE 'row%'")
        assert held >= told["scanned"]
        assert told["eta_seconds"] == pytest.approx(told["remaining"] / told["rate_rows_per_second"], rel=0.2)
        told = await reaches(s, lambda told: told["state"] == "finished")
        assert (told["remaining"], told["eta_seconds"]) == (0, 0)
        advanced = [event for event in s.daemons[-1].events if isinstance(event, BackfillAdvanced)]
        assert sum(event.copied for event in advanced) == 100
        assert {event.throttled for event in advanced} <= {"", *REASONS}
        assert advanced[-1].remaining == 0
        assert any(event.checkpoint for event in advanced)
        assert not any(event.checkpoint for event in advanced if event.throttled == "rate")


# -- afterwards ----------------------------------------


async def test_creation_times_are_mended_after_a_backfill_over_the_contract(make_database: MakeDatabase) -> None:
    """The times' own batches are lost here, as a crash loses them; also where the plugin has a database of its own."""
    for elsewhere in (None, await make_database(legacy=False)):
        async with scene(
            await make_database(), plugin_at=elsewhere, rows=rows(50), backfill=replace(LIMITS, via=Via.CONTRACT)
        ) as s:
            await s.database.execute("UPDATE agent_memories SET created_at = '2023-04-05 06:07:08.000009+00'")
            await s.database.execute("UPDATE agent_memories SET created_at = NULL WHERE id = $1", key(50))
            s.tenant._creation_times.note = lambda memory_id, created_at: None  # type: ignore[method-assign]
            s.tenant._creation_times._pending.clear()
            await in_a2(s)
            await s.plugin_database.execute(
                "INSERT INTO memory_plugin.memory_namespaces (name, kind) VALUES ('custom:x', 'custom');"
                "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source, propagation)"
                " VALUES (gen_random_uuid(), 'custom:x', 'theirs', 'fact', 'agent',"
                ' \'{"cutover": {"created_at": "2001-01-01T00:00:00.000000Z"}}\')'
            )
            told = await s.backfill()
            found = await s.plugin_database.fetch(
                "SELECT (extract(year FROM created_at))::int AS year, count(*) AS n FROM memory_plugin.memory_records"
                " WHERE content LIKE 'row%' OR content = 'theirs' GROUP BY 1 ORDER BY 1"
            )
            years = {row["year"]: row["n"] for row in found}
            assert years.pop(2023) + told["times_mended"] >= 49
            assert sum(years.values()) == 2, "one without a time, and one that is not ours"
            assert 2001 not in years


async def test_who_waits_for_the_end_is_told_once_and_only_of_a_good_end(database: str) -> None:
    async with scene(database, rows=rows(30), backfill=LIMITS) as s:
        told: list[str] = []
        s.tenant._backfill._on_finished = lambda progress: told.append(progress.state)
        await in_a2(s)
        await start(s, rate=10.0)
        await s.tenant.operations.abort_backfill(actor="ada")
        await reaches(s, lambda progress: progress["state"] == "aborted")
        assert told == []
        await s.backfill()
        assert told == ["finished"]
