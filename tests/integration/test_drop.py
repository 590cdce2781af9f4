"""A4 (architecture §7): the journal takes legacy's rows over, the table is renamed, held and dropped, and for everybody
who uses memories nothing changes."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.cli.doctor import database as doctor
from cutover.domain.archive import MANIFEST, MEMORIES
from cutover.domain.backfill import RowSource
from cutover.domain.check import Status
from cutover.domain.errors import BootRefused, DatabaseFault, IllegalStep, NotFound, OperatorError, StaleEpoch
from cutover.domain.events import DropLooked, TaskFailed
from cutover.domain.memory import EMBEDDING_DIMENSIONS, Kind, Source
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.requests import ListMemories
from cutover.domain.thresholds import DEFAULTS
from cutover.embedded.processes import until
from cutover.engine.drop import Drop
from cutover.engine.tenant import Tenant
from cutover.stores import retire
from cutover.stores.archive_files import read_manifest
from cutover.stores.database import Database
from cutover.stores.drop import DropStore
from cutover.stores.restore import restore
from tests.conftest import MakeDatabase
from tests.integration.digest_scene import digest
from tests.integration.kv_scene import drop as drop_key
from tests.integration.kv_scene import kv_differences, put, quiet
from tests.integration.protocol_scene import Scene, caller, refused, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, SIBLING, STRANGER

HELD_FOR_EVER = replace(DEFAULTS, drop_hold=3600.0)
NOT_HELD = replace(DEFAULTS, drop_hold=0.0)
VECTOR = tuple(round(0.001 * i, 3) for i in range(EMBEDDING_DIMENSIONS))


async def state(s: Scene) -> str:
    return str(await s.database.fetchval("SELECT state FROM cutover.drop_state"))


async def dropped(s: Scene) -> None:
    """Wait for the drop."""

    async def gone() -> bool:
        return await state(s) == "dropped"

    await until(gone, "the drop", timeout=20, every=0.05)


async def archived(s: Scene, directory: str) -> dict[str, Any]:
    """A whole archive, made by the daemon; what its run came to."""
    asked = await s.tenant.archives.request(to=directory, requested_by="test")
    told: dict[str, Any] = {}

    async def over() -> bool:
        told.update(await s.tenant.archives.status(UUID(asked["run"])) or {})
        return bool(told["state"] != "running")

    await until(over, "the archive", timeout=30, every=0.05)
    assert told["state"] == "finished", told
    return told


async def blocked(s: Scene) -> str:
    """Wait until something stands in the way of the drop; what."""

    async def noted() -> bool:
        return bool(await s.database.fetchval("SELECT blocked FROM cutover.drop_state"))

    await until(noted, "the drop to be blocked", timeout=20, every=0.05)
    return str(await s.database.fetchval("SELECT blocked FROM cutover.drop_state"))


@contextlib.asynccontextmanager
async def with_archive(s: Scene) -> AsyncIterator[None]:
    """What the drop asks for. Gone at the end."""
    with TemporaryDirectory(prefix="cutover-archive-") as directory:
        await archived(s, directory)
        yield


@contextlib.asynccontextmanager
async def in_a4(url: str, *, held: bool, **changes: Any) -> AsyncIterator[tuple[Scene, list[UUID]]]:
    """A tenant in A4 whose table is held, or dropped already; and ids of memories that nobody has touched since A1."""
    rows = [(uuid4(), (CHILD, ROOT, STRANGER)[n % 3], f"memory {n}", ("LOCAL", "TEAM")[n % 2]) for n in range(24)]
    rows += [(uuid4(), ROOT, "for all", "GLOBAL"), (uuid4(), GRANDCHILD, "from below", "GLOBAL")]
    thresholds = HELD_FOR_EVER if held else NOT_HELD
    async with scene(url, phase=Phase.A2, rows=rows, thresholds=thresholds, kv=True, **changes) as s:
        await s.backfill(source=RowSource.KV)
        await s.enter(Phase.A3)
        async with with_archive(s):
            await s.step(Phase.A4)
            if not held:
                await dropped(s)
            yield s, [row[0] for row in rows]


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
async def test_a4_traffic_on_memories_untouched_since_a3(database: str, held: bool) -> None:
    async with in_a4(database, held=held) as (s, ids):
        assert await s.differences() == []
        # v1: edit and delete, by their owner only.
        await s.edit(CHILD, ids[0], "edited in A4", "facts")
        assert await s.content(ids[0]) == "edited in A4"
        await refused(s.edit(ROOT, ids[3], "not ours"), NotFound)
        await s.delete(ROOT, ids[1])
        await refused(s.delete(ROOT, ids[1]), NotFound)
        # The contract: upsert, forget, natives.
        await s.commit(f"workspace:{CHILD}", "upserted", id=ids[6], pin=True)
        await s.commit(f"workspace:{CHILD}", "a summary now", Kind.SUMMARY, id=ids[12])
        await s.forget(f"workspace:{STRANGER}", ids[2])
        native = await s.commit("custom:notes", "native", Kind.SUMMARY)
        made = await s.create(CHILD, "made in A4", Scope.TEAM, key="a key")
        assert (await s.create(CHILD, "made in A4", Scope.TEAM, key="a key")).id == made.id
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(native.id) == "native"
        assert [await s.content(each) for each in (ids[1], ids[2])] == [None, None]
        # Reads in v1's shape.
        listed = await s.tenant.memories.list(ListMemories(CHILD), caller())
        shown = {each.id for each in listed.memories}
        assert {ids[0], ids[6], made.id} <= shown
        # K/V, on the one table that is still there.
        await put(s.database, CHILD, "key", {"a": 1})
        await put(s.database, CHILD, "other", [])
        await drop_key(s.database, CHILD, "other")
        await quiet(s)
        assert await kv_differences(s) == []
        assert (await s.sweep())["unexplained"] == 0


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
async def test_a4_digest_sweep_is_clean_and_its_planted_faults_are_caught(
    make_database: MakeDatabase, held: bool
) -> None:
    async with in_a4(await make_database(), held=held) as (s, ids):
        await s.edit(CHILD, ids[0], "edited")
        await s.quiet()
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert outcome["outcome"] == "clean", outcome
        assert outcome["expected_rows"] == outcome["plugin_rows"] == len(ids)
        # And it sees a fault on a memory that only legacy used to know, and has it repaired from the journal.
        await s.plugin_database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", ids[4])
        outcome = await digest(s)
        assert outcome["confirmed"] == {"missing_in_plugin": 1}, outcome


@pytest.mark.parametrize("held", [True, False], ids=["held", "dropped"])
async def test_a4_reparenting_and_workspace_purge_reach_the_plugin(database: str, held: bool) -> None:
    async with in_a4(database, held=held) as (s, _):
        await s.database.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", CHILD, STRANGER)
        await s.quiet()
        assert await s.differences() == []
        await s.create(STRANGER, "of A4")
        await s.database.execute("UPDATE workspaces SET parent_id = NULL WHERE id IN ($1, $2)", CHILD, SIBLING)
        before = await s.database.fetchval(
            "SELECT count(*) FROM memory_plugin.memory_records WHERE namespace LIKE '%' || $1::text", str(STRANGER)
        )
        assert before > 4
        await s.database.execute("DELETE FROM workspaces WHERE id = $1", STRANGER)
        await s.quiet()
        assert await s.differences() == []
        left = await s.database.fetch(
            "SELECT id, namespace FROM memory_plugin.memory_records WHERE namespace LIKE '%' || $1::text", str(STRANGER)
        )
        assert left == []
        assert (await s.sweep())["unexplained"] == 0


@pytest.mark.parametrize("embedding", [True, False], ids=["vectors", "no vectors"])
async def test_what_the_journal_takes_over_is_the_row_exactly(make_database: MakeDatabase, embedding: bool) -> None:
    async with scene(await make_database(embedding=embedding), phase=Phase.A2, thresholds=HELD_FOR_EVER) as s:
        rich = await s.commit(
            f"team:{ROOT}", "rich", pin=True, source=Source.RUNTIME, propagation={"mine": [1]}, embedding=VECTOR
        )
        await s.quiet()
        before = await s.plugin(rich.id)
        row = await s.legacy(rich.id)
        await s.enter(Phase.A3)
        await s.step(Phase.A4)
        # Delivered once more, from the journal alone: nothing of it has changed.
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", rich.id)
        await s.database.execute(
            "INSERT INTO cutover.mark (memory_id, rev, origin) VALUES ($1, nextval('cutover.rev_seq'), 'repair')",
            rich.id,
        )
        await s.quiet()
        after = await s.plugin(rich.id)
        assert before is not None
        assert after is not None
        assert row is not None
        for column in ("namespace", "content", "kind", "source", "pin", "propagation"):
            assert after[column] == before[column], column
        assert json.loads(after["vector"]) == pytest.approx(VECTOR)
        assert after["propagation"]["mine"] == [1]


async def test_an_edit_during_and_before_the_taking_over_counts_over_it(database: str) -> None:
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(6)]
    async with scene(database, phase=Phase.A3, rows=rows, thresholds=HELD_FOR_EVER) as s:
        ids = sorted(row[0] for row in rows)
        await s.edit(CHILD, ids[0], "edited before")
        await s.delete(CHILD, ids[1])
        epoch = s.tenant.phase.current().epoch
        taken = await s.database.fetchrow("SELECT * FROM cutover.adopt_chunk($1, NULL, 4)", epoch)
        assert taken is not None
        assert tuple(taken) == (4, 4, ids[3])
        await s.edit(CHILD, ids[2], "edited after")
        await s.delete(CHILD, ids[3])
        # Killed here: the next one goes on, and takes nothing twice.
        notes = (await s.step(Phase.A4))["notes"]
        assert any("took 2 rows" in note for note in notes), notes
        await s.quiet()
        assert await s.differences() == []
        assert await s.content(ids[0]) == "edited before"
        assert await s.content(ids[2]) == "edited after"
        assert [await s.content(ids[n]) for n in (1, 3)] == [None, None]
        assert await s.count("cutover.journal WHERE adopted") == 6


async def test_what_was_taken_over_is_given_up_on_the_way_back(database: str) -> None:
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(6)]
    async with scene(database, phase=Phase.A3, rows=rows) as s:
        before = await s.database.fetch("SELECT * FROM agent_memories ORDER BY id")
        await s.database.execute("CREATE VIEW seen AS SELECT id FROM agent_memories")
        await s.database.fetchrow("SELECT * FROM cutover.adopt_chunk($1, NULL, 4)", s.tenant.phase.current().epoch)
        changed = await s.step(Phase.A2)
        assert any(note.startswith("0 writes and 0 deletes") for note in changed["notes"]), changed
        assert await s.count("cutover.journal WHERE adopted") == 0
        assert await s.database.fetch("SELECT * FROM agent_memories ORDER BY id") == before
        await s.quiet()
        assert await s.differences() == []


async def test_the_table_is_renamed_to_a_name_that_says_until_when(database: str) -> None:
    async with in_a4(database, held=True) as (s, _):
        shown = await s.tenant.drops.show()
        assert (shown["state"], shown["blocked"], shown["next"]) == ("held", None, None)
        assert 3500 < shown["remaining_seconds"] <= 3600
        until_when = await s.database.fetchval("SELECT hold_until FROM cutover.drop_state")
        assert shown["relation"] == f"agent_memories_dropped_after_{until_when:%Y%m%d_%H%M%S}_utc"
        assert await s.count(shown["relation"]) == 26
        error = await refused(s.insert(CHILD, "somebody who has not heard"), DatabaseFault)
        assert "42P01" in str(error)
        assert (await s.tenant.status())["drop"]["state"] == "held"
        check = (await s.tenant.readiness_for(Phase.A4)).checks[-1]
        assert (check.id, check.status, check.observed_value) == ("drop", Status.WARN, "held")
        assert "of its hold are left, then it is dropped" in check.output


async def test_cancel_gives_the_table_back_and_start_begins_anew(database: str) -> None:
    async with in_a4(database, held=True) as (s, ids):
        rows = await s.count((await s.tenant.drops.show())["relation"])
        await s.tenant.drops.cancel("alice", "not yet")
        assert await s.count("agent_memories") == rows
        await s.edit(CHILD, ids[0], "edited after the cancel")
        await s.quiet()
        assert await s.differences() == []
        await refused(s.tenant.drops.cancel("alice", "again"), OperatorError)
        shown = await s.tenant.drops.start("bob", "now then")
        assert shown["state"] == "held"
        assert [(each["event"], each["actor"]) for each in shown["history"]] == [
            ("aside", "cutover"), ("cancelled", "alice"), ("aside", "bob"),
        ]  # fmt: skip
        await refused(s.tenant.drops.start("bob", "twice"), OperatorError)


DEPENDANTS = {
    "view": "CREATE VIEW public.seen AS SELECT id FROM agent_memories",
    "materialized view": "CREATE MATERIALIZED VIEW public.kept AS SELECT id FROM agent_memories",
    "foreign key": "CREATE TABLE public.votes (memory uuid REFERENCES agent_memories (id))",
    "function": "CREATE FUNCTION public.size() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM agent_memories'",
    "procedure": "CREATE PROCEDURE public.tidy() LANGUAGE plpgsql AS 'begin delete from public.agent_memories; end'",
    "inheritance child": "CREATE TABLE public.more () INHERITS (agent_memories)",
    "publication": "CREATE PUBLICATION outwards FOR TABLE agent_memories",
    "rule": "CREATE TABLE public.inbox (id uuid);"
    " CREATE RULE passed_on AS ON DELETE TO public.inbox DO ALSO DELETE FROM agent_memories WHERE id = old.id",
    "policy": "CREATE TABLE public.notes (id uuid);"
    " CREATE POLICY known ON public.notes USING (id IN (SELECT m.id FROM agent_memories m))",
    "column": "CREATE TABLE public.history (old agent_memories)",
}


async def test_every_kind_of_dependant_is_found_named_and_blocks(database: str) -> None:
    async with scene(database, phase=Phase.A3, thresholds=HELD_FOR_EVER) as s:
        for sql in DEPENDANTS.values():
            await s.database.execute(sql)
        await s.database.execute("CREATE FUNCTION public.o() RETURNS text LANGUAGE sql AS 'SELECT ''agent_memories2'''")
        found = (await s.tenant.drops.show())["dependants"]
        assert {each["kind"] for each in found} == set(DEPENDANTS)
        assert len(found) == len(DEPENDANTS), found
        assert {"kind": "view", "name": "seen"} in found
        error = await refused(s.step(Phase.A4), IllegalStep)
        assert "materialized view kept" in str(error)
        assert (await s.tenant.phase.reload()).phase is Phase.A3
        assert await s.count("agent_memories") == 0
        evidence = await s.tenant.drops.evidence()
        assert len(evidence.dependants) == len(DEPENDANTS)


async def test_a_dependant_that_comes_during_the_hold_stops_the_drop(database: str) -> None:
    async with scene(database, phase=Phase.A3, thresholds=replace(DEFAULTS, drop_hold=1.0)) as s:
        await s.step(Phase.A4)
        name = (await s.tenant.drops.show())["relation"]
        await s.database.execute(f"CREATE VIEW seen AS SELECT id FROM {name}")
        await blocked(s)
        assert "view seen" in (await s.tenant.drops.show())["blocked"]
        assert await s.count(name) == 0


# -- proof ----------------------------------------------------------------------------------------------------------


async def test_without_a_proven_archive_the_hold_never_ends(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the tenant came here (an override looks at no archive): what the archive must be, one thing at a time."""
    monkeypatch.setattr("cutover.engine.drop._BLOCKED_SECONDS", 0.2)
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(8)]
    async with scene(await make_database(), phase=Phase.A2, rows=rows, thresholds=NOT_HELD) as s:
        early = await archived(s, str(tmp_path / "in A2"))  # not frozen yet: it may lack what came after
        before = await s.database.fetch("SELECT * FROM agent_memories ORDER BY id")
        await s.enter(Phase.A3)
        await s.step(Phase.A4)
        assert "made in A2" in await blocked(s)
        shown = await s.tenant.drops.show()
        assert (shown["state"], shown["next"]) == ("blocked", "cutover archive create")
        assert (await s.tenant.status())["drop"]["state"] == "blocked"
        report = await s.tenant.readiness_for(Phase.A4)
        check = next(each for each in report.checks if each.id == "drop")
        assert (check.status, check.observed_value, check.next) == (Status.WARN, "blocked", "cutover archive create")
        assert report.status is Status.WARN
        looks = [event for event in s.daemons[-1].events if isinstance(event, DropLooked)]
        assert looks[-1].blocked
        assert any(isinstance(event, TaskFailed) and event.task == "drop" for event in s.daemons[-1].events)

        # A sound one, but for a file that is not what it was, then gone: nothing is dropped either.
        monkeypatch.setattr("cutover.engine.drop._BLOCKED_SECONDS", 0.02)
        name = shown["relation"]
        part = next((tmp_path / "in A2").glob("memories-*"))
        await s.database.execute(
            "UPDATE cutover.task_run SET outcome = outcome || jsonb_build_object('epoch', $1::int)"
            " WHERE kind = 'archive'",
            s.tenant.phase.current().epoch - 1,
        )
        spoilt = part.read_bytes()
        part.write_bytes(spoilt[:-1] + bytes([spoilt[-1] ^ 1]))

        async def says(words: str) -> bool:
            return words in str(await s.database.fetchval("SELECT blocked FROM cutover.drop_state"))

        await until(lambda: says("is damaged"), "the damage to be seen", timeout=20, every=0.05)
        shutil.rmtree(early["path"])
        await until(lambda: says(MANIFEST), "the loss to be seen", timeout=20, every=0.05)
        assert await s.count(name) == len(rows)

        # The remedy, during the hold: the same rows, the same digests, and then the table goes at once.
        monkeypatch.setattr("cutover.engine.drop._BLOCKED_SECONDS", 3600.0)
        made = await archived(s, str(tmp_path / "in A4"))
        assert made["restore_tested"]
        assert made["phase"] == "A4"
        assert made["tables"][MEMORIES] == early["tables"][MEMORIES]
        await dropped(s)

        async def passes() -> bool:
            checks = (await s.tenant.readiness_for(Phase.A4)).checks
            return any((each.id, each.status) == ("drop", Status.PASS) for each in checks)

        await until(passes, "the check to pass", timeout=20, every=0.2)
        assert not (await s.tenant.drops.show())["blocked"]

    # And it has everything that is needed to make the table anew, whatever it was called.
    target = await Database.connect(await make_database(legacy=False), max_size=2)
    try:
        await target.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        back = await restore(target, tmp_path / "in A4", "public")
        assert (back.rows, back.digests_equal) == (len(rows), True)
        # There is no table workspaces; everything else is as it was.
        assert back.notes[0] == "agent_memories_workspace_id_fkey was not made: UndefinedTableError"
        assert not any("was not made" in note for note in back.notes[1:])
        assert await target.fetch("SELECT * FROM agent_memories ORDER BY id") == before
        indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 'agent_memories'"
        assert await target.fetchval(indexes) == len(read_manifest(tmp_path / "in A4")[0].table(MEMORIES).indexes) + 1
    finally:
        await target.close()


# -- killed ---------------------------------------------------------------------------------------------------------


async def _forever(*_: object, **__: object) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize("at", ["before it is recorded", "recorded", "in the transaction", "done"])
async def test_the_drop_killed_at_every_step_goes_on(database: str, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    reached = asyncio.Event()
    note, drop = DropStore.note, DropStore.drop

    async def noting(store: DropStore, event: str, actor: str, detail: str = "") -> None:
        if event == "dropping" and at == "before it is recorded":
            reached.set()
            await _forever()
        await note(store, event, actor, detail)

    async def dropping(store: DropStore, actor: str, lock_timeout_ms: int) -> bool:
        if at == "in the transaction":
            async with store.database.transaction() as connection:
                assert await connection.fetchval("SELECT cutover.drop_legacy('test')")
                reached.set()
                await _forever()
        if at == "done":
            await drop(store, actor, lock_timeout_ms)
        reached.set()
        return bool(await _forever())

    async with scene(database, phase=Phase.A3, rows=[(uuid4(), CHILD, "a", "LOCAL")], thresholds=NOT_HELD) as s:
        async with with_archive(s):
            with monkeypatch.context() as patched:
                patched.setattr(DropStore, "note", noting)
                patched.setattr(DropStore, "drop", dropping)
                await s.step(Phase.A4)
                await asyncio.wait_for(reached.wait(), 20)
                await s.daemons[-1].abandon()
            assert await state(s) == ("dropped" if at == "done" else "aside")
            recorded = await s.database.fetchval("SELECT count(*) FROM cutover.drop_event WHERE event = 'dropping'")
            assert recorded == (0 if at == "before it is recorded" else 1)
            await s.daemon()
            await dropped(s)
        assert await s.database.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'agent_memories%'") == 0
        assert await s.differences() == []


async def test_the_step_to_a4_killed_before_its_commit_is_wholly_a3(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()
    whole = Drop.carry_out

    async def stopping(step: Drop, connection: Any) -> Any:
        await whole(step, connection)
        reached.set()
        await _forever()

    rows = [(uuid4(), CHILD, "a", "LOCAL")]
    async with scene(database, phase=Phase.A3, rows=rows, thresholds=HELD_FOR_EVER) as s:
        before = await s.database.fetch(_BODIES)
        with monkeypatch.context() as patched:
            patched.setattr(Drop, "carry_out", stopping)
            request = s.daemons[-1].start(s.step(Phase.A4))
            await asyncio.wait_for(reached.wait(), 20)
            await s.daemons[-1].abandon()
            assert request.cancelled()
        assert await s.count("agent_memories") == 1
        assert await s.database.fetch(_BODIES) == before
        assert await s.count("cutover.drop_event") == 0
        await s.daemon()
        await s.edit(CHILD, rows[0][0], "edited in A3")
        await s.step(Phase.A4)
        await s.quiet()
        assert await s.differences() == []
        after = await s.database.fetch(_BODIES)
        assert [row["proname"] for row in after] == [row["proname"] for row in before]
        named = "prosrc LIKE '%public.agent\\_memories%' AND pronamespace = 'cutover'::regnamespace"
        left = await s.database.fetch(f"SELECT proname FROM pg_proc WHERE {named}")
        assert {row["proname"] for row in left} == KEEP_ITS_NAME


_BODIES = "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'cutover'::regnamespace ORDER BY proname, oid"
KEEP_ITS_NAME = {
    "install_capture", "remove_capture", "capture_state", "set_legacy_aside", "look_past_legacy",
    "take_legacy_back", "remove_freeze", "freeze_faults", "legacy_knows_more",
}  # fmt: skip


async def test_a_way_back_of_another_daemon_takes_nothing_from_a4(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two daemons, forward and back at once: whoever is first, no memory is lost."""
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(5)]
    async with scene(database, phase=Phase.A3, rows=rows, thresholds=HELD_FOR_EVER) as s:
        other = await s.daemon()
        before = await s.tenant.phase.reload()
        whole = Drop.prepare

        async def then_the_other(step: Drop, state: PhaseState) -> tuple[str, ...]:
            notes = await whole(step, state)
            assert await s.count("cutover.journal WHERE adopted") == len(rows)
            await other.tenant._way_back.prepare(state)
            return notes

        with monkeypatch.context() as patched:
            patched.setattr(Drop, "prepare", then_the_other)
            with pytest.raises(IllegalStep, match="a way back was begun meanwhile"):
                await s.step(Phase.A4)
        assert (await s.tenant.phase.reload()).phase is Phase.A3
        await s.step(Phase.A4)
        # And a way back that looked before A4 was entered, and goes on now.
        with pytest.raises(StaleEpoch):
            await other.tenant._way_back.prepare(before)
        assert await s.count("cutover.journal WHERE adopted") == len(rows)
        await s.edit(CHILD, rows[0][0], "edited in A4")
        await s.quiet()
        assert await s.differences() == []


async def test_a_reader_of_the_held_table_is_waited_for_shortly_and_often(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.engine.drop._ATTEMPTS", 2)
    monkeypatch.setattr("cutover.engine.drop._BLOCKED_SECONDS", 0.2)
    async with scene(database, phase=Phase.A3, thresholds=replace(DEFAULTS, drop_hold=1.0)) as s:
        async with with_archive(s):
            await s.step(Phase.A4)
            name = (await s.tenant.drops.show())["relation"]
            async with s.database.transaction() as reader:
                await reader.execute(f"SELECT count(*) FROM {name}")
                await blocked(s)
                # Nobody queues up behind us for long: callers go on.
                made = await s.create(CHILD, "meanwhile")
                assert made.id
            await dropped(s)


# -- retire -----------------------------------------------------------------------------------------------------------


async def test_retire_removes_what_is_ours_and_a_daemon_refuses_to_start_afterwards(database: str) -> None:
    async with in_a4(database, held=False) as (s, ids):
        with pytest.raises(OperatorError, match="connections of a cutover daemon are open"):
            await retire.retire(s.database)
        await s.quiet()
        held = await s.count("memory_plugin.memory_records")
        await s.daemons[-1].stop()
        seen = await retire.survey(s.database)
        assert seen.open == ()
        assert any(each.startswith("cutover_capture_reparent on ") for each in seen.triggers)
        assert "journal" in seen.tables
        await retire.retire(s.database)
        assert await s.database.fetchval("SELECT to_regnamespace('cutover')") is None
        assert await s.database.fetchval("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover%'") == 0
        assert await s.count("memory_plugin.memory_records") == held >= len(ids)
        await s.database.execute("UPDATE workspaces SET parent_id = NULL WHERE id = $1", CHILD)
        await s.database.execute("DELETE FROM workspace_memory")
        async with contextlib.AsyncExitStack() as stack:
            with pytest.raises(BootRefused, match="it was retired"):
                await Tenant.open(s.options, lambda _: None, stack)
        with pytest.raises(OperatorError, match="nothing to retire"):
            await retire.survey(s.database)


@pytest.mark.parametrize("held", [True, False])
async def test_doctor_does_not_miss_the_table_that_a4_took_away(database: str, held: bool) -> None:
    async with in_a4(database, held=held) as (s, _):
        found = {each.check: each async for each in doctor.inside("t", s.database, doctor.Expected())}
        # The scene takes its steps without certificates, and the record says so.
        assert {each.check for each in found.values() if each.status == "fail"} == {"record"}
        assert "certificate" in found["record"].found
        assert ("is held as" if held else "was dropped in A4") in found["legacy tables"].found
        assert found["capture triggers"].found == "A4: all in place"


@pytest.mark.parametrize("way", ["A3", "held", "marked", "intended"])
async def test_retire_is_refused_while_anything_is_open(database: str, way: str) -> None:
    async with scene(database, phase=Phase.A3, thresholds=HELD_FOR_EVER if way == "held" else NOT_HELD) as s:
        async with with_archive(s):
            if way != "A3":
                await s.step(Phase.A4)
            if way in ("marked", "intended"):
                await dropped(s)
        await s.quiet()
        await s.daemons[-1].stop()
        if way == "marked":
            await s.database.execute(
                "INSERT INTO cutover.mark (memory_id, rev, origin) VALUES ($1, nextval('cutover.rev_seq'), 'repair')",
                uuid4(),
            )
        if way == "intended":
            await s.database.execute(
                "INSERT INTO cutover.journal (memory_id, rev, epoch, op, state, native, namespace)"
                " VALUES ($1, 1, 1, 'forget', 'intent', true, 'custom:x')",
                uuid4(),
            )
        words = {
            "A3": "the tenant is in A3", "held": "not dropped yet", "marked": "1 marks wait", "intended": "1 intents",
        }[way]  # fmt: skip
        with pytest.raises(OperatorError, match=words):
            await retire.retire(s.database)
        assert await s.count("cutover.phase_state") == 1
