"""What a panel's queries answer: series over time, or the rows of a table after Grafana's transformations."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cutover.embedded.prometheus import Prometheus
from dashboards.interpolate import Asked, interpolated
from dashboards.values import NotDrawn

Cell = str | float | None


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its name in the legend, and points of (Unix seconds, value)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Rows:
    """A table: titles, and a cell per title in each row."""

    titles: Sequence[str]
    rows: Sequence[Sequence[Cell]]


def named(legend: str, labels: Mapping[str, str]) -> str:
    """A legend with its `{{label}}` filled in."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), legend).strip()


async def series(prometheus: Prometheus, panel: Mapping[str, Any], asked: Asked, until: float) -> list[Series]:
    """Every series of a panel's range queries, in the queries' order and then by name."""
    made = []
    for target in panel["targets"]:
        found = await prometheus.query_range(
            interpolated(target["expr"], asked), start=until - asked.range_seconds, end=until, step=asked.interval
        )
        each = [Series(named(target["legendFormat"], labels), points) for labels, points in found]
        made += sorted(each, key=lambda one: one.name)
    return made


async def table(prometheus: Prometheus, panel: Mapping[str, Any], asked: Asked, until: float) -> Rows:
    """A panel's instant queries as one table: merged by labels, ordered and renamed."""
    frames: list[list[dict[str, Cell]]] = []
    several = len(panel["targets"]) > 1
    for target in panel["targets"]:
        value = f"Value #{target['refId']}" if several else "Value"
        samples = await prometheus.query(interpolated(target["expr"], asked), time=until)
        frame: list[dict[str, Cell]] = []
        for each in samples:
            labels: dict[str, Cell] = {name: text for name, text in each.labels.items() if text}
            frame.append({**labels, value: each.value})
        frames.append(frame)
    rows: list[dict[str, Cell]] = [dict(row) for frame in frames for row in frame]
    titles = list(dict.fromkeys(name for row in rows for name in row))
    names: dict[str, str] = {}
    for transformation in panel.get("transformations", []):
        if transformation["id"] == "merge":
            rows = _merged(frames)
        elif transformation["id"] == "organize":
            titles = _organized(titles, transformation["options"])
            names = transformation["options"].get("renameByName", {})
        else:
            raise NotDrawn(f"transformations {transformation['id']!r}")
    return Rows([names.get(title, title) for title in titles], [[row.get(title) for title in titles] for row in rows])


def _merged(frames: Sequence[Sequence[Mapping[str, Cell]]]) -> list[dict[str, Cell]]:
    """Rows of the same labels become one."""
    made: dict[tuple[tuple[str, Cell], ...], dict[str, Cell]] = {}
    for frame in frames:
        for row in frame:
            labels = tuple(sorted((name, cell) for name, cell in row.items() if isinstance(cell, str)))
            made.setdefault(labels, {}).update(row)
    return list(made.values())


def _organized(titles: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    excluded = {name for name, out in options.get("excludeByName", {}).items() if out}
    order = options.get("indexByName", {})
    return sorted((title for title in titles if title not in excluded), key=lambda title: order.get(title, len(order)))


async def annotations(
    prometheus: Prometheus, told: Sequence[Mapping[str, Any]], asked: Asked, until: float
) -> list[tuple[float, str, str]]:
    """(Unix seconds, what happened, colour's name) of every annotation within the range, oldest first."""
    found = set()
    began = until - asked.range_seconds
    for each in told:
        if not each.get("enable") or "expr" not in each:
            continue
        answer = await prometheus.query_range(
            interpolated(each["expr"], asked), start=began, end=until, step=asked.interval
        )
        for labels, points in answer:
            happened = named(each.get("titleFormat", ""), labels)
            times = {value / 1000 if each.get("useValueForTime") else at for at, value in points}
            found |= {(at, happened, each["iconColor"]) for at in times if began <= at <= until}
    return sorted(found)
