"""What a soak came to, as a page of Markdown."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from uuid import UUID

import cutover
from cutover.embedded.history import Verdict
from cutover.embedded.soak_faults import Fault
from cutover.embedded.soak_watch import Canaries, MemorySample, SweepLine
from cutover.embedded.traffic import Tally

_MIB = 1024 * 1024
_MEMORY_LINES = 16


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Somebody was killed. `seconds`: from being ready again to the next write that a caller was told of."""

    who: str
    phase: str
    seconds: float


@dataclass(slots=True)
class Report:
    """Filled while the soak runs; `failure` is empty when all went well."""

    seconds: float
    faults: Mapping[tuple[UUID, str], Fault]
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    disturbances: list[Disturbance] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    operations: Counter[str] = field(default_factory=Counter)
    key_values: Counter[str] = field(default_factory=Counter)
    sweeps: list[SweepLine] = field(default_factory=list)
    failures: Mapping[str, int] = field(default_factory=dict)
    """Why sweeps came to no result."""
    canaries: Canaries | None = None
    memory: list[MemorySample] = field(default_factory=list)
    verdict: Verdict | None = None
    failure: str = ""
    false_alarms: int = 0
    mended: set[UUID] = field(default_factory=set)
    """Memories whose time of creation a killed daemon had not written yet, and a sweep did."""

    def words(self) -> str:
        """The last line of a good run."""
        found = sum(fault.found is not None for fault in self.faults.values())
        closed = sum(fault.closed is not None for fault in self.faults.values())
        return (
            f"acknowledged={self.tally.acknowledged} planted={len(self.faults)} found={found} closed={closed}"
            f" false_alarms={self.false_alarms} killed={len(self.disturbances)}"
        )

    def markdown(self) -> str:
        """The whole page."""
        parts = [self._head(), self._traffic(), self._faults(), self._sweeps(), self._disturbed(), self._memory()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _head(self) -> str:
        result = f"**Failed:** {self.failure}" if self.failure else f"**It passed:** {self.words()}"
        return (
            "# Soak\n\n"
            "`make soak` runs a whole stack under live traffic, plants faults in the plugin's own tables, kills plugin"
            " and\ndaemon, and fails on a fault that no sweep finds, on a finding that nobody planted, and on a write"
            " that is lost\n(`cutover/embedded/soak.py` has the rules). This is what a run came to.\n\n"
            f"{result}\n\n"
            f"{self.began:%Y-%m-%d %H:%M} UTC, {self.seconds / 60:g} minutes (half in A2, half in A3), cutover"
            f" {cutover.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores."
        )

    def _traffic(self) -> str:
        tally = self.tally
        rows = [
            ("writes acknowledged", tally.acknowledged),
            ("of these through the daemon", tally.acknowledged_by_daemon),
            ("reads answered", tally.reads),
            ("refused (503 while plugin or daemon was away, 4xx)", tally.refused),
            ("no memory of that id any more", tally.missing),
            ("without an answer that tells", tally.unknown),
            *((f"operations: {kind}", count) for kind, count in sorted(self.operations.items())),
            *((f"K/V rows by SQL: {what}", count) for what, count in sorted(self.key_values.items())),
        ]
        text = "## Traffic\n\n" + _table(("what", "count"), rows)
        if self.verdict is not None:
            text += f"\n\nThe history of all of them, held against the stores in the end: {self.verdict.words()}."
        return text

    def _faults(self) -> str:
        by_name: dict[tuple[str, str], list[Fault]] = {}
        for fault in self.faults.values():
            by_name.setdefault((fault.name, fault.what), []).append(fault)
        rows = []
        for (name, what), faults in sorted(by_name.items()):
            took = sorted((each.found - each.planted).total_seconds() for each in faults if each.found is not None)
            sweeps = max((each.sweeps for each in faults), default=0)
            closed = sum(each.closed is not None for each in faults)
            times = (f"{median(took):.0f} s", f"{took[-1]:.0f} s") if took else ("", "")
            rows.append((f"`{name}`", what, len(faults), len(took), closed, *times, sweeps))
        repairs = Counter(fault.repair for fault in self.faults.values() if fault.repair)
        words = ", ".join(f"{count} {how}" for how, count in sorted(repairs.items()))
        head = ("class", "what was done", "planted", "found", "closed", "median time to find", "longest", "most sweeps")
        return (
            f"## Faults\n\n{_table(head, rows)}\n\n"
            "`most sweeps`: full sweeps from planting to confirmation, which takes two looks. Repaired: "
            f"{words or 'none'}. False alarms (confirmed, and nobody planted it): {self.false_alarms}."
            "\nTimes of creation that a killed daemon had not written yet, set right by the next sweep:"
            f" {len(self.mended)}."
        )

    def _sweeps(self) -> str:
        rows = [
            (each.what, each.outcome, each.runs, "" if each.seconds is None else f"{each.seconds:.2f} s")
            for each in self.sweeps
        ]
        text = "## Sweeps\n\n" + _table(("kind", "outcome", "runs", "mean time"), rows)
        if self.failures:
            text += "\n\nWithout a result:\n\n" + "\n".join(
                f"- {count} × {why}" for why, count in self.failures.items()
            )
        if self.canaries is not None:
            text += (
                f"\n\nCanary faults over {self.canaries.sweeps} digest sweeps with a result: {self.canaries.planted}"
                f" planted, {self.canaries.caught} caught."
            )
        return text

    def _disturbed(self) -> str:
        rows = []
        for who in ("plugin", "daemon"):
            for phase in ("A2", "A3"):
                took = sorted(each.seconds for each in self.disturbances if (each.who, each.phase) == (who, phase))
                if took:
                    rows.append((who, phase, len(took), f"{median(took):.1f} s", f"{took[-1]:.1f} s"))
        head = ("killed (SIGKILL)", "phase", "times", "median time to the next write", "longest")
        return f"## Kills\n\n{_table(head, rows)}" if rows else ""

    def _memory(self) -> str:
        if not self.memory:
            return ""
        step = -(-len(self.memory) // _MEMORY_LINES)
        rows = [
            (f"{each.seconds / 60:.1f} min", each.life, f"{each.resident / _MIB:.0f} MiB")
            for each in self.memory[::step]
        ]
        most = max(each.resident for each in self.memory) / _MIB
        return f"## Memory of the daemon\n\nAt most {most:.0f} MiB. Each kill begins another life.\n\n" + _table(
            ("after", "life", "resident"), rows
        )


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)
