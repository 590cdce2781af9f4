"""The hold of the flip (quality §3): how long A2 → A3 keeps writes waiting, on many memories and under traffic."""

import asyncio
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.report import Row
from benchmarks.sweeping import SweepBench
from benchmarks.tenant import Seat
from cutover.embedded import callers
from cutover.embedded.history import History
from cutover.embedded.stack import Stack
from cutover.embedded.traffic import Mix, Traffic

_RATE = 100.0
"""Operations per second on all faces while the phase changes."""
_BETWEEN_SECONDS = 1.5
_WITHOUT_SQL = Mix(sql_insert=0, sql_update=0, sql_delete=0, sql_bulk=0)


async def flip_rows(
    stack: Stack, seats: Sequence[Seat], rows: int, times: int, say: Callable[[str], None]
) -> list[Row]:
    """There and back again `times` times. Everything is copied before; a full sweep gives the last look its start."""
    await SweepBench(stack, rows, 1, None, say).sweep(full=True)
    traffic = Traffic(
        [stack.daemon.at],
        [callers.Seat(seat.workspace_id, seat.token) for seat in seats],
        stack.database_url,
        History(),
        workers=8,
        rate=_RATE,
        mix=_WITHOUT_SQL,
    )
    held: list[float] = []
    async with traffic:
        running = asyncio.create_task(traffic.run())
        for number in range(times):
            await asyncio.sleep(_BETWEEN_SECONDS)
            await stack.control.enter("A3", override="a benchmark", timeout=600)
            held.append(float(stack.control.last_change["held_seconds"]))
            say(f"  flip {number + 1}: held for {1000 * held[-1]:.0f} ms; {stack.control.last_change['notes']}")
            await asyncio.sleep(_BETWEEN_SECONDS)
            await stack.control.enter("A2", timeout=600)
        traffic.stop()
        await running
    refused = traffic.tally.statuses[503]
    ordered = sorted(held)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    words = (
        f"{times} flips under {_RATE:g} operations/s: median {1000 * median(held):.0f} ms, longest"
        f" {1000 * ordered[-1]:.0f} ms; {refused} of {sum(traffic.tally.statuses.values())} answers were 503,"
        f" {len(traffic.tally.faults)} were not documented"
    )
    return [Row(f"hold of the flip on {rows} memories, p99", 0.5, p99, "s", False, words, {"held_seconds": held})]
