"""What the chapters of the demo share: the running tenant, its callers, and how things are waited for and judged."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from cutover.embedded.control import ControlError
from cutover.embedded.history import History, Verdict
from cutover.embedded.processes import ChildError, until
from cutover.embedded.progress import Progress
from cutover.embedded.stack import Stack
from cutover.embedded.traffic import Traffic
from cutover.embedded.witness import Witness

SETTLE_SECONDS = 40.0
_GATE_SECONDS = 180.0
"""A recall sweep rests as long as it works: seconds on a quiet machine, a minute on a busy one."""
_QUIET_SECONDS = 2.0
"""Longer than the daemon lets a write live: after this long without an acknowledgement none is under way."""
_MEANING = {"A0": "stand-up", "A1": "shadow", "A2": "backfill", "A3": "cutover", "A4": "drop"}


class DemoFailed(Exception):
    """What the demo set out to show is not so."""


class Ground:
    """One running tenant under traffic, and the way it has come. `note` is a word for the progress line."""

    def __init__(self, stack: Stack, traffic: Traffic, history: History, witness: Witness, progress: Progress) -> None:
        self.stack = stack
        self.traffic = traffic
        self.history = history
        self.witness = witness
        self.progress = progress
        self.phases = ["A0"]
        self.note = ""

    def say(self, words: str) -> None:
        """A line that stays."""
        self.progress.say(words)

    # -- phases -----------------------------------------------------------------------------------------------------

    async def enter(self, phase: str) -> None:
        """As operators do: forward when the gate is open, with a certificate and two approvals where they are asked
        for; back at once."""
        if phase > self.phases[-1]:
            await self._gate_opens(phase)
        await self.stack.control.enter(phase)
        self.phases.append(phase)
        self.say(f"phase {phase} ({_MEANING[phase]})")

    async def _gate_opens(self, phase: str) -> None:
        checks: dict[str, list[dict[str, str]]] = {}

        async def is_open() -> bool:
            status, told = await self.stack.control.ready(phase)
            checks.clear()
            checks.update(told.get("checks", {}))
            return status == 200

        try:
            await until(is_open, f"the gate of {phase}", timeout=_GATE_SECONDS, every=0.25)
        except ChildError:
            closed = [f"{name}: {each['output']}" for name, made in checks.items() for each in made
                      if each["status"] == "fail"]  # fmt: skip
            raise DemoFailed(f"the gate of {phase} stays closed: {'; '.join(closed)}") from None
        self.say(f"the gate of {phase} is open: {len(checks)} checks")

    # -- waiting ----------------------------------------------------------------------------------------------------

    async def acknowledge(self, count: int, what: str) -> None:
        """Let the callers get `count` more acknowledgements."""
        goal = self.traffic.tally.acknowledged + count
        await self.until(lambda: self.traffic.tally.acknowledged >= goal, what)

    async def nothing_under_way(self) -> None:
        """Only 503s for so long that no write admitted before can still be under way."""
        tally = self.traffic.tally
        loop = asyncio.get_running_loop()
        latest, since = tally.acknowledged_by_daemon, loop.time()

        def quiet() -> bool:
            nonlocal latest, since
            if tally.acknowledged_by_daemon != latest:
                latest, since = tally.acknowledged_by_daemon, loop.time()
            return loop.time() - since > _QUIET_SECONDS

        await self.until(quiet, "the writes under way to end")

    async def until(self, condition: Callable[[], bool], what: str) -> float:
        """Wait for something of this process; the seconds it took."""

        async def holds() -> bool:
            return condition()

        return await until(holds, what, timeout=SETTLE_SECONDS)

    async def eventually(self, condition: Callable[[], Awaitable[bool]], what: str, timeout: float) -> float:
        """Wait for something that must be asked for."""
        return await until(condition, what, timeout=timeout, every=0.1)

    async def drained(self) -> None:
        """No mark and no intent is left."""

        async def condition() -> bool:
            return await self.witness.unsettled() == 0

        await self.eventually(condition, "marks and intents drained", SETTLE_SECONDS)

    # -- judging ----------------------------------------------------------------------------------------------------

    async def judge(self, authority: Literal["legacy", "plugin"]) -> Verdict:
        """Hold both stores against the history; callers are held, nothing is under way."""
        verdict = await self.witness.judge(self.history, authority)
        if verdict.findings:
            raise DemoFailed(f"the history checker found {len(verdict.findings)}: {'; '.join(verdict.findings[:5])}")
        sweep = await self.stack.control.sweep()
        if sweep["unexplained"] != 0:
            raise DemoFailed(f"the count sweep found {sweep['unexplained']} unexplained rows: {sweep}")
        if self.traffic.tally.faults:
            raise DemoFailed(f"undocumented answers: {'; '.join(self.traffic.tally.faults[:3])}")
        return verdict

    async def verify(self, phase: str) -> None:
        """The daemon's own comparison, exact, and judged by the faults it planted for itself."""
        told = await self.stack.control.verify(timeout=SETTLE_SECONDS)
        if told.get("outcome") != "clean" or not told.get("trusted"):
            raise DemoFailed(
                f"verify in {phase}: {told.get('outcome')}, trusted {told.get('trusted')}: {told.get('why')}"
            )
        self.say(
            f"{phase}: verify is clean: {told['expected_rows']} memories of {len(told['workspaces'])} workspaces hashed"
            f" in both stores, {sum(told['canary']['caught'].values())} planted faults found"
        )

    async def asked(self, what: Awaitable[object], doing: str) -> object:
        """A control call whose refusal ends the demo in words."""
        try:
            return await what
        except ControlError as error:
            raise DemoFailed(f"{doing}: {error}") from None
