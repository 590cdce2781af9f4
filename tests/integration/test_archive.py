"""Archives on a real database (architecture §7): one snapshot whatever kills it, equal digests when it comes back, and
nothing that was deleted comes back with it."""

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.archive import MANIFEST, MEMORIES, PROGRESS
from cutover.domain.errors import OperatorError
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from cutover.engine.archive import Archivist
from cutover.stores import migrate
from cutover.stores.archive_files import read_manifest, verify
from cutover.stores.archive_restore import Stage
from cutover.stores.database import Database
from cutover.stores.restore import STAGE, restore
from cutover.stores.runs import Runs
from tests.conftest import MakeDatabase
from tests.integration.kv_scene import put
from tests.integration.protocol_scene import refused, scene
from tests.integration.read_scene import CHILD, ROOT, add_workspaces

ODD = "tab\t, newline\n, backslash \\N \\. and \u00e9\u4e16\U0001f600"


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url, max_size=3)
    try:
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def archivist(database: Database, directory: Path | None = None, rows: int = 10) -> AsyncIterator[Archivist]:
    """One at work with small parts; leaving the block ends it as a kill would, with nothing cleared away."""
    made = Archivist("default", database, Runs(database), lambda _: None, directory, rows=rows)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def create(made: Archivist, to: Path | None = None) -> dict[str, Any]:
    """A whole archive; what its run came to."""
    asked = await made.request(to=str(to) if to is not None else None, requested_by="test")
    found: dict[str, Any] = {}

    async def over() -> bool:
        told = await made.status(UUID(asked["run"]))
        found.update(told or {})
        return bool(found["state"] != "running")

    await until(over, "the archive", timeout=60, every=0.02)
    return found


async def some_rows(database: Database, count: int = 45) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    for n, memory_id in enumerate(ids):
        await database.execute(
            "INSERT INTO agent_memories (id, workspace_id, content, scope, created_at, embedding)"
            " VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN array_fill(0.1::real, array[1536])::vector END)",
            memory_id, (CHILD, ROOT, None)[n % 3], (ODD, "", f"memory {n}")[n % 3], ("LOCAL", "TEAM", "GLOBAL")[n % 3],
            None, n % 4 == 0,
        )  # fmt: skip
    return ids


@contextlib.asynccontextmanager
async def tenant_of_rows(url: str, count: int = 45) -> AsyncIterator[tuple[Database, list[UUID]]]:
    async with connected(url) as database:
        await migrate.up(database)
        await add_workspaces(database)
        yield database, await some_rows(database, count)


async def rows_of(database: Database, table: str = "public.agent_memories") -> list[str]:
    return [
        row["line"]
        for row in await database.fetch(
            f"SELECT to_jsonb(a)::text AS line FROM {table} a ORDER BY a.id"  # every column, as text
        )
    ]


async def test_everything_is_in_it_and_a_restore_into_an_empty_database_gives_equal_digests(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    rows = [(uuid4(), CHILD, f"{ODD} {n}", "LOCAL") for n in range(25)]
    async with scene(await make_database(), phase=Phase.A3, rows=rows) as s:
        ids = [row[0] for row in rows]
        made_in_a3 = await s.create(CHILD, "made in A3", Scope.TEAM)
        await s.commit("custom:notes", "native", Kind.SUMMARY)
        await put(s.database, CHILD, "key", {"a": 1})
        await s.delete(CHILD, made_in_a3.id)
        async with archivist(s.database) as made:
            outcome = await create(made, tmp_path / "one")
            evidence = await made.evidence()
        assert outcome["state"] == "finished", outcome
        assert outcome["restore_tested"]
        assert evidence is not None
        assert (evidence.restore_tested, evidence.covers, evidence.why) == (True, True, "")
        assert outcome["tables"][MEMORIES]["rows"] == len(ids)
        assert outcome["tables"]["kv"]["rows"] == 1
        assert outcome["tables"]["journal"]["rows"] == await s.count("cutover.journal")
        assert outcome["tables"]["tombstones"]["rows"] == 1
        assert verify(tmp_path / "one")[1] == []
        before = await rows_of(s.database)
        assert await s.database.fetchval("SELECT to_regnamespace('cutover_restore_test')") is None

    # Nothing there at all: the table is made as the manifest describes it.
    async with connected(await make_database(legacy=False)) as database:
        await database.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        done = await restore(database, tmp_path / "one", "public")
        assert (done.rows, done.left_out, done.digests_equal, done.made_table) == (len(ids), 0, True, True)
        assert await rows_of(database) == before
        assert await database.fetchval("SELECT count(*) FROM agent_memories WHERE content_tsv IS NOT NULL") == len(ids)
        assert await database.fetchval("SELECT to_regnamespace($1)", STAGE) is None
        again = await refused(restore(database, tmp_path / "one", "public"), OperatorError)
        assert "not empty" in str(again)


async def test_the_v1_schema_present_but_empty_is_filled_and_a_row_that_came_first_refused(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    async with tenant_of_rows(await make_database()) as (database, ids), archivist(database, tmp_path) as made:
        outcome = await create(made)
        before = await rows_of(database)
    path = Path(outcome["path"])
    assert path.parent == tmp_path
    async with connected(await make_database()) as database:
        error = await refused(restore(database, path, "public"), OperatorError)
        assert "workspaces" in str(error)
        await add_workspaces(database)
        done = await restore(database, path, "public")  # goes on with what the refused one had loaded
        assert (done.rows, done.made_table) == (len(ids), False)
        assert await rows_of(database) == before
    async with connected(await make_database()) as database:
        await add_workspaces(database)
        await some_rows(database, 1)
        error = await refused(restore(database, path, "public"), OperatorError)
        assert "not empty" in str(error)
        assert await database.fetchval("SELECT count(*) FROM agent_memories") == 1


@pytest.mark.parametrize("killed_after", [0, 1, 4])
async def test_killed_at_a_part_it_goes_on_and_is_one_snapshot(
    make_database: MakeDatabase, tmp_path: Path, killed_after: int
) -> None:
    async with tenant_of_rows(await make_database()) as (database, ids):
        path = tmp_path / "one"
        async with archivist(database) as made:
            await _killed(made, path, killed_after)
        assert not (path / MANIFEST).exists()
        # Meanwhile: a row of the first part is deleted, and one appears behind the last.
        first = sorted(ids)[0]
        await database.execute("DELETE FROM agent_memories WHERE id = $1", first)
        await database.execute(
            "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, 'late', 'LOCAL')",
            UUID(int=2**128 - 1), ROOT,
        )  # fmt: skip
        async with archivist(database) as made:
            outcome = await create(made, path)
        assert outcome["state"] == "finished", outcome
        assert outcome["restore_tested"]
        # The part of the deleted row was written anew; the others that were done were kept.
        assert outcome["kept"] == max(0, killed_after - 1)
        assert outcome["tables"][MEMORIES]["rows"] == 45
        assert verify(path)[1] == []
        before = await rows_of(database)
        states = await database.fetch("SELECT state FROM cutover.task_run WHERE kind = 'archive' ORDER BY started_at")
        assert [row["state"] for row in states] == ["interrupted", "finished"]
    async with connected(await make_database(legacy=False)) as database:
        await database.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        await restore(database, path, "public")
        assert await rows_of(database) == before


async def _killed(made: Archivist, path: Path, after: int) -> None:
    """Begin, and stop dead when so many parts are done."""
    reached = asyncio.Event()
    whole = made._part

    async def stopping(*arguments: Any) -> Any:
        if (path / PROGRESS).exists() and len((path / PROGRESS).read_text().splitlines()) >= after:
            (path / "memories-99999.copy.zst.partial").write_bytes(b"half a part")
            reached.set()
            await asyncio.Event().wait()
        return await whole(*arguments)

    made._part = stopping  # type: ignore[method-assign, assignment]
    await made.request(to=str(path), requested_by="test")
    await asyncio.wait_for(reached.wait(), 30)


async def test_a_kept_part_that_was_damaged_meanwhile_is_written_anew(database: str, tmp_path: Path) -> None:
    async with tenant_of_rows(database) as (db, _):
        path = tmp_path / "one"
        async with archivist(db) as made:
            await _killed(made, path, 3)
        target = path / "memories-00002.copy.zst"
        target.write_bytes(target.read_bytes()[:-2])
        (path / "memories-00003.copy.zst").unlink()
        async with archivist(db) as made:
            outcome = await create(made, path)
        assert (outcome["state"], outcome["kept"]) == ("finished", 1)
        assert verify(path)[1] == []


async def test_deletions_made_after_the_archive_are_honoured_and_counted(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    rows = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(25)]
    async with scene(await make_database(), phase=Phase.A3, rows=rows) as s:
        ids = sorted(row[0] for row in rows)
        await s.delete(CHILD, ids[0])  # before the archive; the frozen row is still there
        await s.quiet()
        async with archivist(s.database) as made:
            path = Path((await create(made, tmp_path / "one"))["path"])
        await s.delete(CHILD, ids[1])  # after it
        await s.commit(f"workspace:{CHILD}", "said again", id=ids[2])
        await s.delete(CHILD, ids[3])
        await s.commit(f"workspace:{CHILD}", "back again", id=ids[3])  # deleted, then said anew: it is there
        await s.quiet()
        done = await restore(s.database, path, "was")
        assert (done.rows, done.left_out) == (23, 2)
        found = {row["id"] for row in await s.database.fetch("SELECT id FROM was.agent_memories")}
        assert found == set(ids) - {ids[0], ids[1]}


@pytest.mark.parametrize("at", ["load", "bring_in"])
async def test_a_killed_restore_goes_on(
    make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    async with tenant_of_rows(await make_database()) as (database, _), archivist(database, tmp_path) as made:
        path = Path((await create(made))["path"])
        before = await rows_of(database)
    async with connected(await make_database()) as database:
        await add_workspaces(database)
        whole = getattr(Stage, at)
        done: list[int] = []

        async def dying(stage: Stage, *arguments: Any) -> Any:
            if len(done) == 2:
                raise asyncio.CancelledError
            done.append(1)
            return await whole(stage, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Stage, at, dying)
            with pytest.raises(asyncio.CancelledError):
                await restore(database, path, "public")
        said: list[str] = []
        outcome = await restore(database, path, "public", say=said.append)
        assert said[0].startswith("going on")
        assert outcome.rows == 45
        assert await rows_of(database) == before


async def test_a_target_without_the_embedding_column_is_told(make_database: MakeDatabase, tmp_path: Path) -> None:
    async with tenant_of_rows(await make_database()) as (database, _), archivist(database, tmp_path) as made:
        path = Path((await create(made))["path"])
    async with connected(await make_database(embedding=False)) as database:
        await add_workspaces(database)
        error = await refused(restore(database, path, "public"), OperatorError)
        assert "no column embedding (12 rows have one)" in str(error)
        assert await database.fetchval("SELECT count(*) FROM agent_memories") == 0
        done = await restore(database, path, "public", without=frozenset({"embedding"}))
        assert done.rows == 45
        assert done.notes[-1] == "column embedding was left out, 12 rows had one"


async def test_a_damaged_archive_is_never_restored(make_database: MakeDatabase, tmp_path: Path) -> None:
    async with tenant_of_rows(await make_database()) as (database, _), archivist(database, tmp_path) as made:
        path = Path((await create(made))["path"])
        part = path / "memories-00003.copy.zst"
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 4
        part.write_bytes(data)
        error = await refused(restore(database, path, "was"), OperatorError)
        assert "memories-00003.copy.zst: its sha256 is another one" in str(error)
        assert await database.fetchval("SELECT to_regnamespace('was')") is None


async def test_evidence_says_when_the_archive_no_longer_covers(database: str, tmp_path: Path) -> None:
    async with scene(database, phase=Phase.A2, rows=[(uuid4(), CHILD, "a", "LOCAL")]) as s:
        async with archivist(s.database) as made:
            assert await made.evidence() is None
            await create(made, tmp_path / "early")
            await s.enter(Phase.A3)
            early = await made.evidence()
            assert early is not None
            assert not early.covers
            assert "A2" in early.why
            await create(made, tmp_path / "now")
            now = await made.evidence()
            assert now is not None
            assert now.covers
            await s.create(CHILD, "made in A3")
            await s.quiet()
            await s.tenant._way_back.prepare(await s.tenant.phase.reload())  # and then it is given up
            behind = await made.evidence()
            assert behind is not None
            assert not behind.covers
            assert "given up" in behind.why
            await create(made, tmp_path / "anew")
            again = await made.evidence()
            assert again is not None
            assert again.covers
            (tmp_path / "anew" / MANIFEST).unlink()
            gone = await made.evidence()
            assert gone is not None
            assert not gone.covers


async def test_memory_stays_flat(database: str, tmp_path: Path) -> None:
    """50 MB of rows through less than 12 MB of Python objects."""
    async with connected(database) as db:
        await migrate.up(db)
        await add_workspaces(db)
        await db.execute(
            "INSERT INTO agent_memories (workspace_id, content, scope)"
            " SELECT $1, string_agg(md5(n::text || m::text), ''), 'LOCAL'"
            " FROM generate_series(1, 50) n, generate_series(1, 32000) m GROUP BY n, m / 64",
            CHILD, timeout=120,
        )  # fmt: skip
        async with archivist(db, rows=2000) as made:
            gc.collect()
            tracemalloc.start()
            try:
                outcome = await create(made, tmp_path / "one")
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert outcome["state"] == "finished", outcome
        manifest, _ = read_manifest(tmp_path / "one")
        assert sum(part.raw for part in manifest.parts) > 50_000_000
        assert peak < 12_000_000


async def test_a_gutted_or_unreadable_archive_is_no_evidence_and_no_proof_for_the_drop(
    database: str, tmp_path: Path
) -> None:
    async with scene(database, phase=Phase.A3, rows=[(uuid4(), CHILD, "a", "LOCAL")]) as s:
        async with archivist(s.database) as made:
            assert await made.verified() == "no archive has been written"
            path = Path((await create(made, tmp_path / "one"))["path"])
            assert await made.verified() == ""
            part = path / "memories-00001.copy.zst"
            data = part.read_bytes()
            part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
            quick = await made.evidence()
            assert quick is not None
            assert quick.covers  # nothing but reading it all shows that
            assert "memories-00001.copy.zst" in await made.verified()
            part.unlink()
            gutted = await made.evidence()
            assert gutted is not None
            assert not gutted.covers
            assert "memories-00001.copy.zst: it is missing" in gutted.why
            # A file where the directory was: neither there nor missing.
            _a_file_instead(path)
            error = await refused(made.evidence(), OperatorError)
            assert "cannot be read: Not a directory" in str(error)
            assert "cannot be read" in await made.verified()
        unknown = (await s.tenant._readiness.fresh(Phase.A4)).evidence.unknown
        assert "cannot be read" in unknown["archive"]


def _a_file_instead(path: Path) -> None:
    path.rename(path.with_name("away"))
    path.write_text("")
