"""How many series there are: everything known from the start, nothing that a caller could add, and a stated bound."""

import ast
import re
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import aiohttp
import pytest

from cutover.domain import events
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.engine.tenant import Tenants
from cutover.http.listen import parse_listen
from cutover.http.ops_face import OpsFace
from cutover.metric_labels import (
    BACKFILL_OUTCOMES,
    CAUSES,
    CERTIFIED,
    DELIVERY_OUTCOMES,
    DIVERGENCES,
    FAULTS,
    MARK_ORIGINS,
    OPERATIONS,
    OTHER,
    REQUEST_OUTCOMES,
    SETTLING,
    SHADOW_OUTCOMES,
    STORE_OPERATIONS,
    STORE_OUTCOMES,
    SWEEP_OUTCOMES,
    SWEEPS,
    TASKS,
    THROTTLES,
    VISIBILITY,
)  # fmt: skip
from cutover.metrics import Metrics, MetricsObserver
from cutover.metrics.families import REQUEST_BUCKETS
from cutover.settings import Settings
from tests.unit.test_metrics import CATALOGUE, COUNTED, every_event

ROOT = Path(__file__).parents[2]
WRITERS = ("psql", "workspace-server")
MOST_PER_TENANT = 1700
"""The bound that docs/metrics.md states, with `CUTOVER_KNOWN_WRITERS` as it is by default or short."""
LATER = {
    "cutover_audit_intact", "cutover_config_info", "cutover_drift_rows", "cutover_freeze_intact",
    "cutover_legacy_foreign_reads", "cutover_legacy_foreign_writes", "cutover_recall_overlap_ratio",
    "cutover_recall_rank_agreement", "cutover_rows", "cutover_sweep_canary_caught", "cutover_sweep_trusted",
}  # fmt: skip
"""What appears with its first value only, because 0 would be a lie."""


def started(*tenants: str) -> tuple[Metrics, MetricsObserver]:
    metrics = Metrics("0.0.1")
    return metrics, MetricsObserver(metrics, tenants, known_writers=WRITERS)


def series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every series of ours by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name.startswith("cutover_")
    }


def test_every_family_with_a_tenant_starts_at_zero_but_those_that_would_lie() -> None:
    metrics, _ = started("acme", "globex")
    families = {family.name: family for family in metrics.registry.collect() if family.name.startswith("cutover_")}
    for name, family in families.items():
        labels = metrics.labels_of(name)
        if "tenant" not in labels:
            continue
        seen = {sample.labels["tenant"] for sample in family.samples}
        assert seen == (set() if name in LATER else {"acme", "globex"}), name
        for sample in family.samples:
            closed = name == "cutover_breaker_state" and sample.labels["state"] == "closed"
            assert sample.value == (1 if closed else 0), sample
    assert families.keys() >= LATER


def whatever_can_happen(tenant: str) -> Iterator[events.Event]:
    """Events with every value that each label is known to have."""
    yield from (event for event in every_event() if event.tenant == tenant)
    for face, names in (*OPERATIONS.items(), ("ops", ("metrics",))):
        for operation, outcome in product((*names, "unheard of"), REQUEST_OUTCOMES):
            yield events.RequestFinished(tenant, face, operation, outcome, 0.1)
    for store, names in STORE_OPERATIONS.items():
        yield from (events.StoreCalled(tenant, store, name, "ok", 0.1) for name in names)
        yield from (events.StoreWritten(tenant, store, outcome) for outcome in STORE_OUTCOMES)
    for path, outcome in product(("request", "reconciler"), DELIVERY_OUTCOMES):
        yield events.DeliverySettled(tenant, path, outcome, uuid.uuid4(), 1)
    for kind, outcome in product(SWEEPS, SWEEP_OUTCOMES):
        yield events.SweepFinished(tenant, kind, outcome, 1.0, 1.0, None)
    yield events.SweepsScheduled(tenant, dict.fromkeys(SWEEPS, 1.0))
    yield events.SweepsRecorded(tenant, {kind: events.RecordedSweep(1.0, 1.0) for kind in SWEEPS}, None, COUNTED)
    yield events.SweepCanary(tenant, "digest", dict.fromkeys(FAULTS, 1), dict.fromkeys(FAULTS, 1), True)
    yield events.DivergencesCounted(tenant, dict.fromkeys(DIVERGENCES, 1), 1.0)
    yield from (events.FindingsSettled(tenant, action, 1, "ada") for action in SETTLING)
    yield events.MarkCounts(tenant, dict.fromkeys((*MARK_ORIGINS, OTHER), 1), 1.0, 1, 1, 1)
    for phase in Phase:
        yield events.PhaseChanged(tenant, None, phase, 1, 1.0)
        yield events.GateJudged(tenant, phase, dict.fromkeys(check_ids(phase), True))
        yield from (events.WritesHeld(tenant, phase, phase, 0.1, made=made) for made in (True, False))
    yield events.CertificatesLooked(tenant, {Phase(target): (1.0, 1) for target in CERTIFIED})
    for reason in (*THROTTLES, "unheard of"):
        yield events.BackfillRests(tenant, 1)
        yield events.BackfillAdvanced(tenant, 1, 1, 1, 1, 1, 1, 1.0, 1.0, reason, True)
    yield from (events.ShadowReadCompared(tenant, outcome, 1.0) for outcome in SHADOW_OUTCOMES)
    yield events.RecallCompared(tenant, 1.0, 1.0, 1, dict.fromkeys(VISIBILITY, 1))
    yield from (events.TaskFailed(tenant, task, "E", "") for task in (*TASKS, "unheard of"))
    yield from (events.BypassWrites(tenant, writer, 1) for writer in (*WRITERS, "unheard of"))
    yield from (events.FrozenWritesRefused(tenant, writer, 1) for writer in (*WRITERS, "unheard of"))


def test_every_known_label_set_is_there_from_the_start() -> None:
    metrics, observe = started("acme")
    before = series(metrics)
    for event in whatever_can_happen("acme"):
        observe(event)
    appeared = {name for name, _ in series(metrics) - before}
    assert appeared == LATER
    assert before <= series(metrics)


def test_ten_tenants_and_ten_thousand_workspaces_have_the_series_of_ten_tenants() -> None:
    """What callers choose is in no label: with 10 workspaces or 10,000 the series are the same ones."""
    tenants = [f"tenant-{number}" for number in range(10)]
    metrics, observe = started(*tenants)

    def traffic(workspaces: int) -> None:
        for number in range(workspaces):
            tenant, workspace, trace = tenants[number % 10], uuid.uuid4(), uuid.uuid4().hex
            observe(events.RequestFinished(tenant, "memories", "create_memory", "ok", 0.01, trace))
            observe(events.RequestFinished(tenant, "memories", f"/workspaces/{workspace}", "client_error", 0.01))
            observe(events.StoreCalled(tenant, "legacy", "create", "ok", 0.01, trace))
            observe(events.DeliverySettled(tenant, "request", "delivered", workspace, number))
            observe(events.BypassWrites(tenant, f"writer of {workspace}", 1))

    for tenant in tenants:
        for event in whatever_can_happen(tenant):
            observe(event)
        observe(events.ConfigTold(tenant, "0123456789ab"))
        observe(events.AuditLooked(tenant, intact=True))
        observe(events.RecallCompared(tenant, 1.0, 1.0, 1, {}))
        observe(events.ShadowReadCompared(tenant, "match", 1.0))
    traffic(10)
    few = series(metrics)
    traffic(10_000)
    assert series(metrics) == few
    per_tenant = [sum(dict(labels).get("tenant") == tenant for _, labels in few) for tenant in tenants]
    assert len(set(per_tenant)) == 1
    assert per_tenant[0] <= MOST_PER_TENANT
    assert len(few) - sum(per_tenant) <= 20, "series of no tenant"


def test_no_caller_can_add_a_series() -> None:
    metrics, observe = started("acme")
    before = series(metrics)
    for n in range(500):
        trace = f"trace-{n}" if n % 2 else uuid.uuid4().hex
        observe(events.RequestFinished("acme", "plugin", f"/etc/{n}", "client_error", 0.1, trace))
        observe(events.RequestFinished("acme", f"face{n}", f"operation{n}", "ok", 0.1))
        observe(events.RequestRefused("acme", f"because {n}"))
        observe(events.BypassWrites("acme", f"app-{n}", 1))
        observe(events.FrozenWritesRefused("acme", f"app-{n}", 1))
        observe(events.MarkCounts("acme", {f"origin{n}": 1}, 0.0, 0, 0, 0))
        observe(events.BreakerChanged("acme", "closed", f"state{n}", ""))
        observe(events.TaskFailed("acme", f"task{n}", "E", ""))
    assert series(metrics) == before
    value = metrics.registry.get_sample_value
    assert value("cutover_bypass_writes_total", {"tenant": "acme", "writer": "other"}) == 500
    assert value("cutover_refused_total", {"tenant": "acme", "reason": "other"}) == 500


def test_a_scrape_of_ten_tenants_is_quick() -> None:
    metrics, observe = started(*(f"tenant-{number}" for number in range(10)))
    for number in range(10):
        observe(events.RequestFinished(f"tenant-{number}", "memories", "create_memory", "ok", 0.01, uuid.uuid4().hex))
    for accept in ("text/plain", "application/openmetrics-text"):
        best = float("inf")
        for _ in range(3):
            began = time.perf_counter()
            body = metrics.render(accept)[1]
            best = min(best, time.perf_counter() - began)
        assert best < 2.0, "Prometheus gives a scrape 10 s; the event loop answers nobody else meanwhile"
        assert len(body) < 3_000_000


OBJECTIVES = {
    0.5: "writes are held by a change of phase for no longer",
    float(Settings.model_fields["delivery_deadline"].default): "a delivery in the caller's time",
    float(Settings.model_fields["answer_deadline"].default): "the plugin face's answer",
    2.0: "when workspace-server gives up",
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_latency_histogram_has_a_bucket_that_ends_exactly_on_each_objective(objective: float) -> None:
    metrics, observe = started("acme")
    observe(events.RequestFinished("acme", "plugin", "commit", "ok", objective))
    observe(events.StoreCalled("acme", "plugin", "commit", "ok", objective))
    observe(events.PluginProbed("acme", up=True, seconds=objective))
    observe(events.WritesHeld("acme", Phase.A2, Phase.A3, objective, made=True))
    assert objective in REQUEST_BUCKETS
    below = str(REQUEST_BUCKETS[REQUEST_BUCKETS.index(objective) - 1])
    for name, labels in {
        "cutover_request_duration_seconds": {"face": "plugin", "operation": "commit"},
        "cutover_store_duration_seconds": {"store": "plugin", "operation": "commit"},
        "cutover_plugin_probe_duration_seconds": {},
        "cutover_writes_held_seconds": {"to": "A3", "made": "true"},
    }.items():
        for le, wanted in ((str(objective), 1), (below, 0)):
            at = {"tenant": "acme", "le": le, **labels}
            assert metrics.registry.get_sample_value(f"{name}_bucket", at) == wanted, (name, le)


def test_the_page_lists_the_values_of_every_bounded_label() -> None:
    text = CATALOGUE.read_text()
    rows = dict(re.findall(r"^\| (`[^|]+?) \| ([^|]+) \|$", text[text.index("## Label values") :], re.MULTILINE))
    listed = {label.replace("`", ""): tuple(re.split(r", ", values)) for label, values in rows.items()}
    assert listed["target"] == CERTIFIED
    assert listed["outcome of requests"] == REQUEST_OUTCOMES
    assert listed["face"] == (*OPERATIONS, OTHER)
    assert listed["outcome of store writes"] == STORE_OUTCOMES
    assert listed["outcome of deliveries"] == DELIVERY_OUTCOMES
    assert listed["fault"] == FAULTS
    assert listed["kind of sweeps"] == SWEEPS
    assert listed["outcome of sweeps"] == SWEEP_OUTCOMES
    assert set(listed["direction"]) == set(VISIBILITY)
    assert listed["outcome of shadow reads"] == SHADOW_OUTCOMES
    assert listed["outcome of backfilled rows"] == BACKFILL_OUTCOMES
    assert set(listed["reason of throttling"]) == {*THROTTLES, OTHER}
    assert listed["cause"] == CAUSES
    assert set(listed["class"]) == set(DIVERGENCES)
    assert listed["action"] == SETTLING
    assert listed["origin"] == (*MARK_ORIGINS, OTHER)
    assert listed["task"] == TASKS
    for store, names in STORE_OPERATIONS.items():
        assert listed[f"operation of {store}"] == names


def _words(tree: ast.AST, function: str, number: int) -> Iterator[str]:
    """The constant argument at that place of every call of `function`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == function:
            for each in node.args[number : number + 1]:
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    yield each.value


def test_every_task_that_can_fail_has_its_own_series() -> None:
    used = set()
    for path in sorted((ROOT / "cutover" / "engine").glob("*.py")):
        tree = ast.parse(path.read_text())
        kind = re.search(r'^KIND = "([\w.]+)"', path.read_text(), re.MULTILINE)
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "TaskFailed"):
                continue
            task = node.args[1]
            if isinstance(task, ast.Constant):
                used.add(task.value)
            elif isinstance(task, ast.Name):
                assert task.id == "KIND", path
                assert kind is not None, path
                used.add(kind[1])
            else:  # f"reconciler.{what}"
                assert isinstance(task, ast.JoinedStr), path
                prefix = ast.unparse(task)[2:].partition("{")[0]
                used |= {prefix + word for word in (*_words(tree, "_failed", 0), *_words(tree, "_look", 0))}
    assert used == set(TASKS) - {OTHER}


def test_every_operation_of_a_store_has_its_own_series() -> None:
    def called(file: str, function: str, number: int) -> set[str]:
        return set(_words(ast.parse((ROOT / "cutover" / "engine" / file).read_text()), function, number))

    def fenced(store: str) -> set[str]:
        text = (ROOT / "cutover" / "engine" / "write.py").read_text()
        return set(re.findall(rf'_fenced\(\s*"{store}",\s*"(\w+)"', text))

    assert fenced("legacy") | called("read.py", "_read_legacy", 0) == set(STORE_OPERATIONS["legacy"])
    assert fenced("journal") == set(STORE_OPERATIONS["journal"])
    plugin = called("delivery.py", "_send", 0) | called("plugin_reads.py", "StoreCalled", 2)
    assert plugin == set(STORE_OPERATIONS["plugin"])


async def test_a_scrape_is_not_rendered_on_the_event_loop() -> None:
    """Ten tenants take a tenth of a second of computing, in which nobody else would be answered."""
    threads = []

    class Watched(Metrics):
        def render(self, accept: str = "") -> tuple[str, bytes]:
            threads.append(threading.get_ident())
            return super().render(accept)

    face = OpsFace(Tenants({}, None), Watched("0.0.1"), {}, lambda _: None)
    await face.start(parse_listen("127.0.0.1:0"))
    try:
        face.started()
        (address,) = face.addresses
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}/metrics") as answer:
            assert answer.status == 200
    finally:
        await face.stop(1.0)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
