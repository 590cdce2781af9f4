"""Variables in queries, replaced as Grafana does before it asks Prometheus.

Grafana's rules (documentation of the Prometheus data source, "Template variables"):

- `$name`, `${name}`: a variable. In a query to Prometheus the values of one that allows several are escaped for a
  regular expression, and several are written `(a|b)`; "All" is the value that the variable has for it (here `.+`).
- `$__interval`: seconds between two points: the time range by the panel's width, rounded up to what a person would
  choose, at least the scrape interval. `$__interval_ms`: the same in ms.
- `$__rate_interval`: the greater of `$__interval` + scrape interval and four times the scrape interval, so that a rate
  always finds two samples.
- `$__range`, `$__range_s`, `$__range_ms`: the whole time range.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

ALL: Final = ".+"
_STEPS: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query is asked for. `range_seconds`: the dashboard's time range; `scrape_seconds`: how often Prometheus
    scrapes; `points`: how many points a panel has room for; `chosen`: the values picked per variable (missing: all)."""

    range_seconds: float
    scrape_seconds: float
    points: int = 300
    chosen: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def interval(self) -> float:
        """`$__interval`, in seconds; also the step of a range query."""
        wanted = self.range_seconds / self.points
        step = next((step for step in _STEPS if step >= wanted), _STEPS[-1])
        return max(self.scrape_seconds, float(step))

    @property
    def rate_interval(self) -> float:
        """`$__rate_interval`, in seconds."""
        return max(self.interval + self.scrape_seconds, 4 * self.scrape_seconds)


def interpolated(text: str, asked: Asked) -> str:
    """`text` as Prometheus gets it. A name that is no variable (`$1` in label_replace) stays as it is."""
    known = {
        "__interval": _duration(asked.interval),
        "__interval_ms": str(round(asked.interval * 1000)),
        "__rate_interval": _duration(asked.rate_interval),
        "__range": _duration(asked.range_seconds),
        "__range_s": str(round(asked.range_seconds)),
        "__range_ms": str(round(asked.range_seconds * 1000)),
        **{name: _chosen(asked.chosen.get(name, ())) for name in ("job", "instance", "tenant")},
    }

    def replaced(found: re.Match[str]) -> str:
        return known.get(found[1] or found[2], found[0])

    return _VARIABLE.sub(replaced, text)


def _duration(seconds: float) -> str:
    """PromQL's duration: whole seconds, or milliseconds where it must be."""
    return f"{round(seconds)}s" if seconds == round(seconds) else f"{round(seconds * 1000)}ms"


def _chosen(values: Sequence[str]) -> str:
    """One value escaped, several as an alternative, none chosen: all."""
    escaped = [_escaped(value) for value in values]
    if not escaped:
        return ALL
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _escaped(value: str) -> str:
    """For a regular expression inside a string of PromQL, where a backslash is written twice."""
    return re.sub(r"[\^$*+?.()|\[\]{}]", lambda each: rf"\\{each[0]}", value.replace("\\", "\\" * 4))
