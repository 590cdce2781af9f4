"""Runbooks in the tenant's database: seeded once, versioned by their text, named by every run (architecture §8)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import cutover
from cutover.domain.errors import IllegalStep, NotFound
from cutover.domain.phase import Phase
from cutover.domain.procedure import Packaged
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.procedures import Procedures, packaged
from cutover.stores.runs import Runs
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import scene


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        yield database
    finally:
        await database.close()


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15, unless it says otherwise."""
    return plain_database


def offered(body: str, name: str = "sweeps") -> dict[str, Packaged]:
    return {name: Packaged(name, "Sweeps", body, hashlib.sha256(body.encode()).digest())}


async def in_force(procedures: Procedures) -> tuple[int, str]:
    found = [each for each in await procedures.versions("sweeps") if each.in_force]
    assert len(found) == 1
    return found[0].number, found[0].body


async def test_seeding_puts_down_every_packaged_runbook_once(database: str) -> None:
    async with migrated(database) as db:
        procedures = Procedures(db)
        first = await procedures.seed("1.0")
        assert first == dict.fromkeys(packaged(), "added")
        assert await procedures.seed("1.0") == {}
        versions = await procedures.versions()
        assert {each.name: each.body for each in versions} == {n: each.body for n, each in packaged().items()}
        assert {(each.number, each.in_force, each.package) for each in versions} == {(1, True, "1.0")}
        assert len(await procedures.events()) == len(packaged())


async def test_two_daemons_at_once_put_each_version_down_once(database: str) -> None:
    async with migrated(database) as one, migrated(database) as two:
        told = await asyncio.gather(*(Procedures(db).seed("1.0") for db in (one, two) * 3))
        assert sorted(len(each) for each in told) == [0] * 5 + [len(packaged())]
        assert len(await Procedures(one).versions()) == len(packaged())


async def test_a_changed_text_is_a_new_version_with_an_event(database: str) -> None:
    async with migrated(database) as db:
        procedures = Procedures(db)
        await procedures.seed("1.0", offered("# Sweeps\none\n"))
        assert await procedures.seed("1.1", offered("# Sweeps\ntwo\n")) == {"sweeps": "adopted"}
        assert await in_force(procedures) == (2, "# Sweeps\ntwo\n")
        assert [(e.what, e.number, e.previous, e.package) for e in await procedures.events("sweeps")] == [
            ("adopted", 2, 1, "1.1"),
            ("added", 1, None, "1.0"),
        ]
        # Back to the text of before, by a release that is newer still: no version is made twice.
        assert await procedures.seed("1.2", offered("# Sweeps\none\n")) == {"sweeps": "adopted"}
        assert await in_force(procedures) == (1, "# Sweeps\none\n")
        assert len(await procedures.versions("sweeps")) == 2


async def test_an_older_release_does_not_undo_a_newer_one_and_says_so_once(database: str) -> None:
    async with migrated(database) as db:
        procedures = Procedures(db)
        await procedures.seed("1.0", offered("# Sweeps\none\n"))
        await procedures.seed("1.1", offered("# Sweeps\ntwo\n"))
        assert await procedures.seed("1.0", offered("# Sweeps\none\n")) == {"sweeps": "kept"}
        assert await procedures.seed("1.0", offered("# Sweeps\none\n")) == {}
        assert await procedures.seed("0.9", offered("# Sweeps\nzero\n")) == {"sweeps": "kept"}
        assert await in_force(procedures) == (2, "# Sweeps\ntwo\n")
        assert [(e.what, e.number, e.package) for e in (await procedures.events("sweeps"))[:2]] == [
            ("kept", 3, "0.9"),
            ("kept", 1, "1.0"),
        ]


async def test_a_run_names_the_version_that_its_daemon_came_with(database: str) -> None:
    async with migrated(database) as db:
        runs, procedures = Runs(db), Procedures(db)
        early = await runs.get(await runs.begin("verify", "test", {}))
        assert early is not None
        assert early.procedure_version is None
        await procedures.seed("1.0")
        # Another daemon's newer text is in force; this one still follows its own.
        await procedures.seed("2.0", offered("# Sweeps\nnewer\n"))
        for kind, name in (("sweep.count", "sweeps"), ("backfill", "backfill"), ("archive", "archive-and-drop")):
            run = await runs.get(await runs.begin(kind, "test", {}))
            assert run is not None
            followed = [each for each in await procedures.versions(name) if each.id == run.procedure_version]
            assert [each.body for each in followed] == [packaged()[name].body]


async def test_every_change_of_phase_is_a_run_in_the_same_transaction(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with scene(url) as s:
        await s.enter(Phase.A1)
        await s.step(Phase.A0)
        with pytest.raises(IllegalStep):
            await s.tenant.operations.change_phase(
                Phase.A3, actor="test", reason="too far", expected_epoch=s.tenant.phase.current().epoch
            )
        rows = await s.database.fetch(
            "SELECT r.state, r.requested_by, r.parameters ->> 'from' AS before, r.parameters ->> 'to' AS after,"
            " (r.outcome ->> 'epoch')::int AS epoch, v.name, r.xmin = e.xmin AS together"
            " FROM cutover.task_run r LEFT JOIN cutover.memory_procedure_version v ON v.id = r.procedure_version"
            " LEFT JOIN cutover.phase_event e ON e.epoch = (r.outcome ->> 'epoch')::int"
            " WHERE r.kind = 'phase' ORDER BY r.started_at"
        )
        assert [tuple(row) for row in rows] == [
            ("finished", "test", "A0", "A1", 2, "a1-shadow", True),
            ("finished", "test", "A1", "A0", 3, "rollback", True),
        ]


async def test_a_change_of_phase_that_failed_is_a_run_that_says_why(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with scene(url, phase=Phase.A2) as s:
        await s.database.execute("UPDATE cutover.backfill_cursor SET done = false")
        with pytest.raises(IllegalStep, match="backfill"):
            await s.tenant.operations.change_phase(
                Phase.A3, actor="ada", reason="now", expected_epoch=s.tenant.phase.current().epoch
            )
        run = await Runs(s.database).last("phase")
        assert run is not None
        assert (run.state, run.requested_by, run.parameters) == (
            "failed", "ada", {"from": "A2", "to": "A3", "reason": "now"},
        )  # fmt: skip
        assert run.outcome is not None
        assert "backfill" in run.outcome["why"]


async def test_a_daemon_seeds_at_its_start_and_shows_its_runbooks(make_database: MakeDatabase) -> None:
    url = await make_database()
    async with scene(url) as s:
        record = s.tenant.record
        listed = await record.procedures()
        assert [each["name"] for each in listed] == list(packaged())
        assert {(each["package"], each["packaged"]) for each in listed} == {(cutover.__version__, "same")}
        await Procedures(s.database).seed("99.0", offered("# Sweeps\nother\n"))
        told = await record.procedure("sweeps", None)
        assert (told["version"], told["packaged"], told["body"]) == (2, "differs", "# Sweeps\nother\n")
        assert [each["version"] for each in told["versions"]] == [2, 1]
        assert [each["what"] for each in told["events"]] == ["adopted", "added"]
        assert (await record.procedure("sweeps", 1))["packaged"] == "same"
        with pytest.raises(NotFound, match="there are 1, 2"):
            await record.procedure("sweeps", 7)
        with pytest.raises(NotFound):
            await record.procedure("tea", None)
