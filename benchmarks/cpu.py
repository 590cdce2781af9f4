"""Who used the processor: CPU seconds of a process and its children, read off /proc."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of `pid`, of its living children, and of the children it has reaped."""
    parents: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        times[int(entry.name)] = sum(int(each) for each in fields[11:15]) / _TICKS
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
    total, queue = 0.0, [pid]
    while queue:
        at = queue.pop()
        total += times.get(at, 0.0)
        queue += parents.get(at, [])
    return total


@dataclass(frozen=True, slots=True)
class Usage:
    """Shares of one core per named process over a span of wall time."""

    shares: Mapping[str, float]

    def words(self) -> str:
        """`daemon 0.93, postgres 0.41, … of 2 cores: 1.97`."""
        parts = ", ".join(f"{name} {share:.2f}" for name, share in sorted(self.shares.items(), key=lambda s: -s[1]))
        return f"cores used: {parts} of {os.cpu_count()}"


class Meter:
    """`start()`, run something, `stop()`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._at = 0.0
        self._before: dict[str, float] = {}

    def start(self) -> None:
        """Begin the span."""
        self._before = {name: self._own(name, pid) for name, pid in self._pids.items()}
        self._at = time.monotonic()

    def stop(self) -> Usage:
        """End the span."""
        took = time.monotonic() - self._at
        return Usage({name: (self._own(name, pid) - self._before[name]) / took for name, pid in self._pids.items()})

    def _own(self, name: str, pid: int) -> float:
        # The load generator is this process, and everything measured is its child: only its own time counts.
        return time.process_time() if name == "load" else cpu_seconds(pid)
