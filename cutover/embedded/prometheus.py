"""A real Prometheus beside the embedded stack: Debian's package, as a child on loopback that keeps its data in a
directory of the caller's.

It is what proves alerts and dashboards: their queries run here, against what a real daemon serves.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from cutover.embedded.processes import Child, free_port, until

JOB = "cutover"
_QUERY_SECONDS = 10.0
_KEEP = "2h"


class PrometheusError(Exception):
    """Prometheus is not installed, or refused a query; the message says why and what to do."""


def program() -> str:
    """The path of `prometheus`; raises `PrometheusError` where it is not installed."""
    found = shutil.which("prometheus")
    if found is None:
        raise PrometheusError("prometheus is not installed; on Debian: apt-get install prometheus")
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer: its labels and its newest value."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One server. `targets`: `host:port` of each `/metrics`; `rules`: rule files, as Prometheus' own `rule_files` takes
    them. `every`: seconds between scrapes and between evaluations. Start and stop it, or use it as a context manager.
    """

    def __init__(
        self, directory: Path, targets: Sequence[str], *, rules: Iterable[Path] = (), every: float = 1.0
    ) -> None:
        self._port = free_port()
        self._targets = tuple(targets)
        self._rules = tuple(rules)
        self._every = every
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._file = directory / "prometheus.yml"
        self.url = f"http://127.0.0.1:{self._port}"
        """Where it is asked, without a slash at the end."""
        self.child = Child(
            "prometheus",
            (
                program(),
                f"--config.file={self._file}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--storage.tsdb.retention.time={_KEEP}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ),
            {},
            directory / "prometheus.log",
            ready_url=f"{self.url}/-/ready",
        )

    async def start(self) -> None:
        """Write its configuration, start it, and wait until it answers."""
        seconds = f"{int(self._every * 1000)}ms"
        self._file.write_text(
            yaml.safe_dump(
                {
                    "global": {
                        "scrape_interval": seconds,
                        "scrape_timeout": seconds,
                        "evaluation_interval": seconds,
                    },
                    "rule_files": [str(each.absolute()) for each in self._rules],
                    "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": list(self._targets)}]}],
                }
            ),
            encoding="utf-8",
        )
        await self.child.start()

    async def __aenter__(self) -> "Prometheus":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; its data stays where it is."""
        self.child.kill()

    async def until_scraped(self, timeout: float = 30.0) -> None:
        """Wait until every target has been scraped well at least once."""

        async def scraped() -> bool:
            up = await self.query(f'up{{job="{JOB}"}} == 1')
            return len(up) == len(self._targets)

        await until(scraped, "every target scraped", timeout=timeout)

    async def query(self, expression: str, *, time: float | None = None) -> list[Sample]:
        """An instant query; a scalar is one sample without labels."""
        data = await self._get("query", {"query": expression} | ({} if time is None else {"time": str(time)}))
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    async def query_range(
        self, expression: str, *, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """A range query: labels, and points of (Unix seconds, value), per series."""
        data = await self._get(
            "query_range", {"query": expression, "start": str(start), "end": str(end), "step": str(step)}
        )
        return [
            (dict(each["metric"]), [(float(at), float(value)) for at, value in each["values"]])
            for each in data["result"]
        ]

    async def label_values(self, label: str, match: str = "") -> list[str]:
        """The values of a label, of the series that `match` selects."""
        return list(await self._get(f"label/{label}/values", {"match[]": match} if match else {}))

    async def alerts(self) -> dict[str, str]:
        """The alerts that are not quiet, by name: `pending` or `firing` (the worse one where there are several)."""
        found: dict[str, str] = {}
        for each in (await self._get("alerts", {}))["alerts"]:
            name = each["labels"]["alertname"]
            if found.get(name) != "firing":
                found[name] = each["state"]
        return found

    async def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_QUERY_SECONDS)) as session,
            session.get(f"{self.url}/api/v1/{path}", params=parameters) as response,
        ):
            told = await response.json()
        if told.get("status") != "success":
            raise PrometheusError(f"Prometheus refused {path} {dict(parameters)}: {told.get('error')}")
        return told["data"]
