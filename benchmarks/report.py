"""Rows of the result: what was measured against which bar of quality §3, and what limits it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `measured` is in the unit of the bar; `at_least` says which side of it is good."""

    what: str
    bar: float
    measured: float
    unit: str
    at_least: bool
    limit: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Literal["pass", "short"]:
        """Whether the bar is met."""
        met = self.measured >= self.bar if self.at_least else self.measured <= self.bar
        return "pass" if met else "short"


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    lines = [("what", "bar", "measured", "", "limited by")]
    for row in rows:
        sign = ">=" if row.at_least else "<="
        lines.append((row.what, f"{sign} {row.bar:g} {row.unit}", f"{row.measured:.2f}", row.verdict, row.limit))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]).rstrip()
        for line in lines
    )


def write_json(rows: Sequence[Row], facts: dict[str, Any], path: Path) -> None:
    """The rows, their details and the facts of the run for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [{**asdict(row), "verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({"facts": facts, "rows": listed}, indent=2) + "\n")
