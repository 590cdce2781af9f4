"""Evidence is gathered all at once under one deadline, and what could not be had says why."""

import asyncio
from collections.abc import Mapping

import pytest

from cutover.domain.check import Status
from cutover.domain.errors import CutoverError
from cutover.domain.events import Event, GateJudged, TaskFailed
from cutover.domain.evidence import DropEvidence, Evidence
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.engine import readiness as module
from tests.integration.protocol_scene import eventually, scene


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
