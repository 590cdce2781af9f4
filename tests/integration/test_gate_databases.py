"""What the gate of A1 finds in real databases and at a real plugin: each wrong set-up fails its own checks."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from cutover.domain.breaker import BreakerPolicy, ProbePolicy
from cutover.domain.check import Check, Status
from cutover.domain.errors import CutoverError, PluginError
from cutover.domain.evidence import Evidence
from cutover.domain.gate import gate
from cutover.domain.phase import Phase
from cutover.embedded import reference_plugin
from cutover.embedded.reference_plugin import running as running_plugin
from cutover.embedded.stack import plugin_database_url
from cutover.engine import health
from cutover.engine.health import CANARY_NAMESPACE, PluginHealthMonitor
from cutover.stores.database import Database
from cutover.stores.gate_look import look_at_tables, look_at_vector
from cutover.stores.plugin import PluginClient
from cutover.stores.plugin_database import PluginDatabase
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import eventually

DATABASE_CHECKS = {"pgvector", "plugin_schema", "search_path", "strays", "plugin_home"}


async def sql(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def judged(url: str, *, canary_ok: bool | None = True) -> dict[str, Check]:
    """The checks of A1 about the database that `url` (MEMORY_PLUGIN_DATABASE_URL) leads to."""
    async with await PluginDatabase.connect(url, max_size=1) as tables:
        try:
            evidence = Evidence(
                phase=Phase.A0, canary_ok=canary_ok, tables=await look_at_tables(tables, CANARY_NAMESPACE)
            )
        except CutoverError as error:
            evidence = Evidence(phase=Phase.A0, unknown={"tables": error.message})
    return {check.id: check for check in gate(Phase.A1, evidence) if check.id in DATABASE_CHECKS}


def failing(checks: dict[str, Check]) -> set[str]:
    return {check_id for check_id, check in checks.items() if check.status is Status.FAIL}


@asynccontextmanager
async def plugin(url: str) -> AsyncIterator[PluginHealthMonitor]:
    """The reference plugin on `url`, and a monitor that talks to it."""
    async with running_plugin(url, "127.0.0.1:0") as address:
        client = PluginClient(address)
        try:
            yield PluginHealthMonitor(
                "t", client, lambda _: None, interval=1, timeout=5, probe_policy=ProbePolicy(),
                breaker_policy=BreakerPolicy(), owner=UUID(int=1),
            )  # fmt: skip
        finally:
            await client.close()


def last(monitor: PluginHealthMonitor) -> str | None:
    return monitor.last_round_trip


def healthy(monitor: PluginHealthMonitor) -> float | None:
    return monitor.healthy_seconds


async def test_a_right_set_up_passes_every_check_of_its_databases(database: str) -> None:
    async with plugin(plugin_database_url(database)) as monitor:
        before = await judged(plugin_database_url(database), canary_ok=None)
        assert failing(before) == {"plugin_home"}
        assert "no canary has been written yet" in before["plugin_home"].output
        await monitor.canary(searched=True)
        after = await judged(plugin_database_url(database))
        assert failing(after) == set()
        assert after["search_path"].observed_value == "memory_plugin, public"
        assert after["pgvector"].output == "pgvector is in schema public"


async def test_pgvector_absent_and_then_in_a_schema_where_nobody_looks(make_database: MakeDatabase) -> None:
    url = await make_database(legacy=False)
    absent = (await judged(plugin_database_url(url)))["pgvector"]
    assert absent.status is Status.FAIL
    assert "not installed (it can be)" in absent.output
    assert "create extension vector" in absent.next
    await sql(url, "create schema extensions; create extension vector schema extensions")
    hidden = (await judged(plugin_database_url(url)))["pgvector"]
    assert (hidden.status, hidden.observed_value) == (Status.FAIL, "extensions")
    assert "the type vector is not found" in hidden.output
    await sql(url, "create schema memory_plugin; alter extension vector set schema memory_plugin")
    found = (await judged(plugin_database_url(url)))["pgvector"]
    assert (found.status, found.observed_value) == (Status.PASS, "memory_plugin")


async def test_without_the_plugin_s_tables_its_schema_and_home_are_not_known(make_database: MakeDatabase) -> None:
    checks = await judged(plugin_database_url(await make_database(legacy=False)))
    assert {"plugin_schema", "plugin_home", "search_path"} <= failing(checks)
    assert "there is no table memory_plugin.memory_namespaces" in checks["plugin_schema"].output


async def test_a_wrong_search_path_is_seen_and_so_are_tables_that_it_put_into_public(database: str) -> None:
    async with plugin(plugin_database_url(database)) as monitor:
        await monitor.canary(searched=True)
    checks = await judged(database)
    assert failing(checks) == {"search_path"}
    assert checks["search_path"].observed_value == "public"
    assert "search_path=memory_plugin,public" in checks["search_path"].next
    # A plugin that does not name its schema creates its tables wherever its connection looks first.
    for table in ("memory_records", "memory_namespaces"):
        await sql(database, f"alter table memory_plugin.{table} set schema public")
    checks = await judged(database)
    assert failing(checks) == {"search_path", "strays", "plugin_schema", "plugin_home"}
    assert "1 in public.memory_namespaces" in checks["strays"].output


async def test_public_before_memory_plugin_is_a_wrong_search_path(database: str) -> None:
    async with plugin(plugin_database_url(database)) as monitor:
        await monitor.canary(searched=True)
    turned = f"{database}{'&' if '?' in database else '?'}search_path=public,memory_plugin"
    assert failing(await judged(turned)) == {"search_path"}


async def test_populated_strays_fail_and_empty_ones_do_not(database: str) -> None:
    async with plugin(plugin_database_url(database)) as monitor:
        await monitor.canary(searched=True)
    await sql(database, "create table public.memory_records (id int)")
    assert failing(await judged(plugin_database_url(database))) == set()
    await sql(database, "insert into public.memory_records values (1), (2)")
    checks = await judged(plugin_database_url(database))
    assert failing(checks) == {"strays"}
    assert (checks["strays"].observed_value, checks["strays"].observed_unit) == (2, "rows")


async def test_a_plugin_that_writes_to_another_database_is_found_out(
    database: str, make_database: MakeDatabase
) -> None:
    async with plugin(plugin_database_url(database)):
        pass  # a plugin was here once, so its tables are
    elsewhere = await make_database()
    async with plugin(plugin_database_url(elsewhere)) as monitor:
        await monitor.canary(searched=True)
    checks = await judged(plugin_database_url(database))
    assert failing(checks) == {"plugin_home"}
    assert "took the canary, but it is not in memory_plugin" in checks["plugin_home"].output
    assert failing(await judged(plugin_database_url(elsewhere))) == set()


async def test_a_database_of_the_plugin_s_that_does_not_answer_fails_all_of_it(database: str) -> None:
    gone = plugin_database_url(database.replace("/test_", "/no_such_"))
    assert gone != plugin_database_url(database)
    checks = await judged(gone)
    assert failing(checks) == DATABASE_CHECKS
    assert all(check.output.startswith("not known: ") for check in checks.values())


async def test_for_a_contract_only_plugin_the_tenant_s_own_database_is_what_is_looked_at(database: str) -> None:
    tenant = await Database.connect(database, max_size=1)
    try:
        vector, path = await look_at_vector(tenant)
    finally:
        await tenant.close()
    assert (vector.schema, vector.resolves, path) == ("public", True, ("public",))
    evidence = Evidence(phase=Phase.A0, contract_only=True, tenant_vector=vector)
    checks = {check.id: check for check in gate(Phase.A1, evidence) if check.id in DATABASE_CHECKS}
    assert {check.status for check in checks.values()} == {Status.WARN}
    assert "in the tenant's own database: pgvector is in schema public" in checks["pgvector"].output


async def test_a_plugin_without_full_text_search_lacks_a_required_capability(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_plugin, "CAPABILITIES", ["pin", "propagation"])
    async with plugin(plugin_database_url(database)) as monitor:
        await monitor.probe()
        assert monitor.last is not None
        evidence = Evidence(phase=Phase.A0, plugin_capabilities=monitor.last.capabilities)
    made = {check.id: check for check in gate(Phase.A1, evidence)}["plugin_capabilities"]
    assert made.status is Status.FAIL
    assert made.output == "the plugin lacks: fts"


async def test_the_canary_that_counts_was_written_searched_and_forgotten(database: str) -> None:
    async with plugin(plugin_database_url(database)) as monitor:
        assert (monitor.last_round_trip, monitor.round_trip_age) == (None, None)
        await monitor.canary()
        assert last(monitor) is None, "one that was not searched for proves half of it"
        await monitor.canary(searched=True)
        assert last(monitor) == ""
        assert monitor.round_trip_age is not None
        rows = await asyncpg.connect(plugin_database_url(database))
        try:
            assert await rows.fetchval("select count(*) from memory_plugin.memory_records") == 0
        finally:
            await rows.close()
    with pytest.raises(PluginError):
        await monitor.canary(searched=True)
    assert last(monitor)


async def test_a_whole_round_trip_follows_an_outage_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_CANARY_EVERY", 3600.0)
    url = plugin_database_url(database)
    async with contextlib.AsyncExitStack() as first:
        address = await first.enter_async_context(running_plugin(url, "127.0.0.1:0"))
        client = PluginClient(address)
        monitor = PluginHealthMonitor(
            "t", client, lambda _: None, interval=0.2, timeout=5, probe_policy=ProbePolicy(),
            breaker_policy=BreakerPolicy(ramp=0.1), owner=UUID(int=1),
        )  # fmt: skip
        running = asyncio.create_task(monitor.run())
        try:
            await eventually(lambda: last(monitor) == "", timeout=20)
            before = monitor._round_trip_at
            await first.aclose()
            await eventually(lambda: not monitor.up, timeout=20)
            async with running_plugin(url, address.removeprefix("http://")):
                await eventually(lambda: monitor.up and monitor._round_trip_at != before, timeout=20)
                assert last(monitor) == ""
        finally:
            running.cancel()
            await client.close()


async def test_healthy_time_counts_from_the_verdict_and_a_break_starts_it_anew(database: str) -> None:
    async with plugin(plugin_database_url(database)) as monitor:
        assert healthy(monitor) is None
        while not monitor.up:
            await monitor.probe()
        first = healthy(monitor)
        assert first is not None
        await monitor.probe()
        assert (healthy(monitor) or 0.0) > first
        monitor.breaker.trip(time.monotonic(), "for the test")
        assert healthy(monitor) is None, "an opening is a break although every probe is good"
        await monitor.probe()
        assert monitor.up
        assert healthy(monitor) is None, "until the breaker is closed again"
        assert monitor.watched_seconds > 0
