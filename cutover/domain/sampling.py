"""What a sample proves: with 95 % confidence, at most this share of all rows differs (architecture §4).

Clopper–Pearson, one-sided and exact: the largest share under which a sample with so few differing rows is still as
likely as the confidence leaves open. With none found among n it is 1 − 0.05^(1/n), which is about 3/n. The sample is
drawn without replacement, so the true bound is lower still.

Several namespaces are sampled each by itself, because a small one must not drown in a large one. Their bounds hold all
at once: each is taken at 1 − 0.05/s for s namespaces (Bonferroni), and the whole is their mean weighted by rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, log, log1p

CONFIDENCE = 0.95
_STEPS = 60


@dataclass(frozen=True, slots=True)
class Stratum:
    """A sampled namespace: how many rows it has, how many were drawn, and how many of those may differ."""

    rows: int
    drawn: int
    differing: int


def upper_bound(differing: int, drawn: int, confidence: float = CONFIDENCE) -> float:
    """The largest share of differing rows (0..1) that a sample does not rule out; 1 where nothing was drawn."""
    if drawn <= 0 or differing >= drawn:
        return 1.0
    left_open = 1.0 - confidence
    if differing <= 0:
        return float(1.0 - left_open ** (1.0 / drawn))
    low, high = differing / drawn, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(differing, drawn, middle) > left_open:
            low = middle
        else:
            high = middle
    return high


def overall_bound(strata: Sequence[Stratum], confidence: float = CONFIDENCE) -> float | None:
    """The same for all sampled namespaces together; None where none was sampled."""
    rows = sum(each.rows for each in strata)
    if not rows:
        return None
    each_at = 1.0 - (1.0 - confidence) / len(strata)
    return sum(each.rows * upper_bound(each.differing, each.drawn, each_at) for each in strata) / rows


def _at_most(differing: int, drawn: int, share: float) -> float:
    """The chance of at most so many differing rows among those drawn."""
    if share >= 1.0:
        return 0.0
    return sum(
        exp(
            lgamma(drawn + 1) - lgamma(k + 1) - lgamma(drawn - k + 1)
            + (k * log(share) if k else 0.0) + (drawn - k) * log1p(-share)
        )
        for k in range(differing + 1)
    )  # fmt: skip
