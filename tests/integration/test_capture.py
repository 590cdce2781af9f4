"""Capture (architecture §3; domain §4.6, §4.10): no writer of agent_memories gets past the marks."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from cutover.domain.errors import IllegalStep
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.stores import migrate
from cutover.stores.database import Database
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD, GRANDCHILD, LEFT, RIGHT, ROOT, SIBLING, STRANGER, add_workspaces

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(
    params=[
        pytest.param(("make_database", True, True), id="embedding, enum"),
        pytest.param(("make_database", False, False), id="no embedding, text"),
        pytest.param(("make_database15", False, True), id="PostgreSQL 15", marks=pytest.mark.pg15),
    ]
)
def make_tenant(request: pytest.FixtureRequest) -> Callable[[], Awaitable[str]]:
    """Makes a database in one of the shapes that v1 comes in, and gives its URL."""
    make, embedding, status_enum = request.param
    return partial(request.getfixturevalue(make), embedding=embedding, status_enum=status_enum)


@pytest.fixture
async def sql(make_tenant: Callable[[], Awaitable[str]]) -> AsyncIterator[Connection]:
    """A connection of somebody else's to a tenant with the triggers installed, in A1, and nothing marked."""
    url = await make_tenant()
    database = await Database.connect(url, max_size=1)
    await migrate.up(database)
    await add_workspaces(database)
    await database.execute("SELECT cutover.install_capture()")
    await database.execute("SELECT cutover.set_phase(1, 'A1', 'test', 'test')")
    await database.close()
    connection = await asyncpg.connect(url, server_settings={"application_name": "workspace-server"})
    yield connection
    await connection.close()


async def add(sql: Connection, workspace: UUID | None, scope: str = "LOCAL", content: str = "x") -> UUID:
    value: UUID = await sql.fetchval(
        "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, $2, $3) RETURNING id",
        workspace,
        content,
        scope,
    )
    return value


async def settled(sql: Connection) -> None:
    """As if everything so far had been delivered."""
    await sql.execute("DELETE FROM cutover.mark")


async def marks(sql: Connection) -> dict[UUID, asyncpg.Record]:
    return {row["memory_id"]: row for row in await sql.fetch("SELECT * FROM cutover.mark")}


async def held(sql: Connection) -> dict[UUID, set[str]]:
    return {key: set(row["held_in"]) for key, row in (await marks(sql)).items()}


async def test_insert_update_delete(sql: Connection) -> None:
    memory = await add(sql, CHILD)
    first = (await marks(sql))[memory]
    assert (first["origin"], list(first["held_in"]), first["ambiguous"]) == ("bypass", [], False)
    await sql.execute("UPDATE agent_memories SET content = 'y' WHERE id = $1", memory)
    second = (await marks(sql))[memory]
    assert second["rev"] > first["rev"]
    await sql.execute("DELETE FROM agent_memories WHERE id = $1", memory)
    third = (await marks(sql))[memory]
    assert third["rev"] > second["rev"]
    assert list(third["held_in"]) == [f"workspace:{CHILD}"]
    grave = await sql.fetchrow("SELECT * FROM cutover.tombstone WHERE memory_id = $1", memory)
    assert grave is not None
    assert list(grave["held_in"]) == [f"workspace:{CHILD}"]
    await add_again(sql, memory)
    assert await sql.fetchval("SELECT count(*) FROM cutover.tombstone") == 0
    assert (await marks(sql))[memory]["rev"] > third["rev"]


async def add_again(sql: Connection, memory: UUID) -> None:
    await sql.execute("INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, 'z', 'LOCAL')", memory, CHILD)  # fmt: skip  # noqa: E501


async def test_a_rolled_back_write_leaves_no_mark(sql: Connection) -> None:
    transaction = sql.transaction()
    await transaction.start()
    await add(sql, CHILD)
    assert len(await marks(sql)) == 1
    await transaction.rollback()
    assert await marks(sql) == {}
    assert await sql.fetchval("SELECT count(*) FROM cutover.bypass_write") == 0


async def test_many_rows_in_one_statement_and_copy(sql: Connection) -> None:
    await sql.execute(
        "INSERT INTO agent_memories (workspace_id, content, scope)"
        " SELECT $1, i::text, 'LOCAL' FROM generate_series(1, 20) i",
        CHILD,
    )
    ids = [uuid4() for _ in range(30)]
    await sql.copy_records_to_table(
        "agent_memories",
        records=[(each, CHILD, "c", "TEAM") for each in ids],
        columns=["id", "workspace_id", "content", "scope"],
    )
    assert len(await marks(sql)) == 50
    assert set(ids) <= set(await marks(sql))
    await sql.execute("UPDATE agent_memories SET namespace = 'facts' WHERE scope = 'TEAM'")
    await sql.execute("DELETE FROM agent_memories")
    assert await sql.fetchval("SELECT count(*) FROM cutover.tombstone") == 50


async def test_update_of_an_id_and_of_the_place(sql: Connection) -> None:
    memory, moved = await add(sql, CHILD), await add(sql, CHILD, "TEAM")
    await settled(sql)
    other = uuid4()
    await sql.execute("UPDATE agent_memories SET id = $2 WHERE id = $1", memory, other)
    await sql.execute("UPDATE agent_memories SET scope = 'LOCAL', workspace_id = $2 WHERE id = $1", moved, STRANGER)
    assert await held(sql) == {
        memory: {f"workspace:{CHILD}"},
        other: {f"workspace:{CHILD}"},
        moved: {f"team:{ROOT}"},
    }
    assert [row["memory_id"] for row in await sql.fetch("SELECT memory_id FROM cutover.tombstone")] == [memory]


async def test_truncate_marks_every_id_with_its_place(sql: Connection) -> None:
    memories = {
        await add(sql, CHILD): {f"workspace:{CHILD}"},
        await add(sql, CHILD, "TEAM"): {f"team:{ROOT}"},
        await add(sql, GRANDCHILD, "GLOBAL"): {f"org:{ROOT}"},
        await add(sql, None): set(),
    }
    await settled(sql)
    await sql.execute("TRUNCATE agent_memories")
    assert await held(sql) == memories
    assert {row["origin"] for row in (await marks(sql)).values()} == {"truncate"}
    assert await sql.fetchval("SELECT count(*) FROM cutover.tombstone") == 4


async def test_writers_are_named_and_counted(sql: Connection) -> None:
    for _ in range(3):
        await add(sql, CHILD)
    await sql.execute("SET application_name = 'psql'")
    await add(sql, CHILD)
    await sql.execute("TRUNCATE agent_memories")
    new = "SELECT writer, sum(writes) AS writes FROM cutover.fold_bypass_writes(100) GROUP BY writer"
    folded = {row["writer"]: row["writes"] for row in await sql.fetch(new)}
    user = await sql.fetchval("SELECT session_user")
    assert folded == {f"workspace-server/{user}": 3, f"psql/{user}": 2}
    assert await sql.fetch("SELECT * FROM cutover.fold_bypass_writes(100)") == []
    kept = {
        (row["writer"], row["operation"]): row["writes"]
        for row in await sql.fetch("SELECT * FROM cutover.bypass_writer")
    }
    assert kept == {
        (f"workspace-server/{user}", "INSERT"): 3, (f"psql/{user}", "INSERT"): 1, (f"psql/{user}", "TRUNCATE"): 1
    }  # fmt: skip


async def test_a_role_without_any_right_on_the_schema_can_write(sql: Connection) -> None:
    role = f"guest_{uuid4().hex}"
    await sql.execute(f"CREATE ROLE {role}")
    try:
        await sql.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON agent_memories, workspaces TO {role}")
        before = await add(sql, GRANDCHILD, "GLOBAL")
        await settled(sql)
        await sql.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.execute("SELECT * FROM cutover.mark")
        memory = await add(sql, CHILD)
        await sql.execute("UPDATE agent_memories SET content = 'y' WHERE id = $1", memory)
        await sql.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", CHILD, STRANGER)
        gone = await add(sql, CHILD)
        await sql.execute("DELETE FROM agent_memories WHERE id = $1", gone)
        await sql.execute("RESET ROLE")
        assert set(await marks(sql)) == {memory, gone, before}
        await sql.execute(f"SET ROLE {role}")
        await sql.execute("TRUNCATE agent_memories")
        await sql.execute("RESET ROLE")
        assert await sql.fetchval("SELECT count(*) FROM cutover.tombstone") == 3
    finally:
        await sql.execute("RESET ROLE")
        await sql.execute(f"REVOKE ALL ON agent_memories, workspaces FROM {role}")
        await sql.execute(f"DROP ROLE {role}")


async def test_a_hostile_search_path_changes_nothing(sql: Connection) -> None:
    await sql.execute("CREATE SCHEMA evil")
    await sql.execute(
        "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;"
        "CREATE FUNCTION evil.array_remove(anycompatiblearray, anycompatible) RETURNS anycompatiblearray LANGUAGE sql"
        " AS $$ SELECT $1[1:0] $$"
    )
    await sql.execute("SET search_path = evil, pg_catalog, public")
    memory = await add(sql, CHILD)
    await sql.execute("DELETE FROM agent_memories WHERE id = $1", memory)
    await sql.execute("RESET search_path")
    mark = (await marks(sql))[memory]
    assert list(mark["held_in"]) == [f"workspace:{CHILD}"]
    assert await sql.fetchval("SELECT due_at <= clock_timestamp() FROM cutover.mark")


async def test_replication_role_does_not_switch_it_off(sql: Connection) -> None:
    await sql.execute("SET session_replication_role = replica")
    memory = await add(sql, CHILD)
    assert set(await marks(sql)) == {memory}
    await settled(sql)
    await sql.execute("TRUNCATE agent_memories")
    assert set(await marks(sql)) == {memory}


# -- the tree ---------------------------------------------------------------------------------------------------------


async def test_another_parent_marks_own_team_rows_and_the_subtrees_global_rows(sql: Connection) -> None:
    rows = {
        (workspace, scope): await add(sql, workspace, scope)
        for workspace in (ROOT, CHILD, GRANDCHILD, SIBLING)
        for scope in ("LOCAL", "TEAM", "GLOBAL")
    }
    await settled(sql)
    await sql.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", CHILD, STRANGER)
    found = await held(sql)
    assert found[rows[CHILD, "TEAM"]] == {f"team:{ROOT}"}
    assert found[rows[CHILD, "GLOBAL"]] >= {f"org:{ROOT}"}
    assert found[rows[GRANDCHILD, "GLOBAL"]] >= {f"org:{ROOT}"}
    assert set(found) == {rows[CHILD, "TEAM"], rows[CHILD, "GLOBAL"], rows[GRANDCHILD, "GLOBAL"]}
    # Becoming a root, and back.
    await settled(sql)
    await sql.execute("UPDATE workspaces SET parent_id = NULL WHERE id = $1", CHILD)
    found = await held(sql)
    assert found[rows[CHILD, "TEAM"]] == {f"team:{STRANGER}"}
    assert found[rows[GRANDCHILD, "GLOBAL"]] >= {f"org:{STRANGER}"}


async def test_several_parents_change_in_one_statement(sql: Connection) -> None:
    rows = {(w, s): await add(sql, w, s) for w in (CHILD, GRANDCHILD, SIBLING) for s in ("TEAM", "GLOBAL")}
    await settled(sql)
    # CHILD goes below STRANGER and GRANDCHILD below SIBLING at once: the old root of all is ROOT.
    await sql.execute(
        "UPDATE workspaces SET parent_id = CASE WHEN id = $1 THEN $2::uuid ELSE $3::uuid END"
        " WHERE id = ANY ($4::uuid[])",
        CHILD,
        STRANGER,
        SIBLING,
        [CHILD, GRANDCHILD],
    )
    found = await held(sql)
    assert found[rows[CHILD, "TEAM"]] == {f"team:{ROOT}"}
    assert found[rows[GRANDCHILD, "TEAM"]] == {f"team:{CHILD}"}
    assert found[rows[CHILD, "GLOBAL"]] >= {f"org:{ROOT}"}
    assert found[rows[GRANDCHILD, "GLOBAL"]] >= {f"org:{ROOT}"}
    assert rows[SIBLING, "TEAM"] not in found


async def test_other_changes_of_workspaces_mark_nothing(sql: Connection) -> None:
    await add(sql, CHILD, "TEAM")
    await settled(sql)
    await sql.execute("UPDATE workspaces SET name = 'other', parent_id = parent_id")
    await sql.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", CHILD)
    assert await marks(sql) == {}


async def test_cycles_end(sql: Connection) -> None:
    rows = [await add(sql, workspace, "GLOBAL") for workspace in (LEFT, RIGHT)]
    assert await sql.fetchval("SELECT cutover.namespace_of($1, 'GLOBAL')", LEFT) == f"org:{RIGHT}"
    await settled(sql)
    await sql.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", LEFT, ROOT)
    found = await held(sql)
    assert found[rows[0]] >= {f"org:{RIGHT}"}
    assert found[rows[1]] >= {f"org:{LEFT}"}
    await sql.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", LEFT, RIGHT)  # a cycle again


async def test_a_chain_deeper_than_fifty(sql: Connection) -> None:
    chain = [uuid4() for _ in range(70)]
    enum = await sql.fetchval("SELECT to_regtype('workspace_status') IS NOT NULL")
    cast = "::workspace_status" if enum else ""
    await sql.executemany(
        f"INSERT INTO workspaces (id, name, parent_id, status) VALUES ($1, 'w', $2, 'online'{cast})",
        list(zip(chain, [None, *chain[:-1]], strict=True)),
    )
    top, deep = await add(sql, chain[45], "GLOBAL"), await add(sql, chain[69], "GLOBAL")
    assert await sql.fetchval("SELECT cutover.root_of($1)", chain[45]) == chain[0]
    assert await sql.fetchval("SELECT cutover.root_of($1)", chain[69]) == chain[19]
    await settled(sql)
    await sql.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", chain[30], ROOT)
    found = await held(sql)
    assert found[top] >= {f"org:{chain[0]}"}
    assert found[deep] >= {f"org:{chain[19]}"}


async def test_a_purge_keeps_the_places_on_the_marks(sql: Connection) -> None:
    own, team, whole = [await add(sql, CHILD, scope) for scope in ("LOCAL", "TEAM", "GLOBAL")]
    below = await add(sql, GRANDCHILD, "GLOBAL")
    await settled(sql)
    async with sql.transaction():
        await sql.execute("DELETE FROM agent_memories WHERE workspace_id = $1", CHILD)
        await sql.execute("DELETE FROM workspaces WHERE id = $1", CHILD)
    found = await held(sql)
    assert found[own] == {f"workspace:{CHILD}"}
    assert found[team] == {f"team:{ROOT}"}
    assert found[whole] == {f"org:{ROOT}"}
    assert found[below] >= {f"org:{ROOT}"}  # its root is another one now
    assert await sql.fetchval("SELECT cutover.namespace_of($1, 'GLOBAL')", GRANDCHILD) == f"org:{GRANDCHILD}"


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
async def test_a_purge_through_the_foreign_key(sql: Connection, action: str) -> None:
    name = await sql.fetchval(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'agent_memories'::regclass AND contype = 'f'"
    )
    await sql.execute(
        f"ALTER TABLE agent_memories DROP CONSTRAINT {name},"
        f" ADD FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE {action}"
    )
    rows = {scope: await add(sql, CHILD, scope) for scope in ("LOCAL", "TEAM", "GLOBAL")}
    await settled(sql)
    await sql.execute("DELETE FROM workspaces WHERE id = ANY ($1::uuid[])", [CHILD, ROOT])
    found = await held(sql)
    assert found[rows["LOCAL"]] == {f"workspace:{CHILD}"}
    assert found[rows["TEAM"]] == {f"team:{ROOT}"}
    assert f"org:{ROOT}" in found[rows["GLOBAL"]]
    assert await sql.fetchval("SELECT count(*) FROM agent_memories") == (0 if action == "CASCADE" else 3)


async def test_a_parent_that_appears_later_moves_the_global_rows_below_it(sql: Connection) -> None:
    late = uuid4()
    await sql.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", CHILD, late)
    row = await add(sql, GRANDCHILD, "GLOBAL")
    assert await sql.fetchval("SELECT cutover.namespace_of($1, 'GLOBAL')", GRANDCHILD) == f"org:{CHILD}"
    await settled(sql)
    await sql.execute("INSERT INTO workspaces (id, name) VALUES ($1, 'late')", late)
    assert await sql.fetchval("SELECT cutover.namespace_of($1, 'GLOBAL')", GRANDCHILD) == f"org:{late}"
    assert (await held(sql))[row] >= {f"org:{CHILD}"}


# -- installing and removing ------------------------------------------------------------------------------------------

_TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'cutover%'"


async def test_the_triggers_come_with_a1_and_go_with_a0(database: str) -> None:
    async with scene(database) as s:
        assert await s.database.fetchval(_TRIGGERS) == 0
        await s.insert(CHILD, "seen by nobody")
        assert await s.marks() == {}
        await s.step(Phase.A1)
        intact = await s.database.fetch("SELECT * FROM cutover.capture_state()")
        assert intact
        assert all(row["intact"] for row in intact)
        await s.step(Phase.A0)
        assert await s.database.fetchval(_TRIGGERS) == 0
        await s.insert(CHILD, "nor this")
        assert await s.marks() == {}


async def test_installing_gives_up_while_a_foreign_transaction_is_open_and_leaves_nothing(database: str) -> None:
    async with scene(database) as s:
        foreign = await asyncpg.connect(database)
        try:
            transaction = foreign.transaction()
            await transaction.start()
            await foreign.execute("LOCK agent_memories IN ROW EXCLUSIVE MODE")
            change = asyncio.create_task(s.step(Phase.A1))
            # Meanwhile traffic goes on: an attempt that cannot have its lock does not hold writers for long.
            for number in range(5):
                await s.create(CHILD, f"meanwhile {number}")
            with pytest.raises(IllegalStep, match="could not be made"):
                await change
            assert await s.database.fetchval(_TRIGGERS) == 0
            assert (await s.tenant.phase.reload()).phase is Phase.A0
            assert await s.count("cutover.phase_event") == 0
            await transaction.rollback()
        finally:
            await foreign.close()
        await s.step(Phase.A1)


async def test_a_write_that_was_open_when_the_triggers_came_is_not_missed(database: str) -> None:
    async with scene(database) as s:
        foreign = await asyncpg.connect(database)
        try:
            transaction = foreign.transaction()
            await transaction.start()
            memory = await foreign.fetchval(
                "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, 'x', 'LOCAL') RETURNING id",
                CHILD,
            )
            change = asyncio.create_task(s.step(Phase.A1))
            await asyncio.wait({change}, timeout=1)
            assert not change.done()
            await transaction.commit()
            await change
            await foreign.execute("UPDATE agent_memories SET content = 'y' WHERE id = $1", memory)
            await s.quiet()
            assert await s.content(memory) == "y"
        finally:
            await foreign.close()


async def test_rows_whose_workspace_moved_arrive_in_the_new_place(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        made = {scope: await s.create(CHILD, scope.value, scope) for scope in (Scope.LOCAL, Scope.TEAM)}
        below = await s.insert(GRANDCHILD, "global", "GLOBAL")
        await s.quiet()
        await s.database.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", CHILD, STRANGER)
        await s.quiet()
        row = await s.plugin(made[Scope.TEAM].id)
        assert row is not None
        assert row["namespace"] == f"team:{STRANGER}"
        row = await s.plugin(below)
        assert row is not None
        assert row["namespace"] == f"org:{STRANGER}"
        assert await s.differences() == []


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_a_purged_workspace_leaves_nothing_in_the_plugin(database: str, phase: Phase) -> None:
    async with scene(database, phase=Phase.A2) as s:
        await s.insert(CHILD, "old", "TEAM")
        await s.create(GRANDCHILD, "stays", Scope.TEAM)
        await s.enter(phase)
        await s.create(CHILD, "new")
        await s.create(CHILD, "new for all", Scope.TEAM)
        await s.quiet()
        async with s.database.transaction() as connection:
            await connection.execute("DELETE FROM agent_memories WHERE workspace_id = $1", CHILD)
            await connection.execute("DELETE FROM workspaces WHERE id = $1", CHILD)
        await s.quiet()
        left = await s.database.fetch(
            "SELECT content, propagation FROM memory_plugin.memory_records WHERE namespace NOT LIKE 'custom:cutover-%'"
        )
        assert [row["content"] for row in left] == ["stays"]
        assert json.loads(left[0]["propagation"])["cutover"]["workspace_id"] == str(GRANDCHILD)
        assert await s.differences() == []
        if phase is Phase.A3:
            await s.step(Phase.A2)  # and a rollback does not stumble over it
            await s.quiet()
            assert await s.differences() == []
