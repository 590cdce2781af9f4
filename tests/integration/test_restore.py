"""Restoring when much has happened since the archive: deletes stand, also when nothing is left that recorded them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.archive import MANIFEST, MEMORIES, SUMS, SUPPLEMENT, Manifest, sums
from cutover.domain.errors import OperatorError
from cutover.domain.phase import Phase
from cutover.domain.thresholds import DEFAULTS
from cutover.embedded.processes import until
from cutover.engine import archive
from cutover.stores import retire
from cutover.stores.archive_files import verify
from cutover.stores.restore import restore
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD
from tests.integration.test_archive import archivist, connected, create, tenant_of_rows
from tests.unit.test_archive_files import made_up

NOT_HELD = replace(DEFAULTS, drop_hold=0.0)


async def dropped(s: Scene) -> None:
    async def gone() -> bool:
        return bool(await s.database.fetchval("SELECT state = 'dropped' FROM cutover.drop_state"))

    await until(gone, "the drop", timeout=20, every=0.05)


async def test_a_memory_deleted_after_the_archive_does_not_come_back_when_schema_cutover_is_gone(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    deleted, edited, kept = ids = [uuid4() for _ in range(3)]
    rows = [(each, CHILD, f"old words {n}", "LOCAL") for n, each in enumerate(ids)]
    path = tmp_path / "one"
    async with scene(await make_database(), phase=Phase.A3, rows=rows, thresholds=NOT_HELD) as s:
        await s.edit(CHILD, edited, "new words")
        await s.create(CHILD, "made in A3")
        await s.quiet()
        assert (await create(s.tenant.archives, path))["state"] == "finished"
        await s.step(Phase.A4)
        await dropped(s)
        await s.delete(CHILD, deleted)
        await s.quiet()
        await s.daemons[-1].stop()
        # Nowhere to write it: nothing is removed.
        manifest = (path / MANIFEST).rename(tmp_path / "away")
        with pytest.raises(OperatorError, match="cannot be written beside the archive"):
            await retire.retire(s.database)
        assert (await retire.survey(s.database, frozenset({str(path)}))).open == ()
        assert not (path / SUPPLEMENT).exists()
        manifest.rename(path / MANIFEST)
        await retire.retire(s.database)
        assert verify(path)[1] == []

        done = await restore(s.database, path, "public")
        assert (done.rows, done.left_out) == (2, 1)
        found = {row["id"]: row["content"] for row in await s.database.fetch("SELECT id, content FROM agent_memories")}
        assert found == {edited: "old words 1", kept: "old words 2"}
        # It is the table as it was frozen, and that is said.
        assert "1 memories with other words, 1 new ones" in " ".join(done.notes)
        assert "nothing here says" not in " ".join(done.notes)
        (path / SUPPLEMENT).unlink()
        done = await restore(s.database, path, "without")
        assert done.rows == 3
        assert "nothing here says what was deleted after" in " ".join(done.notes)


@pytest.mark.parametrize("outcome", ["open", "withdrawn"])
async def test_a_delete_that_was_under_way_in_the_archive_counts_unless_it_was_withdrawn(
    database: str, tmp_path: Path, outcome: str
) -> None:
    async with tenant_of_rows(database, 3) as (db, ids), archivist(db) as made:
        seq = await db.fetchval(
            "INSERT INTO cutover.journal (memory_id, rev, epoch, op, state, native, namespace)"
            " VALUES ($1, 1, 1, 'forget', 'intent', false, 'workspace:x') RETURNING seq",
            ids[0],
        )
        await db.execute(
            "INSERT INTO cutover.tombstone (memory_id, rev, held_in) VALUES ($1, 1, '{workspace:x}')", ids[0]
        )
        path = Path((await create(made, tmp_path / "one"))["path"])
        if outcome == "withdrawn":
            assert await db.fetchval("SELECT cutover.withdraw($1, $2, 0, false, '')", seq, ids[0])
        done = await restore(db, path, "was")
        found: set[UUID] = {row["id"] for row in await db.fetch("SELECT id FROM was.agent_memories")}
        assert (found == set(ids)) == (outcome == "withdrawn")
        assert done.left_out == (0 if outcome == "withdrawn" else 1)


async def test_a_made_up_archive_runs_nothing_in_the_database(make_database: MakeDatabase, tmp_path: Path) -> None:
    async with tenant_of_rows(await make_database(), 3) as (db, _), archivist(db) as made:
        path = Path((await create(made, tmp_path / "one"))["path"])

    def change(said: dict[str, Any]) -> None:
        table = next(each for each in said["tables"] if each["name"] == MEMORIES)
        table["constraints"] = [
            ["two", "CHECK (true); create table public.pwned ()"],
            ["calls", "CHECK (public.pwn() > 0)"],
        ]
        table["indexes"] = ["DROP TABLE public.witness", "CREATE INDEX w ON public.witness USING btree (a)"]
        next(each for each in table["columns"] if each["name"] == "content")["default"] = "public.pwn()::text"

    data = made_up(path, change)
    (path / MANIFEST).write_bytes(data)
    (path / SUMS).write_bytes(sums(Manifest.from_bytes(data), data).encode())
    async with connected(await make_database(legacy=False)) as database:
        await database.execute(
            "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public; CREATE TABLE witness (a int);"
            " CREATE FUNCTION pwn() RETURNS int LANGUAGE plpgsql AS 'begin create table public.pwned (); return 1; end'"
        )
        done = await restore(database, path, "public")
        assert done.rows == 3
        assert await database.fetchval("SELECT to_regclass('public.pwned')") is None
        assert await database.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = 'witness'::regclass") == 0
        for name in ("two was not made", "calls was not made: it has pwn()", "column content was left out", "no index"):
            assert name in " ".join(done.notes)


@pytest.mark.parametrize("ended", ["killed", "failed"])
async def test_an_archive_whose_restore_test_did_not_pass_is_none_and_the_test_is_gone_on_with(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    path = tmp_path / "one"
    async with tenant_of_rows(database) as (db, _):
        reached = asyncio.Event()

        async def stopping(*_: Any) -> None:
            reached.set()
            if ended == "failed":
                raise OperatorError("no room", next_step="make some")
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(archive, "restore_test", stopping)
            async with archivist(db) as made:
                if ended == "failed":
                    assert (await create(made, path))["state"] == "failed"
                else:
                    await made.request(to=str(path), requested_by="test")
                    await asyncio.wait_for(reached.wait(), 30)
        assert "it is missing" in str(verify(path)[1][0])
        with pytest.raises(OperatorError, match="holds no archive"):
            await restore(db, path, "was")
        before = {each.name: each.stat().st_mtime_ns for each in path.glob("*.zst")}
        async with archivist(db) as made:
            outcome = await create(made, path)
        assert outcome["state"] == "finished", outcome
        assert outcome["kept"] == outcome["parts"] == len(before)
        assert {each.name: each.stat().st_mtime_ns for each in path.glob("*.zst")} == before
        assert verify(path)[1] == []
