"""A tenant for an acceptance test: real plugin, fault proxy, real daemon(s), callers, and a history to check."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

import asyncpg

from cutover.embedded.callers import Seat
from cutover.embedded.control import Control
from cutover.embedded.fault_proxy import FaultProxy
from cutover.embedded.history import History
from cutover.embedded.processes import Child, DaemonChild, Processes, daemon_child, plugin_child, until
from cutover.embedded.stack import plugin_database_url
from cutover.embedded.traffic import Mix, Traffic
from cutover.embedded.witness import Witness

FAST: Mapping[str, str] = {
    "MEMORY_PLUGIN_TIMEOUT": "1",
    "CUTOVER_QUARANTINE_SECONDS": "2",
    "CUTOVER_PROBE_INTERVAL": "0.2",
    "CUTOVER_PROBE_TIMEOUT": "0.5",
    "CUTOVER_SWEEP_INTERVAL": "3600",
    "CUTOVER_RECALL_INTERVAL": "0",
    "CUTOVER_LOG_FORMAT": "json",
}
"""The daemon's waiting times, shortened so that a test sees a quarantine time pass. T_z (2 s) stays above the
plugin's time-out and above whatever a test holds a request for."""

SETTLE_SECONDS = 30.0


async def add_seats(database_url: str, roots: int = 3, children: int = 3) -> list[Seat]:
    """Roots with children, each with a live token."""
    seats: list[Seat] = []
    for _ in range(roots):
        root = Seat(uuid4(), f"test-token-{uuid4().hex}")
        seats.append(root)
        seats += [
            Seat(uuid4(), f"test-token-{uuid4().hex}", root.workspace_id, root.workspace_id) for _ in range(children)
        ]
    connection = await asyncpg.connect(database_url)
    try:
        await connection.executemany(
            "INSERT INTO workspaces (id, name, parent_id, status) VALUES ($1, $2, $3, 'online')",
            [(seat.workspace_id, f"workspace {number}", seat.parent_id) for number, seat in enumerate(seats)],
        )
        await connection.executemany(
            "INSERT INTO workspace_auth_tokens (workspace_id, token_hash, prefix) VALUES ($1, $2, $3)",
            [(seat.workspace_id, hashlib.sha256(seat.token.encode()).digest(), seat.token[:8]) for seat in seats],
        )
    finally:
        await connection.close()
    return seats


async def add_memories(database_url: str, seats: Sequence[Seat], count: int) -> dict[UUID, str]:
    """Rows that were there before the daemon."""
    rows = [(uuid4(), seats[n % len(seats)].workspace_id, f"old memory number {n}", "LOCAL") for n in range(count)]
    connection = await asyncpg.connect(database_url)
    try:
        await connection.executemany(
            "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, $3, $4)", rows
        )
    finally:
        await connection.close()
    return {row[0]: row[2] for row in rows}


@dataclass(slots=True)
class Scene:
    """Everything one test needs. The daemon talks to the plugin through `proxy`."""

    database_url: str
    seats: list[Seat]
    processes: Processes
    plugin: Child
    plugin_url: str
    proxy: FaultProxy
    daemons: list[DaemonChild]
    control: Control
    witness: Witness
    history: History = field(default_factory=History)

    @property
    def daemon(self) -> DaemonChild:
        """The first daemon."""
        return self.daemons[0]

    def traffic(
        self, *, seed: int = 1, workers: int = 6, rate: float = 120.0, mix: Mix | None = None, seconds: float = 10.0
    ) -> Traffic:
        """Callers of every daemon of the scene, noting what they do in its history."""
        addresses = [daemon.at for daemon in self.daemons]
        return Traffic(
            addresses,
            self.seats,
            self.database_url,
            self.history,
            seed=seed,
            workers=workers,
            rate=rate,
            mix=mix,
            caller_seconds=seconds,
        )

    async def enter(self, *phases: str) -> None:
        """Step by step; the backfill belongs to the step into A3."""
        for phase in phases:
            if phase == "A3":
                await self.control.copy(timeout=SETTLE_SECONDS)
            await self.control.enter(phase, override="a test")

    async def drained(self, timeout: float = SETTLE_SECONDS) -> None:
        """No marks and no open intents are left."""

        async def condition() -> bool:
            return await self.witness.unsettled() == 0

        await until(condition, "marks and intents drained", timeout=timeout, every=0.1)

    async def assert_converged(self, authority: Literal["legacy", "plugin"] = "legacy") -> None:
        """With the callers stopped and the marks drained: nothing lost, resurrected, stale or divergent."""
        await self.drained()
        verdict = await self.witness.judge(self.history, authority)
        assert not verdict.findings, f"{verdict.words()}: {verdict.findings[:10]}"
        assert verdict.acknowledged > 0, "a history without a single acknowledgement proves nothing"


@contextlib.asynccontextmanager
async def scene(
    database_url: str,
    logs: Path,
    *,
    daemons: int = 1,
    settings: Mapping[str, str] | None = None,
    start: bool = True,
) -> AsyncIterator[Scene]:
    """Start it all, end it all."""
    seats = await add_seats(database_url)
    with Processes(logs) as processes:
        plugin, plugin_url = plugin_child(processes, plugin_database_url(database_url))
        await plugin.start()
        async with contextlib.AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(FaultProxy(plugin_url, seed=1))
            made = [
                daemon_child(
                    processes,
                    database_url=database_url,
                    plugin_url=proxy.url,
                    name=f"daemon-{number}",
                    settings={**FAST, **(settings or {})},
                )
                for number in range(daemons)
            ]
            for daemon in made:
                if start:
                    await daemon.child.start()
            control = await stack.enter_async_context(Control(made[0].at.ops, made[0].admin_token))
            witness = await stack.enter_async_context(Witness(database_url))
            yield Scene(database_url, seats, processes, plugin, plugin_url, proxy, made, control, witness)
            # The daemon is ended before the proxy that it talks through.
            for daemon in made:
                daemon.child.kill()
