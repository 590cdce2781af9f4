"""A tenant of a million memories, the same at every run: what the copying and sweeping rows are measured on.

Everything is made inside the database, by number: a thousand workspaces in trees (some hold far more than others),
three scopes, contents of 40 bytes to 2 KB around 180 (log-normal) with one of 100 KB in ten thousand, Unicode in one
text of six, an embedding at one memory in a thousand, labels as v1 writes them. Every memory can be placed.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from benchmarks.tenant import Seat

WORKSPACES = 1_000
_ROOTS = 80
_CHUNK = 25_000
_TEXTS = 96
_TEXT_LENGTH = 4_200
_CONNECTIONS = 2
_FOREIGN = (
    "Zürich Größe naïve café résumé señor façade smörgås łódź über 東京 会議 資料 記憶 メモ 予定 проект заметка отчёт "
    "встреча مشروع ذاكرة ملاحظة 🐘 🚀 ✅ 📌 नमस्ते स्मृति 한국 회의 기억"
)
_SYLLABLES = (
    "al an ar be con de der dis en er es ex for ga hi in ing ion is it lan lor ma men mi nal ne no or pa per po pre "
    "pro ra re ri ro sa sen ser sho so sta ta te ter tion to tra u un ve wa wor"
)

_HELPERS = """
CREATE TABLE bench_text (number int PRIMARY KEY, words text NOT NULL);
-- A uniform 64-bit number of row n; `which` gives another one of the same row.
CREATE FUNCTION bench_random(n bigint, which bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashint8extended(n, which) & 9223372036854775807;
CREATE FUNCTION bench_workspace(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5('workspace ' || n)::uuid;
CREATE FUNCTION bench_memory(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5('memory ' || n)::uuid;
"""

_ADD_WORKSPACES = """
INSERT INTO workspaces (id, name, parent_id, status)
SELECT bench_workspace(w), 'bench ' || w,
       CASE WHEN w < $2 THEN NULL
            WHEN bench_random(w, 1) % 10 < 8 THEN bench_workspace(bench_random(w, 2) % $2)
            ELSE bench_workspace(bench_random(w, 2) % w) END,
       'online'
FROM generate_series(0, $1 - 1) w
"""

_ADD_MEMORIES = """
INSERT INTO agent_memories (id, workspace_id, content, scope, namespace, created_at, updated_at, embedding)
SELECT bench_memory(n), owner,
       CASE WHEN n % 10000 = 7 THEN left(repeat(words || ' ', 40), 102400)
            ELSE substr(words, 1 + (bench_random(n, 3) % 2000)::int,
                        least(2000, greatest(30, exp(5.2::float8 + 0.9 * 1.732::float8 * (deviation - 2))))::int) END
           || ' (item ' || n || ')',
       CASE WHEN chance < 80 THEN 'LOCAL' WHEN chance < 95 THEN 'TEAM' ELSE 'GLOBAL' END,
       CASE WHEN chance % 5 = 0 THEN owner::text ELSE (ARRAY['general', 'facts', 'procedures'])[1 + chance % 3] END,
       created, created + CASE WHEN chance % 10 = 1 THEN interval '1 day' ELSE interval '0' END,
       CASE WHEN n % 1000 = 3 THEN
           ARRAY(SELECT ((bench_random(n * 2000 + i, 9) % 65536) / 32768::float8 - 1)::real
                 FROM generate_series(1, 1536) i)
       END::vector
FROM generate_series($1::bigint, $2::bigint - 1) n
CROSS JOIN LATERAL (
    SELECT (bench_random(n, 4) % 100)::int AS chance,
           -- The square prefers low numbers: some workspaces hold a hundred times as much as others.
           bench_workspace(floor($3 * ((bench_random(n, 5) % 1000003) / 1000003::float8) ^ 2)::bigint) AS owner,
           timestamptz '2026-04-01' - (bench_random(n, 6) % 34560000000000) * interval '1 microsecond' AS created,
           -- The sum of four uniform numbers is nearly normal: mean 2, variance 1/3.
           ((bench_random(n, 7) & 65535) + (bench_random(n, 7) >> 16 & 65535) + (bench_random(n, 7) >> 32 & 65535)
               + (bench_random(n, 8) & 65535)) / 65536::float8 AS deviation
) drawn
JOIN bench_text ON number = bench_random(n, 10) % $4
"""

_SHAPE = """
SELECT count(*) AS rows, min(octet_length(content)) AS least, avg(octet_length(content))::int AS mean,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY octet_length(content)) AS median,
       max(octet_length(content)) AS most, count(embedding) AS embedded,
       count(*) FILTER (WHERE content ~ '[^[:ascii:]]') AS unicode, count(DISTINCT workspace_id) AS owners
FROM agent_memories TABLESAMPLE SYSTEM (5)
"""


@dataclass(frozen=True, slots=True)
class Population:
    """What was made: the seats can act through the daemon."""

    rows: int
    seats: list[Seat]


async def populate(database_url: str, rows: int, say: Callable[[str], None]) -> Population:
    """Fill an empty v1 database with `rows` memories. The text index is built at the end, which is faster."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_HELPERS)
        await connection.copy_records_to_table("bench_text", records=list(enumerate(_texts())))
        await connection.execute(_ADD_WORKSPACES, WORKSPACES, _ROOTS)
        index = await connection.fetchval("SELECT pg_get_indexdef('idx_agent_memories_fts'::regclass)")
        await connection.execute("DROP INDEX idx_agent_memories_fts")
        await _add_memories(database_url, rows, say)
        await connection.execute("SET maintenance_work_mem = '512MB'")
        await connection.execute(index)
        await connection.execute("VACUUM ANALYZE agent_memories")
        shape = await connection.fetchrow(_SHAPE)
        assert shape is not None
        say(f"  populated: {rows} memories; a sample of them: {dict(shape)}")
        return Population(rows, await _add_tokens(connection))
    finally:
        await connection.close()


async def _add_memories(database_url: str, rows: int, say: Callable[[str], None]) -> None:
    starts = iter(range(0, rows, _CHUNK))

    async def work() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            for first in starts:
                await connection.execute(_ADD_MEMORIES, first, min(rows, first + _CHUNK), WORKSPACES, _TEXTS)
                if first % (10 * _CHUNK) == 0:
                    say(f"  populating: {first} of {rows}")
        finally:
            await connection.close()

    await asyncio.gather(*(work() for _ in range(_CONNECTIONS)))


async def _add_tokens(connection: "asyncpg.Connection[asyncpg.Record]") -> list[Seat]:
    """A live token for each of the forty roots that hold most."""
    seats = [Seat(UUID(hashlib.md5(f"workspace {n}".encode()).hexdigest()), f"bench-token-{n}") for n in range(40)]  # noqa: S324
    await connection.executemany(
        "INSERT INTO workspace_auth_tokens (workspace_id, token_hash, prefix) VALUES ($1, $2, $3)",
        [(seat.workspace_id, hashlib.sha256(seat.token.encode()).digest(), seat.token[:8]) for seat in seats],
    )
    return seats


def _texts() -> list[str]:
    """Running prose of made-up words with frequencies as in speech; every sixth text mixes other scripts in."""
    chooser = random.Random(20260401)
    syllables, foreign = _SYLLABLES.split(), _FOREIGN.split()
    vocabulary = ["".join(chooser.choices(syllables, k=chooser.randint(1, 4))) for _ in range(6_000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    texts = []
    for number in range(_TEXTS):
        words: list[str] = []
        while sum(map(len, words)) + len(words) < _TEXT_LENGTH:
            line = chooser.choices(vocabulary, weights, k=chooser.randint(5, 14))
            if number % 6 == 0:
                line[chooser.randrange(len(line))] = chooser.choice(foreign)
            words += [line[0].capitalize(), *line[1:-1], line[-1] + "."]
        texts.append(" ".join(words))
    return texts
