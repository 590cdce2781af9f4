"""The soak clock on a real database: what sweeps record moves it, once each, whatever daemons and clocks do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cutover.domain.errors import CutoverError
from cutover.domain.events import Event, SoakReset, SoakTold
from cutover.domain.phase import Phase
from cutover.domain.soak_clock import SoakRules, SoakState
from cutover.embedded.processes import until
from cutover.engine.soak_clock import SoakClock
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.soak import SoakStore
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD

T0 = datetime.now(UTC) - timedelta(seconds=4000)
RULES = SoakRules(120.0, 1200.0, 129_600.0)
REQUIRED = 30 * 86_400.0


class Sweeps:
    """A tenant in A3, and sweeps put into the record as daemons would, at any time of the database's clock."""

    def __init__(self, url: str, database: Database) -> None:
        self.url = url
        self.database = database
        self.events: list[Event] = []
        self.wanted: list[int] = []

    async def phase(self, phase: str, at: float = 0.0) -> None:
        await self.database.execute(
            "UPDATE cutover.phase_state SET phase = $1, epoch = epoch + 1, entered_at = $2",
            phase,
            T0 + timedelta(seconds=at),
        )

    async def ended(self, kind: str, at: float, outcome: str = "clean", **more: Any) -> None:
        when = T0 + timedelta(seconds=at)
        told = {"outcome": outcome, "trusted": outcome != "untrusted", "coverage": 1.0, "seconds": 0.1, **more}
        # `finished_at` in an outcome is the daemon's clock: here it is always a day ahead.
        told["finished_at"] = (when + timedelta(days=1)).isoformat()
        run = await self.database.fetchval(
            "INSERT INTO cutover.task_run (kind, state, started_at) VALUES ($1, 'running', $2) RETURNING id",
            f"sweep.{kind}",
            when,
        )
        await self.database.execute(
            "UPDATE cutover.task_run SET state = 'finished', outcome = $2::jsonb, finished_at = $3 WHERE id = $1",
            run,
            json.dumps(told),
            when,
        )

    async def clean(self, begin: float, end: float) -> None:
        await self.ended("digest", begin, full=True)
        at = begin
        while at <= end:
            await self.ended("count", at)
            if (at - begin) % 600 == 0 and at > begin:
                await self.ended("digest", at, full=False)
            at += 60

    def clock(self, database: Database | None = None) -> SoakClock:
        return SoakClock("t", SoakStore(database or self.database), RULES, REQUIRED, self.events.append, self._want)

    async def _want(self, epoch: int) -> None:
        self.wanted.append(epoch)

    async def green(self) -> float:
        return (await self.clock().take_in()).green_seconds


@asynccontextmanager
async def sweeps(url: str) -> AsyncIterator[Sweeps]:
    database = await Database.connect(url, max_size=4)
    try:
        await migrate.up(database)
        made = Sweeps(url, database)
        await made.phase("A3")
        yield made
    finally:
        await database.close()


async def test_the_clock_survives_50_restarts_and_counts_every_sweep_once(plain_database: str) -> None:
    async with sweeps(plain_database) as s:
        await s.ended("digest", 0, full=True)
        for restart in range(50):
            await s.ended("count", 60.0 * restart)
            if restart % 10 == 0:
                await s.ended("digest", 60.0 * restart, full=False)
            # Each life has its own connections; every other one dies while it moves the clock.
            life = await Database.connect(s.url, max_size=2)
            try:
                if restart % 2:
                    with pytest.raises(CutoverError):
                        await SoakStore(life).take_in(_dies)
                await s.clock(life).take_in()
            finally:
                await life.close()
        await s.ended("count", 3000)
        await s.ended("digest", 3000)
        assert await s.green() == 3000
        assert await s.green() == 3000
        assert await s.database.fetchval("SELECT count(*) FROM cutover.soak_feed") == 0


def _dies(state: SoakState, seen: object) -> SoakState:
    raise CutoverError("killed here")


async def test_several_daemons_count_once(plain_database: str) -> None:
    async with sweeps(plain_database) as s:
        await s.clean(0, 3600)
        clocks = [s.clock() for _ in range(6)]
        await asyncio.gather(*(clock.take_in() for clock in clocks))
        assert await s.green() == 3600
        assert await s.database.fetchval("SELECT count(*) FROM cutover.soak_event") == 1


@pytest.mark.parametrize(
    ("kind", "outcome", "more", "why"),
    [
        ("count", "drift", {"unexplained": 3}, "3 rows of unexplained drift"),
        ("digest", "divergent", {"confirmed": {"content": 2}}, "confirmed differences: 2 content"),
        ("digest", "untrusted", {}, "it missed faults that were planted for it"),
    ],
    ids=["drift", "divergent", "untrusted"],
)
async def test_red_resets_the_clock_and_records_why(
    plain_database: str, kind: str, outcome: str, more: dict[str, Any], why: str
) -> None:
    async with sweeps(plain_database) as s:
        await s.clean(0, 3600)
        assert await s.green() == 3600
        await s.ended(kind, 3660, outcome, **more)
        told = await s.clock().take_in()
        assert told.green_seconds == 0
        assert told.last_reset_why.endswith(why)
        assert [event.lost_seconds for event in s.events if isinstance(event, SoakReset)] == [3600]
        (reset,) = await SoakStore(s.database).resets(10)
        assert (reset["lost_seconds"], reset["why"]) == (3600, told.last_reset_why)
        await s.clean(4200, 4800)
        assert await s.green() == 600
        for statement in ("DELETE FROM cutover.soak_event", "TRUNCATE cutover.soak_event"):
            with pytest.raises(CutoverError):
                await s.database.execute(statement)


@pytest.mark.parametrize("outcome", ["partial", "failed", None], ids=["partial", "failed", "missing"])
async def test_a_missing_or_partial_sweep_pauses_the_clock(plain_database: str, outcome: str | None) -> None:
    async with sweeps(plain_database) as s:
        await s.clean(0, 3600)
        for at in range(3660, 4200, 60):
            if outcome is not None:
                await s.ended("count", at, outcome)
        told = await s.clock().take_in()
        assert told.green_seconds == 3600
        assert not told.running
        assert "count sweep" in told.waits_for
        await s.clean(4200, 4800)
        assert await s.green() == 4200
        assert await SoakStore(s.database).resets(10) == []


@pytest.mark.parametrize("days", [1, -1], ids=["a-day-on", "a-day-back"])
async def test_a_clock_skew_of_a_day_does_nothing(plain_database: str, days: int) -> None:
    """Of the database's clock here; the daemon's is a day ahead in every outcome of these tests."""
    async with sweeps(plain_database) as s:
        await s.clean(0, 3600)
        assert await s.green() == 3600
        jump = days * 86_400.0
        await s.database.execute("UPDATE cutover.phase_state SET entered_at = entered_at - interval '2 days'")
        await s.ended("count", 3660 + jump)
        await s.ended("digest", 3660 + jump, full=False)
        assert await s.green() == 3600
        await s.clean(3720 + jump, 4320 + jump)
        assert 3600 < await s.green() <= 3600 + 600 + 60
        assert await SoakStore(s.database).resets(10) == []


async def test_a3_entered_by_a_clock_that_was_a_day_ahead_counts_from_its_first_sweep_on(plain_database: str) -> None:
    async with sweeps(plain_database) as s:
        await s.phase("A2")
        await s.phase("A3", at=86_400.0)  # and corrected right after
        await s.clean(0, 3600)
        assert await s.green() == 3600


async def test_leaving_a3_clears_the_clock_and_a_sweep_counts_for_its_own_stay(plain_database: str) -> None:
    async with sweeps(plain_database) as s:
        await s.clean(0, 3600)
        assert await s.green() == 3600
        await s.ended("count", 3660)
        await s.phase("A2", 3670)
        told = await s.clock().take_in()
        assert (told.green_seconds, told.running) == (0.0, False)
        await s.ended("count", 3700)
        await s.phase("A3", 3720)
        await s.ended("count", 3710)  # begun before the stay
        told = await s.clock().take_in()
        assert told.green_seconds == 0
        assert "full digest sweep" in told.waits_for
        assert s.wanted == [4]  # there was one in epoch 2
        began = "SELECT green_seconds FROM cutover.soak_event WHERE event = 'began' ORDER BY seq"
        assert [row[0] for row in await s.database.fetch(began)] == [0, 3600]


async def test_the_clock_runs_on_the_sweeps_of_a_real_tenant_and_shows_itself(database: str) -> None:
    async with scene(database, phase=Phase.A3, sweep_interval=2.0, digest_interval=4.0) as s:
        await s.create(CHILD, "one")

        async def running() -> bool:
            told = (await s.tenant.status())["soak"]
            return bool(told["running"] and told["green_seconds"] > 1)

        await until(running, "green time", timeout=60, every=0.2)
        told = (await s.tenant.status())["soak"]
        assert told["required_seconds"] == REQUIRED
        assert told["earliest"] > datetime.now(UTC).isoformat(timespec="seconds")
        evidence = (await s.tenant._readiness.gather()).soak
        assert evidence is not None
        assert evidence.green_seconds > 0
        assert any(isinstance(each, SoakTold) and each.green_seconds > 0 for each in s.daemons[-1].events)
        # A bypass writer of the plugin: red.
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE content = 'one'")

        async def reset() -> bool:
            return bool(await s.database.fetchval("SELECT resets FROM cutover.soak"))

        await until(reset, "a reset", timeout=60, every=0.2)
