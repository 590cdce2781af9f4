"""Logs: one event name per fact, ids and hashes, never content or secrets (observability §7).

`configure` sets structlog and the standard library up once per process; `LogObserver` turns the engine's events into
lines. A line starts with its event name, then level and time, then what is bound: request, trace, tenant, phase,
epoch. JSON unless the stream is a terminal.

What happens thousands of times a second is written at debug level, and where that level is off its events are not
even looked at. What can come in bursts (refusals, retries) is written once a second with a count.
"""

import contextlib
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from cutover.domain import events
from cutover.domain.errors import CutoverError
from cutover.domain.recall import Direction
from cutover.domain.redaction import redact_with_report

bound = structlog.contextvars.bound_contextvars
"""What a face wraps one request in: `with bound(request=…, trace=…, tenant=…)`."""

REMOVED: Final = "[removed]"
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LONGEST: Final = 500
_FRAMES: Final = 12
_DEPTH: Final = 6

_FORBIDDEN_KEY = re.compile(
    r"(?i)(^|_)(content|authorization|cookie|token|password|passwd|secret|embedding|query|sql|body|propagation|metadata"
    r"|api_?key|private_key)$"
)
_CREDENTIALS = re.compile(r"([a-z][a-z0-9+.\-]{1,20}://)[^\s/@]*@")
_CLEAN = "safe_exception"


def guard(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    """The processor that keeps content and secrets out, whatever somebody passes to a logger."""
    return {str(key): value if key == _CLEAN else _safe(str(key), value, 0) for key, value in event_dict.items()}


def _safe(key: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _FORBIDDEN_KEY.search(key):
        return REMOVED
    if depth > _DEPTH:
        return REMOVED
    if isinstance(value, Mapping):
        return {str(k): _safe(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_safe("", item, depth + 1) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return REMOVED
    return clean(str(value))


def clean(text: str) -> str:
    """A text for a log line: credentials and known secret shapes masked, at most 500 characters.

    A run that merely looks like base64 stays: hashes and socket paths do, and what we log never holds a memory.
    """
    if len(text) > _LONGEST:
        text = text[:_LONGEST] + "…"
    text = _CREDENTIALS.sub(r"\1***@", text)
    report = redact_with_report(text)
    return report.content if set(report.labels) - {"BASE64_BLOB"} else text


def _plain_exception(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    """Exceptions as type, place and frames. No locals; only our own errors' messages: a driver's may quote a row."""
    info = event_dict.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event_dict[_CLEAN] = describe(error)
    return event_dict


def describe(error: BaseException) -> dict[str, Any]:
    """An exception that is safe to show, with its causes."""
    told: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, CutoverError):
        told["message"] = clean(error.message)
        if error.next_step:
            told["next"] = error.next_step
    told["frames"] = _frames(error.__traceback__)
    if isinstance(error, BaseExceptionGroup):
        told["exceptions"] = [describe(inner) for inner in error.exceptions[:8]]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not error:
        told["cause"] = {"type": type(cause).__name__, "frames": _frames(cause.__traceback__)}
    return told


def _frames(trace: TracebackType | None) -> list[str]:
    return [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace, limit=-_FRAMES)
    ]


def _event_first(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    """Event, level, time, then the rest in the order in which it was bound; internals of structlog go."""
    rest = {key: value for key, value in event_dict.items() if not key.startswith("_")}
    if _CLEAN in rest:
        rest["exception"] = rest.pop(_CLEAN)
    ordered: EventDict = {key: rest.pop(key) for key in ("event", "level", "time") if key in rest}
    ordered.update(rest)
    return ordered


def _foreign(_logger: object, _method: str, event_dict: EventDict) -> EventDict:
    """A line of the standard library: its text becomes `message` under the one event name `library.logged`."""
    record = event_dict.get("_record")
    event_dict["message"] = event_dict.pop("event", "")
    event_dict["event"] = "library.logged"
    if isinstance(record, logging.LogRecord):
        event_dict["logger"] = record.name
    return event_dict


class PhaseOfTenant:
    """Adds the tenant's phase and epoch, as last learnt, to every line that names a tenant."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int]] = {}

    def learn(self, event: events.PhaseChanged) -> None:
        """Take note of a phase this daemon learnt."""
        self._known[event.tenant] = (str(event.to_phase), event.epoch)

    def __call__(self, _logger: object, _method: str, event_dict: EventDict) -> EventDict:
        """The structlog processor."""
        known = self._known.get(str(event_dict.get("tenant", "")))
        if known is not None:
            event_dict.setdefault("phase", known[0])
            event_dict.setdefault("epoch", known[1])
        return event_dict


class _SafeStream:
    """A stream whose reader may go away: losing a line must never fail a request."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> PhaseOfTenant:
    """Set logging up for this process; the answer goes to `LogObserver`. `stream` defaults to standard error."""
    target = sys.stderr if stream is None else stream
    terminal = form == "console" or (form == "auto" and target.isatty())
    phases = PhaseOfTenant()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        phases,
        _plain_exception,
        guard,
    ]
    final: list[Processor] = [_event_first, _console(target.isatty()) if terminal else _json]
    out = _SafeStream(target)
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=out),  # type: ignore[arg-type] # only write and flush are used
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared], processors=final, use_get_message=True
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))  # libraries: what they warn of, not what they are doing
    logging.captureWarnings(capture=True)
    return phases


def _json(_logger: object, _method: str, event_dict: MutableMapping[str, Any]) -> str:
    return json.dumps(event_dict, ensure_ascii=False, default=str)


def _console(colours: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False, timestamp_key="time", pad_event_to=24)


class LogObserver:
    """Writes the engine's events. `burst_seconds`: how often a fact that comes in bursts is written at most."""

    def __init__(
        self,
        phases: PhaseOfTenant | None = None,
        *,
        burst_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = structlog.get_logger()
        self._phases = phases or PhaseOfTenant()
        self._burst = burst_seconds
        self._clock = clock
        self._bursts: dict[tuple[object, ...], tuple[float, int]] = {}
        self._plugin_up: dict[str, bool] = {}
        self._foreign_reads: dict[str, int] = {}
        self._freeze_why: dict[str, str] = {}
        self._ready_before: dict[str, bool] = {}
        self._audit_why: dict[str, str] = {}
        self._writers: dict[type[events.Event], Callable[[Any], None]] = {
            events.RequestRefused: self._refused,
            events.DeliverySettled: self._delivery,
            events.BypassWrites: self._bypass,
            events.ForeignAccess: self._foreign,
            events.FrozenWritesRefused: self._frozen,
            events.FreezeLooked: self._freeze,
            events.WritesHeld: self._held,
            events.PluginProbed: self._probed,
            events.BreakerChanged: self._breaker,
            events.PluginRestarted: self._restarted,
            events.PhaseChanged: self._phase,
            events.ShadowReadCompared: self._shadow,
            events.SweepFinished: self._sweep,
            events.FindingsSettled: self._settled,
            events.SweepCanary: self._sweep_canary,
            events.RecallCompared: self._recall,
            events.BackfillAdvanced: self._backfill,
            events.KvSwitched: self._kv,
            events.SoakReset: self._soak_reset,
            events.ThresholdsTold: self._thresholds,
            events.Rehearsed: self._rehearsed,
            events.ReadinessTold: self._ready,
            events.PhaseChanging: self._changing,
            events.AuditLooked: self._audit,
            events.ConfigTold: lambda event: self._log.info("config.told", tenant=event.tenant, hash=event.digest),
            events.TaskFailed: self._task,
            events.RequestFinished: self._request,
        }
        self._debug = bool(self._log.is_enabled_for(logging.DEBUG))
        if self._debug:

            def told(event: events.Event, name: str, **values: object) -> None:
                self._log.debug(name, tenant=event.tenant, **values)

            self._writers |= {
                events.StoreCalled: self._called,
                events.StoreWritten: self._written,
                events.MarkCounts: self._marks,
                events.GateJudged: self._gate,
                events.SoakTold: self._soak,
                events.DropLooked: self._drop,
                events.DivergencesCounted: self._divergences,
                events.RequestsHeld: lambda event: told(event, "requests.held", waiting=event.waiting),
                events.SweepsScheduled: lambda event: told(event, "sweeps.scheduled", every=dict(event.every)),
                events.SweepsRecorded: lambda event: told(event, "sweeps.recorded", kinds=sorted(event.by_kind)),
                events.DatabaseAnswered: lambda event: told(event, "database.answered"),
                events.BackfillRests: lambda event: told(event, "backfill.rests", remaining=event.remaining),
                events.DaemonsCounted: lambda event: told(event, "daemons.counted", daemons=event.daemons),
                events.CertificatesLooked: self._certificates,
            }

    def __call__(self, event: events.Event) -> None:
        """The observer itself; an event without a writer costs one look-up."""
        writer = self._writers.get(type(event))
        if writer is not None:
            writer(event)

    def _due(self, *key: object) -> int:
        """How many times `key` has happened since it was last written, when it is time to write it; else 0."""
        now = self._clock()
        written, count = self._bursts.get(key, (float("-inf"), 0))
        due = now - written >= self._burst
        self._bursts[key] = (now, 0) if due else (written, count + 1)
        return count + 1 if due else 0

    def _request(self, event: events.RequestFinished) -> None:
        if event.outcome == "error":
            write = self._log.error
        elif self._debug:
            write = self._log.debug
        else:
            return
        write(
            "request.finished",
            tenant=event.tenant,
            face=event.face,
            operation=event.operation,
            outcome=event.outcome,
            seconds=round(event.seconds, 6),
            **({"trace": event.trace_id} if event.trace_id else {}),
        )

    def _refused(self, event: events.RequestRefused) -> None:
        if count := self._due("refused", event.tenant, event.reason):
            self._log.warning("request.refused", tenant=event.tenant, reason=event.reason, count=count)

    def _called(self, event: events.StoreCalled) -> None:
        self._log.debug(
            "store.called",
            tenant=event.tenant,
            store=event.store,
            operation=event.operation,
            outcome=event.outcome,
            seconds=round(event.seconds, 6),
        )

    def _written(self, event: events.StoreWritten) -> None:
        self._log.debug(
            "store.written", tenant=event.tenant, store=event.store, outcome=event.outcome, count=event.count
        )

    def _delivery(self, event: events.DeliverySettled) -> None:
        name = f"write.{event.outcome}"
        values = {"tenant": event.tenant, "path": event.path, "memory": str(event.memory_id), "rev": event.rev}
        if event.outcome in ("delivered", "superseded"):
            if self._debug:
                self._log.debug(name, **values)
        elif event.outcome == "quarantined":
            self._log.warning(name, **values)
        elif count := self._due(name, event.tenant):
            self._log.info(name, **values, count=count)

    def _bypass(self, event: events.BypassWrites) -> None:
        if count := self._due("bypass", event.tenant, event.writer):
            self._log.info("bypass.seen", tenant=event.tenant, writer=event.writer, rows=event.count, count=count)

    def _foreign(self, event: events.ForeignAccess) -> None:
        before = self._foreign_reads.get(event.tenant, 0)
        self._foreign_reads[event.tenant] = event.reads
        if event.reads > before:
            self._log.warning(
                "legacy.read_by_others", tenant=event.tenant, scans=event.reads - before, readers=list(event.readers)
            )

    def _frozen(self, event: events.FrozenWritesRefused) -> None:
        if count := self._due("frozen", event.tenant, event.writer):
            self._log.warning(
                "freeze.refused", tenant=event.tenant, writer=event.writer, statements=event.count, count=count
            )

    def _freeze(self, event: events.FreezeLooked) -> None:
        if self._freeze_why.get(event.tenant, "") == event.why:
            return
        self._freeze_why[event.tenant] = event.why
        if event.intact:
            self._log.warning("freeze.whole", tenant=event.tenant)
        else:
            self._log.error("freeze.broken", tenant=event.tenant, why=event.why, next="cutover phase refreeze")

    def _held(self, event: events.WritesHeld) -> None:
        self._log.info(
            "phase.held",
            tenant=event.tenant,
            phase=event.from_phase.value,
            to=event.to_phase.value,
            seconds=round(event.seconds, 4),
            made=event.made,
        )

    def _ready(self, event: events.ReadinessTold) -> None:
        """Looked at all the time; what changes is told."""
        if self._ready_before.get(event.tenant) != event.ready:
            self._ready_before[event.tenant] = event.ready
            write = self._log.info if event.ready else self._log.warning
            write("tenant.ready" if event.ready else "tenant.not_ready", tenant=event.tenant, closed_by=event.why)

    def _changing(self, event: events.PhaseChanging) -> None:
        if event.started_unix:
            self._log.info("phase.changing", tenant=event.tenant)

    def _audit(self, event: events.AuditLooked) -> None:
        if self._audit_why.get(event.tenant, "") != event.why:
            self._audit_why[event.tenant] = event.why
            if event.intact:
                self._log.warning("audit.whole", tenant=event.tenant)
            else:
                self._log.error("audit.broken", tenant=event.tenant, why=event.why, next="cutover audit verify")

    def _certificates(self, event: events.CertificatesLooked) -> None:
        missing = {target.value: missing for target, (_, missing) in event.by_target.items()}
        self._log.debug("certificates.looked_at", tenant=event.tenant, approvals_missing=missing)

    def _marks(self, event: events.MarkCounts) -> None:
        self._log.debug(
            "marks.counted",
            tenant=event.tenant,
            by_origin=event.by_origin,
            oldest_seconds=event.oldest_seconds,
            quarantined=event.quarantined,
            journal_rows=event.journal_rows,
        )

    def _thresholds(self, event: events.ThresholdsTold) -> None:
        if loosened := sorted(name for name, looser in event.loosened.items() if looser):
            self._log.warning("gate.thresholds_loosened", tenant=event.tenant, thresholds=loosened)

    def _gate(self, event: events.GateJudged) -> None:
        closed = sorted(check for check, passes in event.checks.items() if not passes)
        self._log.debug("gate.judged", tenant=event.tenant, target=event.target.value, closed_by=closed)

    def _probed(self, event: events.PluginProbed) -> None:
        """Probes are not logged; what they change is."""
        if self._plugin_up.get(event.tenant) == event.up:
            return
        self._plugin_up[event.tenant] = event.up
        if event.up:
            self._log.info("plugin.up", tenant=event.tenant, seconds=round(event.seconds, 6))
        else:
            self._log.warning("plugin.down", tenant=event.tenant, why=event.why)

    def _breaker(self, event: events.BreakerChanged) -> None:
        write = self._log.warning if event.to_state == "open" else self._log.info
        write(
            "breaker.changed",
            tenant=event.tenant,
            from_state=event.from_state,
            to_state=event.to_state,
            reason=event.reason,
        )

    def _restarted(self, event: events.PluginRestarted) -> None:
        self._log.warning("plugin.restarted", tenant=event.tenant, attempt=event.attempt, why=event.why)

    def _phase(self, event: events.PhaseChanged) -> None:
        self._phases.learn(event)
        name = "phase.confirmed" if event.from_phase is None else "phase.changed"
        self._log.info(
            name,
            tenant=event.tenant,
            phase=str(event.to_phase),
            epoch=event.epoch,
            from_phase=None if event.from_phase is None else str(event.from_phase),
        )

    def _shadow(self, event: events.ShadowReadCompared) -> None:
        if event.outcome == "match":
            if self._debug:
                self._log.debug("shadow.compared", tenant=event.tenant, outcome=event.outcome, overlap=event.overlap)
        elif count := self._due("shadow", event.tenant, event.outcome):
            self._log.info(
                "shadow.compared", tenant=event.tenant, outcome=event.outcome, overlap=event.overlap, count=count
            )

    def _sweep(self, event: events.SweepFinished) -> None:
        write = self._log.info if event.outcome == "clean" else self._log.warning
        write(
            "sweep.finished",
            tenant=event.tenant,
            kind=event.kind,
            outcome=event.outcome,
            seconds=round(event.seconds, 3),
            coverage=event.coverage,
            **({} if event.ledger is None else {"drift": event.ledger.causes()}),
        )

    def _settled(self, event: events.FindingsSettled) -> None:
        self._log.info(
            "findings.settled", tenant=event.tenant, action=event.action, count=event.count, actor=event.actor
        )

    def _divergences(self, event: events.DivergencesCounted) -> None:
        self._log.debug("divergences.counted", tenant=event.tenant, confirmed=event.confirmed)

    def _sweep_canary(self, event: events.SweepCanary) -> None:
        write = self._log.info if event.trusted else self._log.error
        write(
            "sweep.canary",
            tenant=event.tenant,
            kind=event.kind,
            trusted=event.trusted,
            planted=dict(event.planted),
            caught=dict(event.caught),
        )

    def _recall(self, event: events.RecallCompared) -> None:
        leak = event.visibility.get(Direction.MORE, 0) or event.visibility.get(Direction.LESS, 0)
        write = self._log.warning if leak else self._log.info
        write(
            "recall.compared",
            tenant=event.tenant,
            reads=event.reads,
            overlap=event.overlap,
            rank_agreement=event.rank_agreement,
            visibility=event.visibility,
        )

    def _backfill(self, event: events.BackfillAdvanced) -> None:
        # Said many times while it is held back, or the last marks go out: once a second is enough.
        if self._due("backfill", event.tenant, event.throttled, event.remaining <= 0):
            self._log.info(
                "backfill.advanced",
                tenant=event.tenant,
                marked=event.marked,
                copied=event.copied,
                unchanged=event.unchanged,
                already=event.already,
                quarantined=event.quarantined,
                remaining=event.remaining,
                rate=round(event.rate, 1),
                eta_seconds=round(event.eta_seconds, 1),
                throttled=event.throttled,
            )

    def _kv(self, event: events.KvSwitched) -> None:
        # Kept and off is how most tenants are: nothing to tell.
        if event.on or event.did != "kept":
            self._log.info("kv.capture", tenant=event.tenant, switch="on" if event.on else "off", did=event.did)

    def _soak(self, event: events.SoakTold) -> None:
        self._log.debug(
            "soak.told", tenant=event.tenant, green=round(event.green_seconds), required=round(event.required_seconds)
        )

    def _drop(self, event: events.DropLooked) -> None:
        # What blocks it is a failed task, told there.
        self._log.debug("drop.held", tenant=event.tenant, remaining=round(event.remaining), blocked=event.blocked)

    def _soak_reset(self, event: events.SoakReset) -> None:
        self._log.warning("soak.reset", tenant=event.tenant, why=event.why, lost_seconds=round(event.lost_seconds))

    def _rehearsed(self, event: events.Rehearsed) -> None:
        if event.fresh:
            write = self._log.info if event.ok else self._log.error
            write(
                "rollback.rehearsed", tenant=event.tenant, ok=event.ok, seconds=round(event.seconds, 3), why=event.why
            )

    def _task(self, event: events.TaskFailed) -> None:
        if count := self._due("task", event.tenant, event.task, event.error):
            self._log.error(
                "task.failed", tenant=event.tenant, task=event.task, error=event.error, what=event.what, count=count
            )
