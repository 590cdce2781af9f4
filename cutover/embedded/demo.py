"""`cutover demo`: the daemon's main job from beginning to end, on this machine, in under a minute.

A real PostgreSQL with a v1 tenant, the reference plugin and the daemon, each its own process; callers on every face
and programs that write SQL behind them; A0 → A1 → A2 with a backfill → A3. On the way the plugin is killed (refusal
must be total, and both stores must not change by a byte while it lasts) and the daemon is killed with SIGKILL (nothing
may be lost, and the backfill must go on). In the end a history of every operation is held against both stores.

The last line is `demo: ok acknowledged=<n> lost=0 resurrected=0 unexplained=0 phases=A0,A1,A2,A3` (exit 0) or
`demo: FAILED <why>` (exit 1).
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from cutover.embedded.control import ControlError
from cutover.embedded.history import History, Verdict
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres, EmbeddedPostgresError
from cutover.embedded.processes import ChildError, until
from cutover.embedded.progress import Progress
from cutover.embedded.sample import sample_database
from cutover.embedded.stack import Stack, running_stack
from cutover.embedded.traffic import Traffic
from cutover.embedded.witness import Witness

SETTINGS = {
    "CUTOVER_LOG_FORMAT": "json",
    "CUTOVER_SWEEP_INTERVAL": "5",
    "CUTOVER_SHADOW_READ_RATIO": "0.2",
    # A request cut off by a kill is quiet for this long before it is sent again; 10 s by default.
    "CUTOVER_QUARANTINE_SECONDS": "3",
}
_MEANING = {"A0": "stand-up", "A1": "shadow", "A2": "backfill", "A3": "cutover"}
_MEMORIES = 5_000
_SETTLE_SECONDS = 40.0
_RECOVERY_SECONDS = 3.0
_QUIET_SECONDS = 2.0
"""Longer than the daemon lets a write live: after this long without an acknowledgement none is under way."""


class DemoFailed(Exception):
    """What the demo set out to show is not so."""


class Demo:
    """The story, one method per chapter."""

    def __init__(self, stack: Stack, traffic: Traffic, history: History, witness: Witness, progress: Progress) -> None:
        self._stack = stack
        self._traffic = traffic
        self._history = history
        self._witness = witness
        self._progress = progress
        self._phases = ["A0"]
        self._note = ""

    async def run(self) -> str:
        """All chapters beside the traffic; gives back the last line. Raises what went wrong."""
        traffic = asyncio.create_task(self._traffic.run(), name="traffic")
        ticker = asyncio.create_task(self._tick(), name="ticker")
        story = asyncio.create_task(self._story(), name="story")
        try:
            # The traffic ends before the story only by a failure of its own, which is then the failure to show.
            await asyncio.wait([story, traffic], return_when=asyncio.FIRST_COMPLETED)
            if traffic.done():
                await traffic
            verdict = await story
        finally:
            for task in (story, ticker, traffic):
                task.cancel()
            await asyncio.gather(story, ticker, traffic, return_exceptions=True)
        return f"acknowledged={verdict.acknowledged} lost=0 resurrected=0 unexplained=0 phases={','.join(self._phases)}"

    async def _tick(self) -> None:
        tally = self._traffic.tally
        async with Witness(self._stack.database_url) as gauge:
            while True:
                legacy, plugin = await gauge.counts()
                marks = await gauge.unsettled()
                self._progress.update(
                    f"{self._phases[-1]} {self._note:<14} legacy {legacy}  plugin {plugin}  marks {marks}  |  "
                    f"acknowledged {tally.acknowledged}  reads {tally.reads}  refused {tally.refused}"
                )
                await asyncio.sleep(0.2)

    async def _story(self) -> Verdict:
        self._progress.say("phase A0 (stand-up): callers on every face, and SQL behind them")
        await self._acknowledge(120, "traffic in A0")
        await self._enter("A1")
        await self._acknowledge(150, "traffic in A1")
        await self._refusal()
        await self._enter("A2")
        await self._backfill_with_a_crash()
        await self._acknowledge(100, "traffic after the backfill")
        await self._agree_before_cutover()
        return await self._cutover()

    # -- chapters ---------------------------------------------------------------------------------------------------

    async def _enter(self, phase: str) -> None:
        await self._stack.control.enter(phase, override="the demo")
        self._phases.append(phase)
        self._progress.say(f"phase {phase} ({_MEANING[phase]})")

    async def _refusal(self) -> None:
        """The plugin dies: everything is refused, and neither store changes."""
        tally = self._traffic.tally
        await self._traffic.stop_sql()  # SQL past the daemon cannot be refused, and would change legacy
        self._stack.plugin.kill()
        self._note = "plugin killed"
        await self._nothing_under_way()
        before = await self._witness.fingerprints()
        acknowledged, refused = tally.acknowledged_by_daemon, tally.statuses[503]
        await self._until(lambda: tally.statuses[503] >= refused + 100, "a hundred refusals")
        after = await self._witness.fingerprints()
        if before != after:
            raise DemoFailed(f"a store changed while everything was refused: {before} became {after}")
        if tally.acknowledged_by_daemon != acknowledged:
            raise DemoFailed("a write was acknowledged while the plugin was dead")
        refusals = tally.statuses[503] - refused
        await self._stack.plugin.start()
        took = await self._until(
            lambda: tally.acknowledged_by_daemon > acknowledged, "writes after the plugin's return"
        )
        self._note = ""
        self._progress.say(
            f"plugin killed: {refusals} calls answered 503, both stores unchanged ({after.legacy[0]} and "
            f"{after.plugin[0]} rows); writes again {took:.1f} s after the plugin was back"
        )
        if took > _RECOVERY_SECONDS:
            raise DemoFailed(f"recovery took {took:.1f} s, more than {_RECOVERY_SECONDS:g} s")
        self._traffic.allow_sql()

    async def _backfill_with_a_crash(self) -> None:
        """The copy runs, the daemon is killed in the middle of it, and both go on."""
        tally = self._traffic.tally
        run = (await self._stack.control.start_backfill(via="contract"))["run"]

        async def under_way() -> bool:
            legacy, plugin = await self._witness.counts()
            return plugin > legacy // 3

        await until(under_way, "a third of the backfill", timeout=60)
        self._stack.daemon.child.kill()
        self._note = "daemon killed"
        legacy, plugin = await self._witness.counts()
        acknowledged = tally.acknowledged_by_daemon
        took = await self._stack.daemon.child.start()
        await self._until(lambda: tally.acknowledged_by_daemon > acknowledged, "traffic after the restart")
        self._note = ""
        self._progress.say(
            f"daemon killed with SIGKILL at {plugin} of {legacy} rows copied: ready {took:.1f} s after its start"
        )
        await self._stack.control.backfilled(timeout=60)

        async def copied() -> bool:
            return await self._witness.awaiting_copy() == 0

        await until(copied, "the copy's last marks", timeout=_SETTLE_SECONDS)
        if (await self._stack.control.backfill())["run"] != run:
            raise DemoFailed("the backfill was started anew instead of going on where it was killed")
        self._progress.say("backfill complete: the killed run went on by itself")

    async def _agree_before_cutover(self) -> None:
        """With the callers held for a moment both stores must agree with the history, row by row."""
        await self._traffic.pause()
        await self._drained()
        verdict = await self._judge("legacy")
        self._progress.say(f"A2: both stores hold what was acknowledged: {verdict.words()}")
        await self._verify("A2")

    async def _cutover(self) -> Verdict:
        """A3: the plugin alone. Direct SQL has ended: the database refuses it from here on."""
        await self._traffic.stop_sql()
        frozen = await self._witness.fingerprints()
        await self._enter("A3")
        self._traffic.go_on()
        await self._acknowledge(250, "traffic in A3")
        await self._traffic.pause()
        await self._drained()
        if (await self._witness.fingerprints()).legacy != frozen.legacy:
            raise DemoFailed("the legacy store changed in A3")
        verdict = await self._judge("plugin")
        self._progress.say(f"A3: the plugin holds what was acknowledged: {verdict.words()}")
        await self._verify("A3")
        return verdict

    async def _verify(self, phase: str) -> None:
        """The daemon's own comparison, exact, and judged by the faults it planted for itself."""
        told = await self._stack.control.verify(timeout=_SETTLE_SECONDS)
        if told.get("outcome") != "clean" or not told.get("trusted"):
            raise DemoFailed(
                f"verify in {phase}: {told.get('outcome')}, trusted {told.get('trusted')}: {told.get('why')}"
            )
        self._progress.say(
            f"{phase}: verify is clean: {told['expected_rows']} memories of {len(told['workspaces'])} workspaces hashed"
            f" in both stores, {sum(told['canary']['caught'].values())} planted faults found"
        )

    # -- what chapters share ----------------------------------------------------------------------------------------

    async def _judge(self, authority: Literal["legacy", "plugin"]) -> Verdict:
        verdict = await self._witness.judge(self._history, authority)
        if verdict.findings:
            raise DemoFailed(f"the history checker found {len(verdict.findings)}: {'; '.join(verdict.findings[:5])}")
        sweep = await self._stack.control.sweep()
        if sweep["unexplained"] != 0:
            raise DemoFailed(f"the count sweep found {sweep['unexplained']} unexplained rows: {sweep}")
        if self._traffic.tally.faults:
            raise DemoFailed(f"undocumented answers: {'; '.join(self._traffic.tally.faults[:3])}")
        return verdict

    async def _acknowledge(self, count: int, what: str) -> None:
        """Let the callers get `count` more acknowledgements."""
        goal = self._traffic.tally.acknowledged + count
        await self._until(lambda: self._traffic.tally.acknowledged >= goal, what)

    async def _nothing_under_way(self) -> None:
        """Only 503s for so long that no write admitted before can still be under way."""
        tally = self._traffic.tally
        loop = asyncio.get_running_loop()
        latest, since = tally.acknowledged_by_daemon, loop.time()

        def quiet() -> bool:
            nonlocal latest, since
            if tally.acknowledged_by_daemon != latest:
                latest, since = tally.acknowledged_by_daemon, loop.time()
            return loop.time() - since > _QUIET_SECONDS

        await self._until(quiet, "the writes under way to end")

    async def _until(self, condition: Callable[[], bool], what: str) -> float:
        async def holds() -> bool:
            return condition()

        return await until(holds, what, timeout=_SETTLE_SECONDS)

    async def _drained(self) -> None:
        async def condition() -> bool:
            return await self._witness.unsettled() == 0

        await until(condition, "marks and intents drained", timeout=_SETTLE_SECONDS, every=0.1)


async def tell(progress: Progress, seed: int, logs: Path | None) -> str:
    """Set everything up, run the demo, take everything down."""
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        sample = await sample_database(postgres, "demo", memories=_MEMORIES)
        tenant = sample.tenant
        progress.say(f"PostgreSQL: v1 schema, {tenant.memories} memories in {len(tenant.workspaces)} workspaces")
        async with running_stack(postgres, sample.url, settings=SETTINGS, logs=logs) as stack:
            progress.say("plugin and daemon are up, each its own process")
            history = History()
            traffic = Traffic([stack.daemon.at], sample.seats, sample.url, history, seed=seed, workers=10, rate=160.0)
            sample.introduce(traffic, history)
            async with Witness(sample.url) as witness, traffic:
                return await Demo(stack, traffic, history, witness, progress).run()


async def _until_signal(work: Awaitable[str]) -> str:
    """`work`, cancelled by SIGINT or SIGTERM so that every child is ended."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def run(*, seed: int = 1, logs: Path | None = None) -> int:
    """The command. Exit code 0, 1 (failed), 130 (interrupted)."""
    progress = Progress(sys.stdout)
    try:
        words = asyncio.run(_until_signal(tell(progress, seed, logs)))
    except (DemoFailed, ChildError, ControlError, EmbeddedPostgresError) as error:
        progress.last(f"demo: FAILED {' '.join(str(error).split())}")
        return 1
    except asyncio.CancelledError:
        progress.last("demo: FAILED interrupted")
        return 130
    except Exception as error:  # noqa: BLE001 -- the last line must say so, whatever it was
        progress.last(f"demo: FAILED {type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    progress.last(f"demo: ok {words}")
    return 0


def main() -> int:
    """`python -m cutover.embedded.demo`."""
    return run()


if __name__ == "__main__":
    sys.exit(main())
