"""`/metrics` of a real daemon, as promtool and a real Prometheus see it: lint, exemplars, bounds, what goes stale."""

import asyncio
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cutover import __version__
from cutover.embedded.control import Control
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
from cutover.embedded.processes import PEOPLE, until
from cutover.embedded.prometheus import Prometheus
from cutover.metrics import Metrics, MetricsObserver
from cutover.settings import Settings
from tests.served import Served, served
from tests.unit.test_metrics import documented
from tests.unit.test_metrics_bounds import LATER, series

pytestmark = pytest.mark.prometheus

TEXT = "text/plain;version=0.0.4"
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant in A1 and the Prometheus that scrapes its daemon. Its database server is its own: it may be stopped."""

    postgres: EmbeddedPostgres
    served: Served
    prometheus: Prometheus

    async def body(self, accept: str = TEXT, *, ops: str = "") -> tuple[str, str]:
        """Content type and text."""
        url = f"{ops or self.served.daemon.at.ops}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url, headers={"Accept": accept}) as answer:
            assert answer.status == 200
            return answer.headers["Content-Type"], await answer.text()

    async def series(self, *, ops: str = "") -> Series:
        """Every series of ours."""
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families((await self.body(ops=ops))[1])
            for sample in family.samples
            if sample.name.startswith("cutover_")
        }

    async def value(self, name: str, *, ops: str = "", **labels: str) -> float | None:
        """One series of the tenant."""
        return (await self.series(ops=ops)).get((name, tuple(sorted({"tenant": "sample", **labels}.items()))))

    async def becomes(self, wanted: float, name: str, *, ops: str = "", **labels: str) -> None:
        """Wait until it has that value."""

        async def reached() -> bool:
            return await self.value(name, ops=ops, **labels) == wanted

        await until(reached, f"{name} {labels} = {wanted}", timeout=40, every=0.2)


async def _to_a1(tenant: Served) -> None:
    """With 10,000 workspaces, which are there before their capture is: each one costs it a look at all of them."""
    await tenant.workspaces(10_000)
    async with Control(tenant.daemon.at.ops, tenant.daemon.admin_token) as control:
        await control.enter("A1", override="a test")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres, served(postgres, "A0", rows=20) as tenant:
        asyncio.run(_to_a1(tenant))
        target = tenant.daemon.at.ops.removeprefix("http://")
        prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), [target], every=0.5)
        try:
            asyncio.run(prometheus.start())
            yield Scene(postgres, tenant, prometheus)
        finally:
            prometheus.stop()


def lint(text: str) -> tuple[int, str]:
    """What `promtool check metrics` says."""
    promtool = shutil.which("promtool")
    assert promtool is not None
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


async def test_promtool_finds_nothing_in_what_a_real_daemon_serves(scene: Scene) -> None:
    content_type, text = await scene.body()
    assert content_type.startswith("text/plain")
    assert lint(text) == (0, "")
    spoilt = text.replace("# HELP cutover_ready ", "# HELP cutover_readiness ", 1)
    code, words = lint(spoilt)
    assert code != 0
    assert "cutover_ready" in words


async def test_a_real_daemon_serves_the_catalogue_and_nothing_else(scene: Scene) -> None:
    found = {}
    for family in text_string_to_metric_families((await scene.body())[1]):
        if family.name.startswith("cutover_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (family.type, labels, family.documentation)
    page = documented()
    assert found.keys() == page.keys()
    for name, (kind, labels, words) in found.items():
        assert (kind, words) == (page[name][0], page[name][2])
        assert labels in (set(page[name][1]), set()), name
    silent = {name for name, (_, labels, _) in found.items() if not labels and page[name][1]}
    assert silent <= {
        *("cutover_recall_overlap_ratio", "cutover_recall_rank_agreement"),
        *("cutover_sweep_trusted", "cutover_sweep_canary_caught"),
    }


async def test_openmetrics_is_what_prometheus_gets(scene: Scene) -> None:
    content_type, text = await scene.body(OPEN)
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    await scene.prometheus.until_scraped()
    (up,) = await scene.prometheus.query("up")
    assert up.value == 1


async def _create(scene: Scene, content: str, trace: str) -> None:
    workspace = await scene.served.workspace()
    token = f"token-of-{uuid.uuid4().hex}"
    await scene.served.execute(
        "INSERT INTO workspace_auth_tokens (workspace_id, token_hash, prefix) VALUES ($1, sha256($2::bytea), 'x')",
        workspace,
        token.encode(),
    )
    headers = {"Authorization": f"Bearer {token}", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    url = f"{scene.served.daemon.at.memories}/workspaces/{workspace}/memories"
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(url, json={"content": content, "scope": "LOCAL"}) as answer,
    ):
        assert answer.status == 201, await answer.text()


async def test_a_request_with_a_traceparent_leaves_exemplars_that_prometheus_takes_in(scene: Scene) -> None:
    """On the request's own histogram and on those of the stores that it called."""
    trace = uuid.uuid4().hex
    await _create(scene, "a traced memory", trace)
    marked = [line for line in (await scene.body(OPEN))[1].splitlines() if f'trace_id="{trace}"' in line]
    where = {
        (line.partition("_bucket")[0], *sorted(re.findall(r'(?:operation|store)="(\w+)"', line.partition("#")[0])))
        for line in marked
    }
    assert where == {
        ("cutover_request_duration_seconds", "create_memory"),
        ("cutover_store_duration_seconds", "create", "legacy"),
        ("cutover_store_duration_seconds", "commit", "plugin"),
    }

    async def kept() -> bool:
        async with (
            aiohttp.ClientSession() as http,
            http.get(
                f"{scene.prometheus.url}/api/v1/query_exemplars",
                params={
                    "query": '{__name__=~"cutover_(request|store)_duration_seconds_bucket"}',
                    "start": "2020-01-01T00:00:00Z",
                    "end": "2100-01-01T00:00:00Z",
                },
            ) as answer,
        ):
            told = (await answer.json())["data"]
        names = {
            each["seriesLabels"]["__name__"]
            for each in told
            for exemplar in each["exemplars"]
            if exemplar["labels"].get("trace_id") == trace
        }
        return names == {"cutover_request_duration_seconds_bucket", "cutover_store_duration_seconds_bucket"}

    await until(kept, "the exemplars in Prometheus", timeout=40)


async def test_settings_sweeps_the_record_and_daemons_are_told(scene: Scene) -> None:
    async with Control(scene.served.daemon.at.ops, scene.served.daemon.admin_token) as control:
        status = await control.status()
    assert status["phase"] == "A1"
    await scene.becomes(1, "cutover_audit_intact")
    await scene.becomes(1, "cutover_daemons")
    await scene.becomes(3600, "cutover_sweep_interval_seconds", kind="count")
    assert await scene.value("cutover_sweep_interval_seconds", kind="verify") == 0
    assert (await scene.value("cutover_sweep_interval_seconds", kind="digest") or 0) > 0
    assert await scene.value("cutover_phase_change_started_timestamp_seconds") == 0
    assert await scene.value("cutover_held_requests") == 0
    assert await scene.value("cutover_ready") == 1
    hashes = [dict(labels)["hash"] for name, labels in await scene.series() if name == "cutover_config_info"]
    assert len(hashes) == 1
    assert re.fullmatch(r"[0-9a-f]{12}", hashes[0])


async def test_a_quarantined_memory_blocks_until_somebody_acknowledges_it_and_stays_quarantined(scene: Scene) -> None:
    quarantined, blocking = "cutover_quarantined", "cutover_quarantine_blocking"
    assert (await scene.value(quarantined), await scene.value(blocking)) == (0, 0)
    await scene.served.execute("INSERT INTO agent_memories (content, scope) VALUES ('has no workspace', 'LOCAL')")
    await scene.becomes(1, quarantined)
    await scene.becomes(1, blocking)
    async with Control(scene.served.daemon.at.ops, scene.served.daemon.admin_token) as control:
        assert await control.acknowledge_quarantined("its owner knows") == 1
    await scene.becomes(0, blocking)
    assert await scene.value(quarantined) == 1


async def test_a_certificate_is_seen_with_its_expiry_and_the_approvals_it_lacks(scene: Scene) -> None:
    expires, missing = "cutover_certificate_expires_timestamp_seconds", "cutover_certificate_approvals_missing"
    assert await scene.value(expires, target="A2") == 0
    async with Control(scene.served.daemon.at.ops, scene.served.daemon.admin_token) as control:
        asked = {"target": "A2", "override": "to look at the metric"}
        status, made = await control.call("POST", "/api/v1/phase/certify", asked, token=PEOPLE["edsger"])
        assert status < 300, made
        await scene.becomes(2, missing, target="A2")
        assert (await scene.value(expires, target="A2") or 0) > 1_700_000_000
        approval = {"certificate": made["hash"], "name": "ada"}
        assert (await control.call("POST", "/api/v1/phase/approve", approval, token=PEOPLE["ada"]))[0] < 300
        await scene.becomes(1, missing, target="A2")
    assert await scene.value(expires, target="A3") == 0


async def _as(scene: Scene, statement: str, **settings: str) -> None:
    connection = await asyncpg.connect(scene.served.database_url, server_settings=settings)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_ten_thousand_workspaces_and_strange_callers_add_no_series(scene: Scene) -> None:
    """Rows of many workspaces by writers of many names, and requests for whatever can be thought of: what is served
    are the series of a daemon that has seen nothing, and those that appear with their first value."""
    at = scene.served.daemon.at
    (there,) = await scene.served.execute("SELECT count(*) FROM workspaces")
    assert there[0] >= 10_000
    for number in range(5):
        await _as(
            scene,
            "INSERT INTO agent_memories (workspace_id, content, scope)"
            " SELECT id, 'of ' || id, 'LOCAL' FROM workspaces WHERE name = 'fresh' ORDER BY random() LIMIT 100",
            application_name=f"writer-{number}",
        )
    async with aiohttp.ClientSession() as http:
        for number in range(40):
            odd = uuid.uuid4()
            for method, url in (
                ("GET", f"{at.memories}/workspaces/{odd}/memories"),
                ("DELETE", f"{at.memories}/tenants/{odd}/workspaces/{odd}/memories/{odd}"),
                ("POST", f"{at.plugin}/v1/namespaces/custom:{odd}/memories"),
                (f"X{number}", f"{at.plugin}/v1/{odd}"),
                ("POST", f"{at.memories}/mcp/{odd}"),
                ("GET", f"{at.ops}/readyz/checks/x{number}"),
                ("GET", f"{at.ops}/{odd}?tenant={odd}"),
            ):
                headers = {"traceparent": f"00-{odd.hex}-00f067aa0ba902b7-01", "User-Agent": str(odd)}
                async with http.request(method, url, headers=headers, data=b"{}") as answer:
                    await answer.read()
    async with Control(at.ops, scene.served.daemon.admin_token) as control:
        await control.sweep()
    assert (await scene.value("cutover_rows", store="legacy", kind="workspace") or 0) >= 500
    untouched = Metrics(__version__)
    MetricsObserver(untouched, ["sample"], known_writers=Settings.model_fields["known_writers"].default)
    found = set(await scene.series())
    assert series(untouched) <= found
    assert {name for name, _ in found - series(untouched)} <= LATER


async def test_a_second_daemon_knows_of_the_sweeps_that_the_first_made(scene: Scene) -> None:
    """What comes from the record does not begin anew with a daemon, and two of them are seen by both."""
    async with Control(scene.served.daemon.at.ops, scene.served.daemon.admin_token) as control:
        await control.digest_sweep(full=True, timeout=60)
    success = "cutover_sweep_last_success_timestamp_seconds"
    other = scene.served.another_daemon("second", CUTOVER_DIGEST_INTERVAL="86400")
    await other.child.start()
    try:
        await scene.becomes(1, "cutover_sweep_trusted", ops=other.at.ops)

        async def same() -> bool:
            own = await scene.value(success, kind="digest")
            return own is not None and own > 0 and own == await scene.value(success, kind="digest", ops=other.at.ops)

        await until(same, "one time for both", timeout=40)
        assert await scene.value("cutover_sweep_canary_caught", fault="changed", ops=other.at.ops) == 1
        await scene.becomes(2, "cutover_daemons")
        hashes = {
            dict(labels)["hash"]
            for ops in ("", other.at.ops)
            for name, labels in await scene.series(ops=ops)
            if name == "cutover_config_info"
        }
        assert len(hashes) == 2, "their settings differ"
    finally:
        await other.child.terminate()
    await scene.becomes(1, "cutover_daemons")


async def test_ready_goes_with_readyz(scene: Scene) -> None:
    scene.served.plugin.pause()
    try:
        await scene.becomes(0, "cutover_ready")
        async with aiohttp.ClientSession() as http, http.get(f"{scene.served.daemon.at.ops}/readyz") as answer:
            assert answer.status == 503
    finally:
        scene.served.plugin.resume()
    await scene.becomes(1, "cutover_ready")


async def test_without_the_database_the_scrape_goes_on_and_says_how_old_its_values_are(scene: Scene) -> None:
    """Last of the scene: its server is away for a while."""
    answered = "cutover_database_last_answer_timestamp_seconds"
    epoch, good = await scene.value("cutover_phase_epoch"), await scene.value(answered)
    assert good is not None
    assert good > 0
    scene.postgres.halt()
    try:
        await scene.becomes(0, "cutover_ready")
        stopped = await scene.value(answered)
        failures = ("cutover_task_failures_total", (("task", "vitals.sweeps"), ("tenant", "sample")))
        before = (await scene.series())[failures]

        async def tried_again() -> bool:
            return (await scene.series())[failures] > before

        await until(tried_again, "a look that failed", timeout=40)
        assert await scene.value(answered) == stopped, "no answer came"
        assert await scene.value("cutover_phase_epoch") == epoch, "the last one that was known"
    finally:
        scene.postgres.start()
    await scene.becomes(1, "cutover_ready")

    async def answers_again() -> bool:
        return (await scene.value(answered) or 0) > good

    await until(answers_again, "the database heard again", timeout=40)
