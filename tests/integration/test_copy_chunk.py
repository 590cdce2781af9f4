"""`cutover.copy_chunk` (migration 008): the same rows by both deliveries come out the same, column by column."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from cutover.domain.errors import StaleEpoch
from cutover.domain.phase import Phase
from cutover.stores.backfill import BackfillStore, CopiedChunk
from cutover.stores.database import Database
from tests.conftest import MakeDatabase
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, LEFT, REMOVED, ROOT, SELF, STRANGER

WHEN = datetime(2024, 2, 29, 23, 59, 59, 123, tzinfo=UTC)
VECTOR = "[" + ",".join(str((i % 7 - 3) / 7) for i in range(1536)) + "]"
CONTENTS = [
    "plain", "trailing \n", "\u00a0", "\u2003 \u3000", "\x1c\x1f", "", " \t", "\u200b", "a" * 100_000,
    "ünïcode \N{SNOWMAN} 👩‍👩‍👧‍👦 \u202eright\u202c", "'; drop table memory_records; --", '{"json": "\\u0000"}',
    "[MEMORY id=x scope=GLOBAL from=y]: z", "NaN", "\\N", "%s {} $1",
]  # fmt: skip
TIMES = [
    "2024-05-06 07:08:09.123456+00", "2024-05-06 07:08:09+05:30", None, "infinity", "-infinity",
    "20000-01-01 00:00:00+00", "0005-01-02 03:04:05.000007+00", "0044-03-15 00:00:00+00 BC",
    "1969-12-31 23:59:59.999999+00", "9999-12-31 23:00:00+00",
]  # fmt: skip
PROPAGATIONS: list[Any] = [
    {"trace": [1, 2.5, None], "ü": "\N{SNOWMAN}"}, {}, None, "words", 7, 1.25, [], [{"a": 1}], False,
    {"cutover": {"mine": 1}}, {"": ""}, {"deep": {"er": {"cutover": 1}}}, 12345678901234567890,
]  # fmt: skip


def key(number: int) -> UUID:
    """Ids in the order of their numbers, spread over the whole range."""
    return UUID(int=number << 96 | number)


async def fill(database: Database, *, embedding: bool) -> None:
    """Rows of every kind that legacy can hold, with ids that are the same in every database."""
    number = 0

    async def add(
        workspace: UUID | None, scope: str, content: str, label: str = "general", **times: str | None
    ) -> UUID:
        nonlocal number
        number += 1
        await database.execute(
            "INSERT INTO agent_memories (id, workspace_id, scope, content, namespace, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $6::text::timestamptz, $7::text::timestamptz)",
            key(number), workspace, scope, content, label,
            times.get("created", "2024-01-01 00:00:00+00"), times.get("updated", "2024-01-02 00:00:00.5+00"),
        )  # fmt: skip
        return key(number)

    for workspace in (ROOT, CHILD, GRANDCHILD, REMOVED, STRANGER, LEFT, SELF):
        for scope in ("LOCAL", "TEAM", "GLOBAL"):
            await add(workspace, scope, f"{scope} of {workspace}", "facts")
    for content in CONTENTS:
        await add(CHILD, "LOCAL", content, content[:5] or "")
    for created in TIMES:
        await add(CHILD, "TEAM", f"created {created}", created=created, updated=TIMES[0])
        await add(CHILD, "TEAM", f"updated {created}", created=TIMES[0], updated=created)
    for propagation in PROPAGATIONS:
        memory_id = await add(ROOT, "GLOBAL", f"propagation {propagation}")
        await database.execute(
            "INSERT INTO cutover.extra (memory_id, source, pin, propagation) VALUES ($1, $2, $3, $4::jsonb)",
            memory_id, "user" if propagation else "runtime", bool(propagation), json.dumps(propagation),
        )  # fmt: skip
    memory_id = await add(ROOT, "LOCAL", "a vector beside legacy")
    await database.execute(
        "INSERT INTO cutover.extra (memory_id, embedding) VALUES ($1, translate($2, '[]', '{}')::real[])",
        memory_id, VECTOR,
    )  # fmt: skip
    memory_id = await add(ROOT, "LOCAL", "a vector of another space")
    await database.execute("INSERT INTO cutover.extra (memory_id, embedding) VALUES ($1, '{1,2,3}')", memory_id)
    if embedding:
        memory_id = await add(ROOT, "LOCAL", "a vector in legacy")
        await database.execute(
            "UPDATE agent_memories SET embedding = $2::text::vector WHERE id = $1", memory_id, VECTOR
        )
    await add(None, "LOCAL", "no workspace")
    await database.execute("ALTER TABLE agent_memories DROP CONSTRAINT agent_memories_workspace_id_fkey")
    await add(UUID(int=404), "GLOBAL", "its workspace is gone")
    await database.execute(
        "INSERT INTO cutover.namespace (name, kind, expires_at, metadata)"
        " VALUES ($1, 'team', $2, $3), ($4, 'org', null, null)",
        f"team:{ROOT}", WHEN, '{"colour": "blue"}', f"org:{ROOT}",
    )  # fmt: skip


async def copy(s: Scene, chunk: int = 7, workspace: UUID | None = None) -> list[CopiedChunk]:
    """All chunks of a set-based backfill, and the reconciler's share of it."""
    store, epoch = BackfillStore(s.database), s.tenant.phase.current().epoch
    scope = "tenant" if workspace is None else f"workspace:{workspace}"
    await store.open(epoch, scope, workspace)
    await store.bring_namespaces_up_to_date(epoch)
    chunks: list[CopiedChunk] = []
    while not chunks or not chunks[-1].done:
        chunks.append(await store.copy_chunk(epoch, scope, workspace, chunk, timeout=30))
    await s.quiet()
    return chunks


async def held(s: Scene) -> tuple[Sequence[asyncpg.Record], Sequence[asyncpg.Record], Sequence[asyncpg.Record]]:
    """The plugin's two tables and the quarantine, without what differs between any two runs."""
    return (
        await s.database.fetch(
            "SELECT id, namespace, content, kind, source, expires_at, propagation, pin, embedding::text,"
            " CASE WHEN created_at > now() - interval '1 hour' THEN NULL ELSE created_at END AS created_at"
            " FROM memory_plugin.memory_records WHERE namespace NOT LIKE 'custom:cutover-%' ORDER BY id"
        ),
        await s.database.fetch(
            "SELECT name, kind, expires_at, metadata FROM memory_plugin.memory_namespaces"
            " WHERE name NOT LIKE 'custom:cutover-%' ORDER BY name"
        ),
        await s.database.fetch(
            "SELECT memory_id, workspace_id, reason, detail FROM cutover.quarantine ORDER BY memory_id"
        ),
    )


@pytest.mark.parametrize("embedding", [True, False], ids=["embedding", "no embedding"])
@pytest.mark.parametrize("status_enum", [True, False], ids=["enum", "text"])
async def test_both_deliveries_leave_the_same_rows(
    make_database: MakeDatabase, embedding: bool, status_enum: bool
) -> None:
    found = []
    for delivery in ("contract", "database"):
        url = await make_database(embedding=embedding, status_enum=status_enum)
        async with scene(url, phase=Phase.A0) as s:
            await fill(s.database, embedding=embedding)
            await s.step(Phase.A1)
            await s.step(Phase.A2)
            if delivery == "contract":
                await s.backfill()
                await s.quiet()
                await s.tenant._creation_times.flush()
            else:
                chunks = await copy(s)
                total = await s.count("agent_memories")
                assert sum(chunk.scanned for chunk in chunks) == total
                assert sum(chunk.handed_over for chunk in chunks) == 1, "the vector of another space"
                assert sum(chunk.copied + chunk.quarantined for chunk in chunks) == total - 1
            found.append(await held(s))
    contract, database = found
    for left, right in zip(contract, database, strict=True):
        assert [dict(row) for row in left] == [dict(row) for row in right]
    assert len(database[0]) > 60
    assert {row["reason"] for row in database[2]} == {
        "no_workspace", "workspace_gone", "empty_content", "refused_by_plugin",
    }  # fmt: skip


async def test_again_writes_nothing_and_mends_what_is_stale(database: str) -> None:
    async with scene(database, phase=Phase.A0) as s:
        await fill(s.database, embedding=True)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        await copy(s)
        before = await s.database.fetch("SELECT xmin::text, * FROM memory_plugin.memory_records ORDER BY id")
        await s.database.execute("DELETE FROM cutover.backfill_cursor")
        chunks = await copy(s)
        assert sum(chunk.copied for chunk in chunks) == 0
        assert await s.database.fetch("SELECT xmin::text, * FROM memory_plugin.memory_records ORDER BY id") == before

        await s.database.execute("DELETE FROM cutover.backfill_cursor")
        stale = [key(1), key(2), key(3), key(4), key(5), key(6)]
        for memory_id, change in zip(
            stale,
            (
                "content = 'x'", "namespace = 'team:" + str(STRANGER) + "'", "pin = true", "source = 'user'",
                "embedding = '" + VECTOR + "'",
                "created_at = now(), propagation = null, kind = 'summary', expires_at = now()",
            ),
            strict=True,
        ):  # fmt: skip
            await s.database.execute(f"UPDATE memory_plugin.memory_records SET {change} WHERE id = $1", memory_id)
        gone = key(27)  # an empty one, of which an earlier form is still there
        assert await s.database.fetchval("SELECT content FROM agent_memories WHERE id = $1", gone) == ""
        await s.database.execute(
            "INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)"
            " VALUES ($1, $2, 'it was not empty once', 'fact', 'agent')",
            gone, f"workspace:{CHILD}",
        )  # fmt: skip
        chunks = await copy(s)
        assert sum(chunk.copied for chunk in chunks) == len(stale)
        after = await s.database.fetch("SELECT * FROM memory_plugin.memory_records ORDER BY id")
        assert [dict(row) for row in after] == [{k: v for k, v in row.items() if k != "xmin"} for row in before]


async def test_a_definition_changed_in_a0_is_brought_up_to_date_once(database: str) -> None:
    async with scene(database, phase=Phase.A0) as s:
        await fill(s.database, embedding=True)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        await copy(s)
        await s.database.execute('UPDATE cutover.namespace SET metadata = \'{"colour": "red"}\', expires_at = null')
        await copy(s)
        sql = "SELECT metadata FROM memory_plugin.memory_namespaces WHERE name = $1"
        assert json.loads(await s.database.fetchval(sql, f"team:{ROOT}")) == {"colour": "red"}


async def test_one_workspace_only(database: str) -> None:
    async with scene(database, phase=Phase.A0) as s:
        await fill(s.database, embedding=True)
        await s.step(Phase.A1)
        await s.step(Phase.A2)
        chunks = await copy(s, workspace=STRANGER)
        assert sum(chunk.scanned for chunk in chunks) == 3
        assert await s.count("memory_plugin.memory_records WHERE content LIKE '% of %'") == 3


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A3])
async def test_it_is_fenced(database: str, phase: Phase) -> None:
    async with scene(database, phase=Phase.A2) as s:
        store, epoch = BackfillStore(s.database), s.tenant.phase.current().epoch
        await refused(store.copy_chunk(epoch + 1, "tenant", None, 5, timeout=5), StaleEpoch)
        await s.database.execute("UPDATE cutover.phase_state SET phase = $1", phase.value)
        await refused(store.copy_chunk(epoch, "tenant", None, 5, timeout=5), StaleEpoch)
