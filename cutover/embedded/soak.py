"""`make soak`: half an hour of everything at once, and whether the sweeps told the truth all the while.

A whole stack, as in the demo: callers on every face, programs that write SQL past the daemon, K/V rows that change, A2
for the first half and A3 for the second, sweeps of all kinds every few seconds. Meanwhile faults of every class are
planted in the plugin's own tables, and plugin and daemon are killed now and then. The run fails when

- a planted fault is not confirmed by the third full sweep after it, or is not closed once it was repaired,
- anything is confirmed that nobody planted, or a sweep misses its own canary,
- the history of every operation does not agree with the stores in the end.

`python -m cutover.embedded.soak --minutes 30 --report docs/soak.md` writes what it came to.
"""

import argparse
import asyncio
import signal
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from uuid import UUID, uuid5

import asyncpg

from cutover.embedded.control import ControlError
from cutover.embedded.demo import SETTINGS as DEMO_SETTINGS
from cutover.embedded.history import History
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
from cutover.embedded.processes import ChildError
from cutover.embedded.progress import Progress
from cutover.embedded.sample import Sample, sample_database
from cutover.embedded.soak_course import Soak, SoakFailed
from cutover.embedded.soak_faults import EXTRA, KEY_VALUE_FATES, RESURRECTED, Saboteur, Victim
from cutover.embedded.soak_kv import KeyValueWriter
from cutover.embedded.soak_report import Report
from cutover.embedded.soak_watch import Watcher
from cutover.embedded.stack import running_stack
from cutover.embedded.traffic import Traffic
from cutover.embedded.witness import PluginRow, Witness

SETTINGS = {
    **DEMO_SETTINGS,
    "CUTOVER_LOG_LEVEL": "warning",
    "CUTOVER_DIGEST_INTERVAL": "5",
    "CUTOVER_DIGEST_FULL_INTERVAL": "15",
    "CUTOVER_RECALL_INTERVAL": "20",
    "CUTOVER_KV": "on",
}
_MEMORIES = 5_000
_RATE = 50.0
"""Calls per second that the callers aim at: it is a long run, not a fast one."""


def choose_victims(sample: Sample, known_times: set[UUID], embedded: set[UUID], count: int) -> list[Victim]:
    """Residents that faults are planted in. `known_times`: those with a time of creation to be wrong about."""
    able = [each for each in sample.residents if each.placeable and each.seat and each.memory_id in known_times]
    vectors = [each for each in able if each.memory_id in embedded][: count // 4]
    chosen = [*vectors, *(each for each in able if each.memory_id not in embedded)][:count]
    return [Victim(each.memory_id, each.seat, each.memory_id in embedded) for each in chosen if each.seat is not None]


async def prepare(postgres: EmbeddedPostgres) -> tuple[Sample, list[Victim], list[UUID]]:
    """The sample tenant, those of its memories that the callers are not told of, and the K/V memories it will have."""
    sample = await sample_database(postgres, "soak", memories=_MEMORIES)
    connection = await asyncpg.connect(sample.url)
    try:
        rows = await connection.fetch(
            "SELECT id, created_at IS NOT NULL AS known, embedding IS NOT NULL AS embedded FROM agent_memories"
        )
        keys = await connection.fetch(
            "SELECT workspace_id, key FROM workspace_memory WHERE expires_at IS NULL ORDER BY workspace_id, key"
        )
    finally:
        await connection.close()
    known_times = {row["id"] for row in rows if row["known"]}
    embedded = {row["id"] for row in rows if row["embedded"]}
    victims = choose_victims(sample, known_times, embedded, _MEMORIES // 4)
    return sample, victims, [uuid5(row["workspace_id"], row["key"]) for row in keys]


async def soak(progress: Progress, *, minutes: float, seed: int, logs: Path | None) -> Report:
    """Set everything up, run, take everything down. The report says what it came to, and in `failure` why not well."""
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        sample, victims, keys = await prepare(postgres)
        async with running_stack(postgres, sample.url, settings=SETTINGS, logs=logs) as stack:
            history = History()
            traffic = Traffic([stack.daemon.at], sample.seats, sample.url, history, seed=seed, workers=8, rate=_RATE)
            sample.introduce(traffic, history, leaving_out={victim.memory_id for victim in victims})
            async with (
                traffic,
                KeyValueWriter(sample.url, sample.seats, seed) as key_values,
                Saboteur(sample.url, victims, keys, seed) as saboteur,
                Watcher(sample.url) as watcher,
                Witness(sample.url) as witness,
            ):
                run = Soak(
                    stack, traffic, key_values, saboteur, watcher, progress, seconds=60 * minutes, seed=seed
                )  # fmt: skip
                report = run.report
                try:
                    await run.run()
                    report.verdict = await witness.judge(history, "plugin")
                    _must_agree(report, traffic, sample, await witness.plugin())
                except (SoakFailed, ChildError, ControlError) as error:
                    report.failure = " ".join(str(error).split())
                except Exception as error:  # noqa: BLE001 -- the page must say so, whatever it was
                    report.failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
                report.tally, report.key_values = traffic.tally, key_values.tally

                report.operations = Counter(str(each.kind) for each in history.operations if each.began > 0)
                report.sweeps, report.canaries = await watcher.sweeps(), await watcher.canaries()
                report.memory, report.failures = watcher.memory, await watcher.failures()
                if report.canaries.distrusted and not report.failure:
                    report.failure = f"{report.canaries.distrusted} sweeps did not trust their own result"
                return report


def _must_agree(report: Report, traffic: Traffic, sample: Sample, plugin: dict[UUID, PluginRow]) -> None:
    """The history, every documented answer, and every memory that a fault was planted in. Raises `SoakFailed`."""
    if report.verdict is not None and report.verdict.findings:
        findings = report.verdict.findings
        raise SoakFailed(f"the history checker found {len(findings)}: {'; '.join(findings[:5])}")
    if traffic.tally.faults:
        raise SoakFailed(f"undocumented answers: {'; '.join(traffic.tally.faults[:3])}")
    before = {each.memory_id: each.content for each in sample.residents}
    for fault in report.faults.values():
        if fault.what in KEY_VALUE_FATES:
            continue  # what there should be of the table was held against the plugin by itself
        held = plugin.get(fault.memory_id)
        wanted = None if fault.name in (EXTRA, RESURRECTED) else before[fault.memory_id]
        if (held.content if held is not None else None) != wanted:
            raise SoakFailed(f"not as it was before: {fault}")


async def _until_signal(work: Coroutine[None, None, Report]) -> Report:
    """`work`, cancelled by SIGINT or SIGTERM so that every child is ended."""
    task = asyncio.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await task


def main() -> int:
    """The command. Exit code 0, 1 (failed), 130 (interrupted)."""
    parser = argparse.ArgumentParser(prog="python -m cutover.embedded.soak", description="A long run of everything.")
    parser.add_argument("--minutes", type=float, default=30.0, help="of traffic with faults (default 30)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="write what it came to, as Markdown")
    parser.add_argument("--logs", type=Path, help="keep the logs of plugin and daemon in this directory")
    options = parser.parse_args()
    progress = Progress(sys.stdout)
    try:
        report = asyncio.run(
            _until_signal(soak(progress, minutes=options.minutes, seed=options.seed, logs=options.logs))
        )
    except asyncio.CancelledError:
        progress.last("soak: FAILED interrupted")
        return 130
    if options.report is not None:
        options.report.write_text(report.markdown())
    progress.last(f"soak: {'FAILED ' + report.failure if report.failure else 'ok ' + report.words()}")
    return 1 if report.failure else 0


if __name__ == "__main__":
    sys.exit(main())
