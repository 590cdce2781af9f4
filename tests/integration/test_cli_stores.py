"""`cutover migrate` and `cutover doctor` on a real database and a real plugin; no daemon runs."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cutover.embedded import reference_plugin
from cutover.embedded.stack import plugin_database_url
from tests.conftest import MakeDatabase

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]


class Command:
    """The real `cutover` in a process of its own, with these settings and no others."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self._directory = directory
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL"))}
        self._environment = {**kept, "PYTHONPATH": str(ROOT), "CUTOVER_OPS_URL": "http://127.0.0.1:9", **variables}

    def with_setting(self, name: str, value: str) -> "Command":
        """The same with one more setting."""
        other = Command(self._directory)
        other._environment = {**self._environment, name: value}
        return other

    async def __call__(self, *arguments: str) -> Done:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "cutover", *arguments],
            env=self._environment,
            cwd=self._directory,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )

    async def json(self, *arguments: str) -> tuple[int, Any]:
        done = await self(*arguments, "-o", "json")
        return done.returncode, json.loads(done.stdout)

    async def doctor(self) -> tuple[int, dict[str, tuple[str, str, str]]]:
        """Exit code, and status, what was found and the remedy by check."""
        code, found = await self.json("doctor")
        return code, {one["check"]: (one["status"], one["found"], one["remedy"]) for one in found}


@pytest.fixture
async def plugin_url(database: str) -> AsyncIterator[str]:
    async with reference_plugin.running(plugin_database_url(database), "127.0.0.1:0") as address:
        yield address


@pytest.fixture
def command(tmp_path: Path, database: str, plugin_url: str) -> Command:
    return Command(
        tmp_path,
        DATABASE_URL=database,
        MEMORY_PLUGIN_URL=plugin_url,
        CUTOVER_TENANT="acme",
        CUTOVER_ADMIN_TOKEN="sixteen-characters",
    )


async def test_migrate_goes_up_down_and_tells_where_it_is(command: Command) -> None:
    code, before = await command.json("migrate", "status")
    assert code == 3
    assert {row["state"] for row in before} == {"missing"}
    code, applied = await command.json("migrate", "up", "--yes")
    assert code == 0
    assert [row["version"] for row in applied] == [row["version"] for row in before]
    assert (await command.json("migrate", "up", "--yes")) == (0, [])
    code, after = await command.json("migrate", "status")
    assert code == 0
    assert {(row["tenant"], row["state"]) for row in after} == {("acme", "applied")}
    code, undone = await command.json("migrate", "down", "--to", "0", "--yes")
    assert code == 0
    assert len(undone) == len(applied)
    assert (await command.json("migrate", "status"))[0] == 3


async def test_migrate_down_is_refused_past_a0(
    command: Command, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await command("migrate", "up", "--yes")
    await connection.execute("update cutover.phase_state set phase = 'A1'")
    done = await command("migrate", "down", "--to", "0", "--yes")
    assert done.returncode == 1
    assert "cannot be taken down in A1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 3


async def test_two_that_migrate_at_once_apply_each_migration_once(command: Command) -> None:
    results = await asyncio.gather(*(command.json("migrate", "up", "--yes") for _ in range(3)))
    applied = [row["version"] for _, rows in results for row in rows]
    assert sorted(applied) == sorted(set(applied))
    assert [code for code, _ in results] == [0, 0, 0]
    assert (await command.json("migrate", "status"))[0] == 0


async def test_doctor_finds_a_healthy_tenant_healthy(command: Command) -> None:
    await command("migrate", "up", "--yes")
    code, found = await command.doctor()
    assert code == 0, found
    # Only the daemon is missing, and that is worth a look, not an alarm.
    assert {check for check, (status, _, _) in found.items() if status != "pass"} == {"daemon", "daemons"}
    assert found["pgvector"][1].endswith("in schema public")
    assert found["server version"][1].startswith("PostgreSQL 16")
    assert found["capture triggers"][1] == "none, as it should be in A0"
    assert found["plugin version"][1] == "contract 1.0.0"


async def test_doctor_names_what_is_wrong_and_the_remedy(
    command: Command, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await connection.execute("create table public.memory_records as select 1 as id")
    code, found = await command.doctor()
    assert code == 1
    assert found["schema cutover"][0::2] == ("fail", "cutover migrate up")
    assert found["strays in public"][:2] == (
        "fail",
        "1 rows in public.memory_records, where the plugin does not look",
    )
    assert "capture triggers" not in found
    await command("migrate", "up", "--yes")
    await connection.execute("update cutover.phase_state set phase = 'A2'")
    code, found = await command.doctor()
    assert code == 1
    assert found["capture triggers"][0] == "fail"
    assert "A2: missing or disabled: cutover_capture_reparent" in found["capture triggers"][1]


async def test_doctor_looks_at_the_k_v_triggers_where_there_should_be_or_are_some(
    command: Command, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    check = "K/V triggers"
    await command("migrate", "up", "--yes")
    on = command.with_setting("CUTOVER_KV", "on")
    assert check not in (await command.doctor())[1]
    assert (await on.doctor())[1][check][:2] == ("pass", "none, as it should be in A0")
    await connection.execute("update cutover.phase_state set phase = 'A2'")
    assert (await on.doctor())[1][check][:2] == ("fail", "A2: 0 of 2 in place, switched off")
    await connection.execute("select cutover.switch_kv(true)")
    assert (await on.doctor())[1][check][:2] == ("pass", "A2: 2 of 2 in place")
    assert (await command.doctor())[1][check][:2] == ("warn", "2 in place with CUTOVER_KV=off")
    await connection.execute("alter table workspace_memory disable trigger cutover_capture_kv")
    assert (await on.doctor())[1][check][:2] == ("fail", "A2: 1 of 2 in place")
    await connection.execute("alter table workspace_memory drop column version")
    assert (await on.doctor())[1][check][:2] == ("fail", "workspace_memory lacks version bigint")


async def test_doctor_in_a_database_that_is_not_the_tenants(tmp_path: Path, make_database: MakeDatabase) -> None:
    url = await make_database(legacy=False)
    command = Command(tmp_path, DATABASE_URL=url, MEMORY_PLUGIN_URL="http://127.0.0.1:9")
    code, found = await command.doctor()
    assert code == 1
    assert found["legacy tables"][1] == "missing: agent_memories, workspaces, workspace_auth_tokens"
    assert found["pgvector"][0::2] == ("fail", "create extension vector")
    assert found["plugin"][0] == "fail"
    assert found["admin tokens"][0] == "warn"
    assert all(remedy for status, _, remedy in found.values() if status in ("fail", "warn"))


async def test_doctor_without_a_database_and_with_wrong_settings(tmp_path: Path) -> None:
    command = Command(tmp_path, DATABASE_URL="postgres://u:hunter2@127.0.0.1:9/x", MEMORY_PLUGIN_URL="unix:/no/sock")
    done = await command("doctor")
    assert done.returncode == 1
    assert "PostgreSQL could not be reached" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    code, found = await Command(tmp_path, MEMORY_PLUGIN_TIMEOUT="soon").doctor()
    assert code == 1
    assert found["settings"][1].startswith("MEMORY_PLUGIN_TIMEOUT 'soon' is not a duration")
