"""`cutover doctor` where things are not all in one place or in one piece: a plugin with a database of its own, several
tenants, a look that breaks. Databases only, no daemon."""

import asyncio
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from cutover.cli.doctor.finding import Finding
from cutover.cli.doctor.run import examine
from cutover.embedded import reference_plugin
from cutover.embedded.stack import plugin_database_url
from cutover.stores import migrate
from cutover.stores.database import Database
from tests.conftest import MakeDatabase
from tests.integration.test_doctor import NOWHERE, command, looked, tenant

ABOUT_THE_PLUGIN = ("pgvector", "plugin tables", "strays in public", "search path", "plugin rights")


async def test_with_a_plugin_database_of_its_own_every_fault_is_looked_for_there_and_not_in_the_tenants(
    make_database: MakeDatabase,
) -> None:
    """Nothing of the plugin is in the tenant's database, nor has to be; its own lacks all, until it is mended."""
    legacy, own = await make_database(embedding=False), await make_database(legacy=False)
    environ = {
        "DATABASE_URL": legacy, "MEMORY_PLUGIN_DATABASE_URL": plugin_database_url(own),
        "MEMORY_PLUGIN_URL": NOWHERE, "CUTOVER_OPS_URL": NOWHERE,
    }  # fmt: skip
    tenants, plugins = await asyncpg.connect(legacy), await asyncpg.connect(own)
    try:
        await tenants.execute("drop extension if exists vector cascade")
        await plugins.execute("drop extension if exists vector cascade")
        await plugins.execute("create table public.memory_records as select 1 as id")

        async def seen() -> dict[str, Finding]:
            found = await looked(environ)
            return {check: found[check] for check in ABOUT_THE_PLUGIN if check in found}

        found = await seen()
        told = {check: one.status for check, one in found.items()}
        assert (told["pgvector"], told["plugin tables"], told["strays in public"]) == ("fail", "warn", "fail")
        await plugins.execute(found["pgvector"].remedy)
        await plugins.execute(found["strays in public"].remedy.partition("then: ")[2])
        async with reference_plugin.running(plugin_database_url(own), "127.0.0.1:0"):
            assert {check: one.status for check, one in (await seen()).items()} == dict.fromkeys(
                ABOUT_THE_PLUGIN, "pass"
            )
        await tenants.execute("create table public.memory_records as select 1 as id")
        assert (await seen())["strays in public"].status == "pass", "that is no place of this plugin"
        unknown = await looked({**environ, "MEMORY_PLUGIN_DATABASE_URL": "none"})
        for check in ABOUT_THE_PLUGIN[:-1]:
            assert unknown[check].status == "skip", "out of reach"
    finally:
        await tenants.close()
        await plugins.close()


async def captured(url: str) -> None:
    """A migrated schema, with capture triggers that A0 should not have."""
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        await database.execute("select cutover.install_capture()")
    finally:
        await database.close()


async def fetched(url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def test_of_several_tenants_every_command_names_its_own_and_psql_its_database(
    make_database: MakeDatabase, tmp_path: Path
) -> None:
    """Capture triggers left in A0 give a psql, the rest gives commands; one URL is a variable, one a file."""
    lines, secret = [], tmp_path / "b url"
    urls = {name: await make_database() for name in ("a", "b")}
    secret.write_text(urls["b"])
    secret.chmod(0o600)
    for name, source in (("a", "env:A_URL"), ("b", f"file:{secret}")):
        lines += ["[[tenant]]", f'name = "{name}"', f'database_url = "{source}"', f'plugin_url = "{NOWHERE}"']
        await captured(urls[name])
    (tmp_path / "tenants.toml").write_text("\n".join(lines))
    environ = {
        "CUTOVER_TENANTS_FILE": str(tmp_path / "tenants.toml"), "A_URL": urls["a"], "CUTOVER_OPS_URL": NOWHERE,
    }  # fmt: skip
    found = [one for one in await examine(environ, None) if one.status in ("fail", "warn")]
    remedies = {(one.tenant, one.check): one.remedy for one in found}
    assert remedies["a", "capture triggers"].startswith('psql "$A_URL" -c ')
    assert remedies["b", "capture triggers"].startswith(f"psql \"$(cat '{secret}')\" -c ")
    for name, url in urls.items():
        shown = next(one.remedy for one in found if (one.tenant, one.check) == (name, "capture triggers"))
        child = await asyncio.create_subprocess_shell(shown, env={**os.environ, "A_URL": urls["a"]})
        if await child.wait() != 127:  # psql is on this machine
            assert not await fetched(url, "select 1 from pg_trigger where tgname = 'cutover_capture_row'")
    del environ["A_URL"]
    lines[2] = 'database_url = "postgres://nobody@127.0.0.1:9/a"'
    (tmp_path / "tenants.toml").write_text("\n".join(lines))
    found = [one for one in await examine(environ, None) if one.check == "database" and one.tenant == "a"]
    assert "psql postgres://nobody@127.0.0.1:9/a -c" in found[0].remedy
    assert "$DATABASE_URL" not in " ".join(remedies.values())


# -- a look that breaks, a schema that was taken apart ----------------------------------------------------------------


async def test_what_was_done_to_schema_cutover_is_found_and_each_remedy_mends_it(database: str) -> None:
    """A function that was emptied, daemons' rows that cannot be read, a table that was dropped: one finding each."""
    async with tenant(database) as (connection, environ):
        whole = await connection.fetchval("select pg_get_functiondef('cutover.capture_row'::regproc)")
        assert (await looked(environ))["functions"].status == "pass"
        await connection.execute(
            "create or replace function cutover.capture_row() returns trigger language plpgsql as"
            " $$ begin return null; end $$"
        )
        found = (await looked(environ))["functions"]
        assert (found.status, found.found) == ("fail", "not as the migrations made them: cutover.capture_row()")
        await connection.execute(whole)
        assert (await looked(environ))["functions"].status == "pass"

        await connection.execute(
            "insert into cutover.daemon (id, host, pid, version, config_hash, settings, faces)"
            " values (gen_random_uuid(), 'h', 1, '0', '0123456789ab', '[1]', '3')"
        )
        seen = await looked(environ)
        assert (seen["daemons"].status, seen["daemons"].found) == ("fail", "the look broke off: AttributeError")
        assert seen["functions"].status == "pass", "the others are there all the same"

        await connection.execute("drop table cutover.daemon")
        found = (await looked(environ))["daemons"]
        assert (found.status, found.remedy.rpartition("then: ")[2]) == ("fail", "cutover migrate up")
        await connection.execute(found.remedy.split('"')[3])
        await captured(database)
        assert (await looked(environ))["daemons"].found == "none has been heard of"


async def test_a_look_that_breaks_is_one_finding_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise PermissionError("hunter2")

    monkeypatch.setattr("cutover.stores.plugin.PluginClient.__init__", broken)
    environ = {"DATABASE_URL": "postgres://x@127.0.0.1:9/x", "MEMORY_PLUGIN_URL": NOWHERE, "CUTOVER_OPS_URL": NOWHERE}
    seen = await looked(environ)
    assert (seen["plugin"].status, seen["plugin"].found) == ("fail", "the look broke off: PermissionError")
    assert {"database", "daemon", "settings"} <= set(seen)
    assert "hunter2" not in str(seen)


async def test_rights_in_a_schema_that_somebody_else_made_are_found_and_the_printed_statements_mend_them(
    database: str,
) -> None:
    role = "doctor_stranger"
    async with tenant(database) as (connection, environ):
        await connection.execute(
            f"create role {role} login; revoke execute on all functions in schema cutover from public"
        )
        try:
            as_role = {**environ, "DATABASE_URL": re.sub(r"//\w+@", f"//{role}@", database)}
            seen = await looked(as_role)
            assert seen["schema cutover"].remedy == "see the check rights"
            statements = seen["rights"].remedy.split("; ")
            assert statements[0] == "set lock_timeout = '2s'", "nobody waits behind ALTER TABLE"
            for what in ("usage on schema cutover", "execute on all functions in schema cutover"):
                assert f"grant {what} to {role}" in statements
            for statement in statements:
                await connection.execute(statement)
            seen = await looked(as_role)
            assert (seen["rights"].status, seen["schema cutover"].status) == ("pass", "pass"), seen
        finally:
            await connection.execute(
                f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}"
            )


async def test_a_secret_that_can_be_replaced_or_read_by_a_strange_group_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-many-characters")
    token.chmod(0o640)
    environ = {"CUTOVER_ADMIN_TOKEN": f"file:{token}", "CUTOVER_OPS_URL": NOWHERE}
    assert (await looked(environ))["secret files"].status == "pass", "a group of ours may read it"
    with monkeypatch.context() as patched:
        patched.setattr(os, "getegid", lambda: 54321)
        patched.setattr(os, "getgroups", list)
        found = (await looked(environ))["secret files"]
    assert (found.status, found.found.endswith("can be read by its group")) == ("fail", True)
    token.chmod(0o600)
    await asyncio.to_thread(tmp_path.chmod, 0o777)
    found = (await looked(environ))["secret files"]
    assert (found.status, found.remedy) == ("fail", f"chmod o-w {tmp_path}")
    await asyncio.to_thread(tmp_path.chmod, 0o1777)
    assert (await looked(environ))["secret files"].status == "pass", "as /tmp is"


# -- nothing answers --------------------------------------------------------------------------------------------------


@contextmanager
def silent_port() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield listening.getsockname()[1]


def test_with_everything_hanging_it_is_over_in_time_and_shows_no_secret(tmp_path: Path) -> None:
    """A database, a plugin and a daemon that take the connection and never answer, of many tenants at once."""
    _, start = command(tmp_path, "--version")
    with silent_port() as port:
        lines = []
        for number in range(20):
            lines += [f'[[tenant]]\nname = "t{number}"\ndatabase_url = "env:DB{number}"']
            lines += [f'plugin_url = "http://127.0.0.1:{port}"']
        (tmp_path / "tenants.toml").write_text("\n".join(lines))
        urls = {f"DB{n}": f"postgres://u:hunter2@127.0.0.1:{port}/x{n}?password=hunter4" for n in range(20)}
        (tmp_path / "token").write_text("hunter5-of-many-characters")
        (tmp_path / "token").chmod(0o644)
        done, seconds = command(
            tmp_path, "doctor", "-o", "json", CUTOVER_TENANTS_FILE=str(tmp_path / "tenants.toml"),
            CUTOVER_OPS_URL=f"http://127.0.0.1:{port}", CUTOVER_ADMIN_TOKEN=f"file:{tmp_path / 'token'}", **urls,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert seconds - start < 15.0
    assert "hunter" not in done.stdout + done.stderr
    told = [(one["tenant"], one["check"], one["status"]) for one in json.loads(done.stdout)]
    for number in range(20):
        assert {(f"t{number}", check, "fail") for check in ("database", "plugin", "plugin tables")} <= set(told)
    assert ("*", "daemon", "warn") in told
    assert ("*", "secret files", "fail") in told
