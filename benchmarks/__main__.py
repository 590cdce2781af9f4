"""`python -m benchmarks`: measures the rows of quality §3 and prints bar, measured, pass or short, and the limit."""

import argparse
import os
import platform
import sys
from pathlib import Path
from statistics import median

import asyncpg
import uvloop

from benchmarks.copying import contract_rows, copy_by_database, database_rows
from benchmarks.flipping import flip_rows
from benchmarks.population import populate
from benchmarks.report import Row, table, write_json
from benchmarks.sweeping import SweepBench
from benchmarks.tenant import SETTINGS, add_memories, add_workspaces
from benchmarks.writes import Plan, WriteBench
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from cutover.embedded.stack import Stack, prepare_database, running_stack
from cutover.embedded.witness import Witness

_MIB = 1024 * 1024
_SETTINGS = {
    "CUTOVER_LOG_LEVEL": "warning",
    # Nothing of its own accord: whatever runs is being measured.
    "CUTOVER_SWEEP_INTERVAL": "3600",
    "CUTOVER_DIGEST_INTERVAL": "86400",
    "CUTOVER_DIGEST_FULL_INTERVAL": "604800",
    "CUTOVER_RECALL_INTERVAL": "86400",
    "CUTOVER_SHADOW_READ_RATIO": "0",
}
SECTIONS = ("start", "dual", "a3", "contract", "database", "sweep", "flip")


def say(line: str) -> None:
    """Progress, on stderr: stdout is for the table."""
    print(line, file=sys.stderr, flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds: shows that it runs, not how fast it is")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section only (may be repeated)")
    parser.add_argument("--seconds", type=float, default=None, help="seconds per run (default 4, quick 1)")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of all runs (default 5, quick 1)")
    parser.add_argument("--rows", type=int, help="memories of `database` and `sweep` (default 1000000, quick 20000)")
    parser.add_argument("--flips", type=int, help="changes of phase of `flip` (default 12, quick 3)")
    parser.add_argument("--contract-rows", type=int, help="memories of `contract` (default 40000, quick 3000)")
    parser.add_argument(
        "--reladiff", metavar="COMMAND", help="compare with this program; `install`: into a throw-away environment"
    )
    parser.add_argument("--json", type=Path, default=Path("bench-results/latest.json"), help="where the JSON goes")
    parser.add_argument("--profile", type=Path, help="sample the daemon's stacks into this file while it is loaded")
    return parser.parse_args(arguments)


async def start_rows(postgres: EmbeddedPostgres, starts: int) -> list[Row]:
    """Start to ready with the plugin up, in A1, and the memory of a daemon that idles."""
    url = await prepare_database(postgres, "bench_start")
    async with running_stack(postgres, url, settings=_SETTINGS) as stack:
        await stack.control.enter("A1", override="a benchmark")
        idle = stack.daemon.child.resident_bytes()
        took = []
        for _ in range(starts):
            await stack.daemon.child.terminate()
            took.append(await stack.daemon.child.start())
            idle = max(idle, stack.daemon.child.resident_bytes())
    say(f"  start to ready: {', '.join(f'{each:.2f}' for each in took)} s; idle {idle / _MIB:.0f} MiB")
    return [
        Row("start to ready, plugin up", 1.5, median(took), "s", False, "", {"seconds": took}),
        Row("daemon memory, idle", 120, idle / _MIB, "MiB", False),
    ]


async def write_rows(postgres: EmbeddedPostgres, options: argparse.Namespace, wanted: set[str]) -> list[Row]:
    """The dual write in A2 and the write of A3, on one stack."""
    url = await prepare_database(postgres, "bench")
    seats = await add_workspaces(url, 8)
    rows: list[Row] = []
    command = (
        (sys.executable, "-m", "benchmarks.profile", str(options.profile.absolute()), "serve")
        if options.profile
        else ()
    )
    async with running_stack(postgres, url, settings=_SETTINGS, daemon_command=command) as stack:
        bench = WriteBench(stack, seats, Plan(options.seconds, options.rounds), say)
        await bench.prepare()
        for phase in ("A1", "A2"):
            await stack.control.enter(phase, override="a benchmark")
        if "dual" in wanted:
            rows += await bench.dual()
        if "a3" in wanted:
            await stack.control.copy(timeout=120)
            await drained(stack)
            await stack.control.enter("A3", override="a benchmark")
            rows += await bench.cutover()
        if options.profile:
            await stack.daemon.child.terminate()
            say(options.profile.read_text() + await function_times(url))
    return rows


async def function_times(database_url: str) -> str:
    """Where PostgreSQL spent its time inside the daemon's functions (`track_functions`)."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            "SELECT funcname, calls, total_time, self_time FROM pg_stat_user_functions "
            "WHERE schemaname = 'cutover' ORDER BY self_time DESC LIMIT 20"
        )
    finally:
        await connection.close()
    lines = [
        f"{row['funcname']:<28} {row['calls']:>9} {1000 * row['total_time'] / row['calls']:>10.0f} "
        f"{1000 * row['self_time'] / row['calls']:>10.0f} {row['self_time']:>10.0f}"
        for row in rows
    ]
    head = f"{'function':<28} {'calls':>9} {'µs/call':>10} {'own µs':>10} {'own ms':>10}"
    return "\n".join(("", head, *lines))


async def drained(stack: Stack) -> None:
    """No marks are left."""

    async with Witness(stack.database_url) as witness:

        async def condition() -> bool:
            return await witness.unsettled() == 0

        await until(condition, "marks drained", timeout=60, every=0.2)


async def copy_rows(postgres: EmbeddedPostgres, options: argparse.Namespace) -> list[Row]:
    """The backfill through the contract, on a stack of its own."""
    url = await prepare_database(postgres, "bench_contract")
    seats = await add_workspaces(url, 40)
    await add_memories(url, seats, options.contract_rows)
    async with running_stack(postgres, url, settings=_SETTINGS) as stack:
        for phase in ("A1", "A2"):
            await stack.control.enter(phase, override="a benchmark")
        return await contract_rows(stack, seats, options.contract_rows, options.seconds, say)


async def million_rows(postgres: EmbeddedPostgres, options: argparse.Namespace, wanted: set[str]) -> list[Row]:
    """The backfill by the database and the digest sweeps, one after the other on the same memories."""
    url = await prepare_database(postgres, "bench_million")
    population = await populate(url, options.rows, say)
    rows: list[Row] = []
    async with running_stack(postgres, url, settings=_SETTINGS) as stack:
        for phase in ("A1", "A2"):
            await stack.control.enter(phase, override="a benchmark")
        if "database" in wanted:
            rows += await database_rows(stack, population.seats, options.rows, options.seconds, say)
        else:
            await copy_by_database(stack, options.rows)
        if "flip" in wanted:
            rows += await flip_rows(stack, population.seats, options.rows, options.flips, say)
        if "sweep" in wanted:
            rows += await SweepBench(stack, options.rows, min(3, options.rounds), options.reladiff, say).rows()
    return rows


async def run(options: argparse.Namespace) -> list[Row]:
    """All wanted sections, one after the other: they would disturb each other."""
    wanted = set(options.only or SECTIONS)
    rows: list[Row] = []
    tracking = {"track_functions": "all"} if options.profile else {}
    with EmbeddedPostgres.temporary(settings={**SETTINGS, **tracking}) as postgres:
        if "start" in wanted:
            rows += await start_rows(postgres, 1 if options.quick else 5)
        if wanted & {"dual", "a3"}:
            rows += await write_rows(postgres, options, wanted)
        if "contract" in wanted:
            rows += await copy_rows(postgres, options)
        if wanted & {"database", "sweep", "flip"}:
            rows += await million_rows(postgres, options, wanted)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 whatever was measured: bars that are missed are said, not hidden."""
    options = parse(arguments)
    options.seconds = options.seconds or (1.0 if options.quick else 4.0)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.flips = options.flips or (3 if options.quick else 12)
    options.rows = options.rows or (20_000 if options.quick else 1_000_000)
    options.contract_rows = options.contract_rows or (3_000 if options.quick else 40_000)
    load = os.getloadavg()[0]
    rows = uvloop.run(run(options))
    facts = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "quick": options.quick,
        "seconds_per_run": options.seconds,
        "rounds": options.rounds,
        "rows": options.rows,
        "load_before": load,
    }
    write_json(rows, facts, options.json)
    print(table(rows))
    print(f"(JSON: {options.json})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
