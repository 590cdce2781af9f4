"""What the gates ask for, as numbers (architecture §6). Settings, and shown with their values wherever a gate is.

A value that asks for less than its default does is *loosened*. Nobody is kept from that, and nobody can hide it: every
report, certificate and phase event says which ones were, and what they would be.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from cutover.domain.duration import spoken

_MORE_IS_LOOSER = frozenset(
    {
        "write_errors",
        "rehearsal_age",
        "certificate_validity",
        "sweep_age",
        "digest_age",
        "recall_age",
        "count_gap",
        "digest_gap",
    }
)
"""Thresholds that are upper bounds; all others are lower bounds."""
_RATIOS = frozenset({"write_errors", "recall_overlap"})
"""All others are durations."""


@dataclass(frozen=True, slots=True)
class GateThresholds:
    """Durations in seconds, ratios 0..1. The defaults are the design's."""

    plugin_healthy: float = 600.0
    """A1: how long the plugin has been healthy without a break."""
    shadow_clean: float = 86_400.0
    """A2: how long the stores have agreed in A1: no unexplained drift in any count sweep."""
    write_errors: float = 0.001
    """A2: the share of writes that may have failed since A1 was entered."""
    recall_overlap: float = 0.999
    """A3: mean overlap@10 of the last recall sweep."""
    bypass_window: float = 86_400.0
    """A3: how long nobody has written to agent_memories past the daemon."""
    rehearsal_age: float = 604_800.0
    """A3: how old the last successful rehearsal of the way back may be."""
    soak: float = 2_592_000.0
    """A4: how long A3 has been green by the soak clock."""
    foreign_window: float = 604_800.0
    """A4: how long nobody else has read or written agent_memories."""
    certificate_validity: float = 3_600.0
    """How long a certificate can be used."""
    drop_hold: float = 86_400.0
    """A4: how long the renamed table is kept before it is dropped."""
    sweep_age: float = 180.0
    """How old the last count sweep may be. This and the next are made of the sweeps' intervals (`for_intervals`)."""
    digest_age: float = 129_600.0
    """How old the last full digest sweep may be."""
    recall_age: float = 2_700.0
    """A3: how old the last recall sweep may be."""
    count_gap: float = 120.0
    """A4: how far two count sweeps may lie apart for the soak clock to count the time between them."""
    digest_gap: float = 1_200.0
    """A4: the same for digest sweeps."""

    def for_intervals(self, *, count: float, digest: float, full: float, recall: float) -> "GateThresholds":
        """The same with what follows from the sweeps' intervals (seconds): one that falls out closes nothing."""
        return replace(
            self,
            sweep_age=3 * count,
            digest_age=1.5 * full,
            recall_age=3 * recall,
            count_gap=2 * count,
            digest_gap=2 * digest,
        )

    def loosened(self) -> tuple["Loosened", ...]:
        """The thresholds that ask for less than their defaults."""
        found = []
        for each in fields(self):
            value, default = getattr(self, each.name), getattr(DEFAULTS, each.name)
            if value > default if each.name in _MORE_IS_LOOSER else value < default:
                found.append(Loosened(each.name, value, default))
        return tuple(found)

    def shown(self, name: str) -> str:
        """One value as a check shows it, with its bound: `>= 10 min`, or `>= 5 s (loosened from 10 min)`."""
        value, default = getattr(self, name), getattr(DEFAULTS, name)
        bound = "<=" if name in _MORE_IS_LOOSER else ">="
        loosened = any(each.name == name for each in self.loosened())
        return f"{bound} {_words(name, value)}" + (f" (loosened from {_words(name, default)})" if loosened else "")

    def as_json(self) -> dict[str, Any]:
        """Values, and which of them are loosened."""
        return {
            "values": {each.name: getattr(self, each.name) for each in fields(self)},
            "loosened": [each.words for each in self.loosened()],
        }


@dataclass(frozen=True, slots=True)
class Loosened:
    """One threshold below its default."""

    name: str
    value: float
    default: float

    @property
    def words(self) -> str:
        """As every report shows it."""
        return f"{self.name} is {_words(self.name, self.value)}, loosened from {_words(self.name, self.default)}"


def _words(name: str, value: float) -> str:
    return f"{value * 100:g} %" if name in _RATIOS else spoken(value)


THRESHOLDS = tuple(each.name for each in fields(GateThresholds))
"""Their names: labels of the metric `cutover_gate_threshold_loosened`."""
DEFAULTS = GateThresholds()
