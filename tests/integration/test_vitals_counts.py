"""What the gauges of rows and marks may say: nothing where nothing was counted, no age where nobody is to deliver."""

from uuid import UUID

import pytest

from cutover.domain.events import MarkCounts, SweepFinished, SweepsRecorded, SweepsScheduled
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import answer, on
from cutover.metrics import Metrics, MetricsObserver
from tests.integration.protocol_scene import Scene, eventually, scene
from tests.integration.read_scene import CHILD

COMMITS = on("POST", r"/memories$")
HOURS = 3600.0
BACK = "UPDATE cutover.mark SET marked_at = now() - interval '5 hours'"
ROWS = [(UUID(int=number << 64), CHILD, f"{number}", "LOCAL") for number in range(1, 41)]


def served(s: Scene, daemon: int = -1) -> Metrics:
    """The series that a daemon has made of what happened so far."""
    metrics = Metrics("0.0.1")
    observe = MetricsObserver(metrics, ["default"])
    for event in list(s.daemons[daemon].events):
        observe(event)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"cutover_{name}", {"tenant": "default", **labels})


async def looked_at_the_record(s: Scene, daemon: int = -1) -> None:
    """It has seen what is on record now."""
    vitals = s.daemons[daemon].tenant._vitals
    await vitals._sweeps()


async def test_a_plugin_that_cannot_be_counted_has_no_drift_and_no_sweep_that_is_due(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS, plugin_database_url="none") as s:
        assert (await s.sweep())["outcome"] == "partial"
        await looked_at_the_record(s)
        metrics = served(s)
        assert (value(metrics, "sweeps_total", kind="count", outcome="partial") or 0) >= 1
        assert value(metrics, "drift_rows", cause="unexplained") is None
        assert value(metrics, "rows", store="legacy", kind="workspace") is None
        assert value(metrics, "sweep_last_success_timestamp_seconds", kind="count") == 0
        assert value(metrics, "sweep_coverage_ratio", kind="count") == 0
        assert value(metrics, "sweep_interval_seconds", kind="count") == 0, "no alert waits for what cannot be"
        assert (value(metrics, "sweep_interval_seconds", kind="digest") or 0) > 0


async def test_numbers_of_a_plugin_that_could_be_counted_once_are_not_told_any_more(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS) as s:
        await s.sweep()
        assert value(served(s), "rows", store="legacy", kind="workspace") == len(ROWS)
        await s.daemon(plugin_database_url="none")
        await s.sweep()
        await looked_at_the_record(s, 0)
        for daemon in (0, 1):
            assert value(served(s, daemon), "rows", store="legacy", kind="workspace") is None
            assert value(served(s, daemon), "drift_rows", cause="unexplained") is None


async def test_a_count_that_another_daemon_made_is_told_and_counts_as_no_sweep_here(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS, sweep_interval=50.0) as s:
        await s.backfill()
        await s.quiet()
        await s.database.execute("DELETE FROM memory_plugin.memory_records WHERE id = $1", ROWS[0][0])
        await s.daemon()
        first, second = s.daemons
        for daemon in s.daemons:
            daemon.events.clear()
        found = await first.tenant._sweeper.run("schedule")
        taken_over = await second.tenant._sweeper.run("schedule")
        assert (found.unexplained, taken_over.unexplained) == (1, 1)
        assert taken_over.finished_at == found.finished_at, "the other one's"
        await looked_at_the_record(s)
        assert [event for event in second.events if isinstance(event, SweepFinished)] == []
        metrics = served(s)
        assert value(metrics, "drift_rows", cause="unexplained") == 1
        assert value(metrics, "rows", store="legacy", kind="workspace") == len(ROWS)
        ended = value(metrics, "sweep_last_success_timestamp_seconds", kind="count")
        assert ended == pytest.approx(found.finished_at.timestamp(), abs=5), "by the database's clock"
        assert value(metrics, "sweeps_total", kind="count", outcome="drift") == 0
        assert value(metrics, "sweep_duration_seconds_count", kind="count") == 0


async def test_a_daemon_that_has_just_started_tells_of_the_last_count(database: str) -> None:
    async with scene(database, phase=Phase.A2, rows=ROWS) as s:
        await s.sweep()
        await s.daemon()
        await eventually(
            lambda: any(isinstance(event, SweepsRecorded) and event.ledger for event in s.daemons[-1].events),
            timeout=30,
        )
        assert value(served(s), "rows", store="legacy", kind="workspace") == len(ROWS)
        (scheduled, *_) = [event for event in s.daemons[-1].events if isinstance(event, SweepsScheduled)]
        assert scheduled.every["count"] == 3600.0


def newest(s: Scene) -> MarkCounts | None:
    return next((event for event in reversed(s.daemons[-1].events) if isinstance(event, MarkCounts)), None)


async def ages(s: Scene, at_least: float, below: float, **origins: int) -> None:
    """Until the oldest mark that counts is so old, with at least so many marks of an origin."""

    def seen() -> bool:
        told = newest(s)
        return (
            told is not None
            and all(told.by_origin.get(origin, 0) >= number for origin, number in origins.items())
            and told.oldest_seconds is not None
            and at_least <= told.oldest_seconds < below
        )

    await eventually(seen, timeout=30)


async def rests(s: Scene, **origins: int) -> None:
    """Until marks are there, none of which has an age."""

    def seen() -> bool:
        told = newest(s)
        return (
            told is not None
            and all(told.by_origin.get(origin, 0) >= number for origin, number in origins.items())
            and told.oldest_seconds is None
        )

    await eventually(seen, timeout=30)


async def anew(s: Scene) -> None:
    """A daemon that has never seen A0: there it would have learnt that no mark can have waited for longer."""
    before = s.daemons[-1]
    await s.daemon()
    await before.abandon()


async def test_marks_that_a_paused_backfill_holds_do_not_age_and_live_ones_beside_them_do(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=ROWS) as s:
        assert s.proxy is not None
        await s.step(Phase.A2)
        await anew(s)
        s.proxy.rule(COMMITS, answer(500))
        await s.tenant.operations.start_backfill(apply=True, workspace_id=None, limit=None, actor="a")
        await ages(s, 0, HOURS, backfill=len(ROWS))
        await s.database.execute(BACK)
        await ages(s, 4 * HOURS, 6 * HOURS, backfill=len(ROWS))
        await s.tenant.operations.pause_backfill(paused=True, actor="a")
        await rests(s, backfill=len(ROWS))
        live = await s.create(CHILD, "while it is paused")
        await s.database.execute(f"{BACK} WHERE memory_id = $1", live.id)
        await ages(s, 4 * HOURS, 6 * HOURS, write=1)
        await s.database.execute("DELETE FROM cutover.mark WHERE memory_id = $1", live.id)
        await rests(s, backfill=len(ROWS))
        await s.tenant.operations.pause_backfill(paused=False, actor="a")
        await ages(s, 0, HOURS, backfill=len(ROWS))  # the pause is no delay of theirs


async def test_marks_left_by_a_way_back_to_a0_wait_for_nobody_until_a1(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        await anew(s)
        s.proxy.rule(COMMITS, answer(500))
        await s.create(CHILD, "not delivered")
        await s.database.execute(BACK)
        await ages(s, 4 * HOURS, 6 * HOURS, write=1)
        await s.step(Phase.A0)
        await rests(s, write=1)
        await s.step(Phase.A1)
        await ages(s, 0, HOURS, write=1)


async def test_what_is_left_of_a_backfill_is_told_from_the_record_by_who_carries_none_out(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=ROWS) as s:
        await s.step(Phase.A2)
        started = s.tenant.operations.start_backfill(apply=True, actor="ada", rate=1.0)
        assert (await started)["state"] == "running"
        await s.daemon()

        def left(daemon: int) -> float:
            return value(served(s, daemon), "backfill_remaining_rows") or 0

        await eventually(lambda: 0 < left(1) < len(ROWS), timeout=40)  # the other daemon's run, by its cursor
        first = s.daemons[0].tenant.operations
        await first.pause_backfill(paused=True, actor="ada")
        await eventually(lambda: value(served(s, 0), "backfill_throttled", reason="operator") == 1, timeout=40)
        await first.abort_backfill(actor="ada")
        for daemon in (0, 1):
            await eventually(lambda daemon=daemon: left(daemon) == 0, timeout=40)  # type: ignore[misc]
        assert value(served(s, 0), "backfill_throttled", reason="operator") == 0
        assert value(served(s, 0), "backfill_rate_rows_per_second") == 0
        # A run that failed keeps its rows: nobody works on them, and somebody should.
        await s.database.execute("UPDATE cutover.task_run SET state = 'failed' WHERE kind = 'backfill'")
        await eventually(lambda: left(1) > 0, timeout=40)
