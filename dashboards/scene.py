"""A live tenant under a real Prometheus: what dashboards are proven against, and what their pictures show.

PostgreSQL, the reference plugin, the daemon and its callers, as in `cutover demo`, with Prometheus scraping the ops
face once per second. `Story` takes the tenant through what an SRE sees: dual writes, a plugin that dies and comes back,
a writer that nobody knew of, a backfill, sweeps, a row changed behind everybody's back.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

from cutover.embedded.history import History
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from cutover.embedded.prometheus import Prometheus
from cutover.embedded.sample import sample_database
from cutover.embedded.stack import Stack, running_stack
from cutover.embedded.traffic import Traffic
from dashboards.interpolate import Asked

SCRAPE_SECONDS: Final = 1.0
SETTINGS: Final = {
    "CUTOVER_LOG_FORMAT": "json",
    "CUTOVER_SWEEP_INTERVAL": "3",
    "CUTOVER_DIGEST_INTERVAL": "5",
    "CUTOVER_RECALL_INTERVAL": "5",
    "CUTOVER_SHADOW_READ_RATIO": "0.3",
    "CUTOVER_QUARANTINE_SECONDS": "3",
    "CUTOVER_GATE_PLUGIN_HEALTHY": "1",
    "CUTOVER_GATE_SHADOW_CLEAN": "2",
    "CUTOVER_GATE_WRITE_ERRORS": "0.5",
    "CUTOVER_GATE_BYPASS_WINDOW": "1",
    "CUTOVER_GATE_SOAK": "60",
}
"""Short intervals, and gates that open within a minute."""
_PATIENCE: Final = 90.0
_STRANGER: Final = "nightly-cleanup"


@dataclass(slots=True)
class Scene:
    """What is running. `began`: Unix seconds of the first scrape."""

    stack: Stack
    traffic: Traffic
    prometheus: Prometheus
    began: float = field(default_factory=time.time)

    def asked(self, *, points: int = 300) -> Asked:
        """For queries over all that has happened so far."""
        return Asked(max(60.0, round(time.time() - self.began)), SCRAPE_SECONDS, points)


@contextlib.asynccontextmanager
async def scene(
    postgres: EmbeddedPostgres,
    directory: Path,
    *,
    name: str = "dashboards",
    memories: int = 1_500,
    rate: float = 60.0,
    rules: Iterable[Path] = (),
) -> AsyncIterator[Scene]:
    """Everything up and under traffic, in A0; everything gone at the end. `directory` takes logs and Prometheus' data;
    `rate`: calls per second."""
    sample = await sample_database(postgres, name, memories=memories)
    async with running_stack(postgres, sample.url, settings=SETTINGS, logs=directory / "logs") as stack:
        history = History()
        traffic = Traffic([stack.daemon.at], sample.seats, sample.url, history, seed=1, workers=6, rate=rate)
        sample.introduce(traffic, history)
        target = stack.daemon.at.ops.removeprefix("http://")
        prometheus = Prometheus(directory / "prometheus", [target], rules=rules, every=SCRAPE_SECONDS)
        async with traffic, prometheus:
            await prometheus.until_scraped()
            running = asyncio.create_task(traffic.run(), name="traffic")
            try:
                yield Scene(stack, traffic, prometheus)
                if running.done():
                    await running  # it never ends by itself but by a failure
            finally:
                traffic.stop()
                await asyncio.gather(running, return_exceptions=True)


class Story:
    """What happens, one method per chapter; each returns when it can be seen in Prometheus."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._control = scene.stack.control

    async def shadow(self) -> None:
        """A1: every write goes to both stores."""
        await self._control.enter("A1", timeout=_PATIENCE)
        await self.seen("cutover_phase_index == 1")
        await self.seen('cutover_sweeps_total{kind="count"} > 0')

    async def plugin_dies(self, seconds: float = 4.0) -> None:
        """Total refusal for as long as the plugin is away, and its way back through the breaker."""
        await self._scene.traffic.stop_sql()
        self._scene.stack.plugin.kill()
        await self.seen("cutover_plugin_up == 0")
        await self.seen("sum(cutover_refused_total) > 0")
        await asyncio.sleep(seconds)
        await self._scene.stack.plugin.start()
        await self.seen("cutover_plugin_up == 1")
        self._scene.traffic.allow_sql()

    async def stranger_writes(self) -> None:
        """A program nobody knew of writes past the daemon; triggers capture it."""
        connection = await asyncpg.connect(
            self._scene.stack.database_url, server_settings={"application_name": _STRANGER}
        )
        try:
            await connection.execute("UPDATE agent_memories SET content = content || ' (tidied)' WHERE random() < 0.01")
        finally:
            await connection.close()
        await self.seen("sum(cutover_bypass_writes_total) > 0")

    async def backfill(self, *, rate: float = 150.0) -> None:
        """A2: what was there before is copied, at `rate` rows per second."""
        await self._control.enter("A2", timeout=_PATIENCE)
        await self._control.start_backfill(rate=rate)
        await self.seen("sum(cutover_backfill_rows_total) > 0")
        await self._control.backfilled(timeout=_PATIENCE)
        await self.seen("cutover_backfill_remaining_rows == 0")

    async def divergence(self) -> None:
        """A row of the plugin is changed behind everybody's back; a digest sweep finds it."""
        connection = await asyncpg.connect(self._scene.stack.database_url)
        try:
            await connection.execute(
                "UPDATE memory_plugin.memory_records SET content = 'not what was written' WHERE id IN"
                " (SELECT id FROM memory_plugin.memory_records ORDER BY id LIMIT 3)"
            )
        finally:
            await connection.close()
        await self._control.digest_sweep(full=True, timeout=_PATIENCE)
        await self.seen("sum(cutover_divergent_rows) > 0")

    async def recall(self) -> None:
        """Both stores have been asked the same."""
        await self.seen('cutover_recall_overlap_ratio{source="sweep"} >= 0')
        await self.seen('cutover_recall_overlap_ratio{source="shadow"} >= 0')
        await self.seen("cutover_recall_rank_agreement")

    async def seen(self, expression: str) -> None:
        """Until Prometheus has an answer to it."""

        async def told() -> bool:
            return bool(await self._scene.prometheus.query(expression))

        await until(told, f"Prometheus to see {expression}", timeout=_PATIENCE, every=0.25)
