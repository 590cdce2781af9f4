"""The built-in plugin's tables seen directly, as the reference plugin makes them and as they should not be."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from cutover.domain.errors import DatabaseFault, DatabaseUnavailable
from cutover.domain.memory import PluginCommit
from cutover.domain.namespace import NamespaceKind
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.reference_plugin import running
from cutover.stores.plugin import PluginClient
from cutover.stores.plugin_database import PluginDatabase, derive_plugin_database_url, plugin_database_url
from tests.conftest import MakeDatabase

NAMESPACES = ("workspace:a", "workspace:b", "team:a", "org:a", "custom:a", "other:a")


@pytest.fixture
async def plugin(database: str) -> AsyncIterator[PluginClient]:
    """The reference plugin on `database`, with a namespace of each kind, and a client on it."""
    async with running(derive_plugin_database_url(database), "127.0.0.1:0") as address:
        async with PluginClient(address) as client:
            for name in NAMESPACES:
                kind = name.partition(":")[0]
                await client.put_namespace(name, "custom" if kind == "other" else kind, timeout=5)
            yield client


@pytest.fixture
async def tables(database: str) -> AsyncIterator[PluginDatabase]:
    async with await PluginDatabase.connect(derive_plugin_database_url(database)) as tables:
        yield tables


async def _commit(client: PluginClient, namespace: str, content: str = "words") -> UUID:
    memory_id = uuid4()
    await client.commit(PluginCommit(memory_id, namespace, content), timeout=5)
    return memory_id


@pytest.mark.parametrize(
    ("url", "derived"),
    [
        ("postgres://u@h/d", "postgres://u@h/d?search_path=memory_plugin,public"),
        ("postgres://u@h/d?sslmode=disable", "postgres://u@h/d?sslmode=disable&search_path=memory_plugin,public"),
        ("postgres://u@h/d?", "postgres://u@h/d?search_path=memory_plugin,public"),
        ("postgres://u@h/d?a=1&", "postgres://u@h/d?a=1&search_path=memory_plugin,public"),
    ],
)
def test_the_url_is_derived(url: str, derived: str) -> None:
    assert derive_plugin_database_url(url) == derived
    assert plugin_database_url(url, None) == derived
    assert plugin_database_url(url, "") == derived


def test_an_explicit_url_is_left_alone_and_none_means_contract_only() -> None:
    assert plugin_database_url("postgres://u@h/d", "postgres://other/p?x=y") == "postgres://other/p?x=y"
    assert plugin_database_url("postgres://u@h/d", "none") is None


async def test_the_derived_url_gives_the_plugins_search_path(tables: PluginDatabase) -> None:
    assert await tables.database.fetchval("SHOW search_path") == "memory_plugin,public"


async def test_the_reference_plugins_schema_is_known(plugin: PluginClient, tables: PluginDatabase) -> None:
    schema = await tables.schema()
    assert schema.known, schema.why
    assert schema.vector_schema == "public"


async def test_without_the_plugins_tables_the_schema_is_unknown(tables: PluginDatabase) -> None:
    schema = await tables.schema()
    assert not schema.known
    assert schema.why == "there is no table memory_plugin.memory_namespaces"
    with pytest.raises(DatabaseFault):
        await tables.counts()


async def test_strays_in_public_are_not_taken_for_the_plugins(
    connection: "asyncpg.Connection[asyncpg.Record]", tables: PluginDatabase
) -> None:
    await connection.execute("CREATE TABLE public.memory_namespaces (name text); CREATE TABLE memory_records (id uuid)")
    assert not (await tables.schema()).known


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ALTER TABLE memory_plugin.memory_records DROP COLUMN pin", "has no column pin"),
        ("ALTER TABLE memory_plugin.memory_namespaces RENAME COLUMN metadata TO meta", "has no column metadata"),
        (
            "ALTER TABLE memory_plugin.memory_records ALTER COLUMN propagation TYPE text",
            "propagation is text, not jsonb",
        ),
        ("ALTER TABLE memory_plugin.memory_records ADD COLUMN tenant text NOT NULL", "demands a column tenant"),
        ("ALTER TABLE memory_plugin.memory_records DROP CONSTRAINT memory_records_pkey", "no primary key on id"),
        ("ALTER TABLE memory_plugin.memory_records ALTER COLUMN embedding TYPE vector(3)", "1536 dimensions"),
        ("ALTER TABLE memory_plugin.memory_records ALTER COLUMN content_tsv DROP EXPRESSION", "is not generated"),
    ],
)
async def test_a_schema_that_differs_is_unknown_and_says_why(
    plugin: PluginClient,
    tables: PluginDatabase,
    connection: "asyncpg.Connection[asyncpg.Record]",
    change: str,
    why: str,
) -> None:
    await connection.execute(change)
    schema = await tables.schema()
    assert not schema.known
    assert why in schema.why


async def test_a_harmless_extra_column_is_fine(
    plugin: PluginClient, tables: PluginDatabase, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await connection.execute(
        "ALTER TABLE memory_plugin.memory_records ADD COLUMN note text, ADD COLUMN n int NOT NULL DEFAULT 0"
    )
    assert (await tables.schema()).known


async def test_pgvector_elsewhere_is_found(make_database: MakeDatabase) -> None:
    url = await make_database(legacy=False)
    async with await PluginDatabase.connect(url) as tables:
        assert (await tables.schema()).vector_schema is None
        await tables.database.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
        assert (await tables.schema()).vector_schema == "extensions"


async def test_counts_by_kind(plugin: PluginClient, tables: PluginDatabase) -> None:
    assert await tables.counts() == dict.fromkeys(NamespaceKind, 0)
    for number, name in enumerate(NAMESPACES, 1):
        for _ in range(number):
            await _commit(plugin, name)
    expected = {"workspace": 1 + 2, "team": 3, "org": 4, "custom": 5 + 6}
    assert await tables.counts() == expected
    assert await tables.counts(leaving_out=["custom:a", "team:a"]) == {**expected, "custom": 6, "team": 0}


async def test_which_ids_are_there(plugin: PluginClient, tables: PluginDatabase) -> None:
    here = {await _commit(plugin, name) for name in NAMESPACES}
    assert await tables.present([*here, uuid4(), uuid4()]) == here
    assert await tables.present([]) == frozenset()


async def test_populated_strays_are_reported(
    plugin: PluginClient, tables: PluginDatabase, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await _commit(plugin, "team:a")
    assert await tables.strays() == {}
    await connection.execute(
        "CREATE TABLE public.memory_namespaces (name text); CREATE TABLE public.memory_records (id uuid)"
    )
    assert await tables.strays() == {}
    await connection.execute("INSERT INTO public.memory_records SELECT gen_random_uuid() FROM generate_series(1, 3)")
    assert await tables.strays() == {"public.memory_records": 3}
    await connection.execute("INSERT INTO public.memory_namespaces VALUES ('team:x')")
    assert await tables.strays() == {"public.memory_namespaces": 1, "public.memory_records": 3}


async def test_created_at_is_set_on_what_is_there(plugin: PluginClient, tables: PluginDatabase) -> None:
    first, second, untouched = [await _commit(plugin, "team:a", f"memory {number}") for number in range(3)]
    past = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    wanted = {first: past + timedelta(days=1), second: past, uuid4(): past}
    assert await tables.set_created_at(wanted) == {first, second}
    assert await tables.set_created_at(wanted) == frozenset()
    found = await plugin.search(["team:a"], timeout=5)
    assert [memory.id for memory in found] == [untouched, first, second]
    assert [memory.created_at for memory in found[1:]] == [past + timedelta(days=1), past]
    assert await tables.set_created_at({}) == frozenset()


async def test_two_at_once_do_not_deadlock(plugin: PluginClient, tables: PluginDatabase) -> None:
    ids = [await _commit(plugin, "team:a") for _ in range(20)]
    past = datetime(2025, 1, 1, tzinfo=UTC)
    await asyncio.gather(
        *(
            tables.set_created_at(
                {each: past + timedelta(seconds=number) for each in (ids if number % 2 else reversed(ids))}
            )
            for number in range(20)
        )
    )
    assert await tables.present(ids) == set(ids)


async def test_a_lost_database_is_unavailable(own_postgres: EmbeddedPostgres) -> None:
    url = await own_postgres.create_database("plugin")
    async with await PluginDatabase.connect(url) as tables:
        assert await tables.strays() == {}
        own_postgres.halt()
        with pytest.raises(DatabaseUnavailable):
            await tables.strays()
        own_postgres.start()
        assert await tables.strays() == {}
