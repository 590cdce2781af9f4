"""The write rows of quality §3: dual write at 1, 8 and 128 connections, and the write of A3 at 8.

P (the plugin alone), L (plain inserts alone) and the daemon's own rate are measured in interleaved rounds, so that
what the machine does meanwhile hits all three, and the medians are compared. The bound of a write that does both is
B = 1/(1/P + 1/L).
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg

from benchmarks.cpu import Meter, Usage
from benchmarks.inserts import JOURNAL, LEGACY, inserts
from benchmarks.load import Measured, load, post
from benchmarks.report import Row
from benchmarks.tenant import Seat, content
from cutover.embedded.stack import Stack

Run = Callable[[int], Awaitable[Measured]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: `seconds` per run, `rounds` of all runs."""

    seconds: float
    rounds: int


@dataclass(slots=True)
class Series:
    """One thing measured in every round."""

    runs: list[Measured] = field(default_factory=list)
    usage: Usage | None = None

    @property
    def rate(self) -> float:
        """Median of the rounds."""
        return median(run.rate for run in self.runs)

    @property
    def p50(self) -> float:
        """Median of the rounds' medians, seconds."""
        return median(run.p50 for run in self.runs)

    @property
    def p99(self) -> float:
        """Median of the rounds' 99th percentiles, seconds."""
        return median(run.p99 for run in self.runs)

    @property
    def refused(self) -> int:
        """Answers that were no success, all rounds together."""
        return sum(run.refused for run in self.runs)

    def summary(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "rate": round(self.rate, 1),
            "p50_ms": round(self.p50 * 1000, 3),
            "p99_ms": round(self.p99 * 1000, 3),
            "refused": self.refused,
            "cores": None if self.usage is None else {name: round(s, 2) for name, s in self.usage.shares.items()},
        }


class WriteBench:
    """The three loads on one stack."""

    def __init__(self, stack: Stack, seats: list[Seat], plan: Plan, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._seats = seats
        self._plan = plan
        self._say = say
        self._database = "bench"
        self._number = 0

    def _meter(self) -> Meter:
        daemon, plugin, server = self._stack.daemon.child.pid, self._stack.plugin.pid, self._stack.postgres.pid
        assert daemon is not None
        assert plugin is not None
        assert server is not None
        return Meter({"daemon": daemon, "plugin": plugin, "postgres": server, "load": 0})

    # -- the loads --------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Namespaces for P; twins of the two tables without the daemon's triggers, for L and for the journal's rate."""
        async with aiohttp.ClientSession() as session:
            for seat in self._seats:
                url = f"{self._stack.plugin_url}/v1/namespaces/workspace:{seat.workspace_id}"
                async with session.put(url, json={"kind": "workspace"}) as response:
                    assert response.status == 200
        connection = await asyncpg.connect(self._stack.database_url)
        try:
            await connection.execute("""
                CREATE TABLE bench_journal (LIKE cutover.journal INCLUDING ALL);
                CREATE TABLE bench_legacy (LIKE agent_memories INCLUDING ALL);
                ALTER TABLE bench_legacy ADD FOREIGN KEY (workspace_id) REFERENCES workspaces (id);
            """)
        finally:
            await connection.close()

    async def plugin_alone(self, connections: int) -> Measured:
        """P."""

        def make(number: int) -> bytes:
            seat = self._seats[number % len(self._seats)]
            body = {"id": str(uuid4()), "content": content(number), "kind": "fact", "source": "agent"}
            return post(f"/v1/namespaces/workspace:{seat.workspace_id}/memories", json.dumps(body).encode())

        return await self._load(self._stack.plugin_url, make, connections)

    async def legacy_alone(self, connections: int) -> Measured:
        """L."""
        script = LEGACY.replace("INTO agent_memories", "INTO bench_legacy")
        return await self._inserts(script, connections)

    async def journal_alone(self, connections: int) -> Measured:
        """The journal's share of an A3 write."""
        return await self._inserts(JOURNAL, connections)

    async def _inserts(self, script: str, connections: int) -> Measured:
        return await inserts(
            self._stack.postgres,
            self._database,
            script,
            self._seats,
            connections=connections,
            seconds=self._plan.seconds,
        )

    async def memories_face(self, connections: int) -> Measured:
        """The daemon's v1 face: authentication, redaction, both stores."""

        def make(number: int) -> bytes:
            seat = self._seats[number % len(self._seats)]
            body = {"content": content(number), "scope": "LOCAL"}
            return post(f"/workspaces/{seat.workspace_id}/memories", json.dumps(body).encode(), token=seat.token)

        return await self._load(self._stack.daemon.at.memories, make, connections)

    async def plugin_face(self, connections: int) -> Measured:
        """The daemon's plugin face, as workspace-server uses it (ids minted by the daemon)."""

        def make(number: int) -> bytes:
            seat = self._seats[number % len(self._seats)]
            body = {"content": content(number), "kind": "fact", "source": "agent"}
            return post(f"/v1/namespaces/workspace:{seat.workspace_id}/memories", json.dumps(body).encode())

        return await self._load(self._stack.daemon.at.plugin, make, connections)

    async def _load(self, url: str, make: Callable[[int], bytes], connections: int) -> Measured:
        measured = await load(url, make, connections=connections, seconds=self._plan.seconds, first_number=self._number)
        self._number += 1_000_000
        return measured

    # -- the rounds -------------------------------------------------------------------------------------------------

    async def rounds(self, runs: dict[str, Run], connections: int) -> dict[str, Series]:
        """Every run once per round, in turn."""
        series = {name: Series() for name in runs}
        for number in range(self._plan.rounds):
            for name, run in runs.items():
                meter = self._meter()
                meter.start()
                measured = await run(connections)
                series[name].usage = meter.stop()
                series[name].runs.append(measured)
                self._say(
                    f"  {connections:>3} connections, round {number + 1}: {name:<9} {measured.rate:7.0f}/s"
                    f"  p50 {measured.p50 * 1000:7.2f} ms  p99 {measured.p99 * 1000:7.2f} ms"
                    + (f"  refused {measured.refused}" if measured.refused else "")
                )
        return series

    async def dual(self) -> list[Row]:
        """The rows of A1/A2."""
        faces: dict[str, Run] = {"memories": self.memories_face}
        at8 = await self.rounds(
            {"P": self.plugin_alone, "L": self.legacy_alone, **faces, "plugin": self.plugin_face}, 8
        )
        at1 = await self.rounds({"P": self.plugin_alone, "L": self.legacy_alone, **faces}, 1)
        at128 = await self.rounds({"at 8": lambda _: self.memories_face(8), "memories": self.memories_face}, 128)
        sums = at1["P"].p50 + at1["L"].p50
        return [
            bound_row("dual write, 8 connections (memories face)", at8, "memories", "L"),
            bound_row("dual write, 8 connections (plugin face)", at8, "plugin", "L"),
            Row(
                "dual write, 1 connection: p50 / (plugin p50 + insert p50)",
                1.8,
                at1["memories"].p50 / sums,
                "x",
                at_least=False,
                limit=_limit(at1["memories"]),
                detail=_summaries(at1),
            ),
            Row(
                "dual write, 128 connections / its rate at 8",
                0.9,
                at128["memories"].rate / at128["at 8"].rate,
                "x",
                at_least=True,
                limit=f"p99 {at128['memories'].p99 * 1000:.0f} ms, {_limit(at128['memories'])}",
                detail=_summaries(at128),
            ),
        ]

    async def cutover(self) -> list[Row]:
        """The row of A3."""
        at8 = await self.rounds({"P": self.plugin_alone, "J": self.journal_alone, "A3": self.memories_face}, 8)
        return [bound_row("A3 write, 8 connections (memories face)", at8, "A3", "J")]


def bound_row(what: str, series: dict[str, Series], name: str, store: str) -> Row:
    """`name`'s rate in units of B."""
    bound = 1 / (1 / series["P"].rate + 1 / series[store].rate)
    return Row(
        f"{what} / B",
        0.65,
        series[name].rate / bound,
        "x",
        at_least=True,
        limit=_limit(series[name]),
        detail={"B": round(bound, 1), **_summaries(series)},
    )


def _limit(series: Series) -> str:
    words = f"{series.rate:.0f}/s, p50 {series.p50 * 1000:.2f} ms"
    return f"{words}; {series.usage.words()}" if series.usage else words


def _summaries(series: dict[str, Series]) -> dict[str, Any]:
    return {name: each.summary() for name, each in series.items()}
