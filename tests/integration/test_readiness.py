"""Evidence is gathered all at once under one deadline, and what could not be had says why."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from cutover.domain.check import Status
from cutover.domain.checks import proof
from cutover.domain.errors import CutoverError
from cutover.domain.events import Event, GateJudged, TaskFailed
from cutover.domain.evidence import DropEvidence, Evidence
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.domain.recall import Direction
from cutover.engine import readiness as module
from tests.integration.protocol_scene import Scene, eventually, scene


async def test_one_slow_or_failing_source_costs_nobody_else_the_evidence(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def fails() -> None:
        raise CutoverError("the catalogue cannot be read")

    async def answers() -> DropEvidence:
        return DropEvidence(("view reports",))

    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.5)
    async with scene(database, phase=Phase.A1) as s:
        s.tenant._readiness._sources = {"soak": never, "archive": never, "freeze": fails, "drop": answers}
        s.tenant._readiness._kept = None
        seen = await s.tenant._readiness.gather()
        assert seen.drop == DropEvidence(("view reports",))
        assert seen.database_reachable
        assert seen.tables is not None
        assert seen.tables.schema_known
        assert (seen.soak, seen.archive, seen.freeze) == (None, None, None)
        assert seen.unknown["soak"] == seen.unknown["archive"] == "no answer within 0.5 s"
        assert seen.unknown["freeze"] == "the catalogue cannot be read"
        assert seen.unknown["rehearsal"] == "this daemon does not gather it"
        assert "drop" not in seen.unknown


async def test_whatever_an_evidence_source_raises_is_an_unknown_part_and_not_the_daemons_end(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(database, phase=Phase.A1) as s:
        readiness = s.tenant._readiness
        heard: list[Event] = []
        monkeypatch.setattr(readiness, "_observer", heard.append)
        # A run that the record keeps, and whose path leads through a file: reading it raises NotADirectoryError.
        await s.database.execute(
            "insert into cutover.task_run (kind, state, requested_by, outcome, finished_at)"
            " values ('archive', 'finished', 'somebody', $1::jsonb, now())",
            '{"path": "/etc/hostname/archive", "sealed": "x", "epoch": 1, "phase": "A1", "restore_tested": true}',
        )

        async def fails() -> None:
            raise KeyError("content of a memory")

        readiness._sources = {**readiness._sources, "drop": fails}
        seen = (await readiness.fresh(Phase.A2)).evidence
        assert seen.drop is None
        assert seen.unknown["drop"].startswith("drop could not be gathered: KeyError")
        assert seen.database_reachable
        failed = [each for each in heard if isinstance(each, TaskFailed)]
        assert ("evidence", "KeyError") in {(each.task, each.error) for each in failed}
        assert "content of a memory" not in str(failed)


async def test_a_fault_while_gates_are_judged_for_metrics_does_not_end_the_daemon(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GATES_EVERY", 0.05)
    async with scene(database, phase=Phase.A0) as s:
        readiness = s.tenant._readiness
        heard: list[Event] = []
        failures = iter([ValueError("once")])

        def listen(event: Event) -> None:
            if isinstance(event, GateJudged) and (error := next(failures, None)) is not None:
                raise error
            heard.append(event)

        monkeypatch.setattr(readiness, "_observer", listen)
        watching = asyncio.create_task(readiness.watch_gates())
        try:
            await eventually(lambda: any(isinstance(each, GateJudged) for each in heard), timeout=20)
            assert not watching.done()
            assert ("gates", "ValueError") in {(e.task, e.error) for e in heard if isinstance(e, TaskFailed)}
        finally:
            watching.cancel()


async def test_a_fresh_look_sees_what_a_kept_one_does_not(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEEP_SECONDS", 600.0)
    async with scene(database, phase=Phase.A1) as s:
        readiness = s.tenant._readiness
        # A look is made anew after a count sweep, too: the one that is due at the start comes first.
        await eventually(lambda: s.tenant._sweeper.last is not None, timeout=20)
        await readiness.gather()
        await s.database.execute("create table public.memory_records (id int); insert into memory_records values (1)")
        assert _strays(await readiness.gather()) == {}
        fresh = await readiness.fresh(Phase.A2)
        assert _strays(fresh.evidence) == {"public.memory_records": 1}
        assert (fresh.report.phase, fresh.report.target) == (Phase.A1, Phase.A2)
        assert {check.id for check in fresh.report.checks} >= set(check_ids(Phase.A2))
        assert _strays(await readiness.gather()), "what was gathered anew is what is kept from then on"


def _strays(evidence: Evidence) -> Mapping[str, int]:
    assert evidence.tables is not None
    return evidence.tables.strays


async def test_invariants_hold_in_a2_and_a3_and_the_gate_of_a4_is_made_of_real_checks(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        for phase in (Phase.A2, Phase.A3):
            await s.enter(phase)
            await s.tenant._sweeper.run("test")
            await s.tenant._readiness.fresh(phase)
            made = await s.tenant.readiness_for(phase)
            assert {check.id: check.output for check in made.checks if check.status is Status.FAIL} == {}
            assert "freeze" in {check.id for check in made.checks}
        judged = (await s.tenant._readiness.fresh(Phase.A4)).report
        checks = {check.id: check for check in judged.checks}
        assert "step" not in checks
        assert {check.id for check in judged.checks if check.status is Status.FAIL} >= {"soak", "archive"}
        assert checks["soak"].observed_unit == "seconds"
        assert checks["archive"].output == "no archive has been written"
        assert checks["dependants"].status is Status.PASS
        assert judged.notes[0].startswith("two approvals")


async def test_serving_waits_for_nothing_but_what_it_is_judged_by_and_hung_parts_leave_time_for_the_others(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def answers() -> DropEvidence:
        return DropEvidence(())

    monkeypatch.setattr(module, "_GATES_EVERY", 3600.0)
    async with scene(database, phase=Phase.A1) as s:
        readiness = s.tenant._readiness
        asked: list[str] = []

        async def told() -> DropEvidence:
            asked.append("soak")
            return await answers()

        hung = dict.fromkeys(("shadow", "access", "rehearsal", "archive", "freeze"), never)
        readiness._sources = {**hung, "soak": told, "drop": answers}
        readiness._kept = None
        assert (await readiness.serving()).status is Status.PASS
        assert asked == [], "nobody was asked whom serving does not depend on"
        # Parts that hang are asked first, and there are more of them than may be asked at once.
        monkeypatch.setattr(readiness, "_own_parts", dict)
        monkeypatch.setattr(module, "_LOOK_SECONDS", 4.0)
        seen = await readiness.gather()
        assert seen.drop == DropEvidence(())
        assert asked == ["soak"]
        assert seen.unknown["archive"] == "no answer within 4 s"


async def recorded(s: Scene, kind: str, age: float, outcome: dict[str, Any], state: str = "finished") -> None:
    """A run of a sweep as any daemon leaves it."""
    await s.database.execute(
        "insert into cutover.task_run (kind, state, outcome, started_at, finished_at) values"
        " ($1, $2, $3::jsonb, clock_timestamp() - make_interval(secs => $4 + 1),"
        " clock_timestamp() - make_interval(secs => $4))",
        kind, state, json.dumps(outcome), age,
    )  # fmt: skip


def recall(epoch: int, **fields: Any) -> dict[str, Any]:
    """What a recall sweep leaves behind."""
    seen = {"visibility": {each.value: 0 for each in Direction}, "reads": {"live": 4, "compared": 200}}
    return {"outcome": "clean", "epoch": epoch, "overlap": 1.0, "coverage": 1.0, **seen, **fields}


async def test_evidence_of_sweeps_is_of_this_stay_by_the_record_and_the_databases_clock(database: str) -> None:
    async with scene(database, phase=Phase.A2) as s:
        readiness, epoch = s.tenant._readiness, s.tenant.phase.current().epoch

        async def look() -> Evidence:
            return (await readiness.fresh(Phase.A3)).evidence

        await s.database.execute("delete from cutover.task_run")
        seen = await look()
        assert (seen.recall_overlap, seen.sweep_age_seconds, seen.unexplained) == (None, None, None)
        # Recall: of another stay it is none; of this one it counts, whichever daemon made it.
        await recorded(s, "sweep.recall", 100, recall(epoch - 1))
        seen = await look()
        assert seen.recall_overlap is None
        assert "since this phase was entered" in proof.recall(seen).output
        await recorded(s, "sweep.recall", 90, recall(epoch))
        seen = await look()
        assert proof.recall(seen).status is Status.PASS
        assert 90 <= (seen.recall_age_seconds or 0) < 900
        await recorded(s, "sweep.recall", 50, recall(epoch, outcome="partial", coverage=0.005))
        assert proof.recall(await look()).status is Status.FAIL, "one that compared hardly anything"
        await recorded(s, "sweep.recall", 40, recall(epoch))
        assert proof.recall(await look()).status is Status.PASS
        await recorded(s, "sweep.recall", 30, {"outcome": "failed", "why": "no plugin", "coverage": 0.0}, "failed")
        assert "the last recall sweep failed: no plugin" in proof.recall(await look()).output
        # Counts: from the record, and none that ends in the future.
        await recorded(s, "sweep.count", 60, {"outcome": "clean", "unexplained": 0})
        seen = await look()
        assert (seen.unexplained, proof.sweep_fresh(seen).status) == (0, Status.PASS)
        await recorded(s, "sweep.count", -600, {"outcome": "clean", "unexplained": 0})
        seen = await look()
        assert (seen.sweep_age_seconds or 0) < 0
        assert proof.sweep_fresh(seen).status is Status.FAIL


@pytest.mark.parametrize(
    ("state", "outcome", "closes"),
    [
        ("finished", {"outcome": "untrusted", "full": False, "trusted": False}, "missed planted faults"),
        ("finished", {"outcome": "clean", "full": False, "trusted": True}, ""),
        ("failed", {"outcome": "failed", "full": True, "trusted": False, "why": "no room"}, "failed: no room"),
        ("failed", {"outcome": "failed", "full": False, "trusted": False, "why": "no room"}, ""),
    ],
    ids=["blind increment", "clean increment", "failed full", "failed increment"],
)
async def test_a_bad_digest_sweep_takes_the_word_of_the_full_one_before_it_away(
    database: str, state: str, outcome: dict[str, Any], closes: str
) -> None:
    async with scene(database, phase=Phase.A2) as s:
        epoch = s.tenant.phase.current().epoch
        good = {"outcome": "clean", "trusted": True, "coverage": 1.0, "full": True, "epoch": epoch}
        await recorded(s, "sweep.digest", 900, good)
        assert proof.digest((await s.tenant._readiness.fresh(Phase.A3)).evidence).status is Status.PASS
        await recorded(s, "sweep.digest", 600, outcome, state)
        check = proof.digest((await s.tenant._readiness.fresh(Phase.A3)).evidence)
        assert check.status is (Status.FAIL if closes else Status.PASS)
        assert closes in check.output
        await recorded(s, "sweep.digest", 300, good)
        assert proof.digest((await s.tenant._readiness.fresh(Phase.A3)).evidence).status is Status.PASS
