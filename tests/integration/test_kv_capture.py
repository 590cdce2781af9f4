"""Capture of workspace_memory (decision 0014): no writer gets past the marks, whatever the statement."""

from collections.abc import AsyncIterator
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from cutover.stores import migrate
from cutover.stores.database import Database
from tests.conftest import MakeDatabase
from tests.integration.kv_scene import kv_id
from tests.integration.read_scene import CHILD, ROOT, add_workspaces

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def sql(make_database: MakeDatabase) -> AsyncIterator[Connection]:
    """A connection of somebody else's to a tenant in A1 with K/V captured, and nothing marked."""
    url = await make_database()
    database = await Database.connect(url, max_size=1)
    await migrate.up(database)
    await add_workspaces(database)
    await database.execute("SELECT cutover.install_capture()")
    await database.execute("SELECT cutover.install_kv_capture()")
    await database.execute("SELECT cutover.set_phase(1, 'A1', 'test', 'test')")
    await database.close()
    connection = await asyncpg.connect(url, server_settings={"application_name": "workspace-server"})
    yield connection
    await connection.close()


async def add(sql: Connection, *keys: str, workspace: UUID = CHILD) -> list[UUID]:
    for key in keys:
        await sql.execute(
            "INSERT INTO workspace_memory (workspace_id, key, value) VALUES ($1, $2, '1')", workspace, key
        )
    return [kv_id(workspace, key) for key in keys]


async def settled(sql: Connection) -> None:
    await sql.execute("DELETE FROM cutover.mark")


async def marks(sql: Connection) -> dict[UUID, set[str]]:
    """Where each marked memory may be held; every mark is one of K/V's."""
    rows = await sql.fetch("SELECT memory_id, held_in, origin, writer FROM cutover.mark")
    assert {row["origin"] for row in rows} <= {"kv"}
    assert {row["writer"].partition("/")[0] for row in rows} <= {"workspace-server"}
    return {row["memory_id"]: set(row["held_in"]) for row in rows}


async def mapped(sql: Connection) -> dict[UUID, tuple[UUID, str]]:
    return {row["memory_id"]: (row["workspace_id"], row["key"]) for row in await sql.fetch("SELECT * FROM cutover.kv")}


async def buried(sql: Connection) -> set[UUID]:
    return {row["memory_id"] for row in await sql.fetch("SELECT memory_id FROM cutover.tombstone")}


async def test_insert_update_delete_and_again(sql: Connection) -> None:
    [made] = await add(sql, "k")
    assert (await marks(sql), await mapped(sql)) == ({made: set()}, {made: (CHILD, "k")})
    for change in ("value = '2'", "version = 2", "expires_at = now()", "updated_at = now()"):
        await settled(sql)
        await sql.execute(f"UPDATE workspace_memory SET {change}")
        assert await marks(sql) == {made: set()}, change
    await settled(sql)
    await sql.execute("DELETE FROM workspace_memory")
    assert (await marks(sql), await mapped(sql)) == ({made: {f"workspace:{CHILD}"}}, {})
    assert await buried(sql) == {made}
    await add(sql, "k")
    assert (await buried(sql), set(await mapped(sql))) == (set(), {made})


async def test_upsert_copy_and_many_rows(sql: Connection) -> None:
    upsert = (
        "INSERT INTO workspace_memory AS v (workspace_id, key, value) VALUES ($1, 'k', '1')"
        " ON CONFLICT (workspace_id, key) DO UPDATE SET version = v.version + 1"
    )
    for _ in range(2):
        await sql.execute(upsert, CHILD)
        assert await marks(sql) == {kv_id(CHILD, "k"): set()}
        await settled(sql)
    await sql.copy_records_to_table(
        "workspace_memory", records=[(CHILD, f"{n}", "1") for n in range(50)], columns=["workspace_id", "key", "value"]
    )
    assert set(await marks(sql)) == {kv_id(CHILD, f"{n}") for n in range(50)}
    await sql.execute("DELETE FROM workspace_memory")
    assert (len(await buried(sql)), await mapped(sql)) == (51, {})


async def test_another_key_or_workspace_and_keys_that_change_places(sql: Connection) -> None:
    one, two = await add(sql, "one", "two")
    await settled(sql)
    await sql.execute("UPDATE workspace_memory SET key = 'three' WHERE key = 'one'")
    await sql.execute("UPDATE workspace_memory SET workspace_id = $1 WHERE key = 'two'", ROOT)
    here = f"workspace:{CHILD}"
    assert await marks(sql) == {one: {here}, two: {here}, kv_id(CHILD, "three"): set(), kv_id(ROOT, "two"): set()}
    assert await buried(sql) == {one, two}
    await sql.execute("ALTER TABLE workspace_memory DROP CONSTRAINT workspace_memory_workspace_id_key_key")
    a, b = await add(sql, "a", "b")
    await settled(sql)
    swap = "UPDATE workspace_memory SET key = CASE key WHEN 'a' THEN 'b' ELSE 'a' END WHERE key IN ('a', 'b')"
    await sql.execute(swap)
    assert set(await marks(sql)) == {a, b}
    assert {a, b} <= set(await mapped(sql))
    assert not {a, b} & await buried(sql)


async def test_gone_and_back_within_a_statement_and_a_transaction(sql: Connection) -> None:
    [made] = await add(sql, "k")
    await settled(sql)
    async with sql.transaction():
        await sql.execute("DELETE FROM workspace_memory")
        await add(sql, "k")
    assert set(await mapped(sql)) == {made}
    assert (made in await marks(sql), await buried(sql)) == (True, set())
    async with sql.transaction():
        await add(sql, "other")
        await sql.execute("DELETE FROM workspace_memory WHERE key = 'other'")
    assert set(await mapped(sql)) == {made}
    assert await buried(sql) == {kv_id(CHILD, "other")}


async def test_a_rolled_back_write_leaves_nothing(sql: Connection) -> None:
    transaction = sql.transaction()
    await transaction.start()
    await add(sql, "k")
    assert len(await marks(sql)) == 1
    await transaction.rollback()
    assert (await marks(sql), await mapped(sql)) == ({}, {})


@pytest.mark.parametrize("statement", ["TRUNCATE workspace_memory", "TRUNCATE workspaces CASCADE"])
async def test_truncate(sql: Connection, statement: str) -> None:
    made = [*await add(sql, "a", "b"), *await add(sql, "a", workspace=ROOT)]
    await settled(sql)
    await sql.execute(statement)
    assert await marks(sql) == {each: {f"workspace:{CHILD if each in made[:2] else ROOT}"} for each in made}
    assert (await buried(sql), await mapped(sql)) == (set(made), {})


async def test_a_workspace_takes_its_rows_along(sql: Connection) -> None:
    await sql.execute(
        "ALTER TABLE workspace_memory DROP CONSTRAINT workspace_memory_workspace_id_fkey,"
        " ADD FOREIGN KEY (workspace_id) REFERENCES workspaces (id) ON DELETE CASCADE"
    )
    gone = uuid4()
    await sql.execute("INSERT INTO workspaces (id, name) VALUES ($1, 'gone')", gone)
    [kept] = await add(sql, "k")
    [made] = await add(sql, "k", workspace=gone)
    await settled(sql)
    await sql.execute("DELETE FROM workspaces WHERE id = $1", gone)
    assert await marks(sql) == {made: {f"workspace:{gone}"}}
    assert (set(await mapped(sql)), await buried(sql)) == ({kept}, {made})


async def test_replicated_and_unprivileged_writers_are_captured(sql: Connection) -> None:
    await sql.execute("SET session_replication_role = replica")
    [one] = await add(sql, "one")
    await sql.execute("RESET session_replication_role")
    role = f"writer_{uuid4().hex}"
    await sql.execute(f"CREATE ROLE {role}; GRANT ALL ON workspace_memory, workspaces TO {role}")
    try:
        await sql.execute(f"SET ROLE {role}")
        [two] = await add(sql, "two")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.fetchval("SELECT count(*) FROM cutover.kv")
        await sql.execute("TRUNCATE workspace_memory")
    finally:
        await sql.execute("RESET ROLE")
        await sql.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert set(await marks(sql)) == {one, two}


async def test_rows_that_cannot_be_asked_for_are_passed_over(sql: Connection) -> None:
    await sql.execute(
        "ALTER TABLE workspace_memory ALTER COLUMN workspace_id DROP NOT NULL, ALTER COLUMN key DROP NOT NULL"
    )
    await sql.execute("INSERT INTO workspace_memory (workspace_id, key, value) VALUES (NULL, 'k', '1')")
    await sql.execute("INSERT INTO workspace_memory (workspace_id, key, value) VALUES ($1, NULL, '1')", CHILD)
    await sql.execute("UPDATE workspace_memory SET value = '2'")
    await sql.execute("DELETE FROM workspace_memory")
    assert (await marks(sql), await mapped(sql)) == ({}, {})


async def test_a_wrong_mapping_never_fails_the_writer(sql: Connection) -> None:
    [made] = await add(sql, "k")
    wrong = uuid4()
    await sql.execute("UPDATE cutover.kv SET memory_id = $2 WHERE memory_id = $1", made, wrong)
    await sql.execute(
        "INSERT INTO cutover.kv (memory_id, workspace_id, key) VALUES ($1, $2, 'x')", kv_id(CHILD, "y"), ROOT
    )
    await add(sql, "y")
    await sql.execute("UPDATE workspace_memory SET value = '2'")
    await sql.execute("DELETE FROM workspace_memory")
    assert {wrong, kv_id(CHILD, "y")} <= set(await marks(sql))


async def test_the_state_of_the_triggers_is_told(sql: Connection) -> None:
    state = "SELECT name, intact FROM cutover.kv_capture_state()"
    assert {row["name"]: row["intact"] for row in await sql.fetch(state)} == {
        "cutover_capture_kv": True, "cutover_capture_kv_truncate": True,
    }  # fmt: skip
    await sql.execute("ALTER TABLE workspace_memory DISABLE TRIGGER cutover_capture_kv")
    assert {row["name"] for row in await sql.fetch(state) if not row["intact"]} == {"cutover_capture_kv"}
    assert await sql.fetchval("SELECT cutover.switch_kv(true)") == "installed"
    assert await sql.fetchval("SELECT cutover.switch_kv(true)") == "kept"
    assert await sql.fetchval("SELECT cutover.switch_kv(false)") == "removed"
    assert await sql.fetchval("SELECT cutover.switch_kv(false)") == "kept"
    assert not any(row["intact"] for row in await sql.fetch(state))
