"""`cutover doctor` where things are not all in one place or in one piece: a plugin with a database of its own, several
tenants, a look that breaks. Databases only, no daemon."""

import asyncpg

from cutover.cli.doctor.finding import Finding
from cutover.embedded import reference_plugin
from cutover.embedded.stack import plugin_database_url
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
