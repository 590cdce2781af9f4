"""`cutover demo`: the daemon's main job from beginning to end, on this machine.

A real PostgreSQL with a v1 tenant, the reference plugin and the daemon, each its own process; callers on every face
and programs that write SQL behind them. A0 → A1 → A2 with a backfill → A3 → back to A2 → A3 → A4, every step forward
through its real gate, with certificates, approvals, a rehearsed way back, a soak, an archive and a drop. Only the
gates' times are short here, and the daemon says so wherever it shows them (thresholds marked as loosened). On the way
the plugin is killed (refusal must be total, and both stores must not change by a byte while it lasts) and the daemon
is killed with SIGKILL (nothing may be lost, and the backfill must go on). A history of every operation is held against
both stores.

The last line is `demo: ok acknowledged=<n> lost=0 resurrected=0 unexplained=0 rollback=lossless
phases=A0,A1,A2,A3,A2,A3,A4` on one line (exit 0) or `demo: FAILED <why>` (exit 1).
"""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path

from cutover.embedded.control import ControlError
from cutover.embedded.demo_cutover import Cutover
from cutover.embedded.demo_ground import SETTLE_SECONDS, DemoFailed, Ground
from cutover.embedded.history import History, Verdict
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres, EmbeddedPostgresError
from cutover.embedded.processes import ChildError, until
from cutover.embedded.progress import Progress
from cutover.embedded.sample import sample_database
from cutover.embedded.stack import running_stack
from cutover.embedded.traffic import Traffic
from cutover.embedded.witness import Witness

SETTINGS = {
    "CUTOVER_LOG_FORMAT": "json",
    "CUTOVER_SWEEP_INTERVAL": "1",
    "CUTOVER_DIGEST_INTERVAL": "2",
    "CUTOVER_RECALL_INTERVAL": "20",
    "CUTOVER_SHADOW_READ_RATIO": "0.2",
    # A request cut off by a kill is quiet for this long before it is sent again; 10 s by default.
    "CUTOVER_QUARANTINE_SECONDS": "3",
    # Every one of these is shown as loosened, in the gates, in the certificates and in the record of each step.
    "CUTOVER_GATE_PLUGIN_HEALTHY": "1",
    "CUTOVER_GATE_SHADOW_CLEAN": "2",
    "CUTOVER_GATE_WRITE_ERRORS": "0.5",
    "CUTOVER_GATE_BYPASS_WINDOW": "1",
    "CUTOVER_GATE_SOAK": "4",
    "CUTOVER_GATE_FOREIGN_WINDOW": "1",
    "CUTOVER_DROP_HOLD": "2",
}
_MEMORIES = 5_000
_RECOVERY_SECONDS = 3.0


class Demo:
    """The story up to the end of the copy, one method per chapter; `Cutover` tells the rest."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def run(self) -> str:
        """All chapters beside the traffic; gives back the last line. Raises what went wrong."""
        traffic = asyncio.create_task(self._ground.traffic.run(), name="traffic")
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
        return (
            f"acknowledged={verdict.acknowledged} lost=0 resurrected=0 unexplained=0 rollback=lossless"
            f" phases={','.join(self._ground.phases)}"
        )

    async def _tick(self) -> None:
        ground, tally = self._ground, self._ground.traffic.tally
        async with Witness(ground.stack.database_url) as gauge:
            while True:
                # From A3 on whoever reads legacy is a reason not to drop it: the gauge leaves it alone.
                legacy = str(await gauge.legacy_rows()) if ground.phases[-1] < "A3" else "frozen"
                plugin = await gauge.plugin_rows()
                marks = await gauge.unsettled()
                ground.progress.update(
                    f"{ground.phases[-1]} {ground.note:<14} legacy {legacy}  plugin {plugin}  marks {marks}  |  "
                    f"acknowledged {tally.acknowledged}  reads {tally.reads}  refused {tally.refused}"
                )
                await asyncio.sleep(0.2)

    async def _story(self) -> Verdict:
        ground = self._ground
        ground.say("phase A0 (stand-up): callers on every face, and SQL behind them")
        await ground.acknowledge(120, "traffic in A0")
        await ground.enter("A1")
        await ground.acknowledge(150, "traffic in A1")
        await self._refusal()
        await ground.enter("A2")
        await self._backfill_with_a_crash()
        await ground.acknowledge(100, "traffic after the backfill")
        return await Cutover(ground).story()

    # -- chapters ---------------------------------------------------------------------------------------------------

    async def _refusal(self) -> None:
        """The plugin dies: everything is refused, and neither store changes."""
        ground, tally = self._ground, self._ground.traffic.tally
        await ground.traffic.stop_sql()  # SQL past the daemon cannot be refused, and would change legacy
        ground.stack.plugin.kill()
        ground.note = "plugin killed"
        await ground.nothing_under_way()
        before = await ground.witness.fingerprints()
        acknowledged, refused = tally.acknowledged_by_daemon, tally.statuses[503]
        await ground.until(lambda: tally.statuses[503] >= refused + 100, "a hundred refusals")
        after = await ground.witness.fingerprints()
        if before != after:
            raise DemoFailed(f"a store changed while everything was refused: {before} became {after}")
        if tally.acknowledged_by_daemon != acknowledged:
            raise DemoFailed("a write was acknowledged while the plugin was dead")
        refusals = tally.statuses[503] - refused
        await ground.stack.plugin.start()
        took = await ground.until(
            lambda: tally.acknowledged_by_daemon > acknowledged, "writes after the plugin's return"
        )
        ground.note = ""
        ground.say(
            f"plugin killed: {refusals} calls answered 503, both stores unchanged ({after.legacy[0]} and "
            f"{after.plugin[0]} rows); writes again {took:.1f} s after the plugin was back"
        )
        if took > _RECOVERY_SECONDS:
            raise DemoFailed(f"recovery took {took:.1f} s, more than {_RECOVERY_SECONDS:g} s")
        ground.traffic.allow_sql()

    async def _backfill_with_a_crash(self) -> None:
        """The copy runs, the daemon is killed in the middle of it, and both go on."""
        ground, tally = self._ground, self._ground.traffic.tally
        run = (await ground.stack.control.start_backfill(via="contract"))["run"]

        async def under_way() -> bool:
            legacy, plugin = await ground.witness.counts()
            return plugin > legacy // 3

        await until(under_way, "a third of the backfill", timeout=60)
        ground.stack.daemon.child.kill()
        ground.note = "daemon killed"
        legacy, plugin = await ground.witness.counts()
        acknowledged = tally.acknowledged_by_daemon
        took = await ground.stack.daemon.child.start()
        await ground.until(lambda: tally.acknowledged_by_daemon > acknowledged, "traffic after the restart")
        ground.note = ""
        ground.say(
            f"daemon killed with SIGKILL at {plugin} of {legacy} rows copied: ready {took:.1f} s after its start"
        )
        await ground.stack.control.backfilled(timeout=60)

        async def copied() -> bool:
            return await ground.witness.awaiting_copy() == 0

        await until(copied, "the copy's last marks", timeout=SETTLE_SECONDS)
        if (await ground.stack.control.backfill())["run"] != run:
            raise DemoFailed("the backfill was started anew instead of going on where it was killed")
        ground.say("backfill complete: the killed run went on by itself")


async def tell(progress: Progress, seed: int, logs: Path | None) -> str:
    """Set everything up, run the demo, take everything down."""
    with (
        EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres,
        tempfile.TemporaryDirectory(prefix="cutover-archives-") as archives,
    ):
        sample = await sample_database(postgres, "demo", memories=_MEMORIES)
        tenant = sample.tenant
        progress.say(f"PostgreSQL: v1 schema, {tenant.memories} memories in {len(tenant.workspaces)} workspaces")
        settings = {**SETTINGS, "CUTOVER_ARCHIVE_DIRECTORY": archives}
        async with running_stack(postgres, sample.url, settings=settings, logs=logs) as stack:
            progress.say("plugin and daemon are up, each its own process")
            history = History()
            traffic = Traffic([stack.daemon.at], sample.seats, sample.url, history, seed=seed, workers=10, rate=160.0)
            sample.introduce(traffic, history)
            async with Witness(sample.url) as witness, traffic:
                return await Demo(Ground(stack, traffic, history, witness, progress)).run()


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
