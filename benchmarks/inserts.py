"""L: plain inserts alone, by the bundled pgbench, one committed row per transaction as v1's own code does it."""

import asyncio
import tempfile
from pathlib import Path

from benchmarks.load import Measured, percentile
from benchmarks.tenant import Seat, content, socket_directory
from cutover.embedded.postgres import EmbeddedPostgres

LEGACY = """\\set n random(0, {last})
INSERT INTO agent_memories (workspace_id, content, scope, namespace)
VALUES ((ARRAY[{workspaces}]::uuid[])[1 + :n % {count}], '{content} ' || :n, 'LOCAL', 'general')
RETURNING id;
"""

JOURNAL = """\\set n random(0, {last})
INSERT INTO bench_journal (seq, memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, content,
                           kind, source)
VALUES (DEFAULT, gen_random_uuid(), :n, 1, 'upsert', 'intent', false,
        'workspace:' || (ARRAY[{workspaces}]::uuid[])[1 + :n % {count}],
        (ARRAY[{workspaces}]::uuid[])[1 + :n % {count}], 'LOCAL', '{content} ' || :n, 'fact', 'agent')
RETURNING seq;
"""


async def inserts(
    postgres: EmbeddedPostgres, database: str, script: str, seats: list[Seat], *, connections: int, seconds: float
) -> Measured:
    """Run `script` from `connections` clients; latencies are pgbench's own per-transaction log."""
    named = ",".join(f"'{seat.workspace_id}'" for seat in seats)
    text = script.format(last=999_999, workspaces=named, count=len(seats), content=content(7))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        (path / "insert.sql").write_text(text)
        command = [
            str(postgres.programs / "pgbench"), "--no-vacuum", "--protocol=prepared", "--log", "--log-prefix=each",
            f"--client={connections}", "--jobs=1", f"--time={max(1, round(seconds))}", "--file=insert.sql",
            f"--host={socket_directory(postgres)}", "--username=postgres", database,
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command, cwd=path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"pgbench failed: {out.decode()[-800:]}")
        latencies = await asyncio.to_thread(_latencies, path)
    took = float(max(1, round(seconds)))
    return Measured(
        rate=len(latencies) / took,
        p50=percentile(latencies, 0.5),
        p99=percentile(latencies, 0.99),
        statuses={201: len(latencies)},
        seconds=took,
    )


def _latencies(directory: Path) -> list[float]:
    """Seconds per transaction, from pgbench's logs (the third column, in microseconds)."""
    lines = (line for log in directory.glob("each.*") for line in log.read_text().splitlines())
    return [int(line.split(" ", 3)[2]) / 1e6 for line in lines]
