"""The Prometheus beside the embedded stack: it scrapes what it is told to, answers, and says why it refuses."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from cutover.embedded.processes import free_port, until
from cutover.embedded.prometheus import Prometheus, PrometheusError, Sample, program

pytestmark = pytest.mark.prometheus

_RULES = """
groups:
  - name: test
    rules:
      - alert: TooMany
        expr: cutover_test_rows > 2
      - alert: Few
        expr: cutover_test_rows < 2
"""


async def test_it_scrapes_and_answers(tmp_path: Path) -> None:
    registry, port = CollectorRegistry(), free_port()
    rows = Gauge("cutover_test_rows", "Rows.", ["tenant"], registry=registry)
    rows.labels("sample").set(3)
    server, thread = start_http_server(port, "127.0.0.1", registry)
    rules = tmp_path / "rules.yml"
    rules.write_text(_RULES, encoding="utf-8")
    try:
        async with Prometheus(tmp_path / "prometheus", [f"127.0.0.1:{port}"], rules=[rules], every=0.2) as prometheus:
            await prometheus.until_scraped()
            (sample,) = await prometheus.query("cutover_test_rows")
            assert (sample.labels["tenant"], sample.labels["job"], sample.value) == ("sample", "cutover", 3.0)
            assert await prometheus.query("scalar(sum(cutover_test_rows))") == [Sample({}, 3.0)]
            assert await prometheus.label_values("tenant", "cutover_test_rows") == ["sample"]
            await until(lambda: _firing(prometheus), "the alert", timeout=20)
            with pytest.raises(PrometheusError, match="parse error"):
                await prometheus.query("sum(")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _firing(prometheus: Prometheus) -> bool:
    return await prometheus.alerts() == {"TooMany": "firing"}


def test_a_missing_program_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrometheusError, match="apt-get install prometheus"):
        program()
