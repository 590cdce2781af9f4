"""`cutover.copy_chunk` on every PostgreSQL that is supported. PostgreSQL 15 comes without pgvector here, so a domain of
the same name stands in for its type: what the copy does with a vector is one cast and a comparison by bytes."""

import json
from datetime import UTC, datetime
from importlib import resources
from uuid import UUID

from cutover.domain.namespace import Scope
from cutover.domain.propagation import Provenance, pack
from cutover.stores import migrate
from cutover.stores.backfill import BackfillStore
from cutover.stores.database import Database
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, add_workspaces

EPOCH = 7
WHEN = datetime(2023, 4, 5, 6, 7, 8, 9, tzinfo=UTC)
PLACES = {Scope.LOCAL: f"workspace:{GRANDCHILD}", Scope.TEAM: f"team:{CHILD}", Scope.GLOBAL: f"org:{ROOT}"}


def key(number: int) -> UUID:
    return UUID(int=number << 96)


async def prepare(database: Database) -> None:
    """A tenant in A2, with the plugin's tables beside it."""
    schema = (resources.files("cutover.embedded") / "plugin_schema.sql").read_text()
    await database.execute("CREATE DOMAIN public.vector AS real[]")
    await database.execute(
        schema.replace("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;", "").replace(
            "vector(1536)", "public.vector"
        )
    )
    await migrate.up(database)
    await add_workspaces(database)
    for number, scope in enumerate(Scope, start=1):
        await database.execute(
            "INSERT INTO agent_memories (id, workspace_id, content, scope, namespace, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, 'facts', $5, NULL)",
            key(number), GRANDCHILD, f"{scope} ünïcode", scope.value, WHEN,
        )  # fmt: skip
    await database.execute("INSERT INTO agent_memories (id, content, scope) VALUES ($1, 'nobody''s', 'LOCAL')", key(9))
    await database.execute(
        "INSERT INTO cutover.extra (memory_id, source, pin, propagation, embedding)"
        " VALUES ($1, 'user', true, '[1]', array_fill(0.5::real, ARRAY [1536]))",
        key(1),
    )
    await database.execute("SELECT cutover.install_capture()")
    await database.execute("UPDATE cutover.phase_state SET phase = 'A2', epoch = $1", EPOCH)


async def test_rows_are_copied_once_and_stale_ones_mended(plain_database: str) -> None:
    database = await Database.connect(plain_database, max_size=2)
    try:
        await prepare(database)
        store = BackfillStore(database)
        await store.open(EPOCH, "tenant", None)
        first = await store.copy_chunk(EPOCH, "tenant", None, 2, timeout=30)
        assert (first.scanned, first.copied, first.done) == (2, 2, False)
        last = await store.copy_chunk(EPOCH, "tenant", None, 10, timeout=30)
        assert (last.scanned, last.copied, last.quarantined, last.done) == (2, 1, 1, True)
        held = await database.fetch("SELECT * FROM memory_plugin.memory_records ORDER BY id")
        for row, scope in zip(held, Scope, strict=True):
            caller = [1] if row["id"] == key(1) else None
            assert row["namespace"] == PLACES[scope]
            assert (row["content"], row["created_at"], row["kind"]) == (f"{scope} ünïcode", WHEN, "fact")
            assert json.loads(row["propagation"]) == pack(Provenance(GRANDCHILD, scope, "facts", WHEN, None), caller)
            assert (row["source"], row["pin"]) == (("user", True) if caller else ("agent", False))
            assert (row["embedding"] is None) is (caller is None)
        await database.execute("DELETE FROM cutover.backfill_cursor")
        await database.execute("UPDATE memory_plugin.memory_records SET embedding = NULL WHERE id = $1", key(1))
        await store.open(EPOCH, "tenant", None)
        again = await store.copy_chunk(EPOCH, "tenant", None, 10, timeout=30)
        assert (again.copied, again.unchanged, again.quarantined) == (1, 2, 1)
        assert await database.fetch("SELECT * FROM memory_plugin.memory_records ORDER BY id") == held
        await database.execute("UPDATE memory_plugin.memory_records SET created_at = now()")
        mended = await store.bring_times_up_to_date(database, None, 10, timeout=30)
        assert mended == (key(3), 3)
        assert await database.fetch("SELECT * FROM memory_plugin.memory_records ORDER BY id") == held
        assert await store.bring_times_up_to_date(database, key(3), 10, timeout=30) == (None, 0)
        assert await store.missing_rights() == ""
    finally:
        await database.close()
