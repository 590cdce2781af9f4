"""What the machine does without us: one statement that copies, two that digest, and a program that compares tables.

Each is the plainest thing that could be called the same work, on the same rows in the same server.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

_TWINS = """
CREATE TABLE bench_namespaces (LIKE memory_plugin.memory_namespaces INCLUDING ALL);
CREATE TABLE bench_records (LIKE memory_plugin.memory_records INCLUDING ALL);
ALTER TABLE bench_records ADD FOREIGN KEY (namespace) REFERENCES bench_namespaces (name) ON DELETE CASCADE;
CREATE TABLE bench_place AS
WITH RECURSIVE up (start, at, hops) AS (
    SELECT id, id, 0 FROM workspaces
    UNION ALL
    SELECT u.start, w.parent_id, u.hops + 1 FROM up u JOIN workspaces w ON w.id = u.at
    WHERE w.parent_id IS NOT NULL AND u.hops < 50
)
SELECT DISTINCT ON (u.start) u.start AS id, 'workspace:' || u.start AS own,
       'team:' || coalesce(w.parent_id, w.id) AS team, 'org:' || u.at AS org
FROM up u JOIN workspaces w ON w.id = u.start ORDER BY u.start, u.hops DESC;
INSERT INTO bench_namespaces (name, kind)
SELECT own, 'workspace' FROM bench_place
UNION SELECT team, 'team' FROM bench_place UNION SELECT org, 'org' FROM bench_place;
ANALYZE bench_place;
"""

_COPY = """
INSERT INTO bench_records (id, namespace, content, kind, source, propagation, embedding, created_at)
SELECT a.id, CASE a.scope WHEN 'LOCAL' THEN p.own WHEN 'TEAM' THEN p.team ELSE p.org END, a.content, 'fact', 'agent',
       jsonb_build_object('cutover', jsonb_build_object(
           'workspace_id', a.workspace_id, 'scope', a.scope, 'namespace', a.namespace,
           'created_at', a.created_at, 'updated_at', a.updated_at)),
       a.embedding, a.created_at
FROM agent_memories a JOIN bench_place p ON p.id = a.workspace_id
"""

_DIGEST = """
SELECT count(*),
       bit_xor(('x' || encode(substr(sha256(
           uuid_send(id) || timestamptz_send(created_at) || convert_to(concat({columns}), 'UTF8')
       ), 1, 8), 'hex'))::bit(64)::bigint)
FROM {table}
"""
_LEGACY_COLUMNS = "workspace_id, '|', scope, '|', namespace, '|', embedding IS NOT NULL, '|', content"
_PLUGIN_COLUMNS = """namespace, '|', kind, '|', source, '|', pin, '|', embedding IS NOT NULL, '|',
       propagation -> 'cutover' ->> 'workspace_id', '|', propagation -> 'cutover' ->> 'scope', '|',
       propagation -> 'cutover' ->> 'namespace', '|', content"""


@dataclass(frozen=True, slots=True)
class Scans:
    """Seconds that the two aggregate scans took, one after the other."""

    serial: float
    """Each in one process, as a sweep's statements are."""
    parallel: float
    """Each with the parallel workers that a server gives a single statement by default."""


@contextlib.asynccontextmanager
async def connected(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the benchmark's own, without the default of 60 s for a statement."""
    connection = await asyncpg.connect(database_url, command_timeout=3600)
    try:
        yield connection
    finally:
        await connection.close()


async def bare_copy(database_url: str) -> float:
    """Seconds of one INSERT … SELECT of all memories into a twin of the plugin's table, all of its indexes included.

    Where a memory belongs is looked up in a table of workspaces that was made before.
    """
    async with connected(database_url) as connection:
        await connection.execute(_TWINS)
        try:
            await connection.execute("CHECKPOINT")
            started = time.monotonic()
            await connection.execute(_COPY)
            return time.monotonic() - started
        finally:
            await connection.execute("DROP TABLE bench_records, bench_namespaces, bench_place")


async def bare_scans(database_url: str) -> Scans:
    """Digest both stores whole, as plainly as that can be done."""
    async with connected(database_url) as connection:
        took = {}
        for workers in (0, 2):
            await connection.execute(f"SET max_parallel_workers_per_gather = {workers}")
            started = time.monotonic()
            await connection.fetchrow(_DIGEST.format(columns=_LEGACY_COLUMNS, table="agent_memories"))
            await connection.fetchrow(_DIGEST.format(columns=_PLUGIN_COLUMNS, table="memory_plugin.memory_records"))
            took[workers] = time.monotonic() - started
    return Scans(took[0], took[2])


class Reladiff:
    """The command `reladiff`, which compares two tables row by row: here by id and content, the columns both have."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._venv: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> "Reladiff":
        """`install` as the command makes a virtual environment of its own, which is gone in the end."""
        if self._command == "install":
            self._venv = tempfile.TemporaryDirectory(prefix="cutover-reladiff-")
            await _run(sys.executable, "-m", "venv", self._venv.name)
            programs = Path(self._venv.name) / "bin"
            await _run(str(programs / "pip"), "install", "--quiet", "reladiff[postgresql]", "psycopg2-binary")
            self._command = str(programs / "reladiff")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._venv is not None:
            self._venv.cleanup()

    async def seconds(self, database_url: str, algorithm: str, rows: int) -> float:
        """Compare the two stores; `algorithm` is `joindiff` (one statement with an outer join, what it chooses within
        one database) or `hashdiff` (checksums of ranges, what it does between two)."""
        parts = urlsplit(database_url)
        started = time.monotonic()
        said = await _run(
            self._command, database_url, "public.agent_memories", database_url, "memory_plugin.memory_records",
            "--key-columns", "id", "--columns", "content", "--algorithm", algorithm, "--stats", "--json",
            PGHOST=parse_qs(parts.query)["host"][0],  # it does not read the socket's directory off the URL
        )  # fmt: skip
        took = time.monotonic() - started
        # It exits with 0 when it could not even connect.
        result = said[said.find('{"rows_A"') :]
        if not result.startswith("{") or json.loads(result)["rows_A"] != rows:
            raise RuntimeError(f"reladiff did not compare {rows} rows: {said[-800:]}")
        return took


async def _run(*command: str, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **environment},
    )
    out, _ = await process.communicate()
    words = out.decode(errors="replace")
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {words[-800:]}")
    return words
