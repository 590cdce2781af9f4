"""K/V end to end (decision 0014): what a row of workspace_memory is, the plugin shows, in every phase."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import on
from tests.integration.kv_scene import Raw, drop, kv_differences, kv_id, kv_scene, put, quiet
from tests.integration.read_scene import CHILD, ROOT

COMMITS = on("POST", r"/memories$")
HERE = f"workspace:{CHILD}"


def soon(**more: float) -> datetime:
    return datetime.now(UTC) + timedelta(**more)


@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2, Phase.A3])
async def test_a_row_is_delivered_changed_moved_and_forgotten(database: str, phase: Phase) -> None:
    async with kv_scene(database, phase=phase) as s:
        await put(s.database, CHILD, "plan", {"b": 1, "a": [1.5, None, "ü"]})
        await put(s.database, ROOT, "plan", "theirs")
        await put(s.database, CHILD, "soon", 5, soon(hours=1))
        await quiet(s)
        assert await kv_differences(s) == []
        held = await s.plugin(kv_id(CHILD, "plan"))
        assert held is not None
        assert held["content"] == '{"a": [1.5, null, "ü"], "b": 1}'
        assert held["propagation"]["cutover"]["kv"] == {
            "key": "plan", "version": 1, "value": {"a": [1.5, None, "ü"], "b": 1},
        }  # fmt: skip
        await put(s.database, CHILD, "plan", [])
        await s.database.execute(
            "UPDATE workspace_memory SET key = 'moved', workspace_id = $1 WHERE key = 'soon'", ROOT
        )
        await drop(s.database, ROOT, "plan")
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.content(kv_id(ROOT, "moved")) == "5"
        assert [await s.plugin(each) for each in (kv_id(CHILD, "soon"), kv_id(ROOT, "plan"))] == [None, None]
        assert await s.differences() == []


@pytest.mark.parametrize(
    "value",
    ["", None, [], {}, False, 0, " ", Raw('"\\ud83d\\uddfa"'), Raw("1e400"), Raw("1" * 5000),
     Raw("[" * 900 + "]" * 900), Raw('{"a":1,"a":2}'),
     Raw("0.1234567890123456789012345678901"), "x" * 100_000, Raw('"null"')],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
async def test_any_value_arrives_exactly(database: str, value: Any) -> None:
    async with kv_scene(database, phase=Phase.A2) as s:
        await put(s.database, CHILD, "k", value)
        await put(s.database, CHILD, "", value)
        await put(s.database, CHILD, "ключ 🗝\n", value)
        await quiet(s)
        assert await kv_differences(s) == []
        assert await s.count("cutover.kv") == 3
        assert await s.count("cutover.quarantine") == 0
