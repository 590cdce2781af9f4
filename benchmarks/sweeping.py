"""The digest sweep rows of quality §3: full and incremental, time, memory, and seven faults among all the rows."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.bare import Reladiff, Scans, bare_scans, connected
from benchmarks.copying import PeakMemory
from benchmarks.cpu import Meter
from benchmarks.planted import confirmed, drained, plant
from benchmarks.report import Row
from cutover.embedded.processes import until
from cutover.embedded.stack import Stack

_MIB = 1024 * 1024
_CHANGED = 100
_ALGORITHMS = ("joindiff", "hashdiff")
_CHANGE = """
UPDATE agent_memories SET content = content || '.', updated_at = now()
WHERE id IN (SELECT bench_memory(n * (SELECT count(*) FROM agent_memories) / $1 + $2) FROM generate_series(0, $1 - 1) n)
"""


@dataclass(frozen=True, slots=True)
class Swept:
    """One finished sweep: what its record says."""

    outcome: dict[str, Any]

    @property
    def seconds(self) -> float:
        """From its beginning to its end, canary faults and second looks included."""
        return float(self.outcome["seconds"])

    @property
    def split(self) -> dict[str, float]:
        """Seconds in the databases, on the way, and in the daemon."""
        return {part: round(float(self.outcome[f"seconds_{part}"]), 2) for part in ("database", "transfer", "own")}


class SweepBench:
    """Both stores hold the same `rows` memories, and nothing is marked."""

    def __init__(self, stack: Stack, rows: int, rounds: int, reladiff: str | None, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._url = stack.database_url
        self._rows = rows
        self._rounds = rounds
        self._reladiff = reladiff
        self._say = say
        self._changes = 0

    async def sweep(self, *, full: bool) -> Swept:
        """Ask for a sweep and wait for its end. RuntimeError unless it trusts itself."""
        run = await self._stack.control.start_digest_sweep(full=full, timeout=600)
        async with connected(self._url) as connection:
            found: list[str | None] = []

            async def finished() -> bool:
                row = await connection.fetchrow("SELECT state, outcome FROM cutover.task_run WHERE id = $1", run)
                if row is not None and row["state"] != "running":
                    found.append(row["outcome"])
                return bool(found)

            await until(finished, "the sweep", timeout=120 + self._rows / 2_000, every=0.02)
        outcome = json.loads(found[0] or "{}")
        if not outcome.get("trusted"):
            raise RuntimeError(f"a sweep that does not trust itself measures nothing: {outcome}")
        return Swept(outcome)

    async def change(self) -> None:
        """Change some memories by SQL, and wait until the daemon has carried them over."""
        self._changes += 1
        async with connected(self._url) as connection:
            await connection.execute(_CHANGE, _CHANGED, self._changes)
            await drained(connection)

    async def rows(self) -> list[Row]:
        """All rows of the section."""
        daemon, server = self._stack.daemon.child.pid, self._stack.postgres.pid
        assert daemon is not None
        assert server is not None
        await self.sweep(full=False)  # what the copy wrote is behind us
        bare: list[Scans] = []
        full: list[Swept] = []
        incremental: list[Swept] = []
        meter = Meter({"daemon": daemon, "postgres": server})
        words = ""
        async with PeakMemory(self._stack.daemon.child) as memory:
            for number in range(self._rounds):
                bare.append(await bare_scans(self._url))
                meter.start()
                full.append(await self.sweep(full=True))
                words = meter.stop().words()
                await self.change()
                incremental.append(await self.sweep(full=False))
                self._say(
                    f"  round {number + 1}: bare scans {bare[-1].serial:.2f} s (parallel {bare[-1].parallel:.2f}), full"
                    f" {full[-1].seconds:.2f} s {full[-1].split}, incremental {incremental[-1].seconds:.2f} s"
                    f" {incremental[-1].split}"
                )
        took = median(each.seconds for each in full)
        rows = self._times(took, bare, full, incremental, words)
        rows += await self._against_reladiff(took)
        rows.append(
            Row(
                f"daemon memory, more during full sweeps of {self._rows} rows a side",
                30,
                (memory.peak - memory.before) / _MIB,
                "MiB",
                False,
            )
        )
        rows.append(await self._seven())
        return rows

    def _times(
        self, took: float, bare: list[Scans], full: list[Swept], incremental: list[Swept], words: str
    ) -> list[Row]:
        serial, parallel = (median(each) for each in zip(*((s.serial, s.parallel) for s in bare), strict=True))
        some = median(each.seconds for each in incremental)
        split = full[len(full) // 2].split
        detail = {
            "rows": self._rows,
            "full": [each.outcome for each in full],
            "bare_serial_seconds": [round(each.serial, 3) for each in bare],
            "bare_parallel_seconds": [round(each.parallel, 3) for each in bare],
            "incremental": [each.outcome for each in incremental],
        }
        parts = ", ".join(f"{part} {seconds} s" for part, seconds in split.items())
        return [
            Row(
                f"full digest sweep of {self._rows} rows a side / the two bare scans",
                1.5,
                took / serial,
                "x",
                False,
                f"{took:.2f} s: {parts}; bare {serial:.2f} s, with parallel workers {parallel:.2f} s; {words}",
                detail,
            ),
            Row(
                f"incremental sweep, {_CHANGED} changed / full",
                0.05,
                some / took,
                "x",
                False,
                f"{some:.2f} s: {incremental[-1].split}",
            ),
        ]

    async def _against_reladiff(self, took: float) -> list[Row]:
        if self._reladiff is None:
            return []
        rows = []
        async with Reladiff(self._reladiff) as reladiff:
            for algorithm in _ALGORITHMS:
                times = [await reladiff.seconds(self._url, algorithm, self._rows) for _ in range(min(2, self._rounds))]
                theirs = median(times)
                self._say(f"  reladiff {algorithm}: {theirs:.2f} s")
                words = f"{took:.2f} s; reladiff {theirs:.2f} s, which compares id and content only"
                rows.append(Row(f"full digest sweep / reladiff ({algorithm})", 1.0, took / theirs, "x", False, words))
        return rows

    async def _seven(self) -> Row:
        """Right findings less wrong ones: seven only when it is exactly these."""
        planted = await plant(self._url)
        swept = await self.sweep(full=True)
        found = await confirmed(self._url)
        wrong = found - planted
        self._say(f"  planted {len(planted)}, found {len(found & planted)}, wrong {len(wrong)}; {swept.outcome}")
        return Row(
            f"seven faults among {self._rows} memories: found and classified, and nothing else",
            len(planted),
            len(found & planted) - len(wrong),
            "",
            True,
            f"{swept.seconds:.1f} s, the second look included",
            {"outcome": swept.outcome, "missed": sorted(map(str, planted - found)), "wrong": sorted(map(str, wrong))},
        )
