"""Which runbook a task run follows, and when a packaged text takes the place of the one in force (architecture §8)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutover.domain.phase import Phase

PHASES = {
    Phase.A0: "a0-stand-up",
    Phase.A1: "a1-shadow",
    Phase.A2: "a2-backfill",
    Phase.A3: "a3-cutover",
    Phase.A4: "a4-drop",
}
"""The runbook of entering a phase."""
_KINDS = {
    "backfill": "backfill",
    "verify": "verify",
    "archive": "archive-and-drop",
    "drop": "archive-and-drop",
    "rehearsal": "rollback",
    "scream": "a3-cutover",
}
NAMES = frozenset({*PHASES.values(), *_KINDS.values(), "sweeps"})


@dataclass(frozen=True, slots=True)
class Packaged:
    """A runbook as this release has it. `content_hash`: sha256 of the text, 32 bytes."""

    name: str
    title: str
    body: str
    content_hash: bytes


def name_for(kind: str, parameters: Mapping[str, Any]) -> str:
    """The runbook that a run of this kind follows. A phase change follows that of the phase it goes to, or, going
    back, `rollback`; raises `KeyError` for a kind that has none."""
    if kind.startswith("sweep."):
        return "sweeps"
    if kind == "phase":
        target = Phase(parameters["to"])
        return PHASES[target] if target.order > Phase(parameters["from"]).order else "rollback"
    return _KINDS[kind]


def release(version: str) -> tuple[tuple[int, ...], bool]:
    """A release's place among others: its numbers, and that a final one comes after its pre-releases."""
    public = version.partition("+")[0]  # what a build says of itself behind the + is no part of the order
    numbers = re.match(r"\d+(?:\.\d+)*", public)
    if numbers is None:
        return (), False
    parts = tuple(map(int, numbers[0].split(".")))
    while parts and parts[-1] == 0:  # 1.0 is 1.0.0
        parts = parts[:-1]
    return parts, re.search(r"a|b|rc|dev", public[numbers.end() :]) is None


def takes_over(offered_by: str, in_force_by: str) -> bool:
    """Whether another text comes into force: not when a newer release brought the one that is in force. Of the same
    release the last word counts: somebody has edited it."""
    return release(offered_by) >= release(in_force_by)
