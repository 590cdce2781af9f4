"""The benchmarks' tenant: the same at every run, of the promised shape, and with a place for every memory."""

import asyncpg

from benchmarks.population import WORKSPACES, populate
from tests.conftest import MakeDatabase

ROWS = 12_000
_SHAPE = """
SELECT count(*) AS rows, count(DISTINCT id) AS ids, count(DISTINCT content) AS contents,
       count(DISTINCT workspace_id) AS owners, min(octet_length(content)) AS least, max(octet_length(content)) AS most,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY octet_length(content)) AS median,
       count(*) FILTER (WHERE octet_length(content) > 4096) AS large, count(embedding) AS embedded,
       count(*) FILTER (WHERE content ~ '[^[:ascii:]]') AS unicode,
       count(*) FILTER (WHERE scope = 'LOCAL') AS local, count(DISTINCT scope) AS scopes,
       count(*) FILTER (WHERE namespace = workspace_id::text) AS labelled_by_owner,
       count(*) FILTER (WHERE created_at IS NULL OR created_at > '2026-04-01' OR trim(content) = '') AS odd
FROM agent_memories
"""
_DIGEST = "SELECT md5(string_agg(a::text, '|' ORDER BY id)) FROM (SELECT * FROM {} ORDER BY id) a"
_DEPTHS = """
WITH RECURSIVE tree AS (
    SELECT id, 0 AS depth FROM workspaces WHERE parent_id IS NULL
    UNION ALL SELECT w.id, t.depth + 1 FROM tree t JOIN workspaces w ON w.parent_id = t.id
)
SELECT depth, count(*) FROM tree GROUP BY depth
"""


async def test_it_has_the_promised_shape_and_is_the_same_again(make_database: MakeDatabase) -> None:
    digests = set()
    for _ in range(2):
        url = await make_database()
        population = await populate(url, ROWS, lambda _: None)
        connection = await asyncpg.connect(url)
        try:
            shape = await connection.fetchrow(_SHAPE)
            depths = {row["depth"]: row["count"] for row in await connection.fetch(_DEPTHS)}
            digests.add(
                (
                    await connection.fetchval(_DIGEST.format("(SELECT id, workspace_id, content, scope, namespace,"
                    " created_at, updated_at, embedding FROM agent_memories) m")),
                    await connection.fetchval(_DIGEST.format("(SELECT id, parent_id FROM workspaces) w")),
                )
            )  # fmt: skip
            indexes = await connection.fetchval("SELECT count(*) FROM pg_indexes WHERE tablename = 'agent_memories'")
        finally:
            await connection.close()
        assert shape is not None
        assert shape["rows"] == shape["ids"] == shape["contents"] == population.rows == ROWS
        assert shape["least"] >= 40
        assert 100 <= shape["median"] <= 300
        assert shape["most"] > 100_000
        assert shape["large"] == 2  # one in ten thousand
        assert shape["embedded"] == ROWS // 1000
        assert ROWS // 40 < shape["unicode"] < ROWS // 4
        assert shape["owners"] > WORKSPACES * 0.8
        assert ROWS * 0.75 < shape["local"] < ROWS * 0.85
        assert shape["scopes"] == 3
        assert shape["labelled_by_owner"] > ROWS // 10
        assert shape["odd"] == 0
        assert sum(depths.values()) == WORKSPACES
        assert len(depths) >= 3  # trees, not only roots and children
        assert indexes == 6
    assert len(digests) == 1
