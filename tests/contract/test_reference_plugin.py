"""The reference plugin as a process: its storage, its listeners, its end, and life with a database that goes away."""

import asyncio
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

from cutover.domain.errors import PluginFault, PluginTimeout
from cutover.domain.memory import PluginCommit
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.stores.plugin import PluginClient
from tests.conftest import MakeDatabase
from tests.contract.implementations import plugin_process

SEARCH_PATH = "&search_path=memory_plugin,public"


async def _down(client: PluginClient) -> bool:
    try:
        await client.health(timeout=2)
    except PluginFault as fault:
        return (fault.http_status, fault.plugin_code) == (503, "unavailable")
    return False


async def test_it_survives_the_loss_of_its_database(own_postgres: EmbeddedPostgres) -> None:
    url = await own_postgres.create_database("tenant")
    with plugin_process(url) as (_, address):
        async with PluginClient(address) as client:
            await client.put_namespace("custom:a", "custom", timeout=5)
            first = PluginCommit(uuid4(), "custom:a", "before")
            await client.commit(first, timeout=5)
            for end in (own_postgres.halt, own_postgres.kill, lambda: own_postgres.halt("immediate")):
                end()
                async with asyncio.timeout(10):
                    while not await _down(client):  # a killed postmaster's sessions live on for a moment
                        pass
                with pytest.raises(PluginFault) as caught:
                    await client.search(["custom:a"], timeout=5)
                assert caught.value.http_status == 503
                own_postgres.start()
                async with asyncio.timeout(10):
                    while await _down(client):
                        pass
                assert [memory.id for memory in await client.search(["custom:a"], timeout=5)] == [first.id]


@pytest.mark.parametrize("kept_alive", [True, False])
async def test_what_was_given_up_while_it_was_stopped_is_not_applied_afterwards(
    database: str, connection: "asyncpg.Connection[asyncpg.Record]", kept_alive: bool
) -> None:
    with plugin_process(database + SEARCH_PATH) as (child, address):
        async with PluginClient(address) as client, PluginClient(address) as impatient:
            await client.put_namespace("custom:a", "custom", timeout=5)
            kept = PluginCommit(uuid4(), "custom:a", "stays")
            await client.commit(kept, timeout=5)
            if kept_alive:
                await impatient.health(timeout=5)
            child.send_signal(signal.SIGSTOP)
            outcomes = await asyncio.gather(
                impatient.commit(PluginCommit(uuid4(), "custom:a", "late"), timeout=0.1),
                impatient.forget(kept.id, "custom:a", timeout=0.1),
                impatient.delete_namespace("custom:a", timeout=0.1),
                return_exceptions=True,
            )
            child.send_signal(signal.SIGCONT)
            assert [type(outcome) for outcome in outcomes] == [PluginTimeout] * 3
            # Later requests on other connections, each answered after the abandoned ones were read.
            for _ in range(5):
                await client.health(timeout=5)
            assert [row["id"] for row in await connection.fetch("SELECT id FROM memory_plugin.memory_records")] == [
                kept.id
            ]


async def test_it_listens_on_a_unix_socket_and_removes_it(database: str, tmp_path: Path) -> None:
    path = tmp_path / "plugin.sock"
    with plugin_process(database + SEARCH_PATH, f"unix:{path}") as (child, address):
        assert address == f"unix:{path}"
        async with PluginClient(address) as client:
            assert (await client.health(timeout=5)).status == "ok"
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0
    assert not path.exists()


async def test_sigterm_lets_requests_finish(
    database: str, connection: "asyncpg.Connection[asyncpg.Record]", make_database: MakeDatabase
) -> None:
    with plugin_process(database + SEARCH_PATH) as (child, address):
        async with PluginClient(address) as client:
            await client.put_namespace("custom:a", "custom", timeout=5)
            async with connection.transaction():
                await connection.execute("LOCK TABLE memory_plugin.memory_records")
                commit = asyncio.create_task(client.commit(PluginCommit(uuid4(), "custom:a", "in flight"), timeout=10))
                await _waiting(connection)
                child.send_signal(signal.SIGTERM)
                async with asyncio.timeout(5), httpx.AsyncClient(base_url=address) as http:
                    while await _accepts(http):
                        pass
                assert child.poll() is None
            await commit
        assert child.wait(10) == 0
    assert await connection.fetchval("SELECT count(*) FROM memory_plugin.memory_records") == 1


async def _waiting(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Until some other session waits for a lock in this database."""
    async with asyncio.timeout(5):
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            pass


async def _accepts(http: httpx.AsyncClient) -> bool:
    try:
        await http.get("/v1/nothing")
    except httpx.TransportError:
        return False
    return True


async def test_several_may_start_at_once_on_a_fresh_database(make_database: MakeDatabase) -> None:
    url = await make_database(legacy=False)
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        started = await asyncio.gather(
            *(loop.run_in_executor(None, stack.enter_context, plugin_process(url)) for _ in range(3))
        )
        assert len({address for _, address in started}) == 3


async def test_its_tables_are_its_own_even_where_strays_exist(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "CREATE TABLE public.memory_namespaces (name text); CREATE TABLE public.memory_records (id uuid)"
    )
    with plugin_process(database + SEARCH_PATH) as (_, address):
        async with PluginClient(address) as client:
            await client.put_namespace("custom:a", "custom", timeout=5)
            await client.commit(PluginCommit(uuid4(), "custom:a", "words"), timeout=5)
    assert await connection.fetchval("SELECT count(*) FROM memory_plugin.memory_records") == 1
    assert await connection.fetchval("SELECT count(*) FROM public.memory_records") == 0
    await connection.close()


async def test_a_second_start_does_not_wait_for_writers(
    database: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    with plugin_process(database):
        pass
    async with connection.transaction():
        await connection.execute("LOCK TABLE memory_plugin.memory_records IN ROW EXCLUSIVE MODE")
        with plugin_process(database) as (child, _):
            assert child.poll() is None


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres@/none?host={host}", 'database "none" does not exist'),
        ("postgresql://postgres@/none?host=/nowhere", "cannot start"),
        ("nonsense", "cannot start"),
    ],
)
def test_a_database_that_cannot_be_used_ends_it_with_the_reason(
    postgres: EmbeddedPostgres, url: str, words: str
) -> None:
    host = postgres.url().partition("host=")[2]
    done = subprocess.run(
        [sys.executable, "-m", "cutover.embedded.reference_plugin", "--database-url", url.format(host=host)],
        capture_output=True,
        check=False,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


async def test_an_oversized_body_is_refused_and_the_plugin_goes_on(database: str) -> None:
    with plugin_process(database) as (_, address):
        async with httpx.AsyncClient(base_url=address) as http:
            answer = await http.post("/v1/search", content=b" " * (33 * 1024 * 1024))
            assert answer.status_code == 413
            assert answer.json()["code"] == "bad_request"
            assert (await http.get("/v1/health")).status_code == 200
