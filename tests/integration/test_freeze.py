"""The freeze of agent_memories: who is refused, who is not, who is counted, and what is noticed (issue 4 §3)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from cutover.domain.errors import DatabaseFault
from cutover.domain.events import FreezeLooked, FrozenWritesRefused
from cutover.domain.phase import Phase
from cutover.domain.thresholds import DEFAULTS
from cutover.embedded.processes import until
from cutover.stores.access import AccessStore
from cutover.stores.freeze import FreezeStore
from tests.integration.lock_scene import Connection
from tests.integration.protocol_scene import Scene, eventually, scene
from tests.integration.read_scene import CHILD, ROOT, STRANGER

REFUSED = "CU003"
ROW = f"gen_random_uuid(), '{CHILD}', 'x', 'LOCAL'"
INSERT = f"INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ({ROW})"
ATTEMPTS = {
    "insert": INSERT,
    "insert select": f"INSERT INTO agent_memories (id, workspace_id, content, scope) SELECT {ROW}",
    "on conflict do nothing": f"{INSERT} ON CONFLICT DO NOTHING",
    "on conflict do update": f"{INSERT} ON CONFLICT (id) DO UPDATE SET content = 'y'",
    "update": "UPDATE agent_memories SET content = 'changed'",
    "update of no row": "UPDATE agent_memories SET content = 'changed' WHERE false",
    "merge": (
        f"MERGE INTO agent_memories a USING (SELECT '{CHILD}'::uuid AS w) s ON a.workspace_id = s.w"
        " WHEN MATCHED THEN UPDATE SET content = 'changed'"
    ),
    "truncate": "TRUNCATE agent_memories",
    "truncate cascade": "TRUNCATE agent_memories CASCADE",
    "by a cte": f"WITH made AS ({INSERT} RETURNING id) SELECT count(*) FROM made",
    "as a replica": f"SET session_replication_role = replica; {INSERT}",
    "as the daemon": f"SET cutover.origin = 'write'; {INSERT}",
}


async def stranger(s: Scene, url: str, name: str = "somebody-else") -> Connection:
    """A session of somebody else."""
    return await asyncpg.connect(url, server_settings={"application_name": name})


@pytest.fixture
async def frozen(database: str) -> AsyncIterator[tuple[Scene, str]]:
    """A tenant in A3 with one memory from before the cutover."""
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.insert(CHILD, "before")
        await s.quiet()
        await s.enter(Phase.A3)
        yield s, database


async def told(s: Scene) -> dict[str, int]:
    """Refused statements by writer, as the daemons of the scene told of them."""
    counted: dict[str, int] = {}
    for daemon in s.daemons:
        for event in daemon.events:
            if isinstance(event, FrozenWritesRefused):
                counted[event.writer] = counted.get(event.writer, 0) + event.count
    return counted


async def test_insert_update_and_truncate_raise_an_error_naming_the_phase(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    before = await s.database.fetch("SELECT * FROM agent_memories")
    writer = await stranger(s, url)
    try:
        for what, sql in ATTEMPTS.items():
            with pytest.raises(asyncpg.PostgresError) as refused:
                await writer.execute(sql)
            assert refused.value.sqlstate == REFUSED, what
            assert "frozen (phase A3)" in str(refused.value), what
            await writer.execute("RESET ALL")
        for options in ({}, {"format": "csv"}):
            with pytest.raises(asyncpg.PostgresError) as refused:
                await writer.copy_records_to_table(
                    "agent_memories", records=[(uuid.uuid4(), CHILD, "x", "LOCAL")],
                    columns=["id", "workspace_id", "content", "scope"],
                )  # fmt: skip
            assert refused.value.sqlstate == REFUSED, options
    finally:
        await writer.close()
    assert await s.database.fetch("SELECT * FROM agent_memories") == before
    assert await s.count("cutover.mark") == 0


async def test_delete_passes_and_reaches_the_plugin(frozen: tuple[Scene, str]) -> None:
    s, _ = frozen
    memory_id = await s.database.fetchval("SELECT id FROM agent_memories")
    assert await s.content(memory_id) == "before"
    await s.database.execute("DELETE FROM agent_memories")
    await s.quiet()
    assert await s.plugin(memory_id) is None
    assert await s.differences() == []


async def test_a_transaction_older_than_the_freeze_is_refused_as_well(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.enter(Phase.A3)
        await s.step(Phase.A2)
        assert await s.database.fetchval("SELECT cutover.thaw('test')")  # a row says now that everybody may write
        writer = await stranger(s, database)
        try:
            await writer.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await writer.fetchval("SELECT count(*) FROM workspaces")  # its snapshot is from before
            await s.enter(Phase.A3)
            with pytest.raises(asyncpg.PostgresError) as refused:
                await writer.execute(INSERT)
            assert refused.value.sqlstate == REFUSED
        finally:
            await writer.close()


async def test_attempts_are_counted_and_their_writers_named_once(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    await s.daemon()  # two daemons must not count twice
    names = {"workspace-server": 3, "psql": 1, "a" * 60: 2}
    for name, times in names.items():
        writer = await stranger(s, url, name)
        for _ in range(times):
            with pytest.raises(asyncpg.PostgresError):
                await writer.execute(INSERT)
        await writer.close()
    await eventually(
        lambda: sum(e.count for d in s.daemons for e in d.events if isinstance(e, FrozenWritesRefused)) >= 6
    )
    await asyncio.sleep(1.5)
    counted = await told(s)
    role = await s.database.fetchval("SELECT session_user::text")
    assert counted.pop(f"workspace-server/{role}") == 3
    assert counted.pop(f"psql/{role}") == 1
    assert counted == {"a" * 39 + "/postgres": 2}  # what fits, and the role whole
    listed = (await s.tenant.freeze.told())["refused"]
    assert [row["attempts"] for row in listed] == [3, 2, 1]


async def test_more_writers_than_slots_are_counted_together(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    for number in range(10):
        writer = await stranger(s, url, f"writer-{number}")
        with pytest.raises(asyncpg.PostgresError):
            await writer.execute(INSERT)
        await writer.close()
    refused = {row["writer"]: row["attempts"] for row in (await s.tenant.freeze.told())["refused"]}
    assert sum(refused.values()) == 10
    assert refused["others"] == 2


async def test_writers_at_once_do_not_mix_their_names(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    writers = [await stranger(s, url, f"application-number-{number}-of-six") for number in range(6)]

    async def attempt(writer: Connection) -> None:
        for _ in range(5):
            with pytest.raises(asyncpg.PostgresError):
                await writer.execute(INSERT)

    await asyncio.gather(*(attempt(writer) for writer in writers))
    for writer in writers:
        await writer.close()
    refused = {row["writer"].split("/")[0]: row["attempts"] for row in (await s.tenant.freeze.told())["refused"]}
    assert sum(refused.values()) == 30
    # Who met another newcomer in the same instant may have been counted as one of the others, never under a wrong name.
    assert set(refused) <= {f"application-number-{number}-of-six" for number in range(6)} | {"others"}


TAMPERING = {
    "disabled": ("ALTER TABLE agent_memories DISABLE TRIGGER cutover_freeze", "cutover_freeze is disabled"),
    "all disabled": ("ALTER TABLE agent_memories DISABLE TRIGGER ALL", "is disabled"),
    "not always": (
        "ALTER TABLE agent_memories ENABLE TRIGGER cutover_freeze_row",
        "cutover_freeze_row is not enabled always",
    ),
    "replica only": ("ALTER TABLE agent_memories ENABLE REPLICA TRIGGER cutover_freeze", "is not enabled always"),
    "dropped": ("DROP TRIGGER cutover_freeze ON agent_memories", "cutover_freeze is gone"),
    "renamed": ("ALTER TRIGGER cutover_freeze ON agent_memories RENAME TO x", "cutover_freeze is gone"),
    "another function": (
        (
            "CREATE FUNCTION public.nothing() RETURNS trigger LANGUAGE plpgsql AS 'begin return null; end';"
            " CREATE OR REPLACE TRIGGER cutover_freeze BEFORE INSERT ON agent_memories"
            " FOR EACH STATEMENT EXECUTE FUNCTION public.nothing();"
            " ALTER TABLE agent_memories ENABLE ALWAYS TRIGGER cutover_freeze"
        ),
        "cutover_freeze is not the one that was made",
    ),
    "another argument": (
        (
            "CREATE OR REPLACE TRIGGER cutover_freeze BEFORE INSERT OR UPDATE OR TRUNCATE ON agent_memories"
            " FOR EACH STATEMENT EXECUTE FUNCTION cutover.refuse_frozen('9');"
            " ALTER TABLE agent_memories ENABLE ALWAYS TRIGGER cutover_freeze"
        ),
        "cutover_freeze is not the one that was made",
    ),
    "function replaced": (
        (
            "CREATE OR REPLACE FUNCTION cutover.refuse_frozen() RETURNS trigger LANGUAGE plpgsql"
            " AS 'begin return null; end'"
        ),
        "function cutover.refuse_frozen is not the one that was there",
    ),
    "row opened": ("UPDATE cutover.freeze SET mode = 'open'", "the recorded freeze is open"),
    "row deleted": ("DELETE FROM cutover.freeze", "no freeze is recorded"),
    "table replaced": (
        "ALTER TABLE agent_memories RENAME TO kept; CREATE TABLE agent_memories (LIKE kept INCLUDING ALL)",
        "is not the table that was frozen",
    ),
    "table gone": ("ALTER TABLE agent_memories RENAME TO kept", "agent_memories is gone"),
}


async def test_every_kind_of_tampering_is_found_and_refreezing_mends_it(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    freeze = s.tenant.freeze
    store = FreezeStore(s.database)
    assert (await freeze.evidence()).intact
    for what, (sql, why) in TAMPERING.items():
        await s.database.execute(sql)
        evidence = await freeze.evidence()
        assert evidence.wanted, what
        assert not evidence.intact, what
        assert why in evidence.why, what
        if "kept" in sql:
            await s.database.execute("DROP TABLE IF EXISTS agent_memories; ALTER TABLE kept RENAME TO agent_memories")
        else:
            mended = await freeze.refreeze("alice", f"after {what}")
            assert any(why in each for each in mended["mended"]), what
            assert mended["freeze"]["actor"] == "alice"
        assert await store.faults() == [], what
    writer = await stranger(s, url)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await writer.execute(INSERT)
    await writer.close()
    assert refused.value.sqlstate == REFUSED


async def test_tampering_is_told_within_a_minute(frozen: tuple[Scene, str]) -> None:
    s, _ = frozen

    def last() -> FreezeLooked | None:
        return next((e for e in reversed(s.daemons[-1].events) if isinstance(e, FreezeLooked)), None)

    await eventually(lambda: (seen := last()) is not None and seen.wanted and seen.intact, timeout=30)
    await s.tamper()
    await eventually(lambda: (seen := last()) is not None and not seen.intact, timeout=60)


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A2], ids=str)
async def test_nothing_is_frozen_before_a3(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase, proxied=False) as s:
        await s.insert(CHILD, "anybody")
        evidence = await s.tenant.freeze.evidence()
        assert (evidence.wanted, evidence.intact) == (False, True)


async def test_after_the_way_back_and_the_thaw_others_write_again_and_the_triggers_go(
    frozen: tuple[Scene, str],
) -> None:
    s, url = frozen
    await s.step(Phase.A2)
    await s.create(CHILD, "through the daemon")
    writer = await stranger(s, url)
    with pytest.raises(asyncpg.PostgresError) as refused:
        await writer.execute(INSERT)
    await writer.close()
    assert refused.value.sqlstate == REFUSED
    assert await s.database.fetchval("SELECT cutover.thaw('test')")
    await s.insert(CHILD, "after")
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cutover_freeze%'"

    async def gone() -> bool:
        return not await s.database.fetchval(triggers) and not await s.count("cutover.freeze")

    await until(gone, "the triggers to go", timeout=20)
    assert (await s.tenant.freeze.evidence()).intact


FOREIGN_KEY = (
    "ALTER TABLE agent_memories DROP CONSTRAINT agent_memories_workspace_id_fkey,"
    f" ALTER workspace_id SET DEFAULT '{ROOT}', ADD CONSTRAINT agent_memories_workspace_id_fkey"
    " FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE {action}"
)


async def test_no_setting_of_a_foreign_role_passes_the_freeze_or_switches_capture_off(database: str) -> None:
    memory_id = uuid.uuid4()
    async with scene(database, phase=Phase.A3, rows=[(memory_id, CHILD, "before", "LOCAL")], proxied=False) as s:
        writer = await stranger(s, database)
        try:
            await writer.execute(
                "CREATE ROLE app; GRANT SELECT, INSERT, UPDATE, DELETE ON agent_memories, workspaces TO app;"
                " SET ROLE app"
            )
            for origin in ("replay", "write"):
                await writer.execute(
                    f"SET cutover.origin = '{origin}'; SET cutover.owner = '{CHILD}'; SET cutover.own = '1'"
                )
                await writer.execute("SET cutover.quiet = '100000'; SET cutover.purging = '1'")
                for sql in (INSERT, "UPDATE agent_memories SET content = 'changed'"):
                    with pytest.raises(asyncpg.PostgresError) as refused:
                        await writer.execute(sql)
                    assert refused.value.sqlstate == REFUSED, (origin, sql)
            await writer.execute("DELETE FROM agent_memories")
            await s.quiet()
            assert await s.plugin(memory_id) is None
            assert await s.database.fetchval("SELECT count(*) FROM cutover.bypass_write") > 0
            assert await s.count("cutover.freeze_pass") == 0
        finally:
            await writer.execute("RESET ROLE; DROP OWNED BY app; DROP ROLE app")
            await writer.close()


async def test_what_passes_a_freeze_is_the_replay_and_is_recorded(frozen: tuple[Scene, str]) -> None:
    s, _ = frozen
    await s.create(CHILD, "made in A3")
    await s.quiet()
    await s.step(Phase.A2)
    passes = await s.database.fetch("SELECT DISTINCT origin, operation FROM cutover.freeze_pass")
    assert ("replay", "INSERT") in {(each["origin"], each["operation"]) for each in passes}
    assert {each["origin"] for each in passes} == {"replay"}


@pytest.mark.parametrize("action", ["SET NULL", "SET DEFAULT"])
async def test_a_workspace_can_be_deleted_where_its_foreign_key_keeps_the_rows(database: str, action: str) -> None:
    memory_id, other = uuid.uuid4(), uuid.uuid4()
    rows = [(memory_id, STRANGER, "before", "LOCAL"), (other, CHILD, "of another", "LOCAL")]
    async with scene(database, phase=Phase.A2, rows=rows, proxied=False) as s:
        await s.database.execute(FOREIGN_KEY.format(action=action))
        await s.quiet()
        await s.enter(Phase.A3)
        made = await s.create(STRANGER, "made in A3")
        await s.quiet()
        writer = await stranger(s, database)
        try:
            async with writer.transaction():
                await writer.execute("DELETE FROM workspaces WHERE id = $1", STRANGER)
                for sql in ("SET content = 'x' WHERE id = $1", "SET workspace_id = NULL WHERE id = $1"):
                    with pytest.raises(asyncpg.PostgresError) as refused:
                        async with writer.transaction():
                            await writer.execute(f"UPDATE agent_memories {sql}", other)
                    assert refused.value.sqlstate == REFUSED
        finally:
            await writer.close()
        await s.quiet()
        for each in (memory_id, made.id):
            assert await s.plugin(each) is None
            newest = "SELECT op FROM cutover.journal WHERE memory_id = $1 ORDER BY seq DESC LIMIT 1"
            assert await s.database.fetchval(newest, each) == "forget"
        assert await s.content(other) == "of another"
        assert await s.differences() == []


async def test_who_is_refused_is_told_what_is_so(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    await s.step(Phase.A2)
    writer = await stranger(s, url)
    try:
        for mode, told, hint in (
            ("thawing", "not open yet after the way back (phase A2)", "opens when a sweep of it is clean"),
            ("scream", "frozen for a test until", "agent_memories still holds the memories"),
        ):
            await s.database.execute(
                "UPDATE cutover.freeze SET mode = $1::text,"
                " until = CASE WHEN $1 = 'scream' THEN clock_timestamp() + interval '1 hour' END",
                mode,
            )
            with pytest.raises(asyncpg.PostgresError) as refused:
                await writer.execute(INSERT)
            assert told in str(refused.value)
            assert hint in str(refused.value.as_dict()["hint"])
            assert "plugin now" not in str(refused.value.as_dict())
    finally:
        await writer.close()


async def test_refreeze_mends_a_freeze_while_the_table_has_another_name(database: str) -> None:
    held = replace(DEFAULTS, drop_hold=3600.0)
    rows = [(uuid.uuid4(), CHILD, "before", "LOCAL")]
    async with scene(database, phase=Phase.A3, rows=rows, proxied=False, thresholds=held) as s:
        await s.step(Phase.A4)
        relation = await s.database.fetchval("SELECT relation FROM cutover.drop_state")
        await s.database.execute(f'ALTER TABLE "{relation}" DISABLE TRIGGER cutover_freeze')
        assert not (await s.tenant.freeze.evidence()).intact
        mended = await s.tenant.freeze.refreeze("operator", "somebody disabled it")
        assert mended["intact"]
        with pytest.raises(DatabaseFault):
            await s.database.execute(f"UPDATE \"{relation}\" SET content = 'x'")


async def test_each_freeze_has_its_own_names_and_each_name_its_role(frozen: tuple[Scene, str]) -> None:
    s, url = frozen
    for turn in range(2):
        for number in range(8):
            writer = await stranger(s, url, f"turn-{turn}-{number}-ä-with-a-name-that-is-longer-than-a-slot-is")
            with pytest.raises(asyncpg.PostgresError):
                await writer.execute(INSERT)
            await writer.close()
        refused = {each["writer"] for each in (await s.tenant.freeze.told())["refused"]}
        assert len(refused) == 8, refused
        assert all(each.startswith(f"turn-{turn}-") and each.endswith("/postgres") for each in refused), refused
        await s.tenant.freeze.refreeze("operator", "anew")


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A3, Phase.A4])
async def test_a_disabled_capture_trigger_is_seen_and_the_time_without_writers_begins_anew(
    database: str, phase: Phase
) -> None:
    held = replace(DEFAULTS, drop_hold=3600.0)
    started = min(phase, Phase.A3, key=lambda each: each.order)
    async with scene(database, phase=started, proxied=False, thresholds=held) as s:
        if phase is not started:
            await s.step(phase)
        assert (await s.tenant.freeze.capture()).missing == ()
        table = await s.database.fetchval("SELECT cutover.legacy_relation()")
        await s.database.execute(f"ALTER TABLE {table} DISABLE TRIGGER cutover_capture_row")
        broken = await s.database.fetchval("SELECT clock_timestamp()")
        assert (await s.tenant.freeze.capture()).missing == ("cutover_capture_row",)
        await s.database.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER cutover_capture_row")
        assert (await s.tenant.freeze.capture()).missing == ()
        since = (await AccessStore(s.database).access()).writes_since
        assert since is not None
        assert since >= broken
