"""Rehearsing the way back: on a copy, by the code that will run, compared with what others say; and it can fail."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from cutover.domain.errors import OperatorError
from cutover.domain.events import Rehearsed
from cutover.domain.memory import EMBEDDING_DIMENSIONS, Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from cutover.stores.rehearsal import SCHEMA, renamed
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT, STRANGER

VECTOR = tuple(round(0.001 * i, 3) for i in range(EMBEDDING_DIMENSIONS))
PATIENT: dict[str, Any] = {"delivery_deadline": 3.0, "plugin_timeout": 3.0}
ROWS = [(uuid4(), (CHILD, ROOT, STRANGER)[n % 3], f"old {n} – ž\n\"'\\ {n}", "LOCAL") for n in range(60)]


async def rehearsed(s: Scene) -> dict[str, Any]:
    """A whole rehearsal; what it came to."""
    run = str(await s.tenant.rehearsals.request("test"))
    told: dict[str, Any] = {}

    async def ended() -> bool:
        told.update(await s.tenant.rehearsals.status())
        return not told["doing"] and (told["last"] or {}).get("run") == run

    await until(ended, "the rehearsal", timeout=60, every=0.05)
    assert await s.database.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA), "the scratch schema is gone"
    last: dict[str, Any] = told["last"]
    return last


async def everything(s: Scene) -> dict[str, list[Any]]:
    """Every table of the tenant's that a way back writes."""
    tables = (
        "agent_memories",
        "cutover.journal",
        "cutover.extra",
        "cutover.native",
        "cutover.tombstone",
        "cutover.mark",
    )
    return {each: [tuple(row) for row in await s.database.fetch(f"SELECT * FROM {each} ORDER BY 1")] for each in tables}


async def test_a_tenant_without_rows_has_nothing_to_lose(database: str) -> None:
    async with scene(database, phase=Phase.A2, **PATIENT) as s:
        await s.database.execute("DELETE FROM agent_memories")
        await s.quiet()
        last = await rehearsed(s)
        assert (last["ok"], last["rows"], last["why"]) == (True, 0, "")


async def test_a_rehearsal_in_a2_replays_invented_words_and_touches_nothing(database: str) -> None:
    """The gate of A3 asks for one before A3 is entered."""
    async with scene(database, phase=Phase.A2, rows=ROWS, **PATIENT) as s:
        await s.database.execute("UPDATE agent_memories SET created_at = NULL WHERE id = $1", ROWS[0][0])
        await s.quiet()
        before = await everything(s)
        assert (await s.tenant._readiness.gather()).rehearsal is None
        last = await rehearsed(s)
        assert last["why"] == ""
        assert last["ok"]
        assert (last["rows"], last["whole"], last["words"]) == (60, True, 0)
        assert last["invented"] > 60
        assert await everything(s) == before
        evidence = await s.tenant.rehearsals.evidence()
        assert evidence is not None
        assert evidence.ok
        assert 0 <= evidence.age_seconds < 60
        assert any(isinstance(event, Rehearsed) and event.ok and event.fresh for event in s.daemons[-1].events)
        run = await s.database.fetchrow(
            "SELECT state, outcome ->> 'outcome' AS outcome FROM cutover.task_run WHERE kind = 'rehearsal'"
        )
        assert run is not None
        assert tuple(run) == ("finished", "clean")


@pytest.mark.parametrize("embedding", [True, False], ids=["embedding", "plain"])
async def test_a_rehearsal_in_a3_replays_the_real_journal_too(make_database: MakeDatabase, embedding: bool) -> None:
    async with scene(await make_database(embedding=embedding), phase=Phase.A2, rows=ROWS, **PATIENT) as s:
        edited = await s.commit(f"workspace:{CHILD}", "before", pin=True, embedding=VECTOR)
        await s.enter(Phase.A3)
        await s.edit(CHILD, edited.id, label="procedures")
        await s.edit(ROWS[0][1], ROWS[0][0], "edited – ž")
        await s.delete(ROWS[1][1], ROWS[1][0])
        await s.create(ROOT, "[MEMORY of all", Scope.GLOBAL)
        await s.commit(f"workspace:{CHILD}", "with a vector", embedding=VECTOR)
        await s.commit("custom:notes", "native", Kind.SUMMARY)
        await s.quiet()
        before = await everything(s)
        last = await rehearsed(s)
        assert last["why"] == ""
        assert last["words"] == 6
        assert await everything(s) == before
        # What was rehearsed then happens.
        await s.step(Phase.A2)
        await s.quiet()
        assert await s.differences() == []


async def test_a_fault_in_the_replay_fails_the_rehearsal(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS, **PATIENT) as s:
        definition = await s.database.fetchval(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'cutover'::regnamespace"
            " AND proname = 'replay_words'"
        )
        faults = {
            "created_at": ("coalesce(excluded.created_at, a.created_at)", "now()"),
            "is missing": ("order by r.memory_id\n    on conflict (id)", "and r.scope <> 'GLOBAL' on conflict (id)"),
            "should not be there": ("and (r.op = 'forget' or r.native)", "and r.native"),
            "error": ("drop table pg_temp.replay;", "perform 1 / 0;"),
        }  # fmt: skip
        for what, (good, bad) in faults.items():
            assert good in definition, what
            await s.database.execute(definition.replace(good, bad))
            last = await rehearsed(s)
            assert not last["ok"], what
            if what == "error":
                assert last["why"].startswith("replaying the journal: PostgreSQL refused a statement (22012")
            else:
                assert what in last["why"]
                assert last["mismatches"] > 0
            evidence = await s.tenant.rehearsals.evidence()
            assert evidence is not None
            assert not evidence.ok
        await s.database.execute(definition)
        assert (await rehearsed(s))["ok"]


async def test_a_journal_that_is_not_what_the_plugin_holds_fails_the_rehearsal(database: str) -> None:
    """The expectation comes from propagation.cutover, not from the journal that is replayed."""
    async with scene(database, phase=Phase.A3, rows=ROWS, **PATIENT) as s:
        await s.edit(ROWS[0][1], ROWS[0][0], "edited")
        await s.quiet()
        await s.database.execute(
            "UPDATE cutover.journal SET created_at = created_at + interval '1 microsecond' WHERE memory_id = $1",
            ROWS[0][0],
        )
        last = await rehearsed(s)
        assert not last["ok"]
        assert f"{ROWS[0][0]}: created_at" in last["why"]


async def test_a_scratch_schema_that_a_crash_left_is_dropped_by_the_next(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS, **PATIENT) as s:
        await s.database.execute(f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.journal (x integer)")
        assert (await rehearsed(s))["ok"]


async def test_who_asks_while_one_is_under_way_or_where_there_is_no_way_back_is_told(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=ROWS, **PATIENT) as s:
        asked = await asyncio.gather(*(s.tenant.rehearsals.request("test") for _ in range(2)), return_exceptions=True)
        assert sorted(type(each).__name__ for each in asked) == ["OperatorError", "UUID"]

        async def idle() -> bool:
            return not (await s.tenant.rehearsals.status())["doing"]

        await until(idle, "the rehearsal", timeout=30)
        await s.enter(Phase.A0)
        with pytest.raises(OperatorError, match="no way back"):
            await s.tenant.rehearsals.request("test")


def test_a_function_that_would_reach_past_the_scratch_schema_is_refused() -> None:
    assert renamed("select cutover.x(public.agent_memories)") == f"select {SCHEMA}.x({SCHEMA}.agent_memories)"
    with pytest.raises(OperatorError, match=r"public\.activity_logs"):
        renamed("insert into public.activity_logs select 1")
