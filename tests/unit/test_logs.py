"""Logs: one event name per fact, JSON off a terminal, and nothing secret in any line (observability §7)."""

import io
import json
import logging
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cutover import logs
from cutover.domain import events
from cutover.domain.drift import DriftLedger
from cutover.domain.errors import DatabaseFault
from cutover.domain.phase import Phase
from cutover.domain.thresholds import THRESHOLDS

SECRETS = ("hunter2hunter2hunter2", "ghp_abcdefghijklmnopqrst", "the memory's own words")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_off_a_terminal_with_the_event_name_first() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with logs.bound(request="r-1", trace="t-1", tenant="acme"):
        structlog.get_logger().info("write.delivered", memory="m", count=2)
    (line,) = lines(stream)
    assert list(line)[:3] == ["event", "level", "time"]
    assert line["event"] == "write.delivered"
    assert (line["request"], line["trace"], line["tenant"], line["count"]) == ("r-1", "t-1", "acme", 2)
    assert line["time"].endswith("Z")


def test_words_on_a_terminal() -> None:
    stream = Terminal()
    logs.configure(stream=stream)
    structlog.get_logger().info("phase.changed", tenant="acme")
    assert "phase.changed" in stream.getvalue()
    assert not stream.getvalue().lstrip().startswith("{")


@pytest.mark.parametrize(
    "values",
    [
        {"content": SECRETS[2]},
        {"raw_content": SECRETS[2]},
        {"Authorization": f"Bearer {SECRETS[0]}"},
        {"admin_token": SECRETS[0]},
        {"password": SECRETS[0]},
        {"body": {"text": SECRETS[2]}},
        {"request": {"headers": {"authorization": SECRETS[0]}}},
        {"items": [{"content": SECRETS[2]}]},
        {"why": f"cannot reach postgres://user:{SECRETS[0]}@db/x"},
        {"why": f"cannot reach http://user:{SECRETS[0]}@plugin:9100"},
        {"url": f"redis://:{SECRETS[0]}@cache/0"},
        {"why": f"sent Bearer {SECRETS[0]} and got 401"},
        {"why": f"key {SECRETS[1]}"},
        {"blob": SECRETS[2].encode()},
    ],
)
def test_no_content_and_no_secret_reaches_a_line(values: dict[str, Any]) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger().info("something.happened", **values)
    for secret in SECRETS:
        assert secret not in stream.getvalue()
    assert lines(stream)[0]["event"] == "something.happened"


def test_ids_hashes_paths_and_numbers_stay_readable() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    memory, digest, path = (
        uuid.uuid4(),
        "9f86d081884c7d659a2feaa0c55ad015" * 2,
        "/run/cutover/some/long/path/to/ops.sock",
    )
    structlog.get_logger().info("x", memory=memory, content_sha256=digest, path=path, marks=3, ok=True, none=None)
    (line,) = lines(stream)
    assert (line["memory"], line["content_sha256"], line["path"]) == (str(memory), digest, path)
    assert (line["marks"], line["ok"], line["none"]) == (3, True, None)


def test_an_exception_shows_its_place_but_neither_locals_nor_a_drivers_words() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    token = SECRETS[0]
    try:
        raise ValueError(f"Failing row contains ({SECRETS[2]}, {token})")
    except ValueError:
        structlog.get_logger().exception("task.ended")
    try:
        raise DatabaseFault("PostgreSQL refused a statement (23505)")
    except DatabaseFault as error:
        structlog.get_logger().error("task.ended", exc_info=error)
    first, second = lines(stream)
    assert first["exception"]["type"] == "ValueError"
    assert first["exception"]["frames"][0].startswith("test_logs.py:")
    assert second["exception"]["message"] == "PostgreSQL refused a statement (23505)"
    for secret in SECRETS:
        assert secret not in stream.getvalue()


def test_the_standard_library_and_warnings_go_through_the_same_lines() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    logging.getLogger("aiohttp.access").info("GET /livez")
    logging.getLogger("asyncio").warning("took %s with %s", "long", f"Bearer {SECRETS[0]}")
    try:
        raise RuntimeError(SECRETS[2])
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", UserWarning, stacklevel=1)
    told = lines(stream)
    assert [line["event"] for line in told] == ["library.logged"] * 3
    assert [line["logger"] for line in told] == ["asyncio", "aiohttp.server", "py.warnings"]
    assert told[0]["message"].startswith("took long with")
    assert told[1]["exception"]["type"] == "RuntimeError"
    for secret in SECRETS:
        assert secret not in stream.getvalue()


def test_a_stream_that_went_away_fails_nobody() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    stream.close()
    structlog.get_logger().error("x")
    logging.getLogger("asyncio").error("y")


def test_every_event_has_one_name_and_hot_ones_only_at_debug() -> None:
    everything = list(sample_events())
    assert {type(event) for event in everything} == every_event_type()
    loud, quiet = io.StringIO(), io.StringIO()
    for stream, level in ((loud, "debug"), (quiet, "info")):
        observer = logs.LogObserver(logs.configure(level=level, stream=stream))  # type: ignore[arg-type]
        for event in everything:
            observer(event)
    assert [line["event"] for line in lines(loud)] == [
        "request.finished",
        "request.refused",
        "store.called",
        "store.written",
        "write.delivered",
        "bypass.seen",
        "legacy.read_by_others",
        "freeze.refused",
        "freeze.broken",
        "phase.held",
        "requests.held",
        "tenant.not_ready",
        "phase.changing",
        "certificates.looked_at",
        "audit.broken",
        "config.told",
        "sweeps.scheduled",
        "sweeps.recorded",
        "database.answered",
        "daemons.counted",
        "marks.counted",
        "plugin.down",
        "breaker.changed",
        "plugin.restarted",
        "phase.changed",
        "shadow.compared",
        "sweep.finished",
        "divergences.counted",
        "findings.settled",
        "sweep.canary",
        "recall.compared",
        "backfill.advanced",
        "gate.judged",
        "gate.thresholds_loosened",
        "backfill.rests",
        "kv.capture",
        "soak.told",
        "drop.held",
        "soak.reset",
        "rollback.rehearsed",
        "task.failed",
    ]
    hot = {"request.finished", "store.called", "store.written", "write.delivered", "marks.counted", "shadow.compared"}
    hot |= {"gate.judged", "divergences.counted", "soak.told", "drop.held"}
    hot |= {"requests.held", "certificates.looked_at", "sweeps.scheduled", "daemons.counted", "sweeps.recorded"}
    hot |= {"database.answered", "backfill.rests"}
    assert {line["event"] for line in lines(loud)} - {line["event"] for line in lines(quiet)} == hot


def every_event_type() -> set[type]:
    kinds = {value for value in vars(events).values() if isinstance(value, type) and issubclass(value, events.Event)}
    return kinds - {events.Event}


def sample_events() -> Iterator[events.Event]:
    t = "acme"
    yield events.RequestFinished(t, "memories", "create", "ok", 0.01, "trace")
    yield events.RequestRefused(t, "breaker_open")
    yield events.StoreCalled(t, "plugin", "commit", "ok", 0.01)
    yield events.StoreWritten(t, "plugin", "ok", 3)
    yield events.DeliverySettled(t, "request", "delivered", uuid.uuid4(), 1)
    yield events.BypassWrites(t, "psql", 2)
    yield events.ForeignAccess(t, 4, 3, ("psql/me",))
    yield events.FrozenWritesRefused(t, "psql", 3)
    yield events.FreezeLooked(t, wanted=True, intact=False, why="trigger cutover_freeze is gone")
    yield events.WritesHeld(t, Phase.A2, Phase.A3, 0.2, made=True)
    yield events.RequestsHeld(t, 3)
    yield events.ReadinessTold(t, ready=False, why=("plugin",))
    yield events.PhaseChanging(t, 77.0)
    yield events.CertificatesLooked(t, {Phase.A3: (77.0, 1)})
    yield events.AuditLooked(t, intact=False, why="the event before event 3 is gone")
    yield events.ConfigTold(t, "0123456789ab")
    yield events.SweepsScheduled(t, {"count": 30.0})
    yield events.SweepsRecorded(t, {"digest": events.RecordedSweep(66.0, 0.5)}, None)
    yield events.DatabaseAnswered(t)
    yield events.DaemonsCounted(t, 2)
    yield events.MarkCounts(t, {"live": 2}, 1.0, 0, 0, 0)
    yield events.PluginProbed(t, up=False, seconds=0.1, why="connection refused")
    yield events.BreakerChanged(t, "closed", "open", "5 failures")
    yield events.PluginRestarted(t, 1, "exit code 1")
    yield events.PhaseChanged(t, Phase.A1, Phase.A2, 3, 0.0)
    yield events.ShadowReadCompared(t, "match", 1.0)
    yield events.SweepFinished(t, "count", "clean", 0.1, 1.0, DriftLedger(5, 5, 0, 0, 0, 0))
    yield events.DivergencesCounted(t, {"content": 7}, 12.0)
    yield events.FindingsSettled(t, "repair", 7, "alice")
    yield events.SweepCanary(t, "digest", {"missing": 2}, {"missing": 1}, False)
    yield events.RecallCompared(t, 1.0, None, 12, {"plugin_shows_more": 1})
    yield events.BackfillAdvanced(t, 500, 20, 3, 0, 1, 4500, 1000.0, 4.5, "", True)
    yield events.GateJudged(t, Phase.A0, {"database": True, "schema": False})
    yield events.ThresholdsTold(t, dict.fromkeys(THRESHOLDS, True))
    yield events.BackfillRests(t, 4500)
    yield events.KvSwitched(t, on=True, did="installed")
    yield events.SoakTold(t, 60.0, 3600.0)
    yield events.DropLooked(t, 60.0, blocked=False)
    yield events.SoakReset(t, "a sweep was divergent", 60.0)
    yield events.Rehearsed(t, True, 1.5, 77.0, "", True)
    yield events.TaskFailed(t, "reconciler", "PluginTimeout", "no answer in time")


def test_bursts_are_counted_and_probes_only_told_when_they_change() -> None:
    stream = io.StringIO()
    now = 0.0
    observer = logs.LogObserver(logs.configure(stream=stream), clock=lambda: now)
    for _ in range(100):
        observer(events.RequestRefused("acme", "backlog"))
        observer(events.PluginProbed("acme", up=True, seconds=0.01))
        observer(events.DeliverySettled("acme", "reconciler", "retry", uuid.uuid4(), 1))
    now = 2.0
    observer(events.RequestRefused("acme", "backlog"))
    told = lines(stream)
    assert [line["event"] for line in told] == ["request.refused", "plugin.up", "write.retry", "request.refused"]
    assert [line["count"] for line in told if line["event"] == "request.refused"] == [1, 100]


def test_a_line_of_a_tenant_carries_its_phase_and_epoch() -> None:
    stream = io.StringIO()
    observer = logs.LogObserver(logs.configure(stream=stream))
    observer(events.PhaseChanged("acme", None, Phase.A1, 2, 0.0))
    structlog.get_logger().info("anything", tenant="acme")
    structlog.get_logger().info("anything", tenant="globex")
    first, second, third = lines(stream)
    assert (first["event"], second["phase"], second["epoch"]) == ("phase.confirmed", "A1", 2)
    assert "phase" not in third
