"""What holds a backfill back. Every reason has a name (`domain/backfill.REASONS`), shown wherever progress is."""

import asyncio
import time
from pathlib import Path

from cutover.domain.backfill import RateBudget
from cutover.engine.backfill_progress import BackfillLimits
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.plugin_gate import PluginGate
from cutover.engine.reconciler import Reconciler
from cutover.stores.ledger import Ledger

_RATE_SECONDS = 0.1


class Throttle:
    """Of one run. `held_by` is who paused it, "" for nobody."""

    def __init__(
        self,
        ledger: Ledger,
        health: PluginHealthMonitor,
        gate: PluginGate,
        reconciler: Reconciler,
        limits: BackfillLimits,
        *,
        rate: float,
        pause_files: tuple[Path, ...],
    ) -> None:
        self._ledger = ledger
        self._health = health
        self._gate = gate
        self._reconciler = reconciler
        self._limits = limits
        self._pause_files = pause_files
        self._rate = rate
        self._budget = RateBudget(rate, time.monotonic())
        self._since_look = 0
        """Rows marked since the backlog was last counted."""
        self.held_by = ""

    async def why_wait(self, rows: int) -> str:
        """The first reason not to take up another chunk, which could have `rows`, now; empty when there is none."""
        if self.held_by:
            return "operator"
        if await self._pause_file_is_there():
            return "pause_file"
        if not self._health.up:
            return "plugin"
        if not self._health.admit().ok:
            return "breaker"
        latency = self._gate.latency(time.monotonic())
        if self._gate.waiting > 0 or (latency is not None and latency > self._limits.slow):
            return "latency"
        if self._reconciler.backlog is not None and self._reconciler.backlog.live > self._limits.queue:
            return "backlog"
        if await self._queue_is_full():
            return "queue"
        # A tenth of a second's worth at once: chunks of single rows would cost more than they copy.
        worth = max(1, min(rows, int(self._rate * _RATE_SECONDS)))
        if self.rows(worth) < worth:
            return "rate"
        return ""

    def rows(self, wanted: int) -> int:
        """As many of `wanted` rows as the operator's rate allows now."""
        available = self._budget.available(time.monotonic())
        return wanted if available is None else min(wanted, available)

    def took(self, scanned: int, marked: int) -> None:
        """A chunk was taken up."""
        self._budget.spend(scanned)
        self._since_look += marked

    async def _pause_file_is_there(self) -> bool:
        # In a thread: a file on a share that hangs must not stop the daemon.
        return bool(self._pause_files) and await asyncio.to_thread(lambda: any(p.exists() for p in self._pause_files))

    async def _queue_is_full(self) -> bool:
        """Whether more marks wait than may. Counted anew when what was marked since the last look could make it so."""
        backlog = self._reconciler.backlog
        if backlog is None or backlog.by_origin.get("backfill", 0) + self._since_look > self._limits.queue:
            self._since_look = 0
            self._reconciler.backlog = backlog = await self._ledger.backlog()
        return backlog.by_origin.get("backfill", 0) > self._limits.queue
