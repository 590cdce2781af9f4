"""The backfill row: `--via contract` against the platform's one-row-at-a-time loop and against P; and its memory."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

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


async def copy(stack: Stack, rows: int, timeout: float) -> Copied:
    """Run the daemon's backfill to its end, marks drained included."""
    async with PeakMemory(stack.daemon.child) as memory, Witness(stack.database_url) as witness:

        async def copied() -> bool:
            return await witness.awaiting_copy() == 0

        started = asyncio.get_running_loop().time()
        await stack.control.start_backfill(via="contract")
        await stack.control.backfilled(timeout=timeout)
        await until(copied, "the copy's last marks", timeout=timeout)
        took = asyncio.get_running_loop().time() - started
    return Copied(rows, took, memory.peak - memory.before)


async def backfill_rows(
    stack: Stack, seats: list[Seat], rows: int, seconds: float, say: Callable[[str], None]
) -> list[Row]:
    """The tenant must be in A2 with `rows` memories that the plugin does not have yet."""
    sequential = [await sequential_rate(stack.plugin_url, seats, seconds)]
    alone = [await plugin_rate(stack.plugin_url, seats, seconds)]
    daemon, plugin, server = stack.daemon.child.pid, stack.plugin.pid, stack.postgres.pid
    assert daemon is not None
    assert plugin is not None
    assert server is not None
    meter = Meter({"daemon": daemon, "plugin": plugin, "postgres": server})
    meter.start()
    copied = await copy(stack, rows, timeout=60 + rows / 100)
    usage = meter.stop()
    alone.append(await plugin_rate(stack.plugin_url, seats, seconds))
    sequential.append(await sequential_rate(stack.plugin_url, seats, seconds))
    rate = rows / copied.seconds
    p, loop = sum(alone) / 2, sum(sequential) / 2
    say(f"  backfill {rows} rows: {rate:.0f}/s; P {p:.0f}/s; sequential loop {loop:.0f}/s")
    detail = {"rows_per_second": round(rate, 1), "P": round(p, 1), "sequential": round(loop, 1), "rows": rows}
    words = f"{rate:.0f} rows/s; {usage.words()}"
    growth = copied.peak_growth / _MIB
    return [
        Row("backfill --via contract / sequential loop", 4.0, rate / loop, "x", True, words, detail),
        Row("backfill --via contract / P", 0.75, rate / p, "x", True, words, detail),
        Row(f"daemon memory, more during a backfill of {rows} rows", 30, growth, "MiB", False, "", {"rows": rows}),
    ]
