"""The course of a soak: what goes on beside each other, and what ends it. `soak.py` sets the stage."""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cutover.embedded.callers import MemoriesCaller
from cutover.embedded.control import ControlError
from cutover.embedded.processes import until
from cutover.embedded.progress import Progress
from cutover.embedded.soak_faults import CREATED_AT, EXTRA, Fault, Saboteur
from cutover.embedded.soak_kv import KeyValueWriter
from cutover.embedded.soak_report import Disturbance, Report
from cutover.embedded.soak_watch import Finding, Watcher
from cutover.embedded.stack import Stack
from cutover.embedded.traffic import Traffic
from cutover.embedded.witness import Witness

WITHIN = 3
"""Full sweeps, begun after a fault was planted, by the end of which it must be confirmed."""
_KEY_VALUE_SECONDS = 0.3
"""Between two changes of `workspace_memory`."""
_EVERY_SECONDS = 12.0
"""Between two faults, on average."""
_TAIL_SECONDS = 45.0
"""At the end of a phase nothing new is planted: what is open is found, repaired and closed first."""
_PATIENCE_SECONDS = 180.0
_AFTER_A_KILL = timedelta(seconds=90)


class SoakFailed(Exception):
    """What the soak set out to show is not so."""


class Soak:
    """Everything that goes on beside each other, until `minutes` are over."""

    def __init__(
        self,
        stack: Stack,
        traffic: Traffic,
        key_values: KeyValueWriter,
        saboteur: Saboteur,
        watcher: Watcher,
        progress: Progress,
        *,
        seconds: float,
        seed: int,
    ) -> None:
        self._stack = stack
        self._traffic = traffic
        self._key_values = key_values
        self._saboteur = saboteur
        self._watcher = watcher
        self._progress = progress
        self._seconds = seconds
        self._random = random.Random(seed)
        self._phase = "A0"
        self._life = 1
        self._hands = asyncio.Lock()
        """Held by whoever needs the stack as it is: kills, phase changes and the last look exclude each other."""
        self._key_values_end = asyncio.Event()
        self._killed: list[datetime] = []
        """When the daemon was."""
        self._repairs: set[asyncio.Task[None]] = set()
        self.report = Report(seconds=seconds, faults=saboteur.planted.faults)

    # -- the course -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the end, or the first thing that must not be."""
        beside: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._forever(step, every), name=name)
            for name, step, every in (
                ("look", self._look, 0.5),
                ("memory", self._note_memory, 5.0),
                ("tick", self._tick, 1.0),
            )
        ]
        beside.append(asyncio.create_task(self._traffic.run(), name="traffic"))
        beside.append(asyncio.create_task(self._write_key_values(), name="key-values"))
        course = asyncio.create_task(self._course(), name="course")
        try:
            await asyncio.wait([course, *beside], return_when=asyncio.FIRST_COMPLETED)
            for task in beside:
                if task.done():
                    await task  # these end by a failure only
            await course
        finally:
            for task in (course, *beside, *self._repairs):
                task.cancel()
            await asyncio.gather(course, *beside, *self._repairs, return_exceptions=True)

    async def _course(self) -> None:
        for phase in ("A1", "A2"):
            await self._enter(phase)
        for source in ("memories", "kv"):
            await self._stack.control.copy(timeout=300, source=source)
        await self._disturbed(self._seconds / 2)
        await self._traffic.stop_sql()
        await self._enter("A3")
        await self._disturbed(self._seconds / 2)
        await self._end()

    async def _disturbed(self, seconds: float) -> None:
        """So long in one phase: faults and kills, then a tail without new ones until all are closed."""
        until_then = time.monotonic() + max(10.0, seconds - min(_TAIL_SECONDS, seconds / 3))
        await asyncio.gather(self._plant(until_then), self._kill(until_then), asyncio.sleep(seconds))
        await until(self._none_open, "every fault to be found, repaired and closed", timeout=_PATIENCE_SECONDS * 2)

    async def _none_open(self) -> bool:
        return not self._saboteur.planted.open

    async def _enter(self, phase: str) -> None:
        await self._stack.control.enter(phase, override="the soak course")
        self._phase = phase
        self._progress.say(f"phase {phase}")

    async def _end(self) -> None:
        """Callers stop, everything is delivered, and both the sweeps and the history are asked once more."""
        self._key_values_end.set()
        await self._traffic.pause()
        async with Witness(self._stack.database_url) as witness:

            async def drained() -> bool:
                return await witness.unsettled() == 0

            await until(drained, "marks and intents drained", timeout=_PATIENCE_SECONDS, every=0.2)
        run = await self._stack.control.start_digest_sweep(full=True)

        async def ended() -> bool:
            return await self._watcher.outcome(run) is not None

        await until(ended, "the last sweep", timeout=_PATIENCE_SECONDS, every=0.1)
        record = await self._watcher.outcome(run)
        outcome = json.loads(record["outcome"] or "{}") if record is not None else {}
        if outcome.get("outcome") != "clean" or not outcome.get("trusted"):
            raise SoakFailed(f"the last sweep is not clean: {outcome}")
        if wrong := await self._key_values.differences():
            raise SoakFailed(f"{len(wrong)} K/V rows are not as they should be: {'; '.join(wrong[:5])}")
        drift = await self._stack.control.sweep()
        if drift["unexplained"] != 0:
            raise SoakFailed(f"the last count has {drift['unexplained']} unexplained rows")

    # -- what goes on -----------------------------------------------------------------------------------------------

    async def _forever(self, step: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            await step()
            await asyncio.sleep(every)

    async def _write_key_values(self) -> None:
        while not self._key_values_end.is_set():
            await self._key_values.step()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._key_values_end.wait(), _KEY_VALUE_SECONDS)
        await asyncio.Event().wait()  # the others go on

    async def _plant(self, until_then: float) -> None:
        caller = MemoriesCaller(self._traffic.http(self._stack.daemon.at.memories))
        while True:
            pause = self._random.expovariate(1 / _EVERY_SECONDS)
            if time.monotonic() + pause >= until_then:
                return
            await asyncio.sleep(pause)
            fault = await self._saboteur.plant(self._phase, caller)
            self._progress.say(f"planted in {fault.memory_id}: {fault.what}")

    async def _kill(self, until_then: float) -> None:
        """Plugin and daemon in turn."""
        every = min(150.0, self._seconds / 6)
        for name in ("daemon", "plugin") * 1000:
            pause = every * self._random.uniform(0.6, 1.4)
            if time.monotonic() + pause >= until_then:
                return
            await asyncio.sleep(pause)
            async with self._hands:
                await self._kill_one(name)

    async def _kill_one(self, name: str) -> None:
        child = self._stack.plugin if name == "plugin" else self._stack.daemon.child
        child.kill()
        if name == "daemon":
            self._killed.append(datetime.now(UTC))
        await asyncio.sleep(self._random.uniform(0.2, 3.0))
        await child.start(timeout=60)
        self._life += name == "daemon"
        started = time.monotonic()
        before = self._traffic.tally.acknowledged_by_daemon

        async def going() -> bool:
            return self._traffic.tally.acknowledged_by_daemon > before

        await until(going, f"writes after the {name}'s return", timeout=_PATIENCE_SECONDS)
        took = time.monotonic() - started
        self.report.disturbances.append(Disturbance(name, self._phase, took))
        self._progress.say(f"{name} killed; writes {took:.1f} s after it was back")

    async def _look(self) -> None:
        """Hold what is confirmed against what was planted; begin the repair of what is newly found."""
        for finding in await self._watcher.findings():
            fault = self._saboteur.planted.faults.get((finding.memory_id, finding.name))
            if fault is None:
                if not self._lost_with_a_kill(finding):
                    raise SoakFailed(f"false alarm: {finding}")
                self.report.mended.add(finding.memory_id)
                continue
            if fault.found is None:
                fault.found = finding.confirmed
                fault.sweeps = 1 + await self._watcher.full_sweeps(fault.planted, finding.confirmed)
                self._repairs.add(asyncio.create_task(self._repair(fault), name=f"repair {fault.memory_id}"))
            if fault.closed is None and finding.closed is not None:
                fault.closed = finding.closed
        planted = {memory_id for memory_id, _ in self._saboteur.planted.faults}
        for memory_id, direction in (await self._watcher.shown_otherwise()).items():
            if memory_id not in planted:
                raise SoakFailed(f"false alarm of a recall sweep: {direction} {memory_id}")
        for task in [each for each in self._repairs if each.done()]:
            self._repairs.discard(task)
            await task  # raises what it failed by
        for fault in self._saboteur.planted.open:
            if fault.found is None and await self._watcher.full_sweeps(fault.planted, None) > WITHIN:
                raise SoakFailed(f"not found by {WITHIN} full sweeps: {fault}")

    def _lost_with_a_kill(self, finding: Finding) -> bool:
        """A time of creation that the daemon had noted, and not yet written to the plugin's row, when it was killed: a
        real difference, which the next sweep finds and sets right by itself."""
        return finding.name == CREATED_AT and any(
            timedelta(0) < finding.confirmed - killed < _AFTER_A_KILL for killed in self._killed
        )

    async def _repair(self, fault: Fault) -> None:
        """As an operator would: by the API and the command line in turn; a row that nobody wrote by hand."""
        if fault.name == CREATED_AT:
            fault.repair = "by the sweep itself"  # nothing but the order hangs on it
            return
        if fault.name == EXTRA:
            await self._saboteur.remove(fault.memory_id)
            fault.repair = "by hand"
            return
        fault.repair = self._random.choice(("API", "CLI"))
        ask = self._repair_by_api if fault.repair == "API" else self._repair_by_cli

        async def repaired() -> bool:
            return await ask(fault.memory_id)

        await until(repaired, f"the repair of {fault}", timeout=_PATIENCE_SECONDS, every=0.5)

    async def _repair_by_api(self, memory_id: UUID) -> bool:
        try:
            await self._stack.control.repair([memory_id])
        except ControlError as error:
            if error.status in (0, 503):  # the daemon is dead, or does not know its phase yet
                return False
            raise
        return True

    async def _repair_by_cli(self, memory_id: UUID) -> bool:
        daemon = self._stack.daemon
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cutover", "divergence", "repair", str(memory_id), "--yes",
            env={**os.environ, "CUTOVER_OPS_URL": daemon.at.ops, "CUTOVER_ADMIN_TOKEN": daemon.admin_token},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, words = await process.communicate()
        if process.returncode not in (0, 1, 4):  # 4: unreachable; 1: refused, as a daemon that has just started does
            raise SoakFailed(f"cutover divergence repair ended with {process.returncode}: {words.decode()[-300:]}")
        return process.returncode == 0

    async def _note_memory(self) -> None:
        if self._stack.daemon.child.pid is not None:
            with contextlib.suppress(OSError):  # it died while we looked
                self._watcher.note_memory(self._life, self._stack.daemon.child.resident_bytes())

    async def _tick(self) -> None:
        tally, planted = self._traffic.tally, self._saboteur.planted
        found = sum(fault.found is not None for fault in planted.faults.values())
        self._progress.update(
            f"{self._phase}  acknowledged {tally.acknowledged}  reads {tally.reads}  refused {tally.refused}  |  "
            f"faults {len(planted.faults)}, found {found}, open {len(planted.open)}"
        )
