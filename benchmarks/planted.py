"""Seven faults among all the memories, one of each class that a sweep must tell apart, and whether it did."""

from uuid import UUID

import asyncpg

from benchmarks.bare import connected
from cutover.embedded.processes import until

Found = set[tuple[UUID, str]]

_PICK = """
SELECT id FROM agent_memories WHERE ({condition}) AND NOT id = ANY ($2) ORDER BY id > $1 DESC, id LIMIT 1
"""
_COLUMNS = "id, namespace, content, kind, source, propagation, created_at"
_FAULTS = {
    "missing_in_plugin": "DELETE FROM memory_plugin.memory_records WHERE id = $1",
    # One letter: the same length.
    "content": """UPDATE memory_plugin.memory_records SET content = overlay(content placing '~' from 9 for 1)
        WHERE id = $1""",
    "namespace": """UPDATE memory_plugin.memory_records r SET namespace =
        (SELECT name FROM memory_plugin.memory_namespaces n WHERE n.name <> r.namespace AND n.kind = 'team'
         ORDER BY name LIMIT 1) WHERE id = $1""",
    "embedding": "UPDATE memory_plugin.memory_records SET embedding = NULL WHERE id = $1",
    "created_at": "UPDATE memory_plugin.memory_records SET created_at = created_at + interval '1 second' WHERE id = $1",
}
_EXTRA = """
INSERT INTO memory_plugin.memory_records (id, namespace, content, kind, source)
SELECT gen_random_uuid(), namespace, content, kind, source FROM memory_plugin.memory_records
WHERE namespace LIKE 'workspace:%' LIMIT 1 RETURNING id
"""


async def plant(database_url: str) -> Found:
    """Spoil seven memories in the plugin's own tables, past everything that could notice. Gives ids and classes."""
    planted: dict[UUID, str] = {}
    async with connected(database_url) as connection:

        async def pick(condition: str = "true") -> UUID:
            after = UUID(int=(len(planted) * 2 + 1) << 124)  # spread over the ids
            found: UUID = await connection.fetchval(_PICK.format(condition=condition), after, list(planted))
            return found

        for name, statement in _FAULTS.items():
            memory_id = await pick("embedding IS NOT NULL" if name == "embedding" else "true")
            assert (await connection.execute(statement, memory_id)).endswith(" 1")
            planted[memory_id] = name
        planted[await connection.fetchval(_EXTRA)] = "missing_in_legacy"
        memory_id = await pick()
        await _resurrect(connection, memory_id)
        planted[memory_id] = "resurrected"
    return set(planted.items())


async def _resurrect(connection: "asyncpg.Connection[asyncpg.Record]", memory_id: UUID) -> None:
    """Delete one memory for good, then put it back into the plugin behind everybody's back."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM memory_plugin.memory_records WHERE id = $1", memory_id)
    assert row is not None
    await connection.execute("DELETE FROM agent_memories WHERE id = $1", memory_id)
    await drained(connection)
    await connection.execute(
        f"INSERT INTO memory_plugin.memory_records ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7)", *row.values()
    )


async def drained(connection: "asyncpg.Connection[asyncpg.Record]", timeout: float = 120) -> None:
    """Nothing is marked."""

    async def condition() -> bool:
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM cutover.mark)")

    await until(condition, "marks drained", timeout=timeout, every=0.05)


async def confirmed(database_url: str) -> Found:
    """What the sweeps were certain of, also where it was set right at once (times of creation are)."""
    async with connected(database_url) as connection:
        rows = await connection.fetch("SELECT memory_id, class FROM cutover.divergence WHERE confirmed_at IS NOT NULL")
    return {(row["memory_id"], row["class"]) for row in rows}
