"""Digest sweeps over K/V (decision 0014): each class, in both directions, and never a false alarm."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.findings import FindingFilter
from cutover.domain.phase import Phase
from tests.conftest import MakeDatabase
from tests.integration.digest_scene import confirmed, digest, findings
from tests.integration.kv_scene import Raw, backfill_kv, drop, kv_differences, kv_id, kv_scene, put, quiet
from tests.integration.protocol_scene import Scene
from tests.integration.read_scene import CHILD, ROOT


@pytest.fixture(params=[False, True], ids=["one database", "two databases"])
async def urls(make_database: MakeDatabase, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The tenant's database, and where the plugin has one of its own."""
    url = await make_database()
    return url, {"plugin_at": await make_database(legacy=False)} if request.param else {}


async def records(s: Scene, sql: str, *arguments: object) -> None:
    """Change the plugin's table behind everybody's back."""
    done = await s.plugin_database.execute(sql.format("memory_plugin.memory_records"), *arguments)
    assert not done.endswith(" 0"), done


async def fill(s: Scene) -> dict[str, UUID]:
    """Values that are hard to compare, under keys that are hard to keep apart."""
    values: dict[str, Any] = {
        "": "", "null": None, "a|1": [1], "a": "|1", "ключ 🗝": {"b": "ü", "a": 1}, "big": "x" * 100_000,
        "number": Raw("12345678901234567890.10"), "deep": Raw("[" * 200 + "]" * 200),
    }  # fmt: skip
    made = {key: await put(s.database, CHILD, key, value) for key, value in values.items()}
    made["soon"] = await put(s.database, ROOT, "soon", 1, datetime.now(UTC) + timedelta(hours=1))
    await put(s.database, ROOT, "late", 1, datetime.now(UTC) - timedelta(hours=1))
    await s.database.execute("UPDATE workspace_memory SET expires_at = 'infinity' WHERE key = 'a'")
    await s.create(CHILD, "a memory")
    await quiet(s)
    assert await kv_differences(s) == []
    return made


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2, Phase.A3])
async def test_clean(urls: tuple[str, dict[str, Any]], phase: Phase) -> None:
    async with kv_scene(urls[0], phase=phase, **urls[1]) as s:
        await fill(s)
        for full in (True, False, True):
            outcome = await digest(s, full=full)
            assert (outcome["outcome"], outcome["trusted"], await findings(s)) == ("clean", True, {}), outcome
            await put(s.database, CHILD, "a", 2)
            await drop(s.database, CHILD, "null")
            await quiet(s)


@pytest.mark.parametrize("phase", [Phase.A2, Phase.A3])
async def test_every_class_is_found_and_named(urls: tuple[str, dict[str, Any]], phase: Phase) -> None:
    async with kv_scene(urls[0], phase=phase, **urls[1]) as s:
        ids = await fill(s)
        await backfill_kv(s)
        gone, extra = await put(s.database, CHILD, "gone", 1), uuid4()
        await quiet(s)
        copy = "INSERT INTO {0} (id, namespace, content, kind, source, propagation) SELECT $1, namespace, content, kind, source, propagation FROM {0} WHERE id = $2"  # noqa: E501
        await records(s, copy, extra, gone)
        await drop(s.database, CHILD, "gone")
        await quiet(s)
        await records(s, copy, gone, extra)
        await records(s, "DELETE FROM {0} WHERE id = $1", ids["null"])
        await records(s, "UPDATE {0} SET content = '[2]' WHERE id = $1", ids["a|1"])
        await records(s, "UPDATE {0} SET namespace = 'workspace:' || $2::uuid WHERE id = $1", ids["a"], ROOT)
        await records(s, "UPDATE {0} SET created_at = created_at - interval '1 s' WHERE id = $1", ids["soon"])
        await records(s, "UPDATE {0} SET expires_at = NULL WHERE id = $1", ids["soon"])
        renamed = "UPDATE {0} SET propagation = jsonb_set(propagation, ARRAY['cutover', 'kv', $2], '7') WHERE id = $1"
        for key, part in (("deep", "key"), ("number", "version")):
            await records(s, renamed, ids[key], part)
        wanted = {
            (extra, "missing_in_legacy"), (gone, "resurrected"), (ids["null"], "missing_in_plugin"),
            (ids["a|1"], "content"), (ids["a"], "namespace"), (ids["soon"], "provenance"),
            (ids["deep"], "provenance"), (ids["number"], "provenance"),
        }  # fmt: skip
        outcome = await digest(s)
        # created_at is set right by the sweep itself.
        assert (outcome["outcome"], await confirmed(s)) == ("divergent", wanted)
        sources = await s.database.fetch("SELECT DISTINCT source FROM cutover.divergence WHERE closed_at IS NULL")
        assert [row["source"] for row in sources] == ["kv"]


async def test_a_wrong_or_lost_mapping_does_not_deceive_the_sweep(urls: tuple[str, dict[str, Any]]) -> None:
    async with kv_scene(urls[0], phase=Phase.A2, **urls[1]) as s:
        await s.backfill()
        wrong, lost = await put(s.database, CHILD, "wrong", 1), await put(s.database, CHILD, "lost", 1)
        await backfill_kv(s)
        other = uuid4()
        await s.database.execute("UPDATE cutover.kv SET memory_id = $2 WHERE memory_id = $1", wrong, other)
        await s.database.execute("DELETE FROM cutover.kv WHERE memory_id = $1", lost)
        await put(s.database, CHILD, "wrong", 2)
        await s.quiet()
        assert await s.content(other) == "2"
        await records(s, "DELETE FROM {0} WHERE id = $1", lost)
        await digest(s)
        assert {
            (wrong, "missing_in_legacy"),
            (other, "missing_in_legacy"),
            (lost, "missing_in_plugin"),
        } == await confirmed(s)


async def test_a_row_whose_id_a_memory_has_leaves_the_memory_in_the_sweep(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        await s.backfill()
        memory = await s.insert(CHILD, "memory", id=kv_id(CHILD, "taken"))
        await put(s.database, CHILD, "taken", 1)
        await s.quiet()
        assert (await digest(s))["outcome"] == "clean"
        await records(s, "UPDATE {0} SET content = 'other' WHERE id = $1", memory)
        await digest(s)
        assert await confirmed(s) == {(memory, "content")}


async def test_rows_not_yet_reached_and_rows_on_the_way_out_are_no_findings(database: str) -> None:
    async with kv_scene(database) as s:
        for number in range(6):
            await put(s.database, CHILD, f"{number}", number)
        await s.enter(Phase.A2)
        assert (await digest(s))["outcome"] == "clean"
        store, epoch = s.tenant._kv._store, (await s.tenant.phase.reload()).epoch
        await store.open_backfill(epoch)
        await store.mark_chunk(epoch, 3)
        await quiet(s)
        assert ((await digest(s))["outcome"], await findings(s)) == ("clean", {})
        await s.database.execute("SELECT cutover.remove_kv_capture()")  # switched off, and nothing forgotten yet
        assert ((await digest(s))["outcome"], await findings(s)) == ("clean", {})


async def test_a_repair_delivers_the_row_again(database: str) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        made = await put(s.database, CHILD, "k", {"a": 1})
        await quiet(s)
        await records(s, "UPDATE {0} SET content = 'other' WHERE id = $1", made)
        await digest(s)
        assert await confirmed(s) == {(made, "content")}
        row = await s.database.fetchrow("SELECT source, namespace, expected_length FROM cutover.divergence")
        assert row is not None
        assert dict(row) == {
            "source": "kv", "namespace": f"workspace:{CHILD}", "expected_length": len(json.dumps({"a": 1})),
        }  # fmt: skip
        await s.tenant.findings.repair(FindingFilter(ids=(made,)), actor="test", limit=None)
        await quiet(s)
        assert await kv_differences(s) == []
