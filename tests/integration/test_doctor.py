"""`cutover doctor` against planted faults: each is planted for real, found by the check that is meant to find it, and
gone when the remedy was followed. On the healthy stack every check passes.

One stack in A1 serves all tests that leave it as it was; the others have a database of their own.
"""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from cutover.cli.doctor.database import Expected, inside
from cutover.cli.doctor.finding import Finding
from cutover.cli.doctor.machine import room
from cutover.cli.doctor.run import examine
from cutover.domain.phase import Phase
from cutover.embedded import reference_plugin
from cutover.embedded.fault_proxy import Fault, FaultProxy, Forward, ProxiedAnswer, ProxiedRequest, answer, on
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
from cutover.embedded.processes import PEOPLE, until
from cutover.embedded.stack import plugin_database_url
from cutover.stores import migrate
from cutover.stores.daemons import DaemonSelf, DaemonStore
from cutover.stores.database import Database
from tests.cli_tree import Operator
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import scene
from tests.served import Served, served

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"
NOT_OURS = ("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL", "PG")
Seen = dict[str, Finding]


@pytest.fixture(scope="module")
def stack(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A daemon in A1, that has swept and told of itself."""
    with served(postgres, "A1", rows=3) as made:
        asyncio.run(until(lambda: _told(made), "the daemon's first heartbeat", timeout=40.0))
        operator = Operator({"CUTOVER_OPS_URL": made.daemon.at.ops, "CUTOVER_ADMIN_TOKEN": PEOPLE["edsger"]})
        operator.json("sweep", "run", "--kind", "digest", "--full")
        yield made


async def _told(made: Served) -> bool:
    swept = "select 1 from cutover.task_run where kind = 'sweep.count' and state = 'finished'"
    return bool(await made.execute("select 1 from cutover.daemon") and await made.execute(swept))


def environment(made: Served, **settings: str) -> dict[str, str]:
    """What the daemon was started with, and where it listens; a setting that is empty is not set."""
    given = {key: value for key, value in made.daemon.child.environment.items() if key.startswith(NOT_OURS[:3])}
    return {**given, "CUTOVER_OPS_URL": made.daemon.at.ops, **settings}


async def looked(environ: Mapping[str, str], now: Callable[[], float] = time.time) -> Seen:
    """Findings by check; where there are several of one, the worst."""
    order = ("pass", "skip", "warn", "fail")
    found: Seen = {}
    for one in await examine(environ, None, now=now):
        if one.check not in found or order.index(one.status) > order.index(found[one.check].status):
            found[one.check] = one
    return found


async def run(made: Served, sql: str) -> None:
    await made.execute(sql)


@asynccontextmanager
async def tenant(url: str) -> AsyncIterator[tuple["asyncpg.Connection[asyncpg.Record]", dict[str, str]]]:
    """A database with a plugin and a migrated schema, without a daemon."""
    async with reference_plugin.running(plugin_database_url(url), "127.0.0.1:0") as plugin:
        database = await Database.connect(url)
        try:
            await migrate.up(database)
        finally:
            await database.close()
        connection = await asyncpg.connect(url)
        try:
            yield connection, {"DATABASE_URL": url, "MEMORY_PLUGIN_URL": plugin, "CUTOVER_OPS_URL": NOWHERE}
        finally:
            await connection.close()


# -- the healthy stack ------------------------------------------------------------------------------------------------


async def test_on_the_healthy_stack_every_check_passes(stack: Served, tmp_path: Path) -> None:
    found = await looked(environment(stack, CUTOVER_ARCHIVE_DIRECTORY=str(tmp_path)))
    # An own archive directory is a setting that the daemon does not have; the machine's own disks are what they are.
    unwell = {check: one for check, one in found.items() if one.status != "pass" and not check.startswith("disk")}
    assert set(unwell) == {"settings in force"}, unwell
    assert set(found) >= {
        "settings", "secret files", "admin tokens", "disk of archives", "database", "server version", "primary",
        "clock", "disk of database", "legacy tables", "pgvector", "plugin tables", "rights", "strays in public",
        "schema cutover", "capture triggers", "freeze", "record", "daemons", "daemons agree", "daemon version",
        "sweeps", "contents compared", "functions", "search path",
        "plugin", "plugin version", "plugin capabilities", "plugin clock", "daemon", "traffic",
        "breaker",
    }  # fmt: skip
    assert (await looked(environment(stack)))["settings in force"].status == "pass"


# -- databases --------------------------------------------------------------------------------------------------------


@pytest.mark.pg15
async def test_no_pgvector_on_the_server_is_found(make_database15: MakeDatabase) -> None:
    url = await make_database15(embedding=False)
    found = await looked({"DATABASE_URL": url, "MEMORY_PLUGIN_URL": NOWHERE, "CUTOVER_OPS_URL": NOWHERE})
    assert found["pgvector"].status == "fail"
    assert "not installed on the server" in found["pgvector"].found
    assert "apt-get install postgresql-15-pgvector" in found["pgvector"].remedy


async def test_no_pgvector_in_the_database_is_found_and_the_remedy_creates_it(make_database: MakeDatabase) -> None:
    url = await make_database(embedding=False)
    environ = {"DATABASE_URL": url, "MEMORY_PLUGIN_URL": NOWHERE, "CUTOVER_OPS_URL": NOWHERE}
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("drop extension if exists vector cascade")
        found = (await looked(environ))["pgvector"]
        assert (found.status, found.remedy) == ("fail", "create extension vector")
        await connection.execute(found.remedy)
    finally:
        await connection.close()
    assert (await looked(environ))["pgvector"].status == "pass"


async def test_stray_public_tables_are_found_and_the_remedy_puts_them_aside(stack: Served) -> None:
    await run(stack, "create table public.memory_records as select 1 as id")
    try:
        found = (await looked(environment(stack)))["strays in public"]
        assert found.status == "fail"
        assert "1 rows in public.memory_records" in found.found
        for statement in found.remedy.partition("then: ")[2].split("; "):
            await run(stack, statement)
        assert (await looked(environment(stack)))["strays in public"].status == "pass"
    finally:
        await run(stack, "drop table if exists public.memory_records, public.memory_records_stray")


async def test_a_wrong_search_path_in_the_plugins_url_is_found_and_the_remedy_mends_it(database: str) -> None:
    async with tenant(database) as (connection, environ):
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database {name} set search_path = public, memory_plugin")
        assert (await looked(environ))["search path"].status == "pass", "the derived URL says it itself"
        found = (await looked({**environ, "MEMORY_PLUGIN_DATABASE_URL": database}))["search path"]
        assert found.status == "fail"
        assert "looks in public, memory_plugin" in found.found
        mended = found.remedy.split("'")[1]
        seen = await looked({**environ, "MEMORY_PLUGIN_DATABASE_URL": mended})
        assert (seen["search path"].status, seen["plugin rights"].status) == ("pass", "pass")


async def test_pgvector_in_a_schema_that_the_plugin_does_not_look_in_is_found_and_the_remedy_mends_it(
    database: str,
) -> None:
    async with tenant(database) as (connection, environ):
        await connection.execute("create schema ext; alter extension vector set schema ext")
        found = (await looked(environ))["search path"]
        assert found.status == "fail"
        assert "pgvector is in ext: no type vector there" in found.found
        mended = found.remedy.split("'")[1]
        assert mended.endswith("search_path=memory_plugin,public,ext")
        assert (await looked({**environ, "MEMORY_PLUGIN_DATABASE_URL": mended}))["search path"].status == "pass"


async def test_missing_rights_are_found_and_the_printed_grants_mend_them(database: str) -> None:
    """CREATE, SELECT, and what it takes to put triggers on a table; `test_rights.py` goes to A4 with them."""
    role, owner = "doctor_service", "doctor_owner"
    async with tenant(database) as (connection, environ):
        await connection.execute(f"create role {owner}; create role {role} login")
        try:
            await connection.execute(f"alter table public.agent_memories owner to {owner}")
            as_role = {**environ, "DATABASE_URL": re.sub(r"//\w+@", f"//{role}@", database)}
            found = (await looked(as_role))["rights"]
            assert found.status == "fail"
            name = await connection.fetchval("select current_database()")
            statements = found.remedy.split("; ")
            assert {
                f"grant create on database {name} to {role}",
                f"grant {owner} to {role}",
                f"alter table public.workspaces owner to {role}",
                f"grant select on public.workspace_auth_tokens to {role}",
            } <= set(statements)
            assert "postgres to" not in found.remedy, "nobody is made a member of a superuser"
            for statement in statements:
                await connection.execute(statement)
            assert (await looked(as_role))["rights"].status == "pass"
        finally:
            await connection.execute(f"reassign owned by {role}, {owner} to current_user")
            await connection.execute(f"drop owned by {role}, {owner}; drop role {role}; drop role {owner}")


@pytest.mark.parametrize("how", ["disabled", "dropped"])
async def test_missing_triggers_are_found_and_the_remedy_puts_them_back(stack: Served, how: str) -> None:
    table, trigger = "public.agent_memories", "cutover_capture_row"
    planted = {
        "disabled": f"alter table {table} disable trigger {trigger}",
        "dropped": f"drop trigger {trigger} on {table}",
    }
    await run(stack, planted[how])
    found = (await looked(environment(stack)))["capture triggers"]
    assert found.status == "fail"
    assert found.found == f"A1: missing or disabled: {trigger}"
    for statement in re.findall(r'-c "([^"]+)"', found.remedy)[0].split("; "):
        await run(stack, statement)
    assert (await looked(environment(stack)))["capture triggers"].status == "pass"


async def test_a_question_that_is_held_up_is_one_finding_and_hides_no_other(stack: Served) -> None:
    async with asyncio.timeout(60):
        holder = await asyncpg.connect(stack.database_url)
        try:
            await holder.execute("create table public.memory_records as select 1 as id")
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("lock table cutover.daemon in access exclusive mode")
            found = await looked(environment(stack))
            await transaction.rollback()
            assert found["daemons"].status == "fail"
            assert found["strays in public"].status == "fail"
            assert found["capture triggers"].status == "pass"
        finally:
            await holder.execute("drop table if exists public.memory_records")
            await holder.close()


async def test_a_tampered_record_of_phase_changes_is_found(database: str) -> None:
    async with tenant(database) as (connection, environ):
        assert (await looked(environ))["record"].status == "pass"
        await connection.execute(
            "set session_replication_role = replica; alter table cutover.phase_event disable trigger all;"
            " update cutover.phase_event set actor = 'somebody else'"
        )
        found = (await looked(environ))["record"]
        assert (found.status, found.remedy) == ("fail", "cutover audit verify")
        assert found.found.startswith("broken")


async def test_overdue_sweeps_are_found(stack: Served) -> None:
    environ = environment(stack, CUTOVER_SWEEP_INTERVAL="60")
    ago = "update cutover.task_run set finished_at = finished_at - interval '{}' where kind = 'sweep.count'"
    await run(stack, ago.format("10 min"))
    try:
        found = (await looked(environ))["sweeps"]
        assert (found.status, found.remedy) == ("warn", "cutover sweep run --kind count")
        assert "is due every" in found.found
    finally:
        await run(stack, ago.format("-10 min"))
    assert (await looked(environment(stack)))["sweeps"].status == "pass"


async def test_contents_that_were_not_compared_lately_or_not_so_that_it_counts_are_found(stack: Served) -> None:
    digest, remedy = (
        "update cutover.task_run set {} where kind = 'sweep.digest'",
        "cutover sweep run --kind digest --full",
    )
    trusted = "outcome = outcome || '{{\"trusted\": {}}}'"
    ago = "finished_at = finished_at {} interval '2 h'"
    for planted, undone, status, words in (
        (ago.format("-"), digest.format(ago.format("+")), "warn", "is due every"),
        ("state = 'failed'", digest.format("state = 'finished'"), "warn", "no digest sweep has come to a result yet"),
        (trusted.format("false"), digest.format(trusted.format("true")), "fail", "its word counts for nothing"),
    ):
        await run(stack, digest.format(planted))
        found = (await looked(environment(stack)))["contents compared"]
        await run(stack, undone)
        assert (found.status, found.remedy) == (status, remedy)
        assert words in found.found
    assert (await looked(environment(stack)))["contents compared"].status == "pass"


async def test_a_freeze_that_was_taken_apart_is_found_and_refreezing_mends_it(database: str) -> None:
    async with scene(database, phase=Phase.A2, proxied=False) as s:
        await s.quiet()
        await s.enter(Phase.A3)

        async def seen() -> Finding:
            found = inside("t", s.database, Expected())
            return next(one for one in [each async for each in found] if one.check == "freeze")

        assert (await seen()).status == "pass"
        await s.database.execute("ALTER TABLE agent_memories DISABLE TRIGGER cutover_freeze")
        found = await seen()
        assert found.status == "fail"
        assert found.found.startswith("tampered with: ")
        assert found.remedy.startswith("cutover phase refreeze --reason ")
        await s.tenant.freeze.refreeze("alice", "what that command does")
        assert (await seen()).status == "pass"


# -- the plugin -------------------------------------------------------------------------------------------------------


async def test_an_unreachable_plugin_is_found_and_so_is_that_traffic_is_refused(stack: Served) -> None:
    environ = environment(stack)
    stack.plugin.kill()

    async def refused() -> bool:
        found = await looked(environ)
        return (found["traffic"].status, found["daemon"].status) == ("fail", "warn")

    try:
        await until(refused, "the daemon refuses", timeout=40.0)
        found = await looked(environ)
        assert found["plugin"].status == "fail"
        assert f"curl -m 3 {stack.plugin_url}/v1/health" in found["plugin"].remedy
        assert found["traffic"].found.startswith("refused (")
        assert found["breaker"].found.startswith(("open: ", "half_open: "))
        assert any(check.startswith("ready: ") for check in found)
    finally:
        await stack.plugin.start()

    async def served_again() -> bool:
        found = await looked(environ)
        return all(found[check].status == "pass" for check in ("plugin", "traffic", "breaker", "daemon"))

    await until(served_again, "the daemon serves again", timeout=40.0)


async def test_a_plugin_without_a_capability_that_the_move_needs_is_found(stack: Served) -> None:
    async with FaultProxy(stack.plugin_url) as proxy:
        environ = environment(stack, MEMORY_PLUGIN_URL=proxy.url)
        assert (await looked(environ))["plugin capabilities"].status == "pass"
        proxy.rule(
            on("GET", r"/v1/health$"), answer(200, {"status": "ok", "version": "1.0.0", "capabilities": ["embedding"]})
        )
        found = (await looked(environ))["plugin capabilities"]
        assert (found.status, found.found) == ("fail", "lacks fts")
        assert found.remedy.startswith("deploy a plugin with fts")


# -- clocks -----------------------------------------------------------------------------------------------------------


def dated(offset: timedelta) -> Fault:
    """The plugin's own answer with a header Date that is `offset` off."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        given = await forward(request)
        kept = tuple(each for each in given.headers if each[0].lower() != "date")
        date = format_datetime(datetime.now(UTC) + offset, usegmt=True)
        return ProxiedAnswer(given.status, (*kept, ("Date", date)), given.body)

    return act


async def test_a_plugin_whose_clock_is_five_minutes_off_is_found(stack: Served) -> None:
    async with FaultProxy(stack.plugin_url) as proxy:
        environ = environment(stack, MEMORY_PLUGIN_URL=proxy.url)
        assert (await looked(environ))["plugin clock"].status == "pass"
        proxy.rule(on("GET", r"/v1/health$"), dated(timedelta(minutes=-5)))
        found = (await looked(environ))["plugin clock"]
        assert found.status == "warn"
        assert re.search(r"differs by -(29\d|30\d) s", found.found)
        assert "timedatectl set-ntp true" in found.remedy


async def test_a_clock_of_ours_that_is_five_minutes_off_is_found_against_database_and_plugin(stack: Served) -> None:
    """No server's clock can be moved in a test: ours is, which is the same difference."""
    found = await looked(environment(stack), now=lambda: time.time() - 300)
    assert (found["clock"].status, found["plugin clock"].status) == ("warn", "warn")
    assert re.search(r"differs by \+(29\d|30\d)\.\d+ s", found["clock"].found)
    assert "timedatectl set-ntp true" in found["clock"].remedy


# -- daemons ----------------------------------------------------------------------------------------------------------


async def test_two_daemons_with_different_configuration_are_found_with_what_differs(stack: Served) -> None:
    second = stack.another_daemon("second", CUTOVER_SWEEP_INTERVAL="1800")
    await second.child.start()
    environ = environment(stack)

    async def both() -> bool:
        return len(await stack.execute("select 1 from cutover.daemon")) == 2

    try:
        await until(both, "the second daemon's heartbeat", timeout=40.0)
        found = (await looked(environ))["daemons agree"]
        assert found.status == "fail"
        assert "CUTOVER_SWEEP_INTERVAL (3600 and 1800)" in found.found
        assert f"/{stack.daemon.child.pid} " in found.found
        assert f"/{second.child.pid} " in found.found
        assert "restart them with the same settings" in found.remedy
        async with aiohttp.ClientSession() as session, session.get(f"{second.at.ops}/metrics") as told:
            assert 'cutover_daemons{tenant="sample"} 2.0' in await told.text()
        async with aiohttp.ClientSession() as session, session.get(f"{second.at.ops}/api/v1/status") as told:
            assert sorted(each["me"] for each in (await told.json())["daemons"]) == [False, True]
    finally:
        await second.child.terminate()
    assert len(await stack.execute("select 1 from cutover.daemon")) == 1, "who stops in good order takes its row away"
    assert (await looked(environ))["daemons agree"].status == "pass"


async def test_settings_that_the_daemon_has_not_read_are_found(stack: Served) -> None:
    found = (await looked(environment(stack, CUTOVER_DIGEST_INTERVAL="30m")))["settings in force"]
    assert found.status == "warn"
    assert "CUTOVER_DIGEST_INTERVAL (1800 here, 600 there)" in found.found


async def test_a_daemon_of_another_version_and_one_that_died_are_found(stack: Served) -> None:
    database = await Database.connect(stack.database_url)
    try:
        daemons = DaemonStore(database)
        (mine,) = await daemons.all()
        older = DaemonSelf(uuid4(), "older", 7, "0.0.1", mine.config_hash, mine.settings)
        await daemons.tell(older, {})
        found = (await looked(environment(stack)))["daemon version"]
        assert (found.status, found.found.split(";")[0]) == ("warn", "older/7 runs 0.0.1")
        # Dead for half a minute, or a row from before the clock was set back: neither has to agree with anybody.
        for moved in ("- interval '27 s'", "+ interval '10 min'"):
            await database.execute(
                f"update cutover.daemon set config_hash = reverse(config_hash), last_seen = clock_timestamp() {moved}"
                " where pid = 7"
            )
            seen = await looked(environment(stack))
            assert (seen["silent daemons"].status, seen["daemons agree"].status) == ("warn", "pass")
            assert seen["silent daemons"].found.startswith("older/7, last heard of ")
        await daemons.leave(older.id)
    finally:
        await database.close()
    after = await looked(environment(stack))
    assert "silent daemons" not in after
    assert after["daemon version"].status == "pass"


async def test_a_daemon_that_is_not_there_is_found(stack: Served) -> None:
    found = (await looked(environment(stack, CUTOVER_OPS_URL=NOWHERE)))["daemon"]
    assert found.status == "warn"
    assert "nothing of ours answers at http://127.0.0.1:9 (ConnectError)" in found.found
    assert "cutover serve" in found.remedy


# -- this machine -----------------------------------------------------------------------------------------------------


async def typed(remedy: str) -> None:
    """As an operator would."""
    child = await asyncio.create_subprocess_shell(remedy)
    assert await child.wait() == 0


@contextmanager
def small_disk(at: Path, size: str) -> Iterator[bool]:
    """A file system of its own at `at`; False where this user may not mount one."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], check=False)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(at)], check=True)


async def test_a_disk_of_archives_that_is_nearly_full_is_found_and_passes_with_room(
    stack: Served, tmp_path: Path
) -> None:
    environ = environment(stack, CUTOVER_ARCHIVE_DIRECTORY=str(tmp_path))
    ballast = tmp_path / "ballast"
    with small_disk(tmp_path, "4m") as mounted:
        if mounted:
            assert (await looked(environ))["disk of archives"].status == "pass"
            ballast.write_bytes(bytes(4 * 1024 * 1024 - 400 * 1024))
            assert (await looked(environ))["disk of archives"].status == "warn"
            ballast.write_bytes(bytes(4 * 1024 * 1024 - 64 * 1024))
            found = (await looked(environ))["disk of archives"]
            assert found.status == "fail"
            assert found.remedy == f"make room or enlarge it: df -h {tmp_path}"
            ballast.unlink()
            assert (await looked(environ))["disk of archives"].status == "pass"
    gone = (await looked({**environ, "CUTOVER_ARCHIVE_DIRECTORY": str(tmp_path / "gone")}))["disk of archives"]
    assert gone.status == "fail"
    await typed(gone.remedy)
    after = await looked({**environ, "CUTOVER_ARCHIVE_DIRECTORY": str(tmp_path / "gone")})
    assert not after["disk of archives"].found.endswith("cannot be written")


@pytest.mark.parametrize(("free", "status"), [(1, "fail"), (4, "fail"), (5, "warn"), (14, "warn"), (15, "pass")])
def test_how_full_is_too_full(free: int, status: str, tmp_path: Path) -> None:
    told = os.statvfs_result((4096, 4096, 100, 50, free, 0, 0, 0, 0, 255))
    assert room("t", "disk", tmp_path, lambda _: told).status == status


async def test_a_disk_under_the_database_that_is_nearly_full_is_found() -> None:
    with EmbeddedPostgres.temporary(settings={**DISPOSABLE, "max_wal_size": "32MB"}) as server:
        # The data directory is somewhere that is full: a server's own files need not be there for that.
        url = server.url()
        environ = {"DATABASE_URL": url, "MEMORY_PLUGIN_URL": NOWHERE, "CUTOVER_OPS_URL": NOWHERE}
        connection = await asyncpg.connect(url)
        try:
            data = Path(await connection.fetchval("show data_directory"))
            seen = (await looked(environ))["disk of database"]
            assert str(data) in seen.found
            with small_disk(data, "1m") as mounted:
                if mounted:
                    (data / "ballast").write_bytes(bytes(1020 * 1024))
                    found = (await looked(environ))["disk of database"]
                    assert found.status == "fail"
                    assert found.remedy.endswith(f"df -h {data}")
            await connection.execute("create role nosy login")
            found = (await looked({**environ, "DATABASE_URL": url.replace("postgres@", "nosy@")}))["disk of database"]
            assert found.status == "skip"
            assert "grant pg_read_all_settings to nosy" in found.found
        finally:
            await connection.close()


async def test_a_token_file_that_others_can_read_is_found_and_the_remedy_closes_it(
    stack: Served, tmp_path: Path
) -> None:
    token = tmp_path / "admin token"
    token.write_text("a-token-of-many-characters")
    environ = environment(stack, CUTOVER_ADMIN_TOKEN=f"file:{token}")
    people = Path(environ["CUTOVER_ADMIN_TOKENS_FILE"])
    for file in (token, people):
        for mode in (0o644, 0o620, 0o602):
            file.chmod(mode)
            found = (await looked(environ))["secret files"]
            assert found.status == "fail"
            assert str(file) in found.found
            assert f"mode {mode:04o}" in found.found
            assert found.remedy.startswith("chmod 600 ")
            await typed(found.remedy)
            file.chmod(0o640) if mode == 0o620 else None  # a group of its own may read it
            assert (await looked(environ))["secret files"].status == "pass"
        file.chmod(0o600)


# -- the command ------------------------------------------------------------------------------------------------------


def command(tmp_path: Path, *arguments: str, **variables: str) -> tuple[subprocess.CompletedProcess[str], float]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(NOT_OURS)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "cutover", *arguments],
        env={**clean, **variables, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip
    return done, time.monotonic() - began


def test_the_worst_comes_first_and_the_exit_code_tells(stack: Served, tmp_path: Path) -> None:
    ranks = {"fail": 0, "warn": 1, "skip": 2, "pass": 3}
    for settings, code in (({"CUTOVER_OPS_URL": NOWHERE}, 0), ({"MEMORY_PLUGIN_URL": NOWHERE}, 1)):
        done, _ = command(tmp_path, "doctor", "-o", "tsv", **environment(stack, **settings))
        first, *rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert first == ["status", "tenant", "check", "found", "remedy"]
        told = [ranks[row[0]] for row in rows]
        assert told == sorted(told)
        assert (done.returncode, min(told) == 0) == (code, code == 1), done.stdout
        assert all(row[4] != "-" for row in rows if row[0] in ("fail", "warn"))
        assert "failing" in done.stderr
        assert "failing" not in done.stdout
