"""What the daemon's role must be allowed: `cutover doctor` prints each missing right as the statement that gives it,
and with these the role goes from A0 to the drop of agent_memories. The quick start lists the same."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from cutover.domain.errors import DatabaseFault
from cutover.stores.database import Database
from cutover.stores.inspection import missing_rights
from tests.integration.test_cli_stores import Command
from tests.integration.test_drop import in_a4

OWNER, ROLE = "tenant_owner", "cutover_mover"
TABLES = ("agent_memories", "workspaces", "workspace_auth_tokens", "activity_logs", "workspace_memory")


@contextlib.asynccontextmanager
async def roles(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A superuser's connection; the tables belong to `OWNER`, and `ROLE` may do nothing yet."""
    admin = await asyncpg.connect(url)
    try:
        for role in (OWNER, ROLE):
            await admin.execute(f"CREATE ROLE {role} LOGIN")
        for table in TABLES:
            await admin.execute(f"ALTER TABLE {table} OWNER TO {OWNER}")
        yield admin
    finally:
        for role in (ROLE, OWNER):
            await admin.execute(f"DROP OWNED BY {role} CASCADE")
            await admin.execute(f"DROP ROLE {role}")
        await admin.close()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Database]:
    opened = await Database.connect(as_role(url), max_size=1)
    try:
        yield opened
    finally:
        await opened.close()


def as_role(url: str) -> str:
    return re.sub(r"//\w+@", f"//{ROLE}@", url)


async def test_what_is_missing_is_told_as_statements_and_these_are_enough_from_a0_to_the_drop(database: str) -> None:
    async with roles(database) as admin:
        async with connected(database) as db:
            lacking = await missing_rights(db, own_storage=True, kv=True)
        name = await admin.fetchval("SELECT current_database()")
        assert list(lacking) == [
            f"grant create on database {name} to {ROLE}",
            f"grant create on schema public to {ROLE}",
            f"grant {OWNER} to {ROLE}",
            f"grant insert on public.activity_logs to {ROLE}",
            f"grant select on public.activity_logs to {ROLE}",
            f"grant select on public.workspace_auth_tokens to {ROLE}",
            f"grant select on public.workspace_memory to {ROLE}",
        ]
        for statement in lacking[:3]:
            await admin.execute(statement)
        async with connected(database) as db:
            assert await missing_rights(db, own_storage=True, kv=True) == (), "its owner may do the rest"
        async with in_a4(as_role(database), held=False) as (s, ids):
            assert await s.content(ids[0]) == "memory 0"
            assert await s.database.fetchval("SELECT to_regclass('public.agent_memories')") is None


async def test_the_right_to_make_triggers_alone_is_not_enough(database: str) -> None:
    """Capture has to switch its triggers on, which takes the table's owner."""
    async with roles(database) as admin:
        await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}")
        async with connected(database) as db:
            assert f"grant {OWNER} to {ROLE}" in await missing_rights(db, own_storage=True, kv=False)


async def test_rights_on_the_plugins_tables_are_told_where_they_are_used(database: str) -> None:
    async with roles(database) as admin:
        await admin.execute("CREATE SCHEMA memory_plugin")
        for table in ("memory_records", "memory_namespaces"):
            await admin.execute(f"CREATE TABLE memory_plugin.{table} (id int)")
        async with connected(database) as db:
            told = set(await missing_rights(db, own_storage=True, kv=False))
            others = set(await missing_rights(db, own_storage=False, kv=False))
        assert told - others == {
            f"grant usage on schema memory_plugin to {ROLE}",
            f"grant select, insert, update, delete on memory_plugin.memory_namespaces to {ROLE}",
            f"grant select, insert, update, delete on memory_plugin.memory_records to {ROLE}",
        }


async def test_doctor_prints_the_statements_of_missing_rights(tmp_path: Path, database: str) -> None:
    async with roles(database) as admin:
        command = Command(tmp_path, DATABASE_URL=as_role(database), MEMORY_PLUGIN_URL="http://127.0.0.1:9")
        code, found = await command.doctor()
        assert code == 1
        assert found["rights"][0] == "fail"
        assert f"grant {OWNER} to {ROLE}" in found["rights"][2]
        for statement in found["rights"][2].split("; "):
            await admin.execute(statement)
        assert (await command.doctor())[1]["rights"][0] == "pass"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT content FROM agent_memories", "permission denied for table agent_memories"),
        ("ALTER TABLE agent_memories DISABLE TRIGGER ALL", "must be owner of table agent_memories"),
        ("DO $$ BEGIN RAISE EXCEPTION 'hunter2' USING errcode = '42501'; END $$", "(42501)"),
    ],
)
async def test_a_missing_right_is_named_and_nothing_else_of_what_the_server_says(
    database: str, sql: str, words: str
) -> None:
    async with roles(database):
        async with connected(database) as db:
            with pytest.raises(DatabaseFault) as raised:
                await db.execute(sql)
    assert words in raised.value.message
    assert "hunter2" not in str(raised.value)
    assert "cutover doctor" in raised.value.next_step
