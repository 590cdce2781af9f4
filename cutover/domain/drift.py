"""The drift ledger: every row by which the stores differ, put down to a cause (architecture §4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DriftLedger:
    """`legacy − plugin = in_flight + not_backfilled + quarantined + accepted − native − kv + unexplained`, in rows.

    `legacy` is the expected side: `agent_memories` in A0–A2, frozen legacy ⊕ journal from A3 on.
    `in_flight` is net (rows marked and only in legacy, less rows marked and only in the plugin).
    `rows` holds the plain counts per `(store, namespace kind)`. `kv` are the memories of K/V rows that the plugin is
    expected to hold (and those under way that it holds): they are no rows of `legacy`. `accepted` is net, too: of the
    memories whose difference somebody answers for, those only in legacy, less those only in the plugin.
    """

    legacy: int
    plugin: int
    in_flight: int
    not_backfilled: int
    quarantined: int
    native: int
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    kv: int = 0
    accepted: int = 0

    @property
    def unexplained(self) -> int:
        """What no cause accounts for: above 0 rows are missing in the plugin, below 0 it holds extra ones."""
        explained = self.in_flight + self.not_backfilled + self.quarantined + self.accepted - self.native - self.kv
        return self.legacy - self.plugin - explained

    def causes(self) -> dict[str, int]:
        """Rows by cause, in the words of the metric `cutover_drift_rows`."""
        return {
            "in_flight": self.in_flight,
            "not_backfilled": self.not_backfilled,
            "quarantined": self.quarantined,
            "accepted": self.accepted,
            "native": self.native,
            "kv": self.kv,
            "unexplained": self.unexplained,
        }


def confirmed_unexplained(first: DriftLedger, second: DriftLedger) -> int:
    """What two looks agree on: the smaller magnitude when the signs agree, else 0.

    Two databases cannot be counted at one instant, so one look may see a row that is on its way; a row that is
    really unexplained is seen by both.
    """
    a, b = first.unexplained, second.unexplained
    if a * b <= 0:
        return 0
    return min(a, b) if a > 0 else max(a, b)
