"""The backfill rows: `--via contract` against the platform's one-row-at-a-time loop and against P, `--via database`
against the loop and against one bare INSERT … SELECT; and the daemon's memory meanwhile."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import asyncpg

from benchmarks.bare import bare_copy, connected
from benchmarks.cpu import Meter
from benchmarks.load import load, post
from benchmarks.report import Row
from benchmarks.tenant import Seat, content
from cutover.embedded.processes import Child, until
from cutover.embedded.stack import Stack
from cutover.embedded.witness import Witness

_MIB = 1024 * 1024


class PeakMemory:
    """The largest resident set of a child while the body runs, sampled."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._task: asyncio.Task[None] | None = None
        self.before = 0
        self.peak = 0

    async def __aenter__(self) -> "PeakMemory":
        self.before = self.peak = self._child.resident_bytes()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._child.resident_bytes())
            await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Copied:
    """What the daemon's backfill came to."""

    rows: int
    seconds: float
    peak_growth: int


async def sequential_rate(plugin_url: str, seats: list[Seat], seconds: float) -> float:
    """Rows per second of the platform's loop: for each row, upsert its namespace, then commit it; one connection."""
    heads = {}
    for seat in seats:
        name = f"workspace:{seat.workspace_id}"
        put = post(f"/v1/namespaces/{name}", b'{"kind":"workspace"}').replace(b"POST", b"PUT", 1)
        heads[seat.workspace_id] = (put, f"/v1/namespaces/{name}/memories")

    def make(number: int) -> bytes:
        put, path = heads[seats[(number // 2) % len(seats)].workspace_id]
        if number % 2:
            return put
        body = {"id": str(uuid4()), "content": content(number), "kind": "fact", "source": "agent"}
        return post(path, json.dumps(body).encode())

    measured = await load(plugin_url, make, connections=1, seconds=seconds)
    return measured.rate / 2


async def plugin_rate(plugin_url: str, seats: list[Seat], seconds: float) -> float:
    """P at 8 connections."""

    def make(number: int) -> bytes:
        path = f"/v1/namespaces/workspace:{seats[number % len(seats)].workspace_id}/memories"
        body = {"id": str(uuid4()), "content": content(number), "kind": "fact", "source": "agent"}
        return post(path, json.dumps(body).encode())

    return (await load(plugin_url, make, connections=8, seconds=seconds)).rate


async def copy(stack: Stack, rows: int, via: str, timeout: float) -> Copied:
    """Run the daemon's backfill to its end, marks drained included."""
    async with PeakMemory(stack.daemon.child) as memory, Witness(stack.database_url) as witness:

        async def copied() -> bool:
            return await witness.awaiting_copy() == 0

        started = asyncio.get_running_loop().time()
        await stack.control.start_backfill(via=via)
        await stack.control.backfilled(timeout=timeout)
        await until(copied, "the copy's last marks", timeout=timeout)
        took = asyncio.get_running_loop().time() - started
    return Copied(rows, took, memory.peak - memory.before)


def _meter(stack: Stack) -> Meter:
    daemon, plugin, server = stack.daemon.child.pid, stack.plugin.pid, stack.postgres.pid
    assert daemon is not None
    assert plugin is not None
    assert server is not None
    return Meter({"daemon": daemon, "plugin": plugin, "postgres": server})


async def contract_rows(
    stack: Stack, seats: list[Seat], rows: int, seconds: float, say: Callable[[str], None]
) -> list[Row]:
    """The tenant must be in A2 with `rows` memories that the plugin does not have yet."""
    sequential = [await sequential_rate(stack.plugin_url, seats, seconds)]
    alone = [await plugin_rate(stack.plugin_url, seats, seconds)]
    meter = _meter(stack)
    meter.start()
    copied = await copy(stack, rows, "contract", timeout=60 + rows / 100)
    usage = meter.stop()
    alone.append(await plugin_rate(stack.plugin_url, seats, seconds))
    sequential.append(await sequential_rate(stack.plugin_url, seats, seconds))
    rate = rows / copied.seconds
    p, loop = sum(alone) / 2, sum(sequential) / 2
    say(f"  backfill {rows} rows: {rate:.0f}/s; P {p:.0f}/s; sequential loop {loop:.0f}/s")
    detail = {"rows_per_second": round(rate, 1), "P": round(p, 1), "sequential": round(loop, 1), "rows": rows}
    words = f"{rate:.0f} rows/s; {usage.words()}"
    return [
        Row("backfill --via contract / sequential loop", 4.0, rate / loop, "x", True, words, detail),
        Row("backfill --via contract / P", 0.75, rate / p, "x", True, words, detail),
        _memory_row("contract", copied),
    ]


async def database_rows(
    stack: Stack, seats: list[Seat], rows: int, seconds: float, say: Callable[[str], None]
) -> list[Row]:
    """The tenant must be in A2 with `rows` placeable memories and an empty plugin. Afterwards it holds all of them."""
    loop = await sequential_rate(stack.plugin_url, seats, seconds)
    await forget_loop(stack.database_url)
    before = await bare_copy(stack.database_url)
    async with connected(stack.database_url) as connection:
        await connection.execute("CHECKPOINT")
    meter = _meter(stack)
    meter.start()
    copied = await copy_by_database(stack, rows)
    usage = meter.stop()
    rate = rows / copied.seconds
    bare = (before + await bare_copy(stack.database_url)) / 2
    say(f"  bare INSERT … SELECT of {rows} rows: {bare:.1f} s, {rows / bare:.0f}/s; sequential loop {loop:.0f}/s")
    say(f"  backfill --via database: {copied.seconds:.1f} s, {rate:.0f}/s; {usage.words()}")
    detail = {
        "rows": rows,
        "rows_per_second": round(rate, 1),
        "bare_rows_per_second": round(rows / bare, 1),
        "sequential": round(loop, 1),
        "cores": {name: round(share, 2) for name, share in usage.shares.items()},
    }
    words = f"{rate:.0f} rows/s; {usage.words()}"
    return [
        Row("backfill --via database / sequential loop", 30, rate / loop, "x", True, words, detail),
        Row("backfill --via database / bare INSERT … SELECT", 0.6, bare / copied.seconds, "x", True, words, detail),
        _memory_row("database", copied),
    ]


async def copy_by_database(stack: Stack, rows: int) -> Copied:
    """The set-based copy. RuntimeError unless the plugin holds as many memories as legacy afterwards."""
    copied = await copy(stack, rows, "database", timeout=120 + rows / 1_000)
    async with connected(stack.database_url) as connection:
        await _swept(connection, timeout=120 + rows / 1_000)
        held = await connection.fetchval(
            "SELECT count(*) FROM memory_plugin.memory_records r JOIN agent_memories a USING (id) "
            "WHERE r.content = a.content"
        )
        await connection.execute("VACUUM ANALYZE memory_plugin.memory_records")
    if held != rows:
        raise RuntimeError(f"the plugin holds {held} of {rows} memories after the backfill")
    return copied


async def _swept(connection: "asyncpg.Connection[asyncpg.Record]", timeout: float) -> None:
    """The daemon sweeps by itself after every backfill, without haste: nothing else is measured meanwhile."""

    async def ended() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM cutover.task_run WHERE kind = 'sweep.digest'"
                " AND requested_by = 'backfill' AND state = 'finished')"
            )
        )

    await until(ended, "the sweep after the backfill", timeout=timeout, every=0.1)


async def forget_loop(database_url: str) -> None:
    """Take out of the plugin what a load has put there; the daemon's own canary stays."""
    async with connected(database_url) as connection:
        await connection.execute(
            "DELETE FROM memory_plugin.memory_records WHERE namespace LIKE 'workspace:%';"
            "DELETE FROM memory_plugin.memory_namespaces WHERE name LIKE 'workspace:%'"
        )
        await connection.execute("VACUUM ANALYZE memory_plugin.memory_records")


def _memory_row(via: str, copied: Copied) -> Row:
    what = f"daemon memory, more during a backfill --via {via} of {copied.rows} rows"
    return Row(what, 30, copied.peak_growth / _MIB, "MiB", False, "", {"rows": copied.rows})
