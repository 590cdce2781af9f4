"""`cutover doctor` where things are not all in one place or in one piece: a plugin with a database of its own, several
tenants, a look that breaks. Databases only, no daemon."""

import asyncio
import os
from pathlib import Path

import asyncpg

from cutover.cli.doctor.finding import Finding
from cutover.cli.doctor.run import examine
from cutover.embedded import reference_plugin
from cutover.embedded.stack import plugin_database_url
from cutover.stores import migrate
from cutover.stores.database import Database
from tests.conftest import MakeDatabase
from tests.integration.test_doctor import NOWHERE, looked

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
