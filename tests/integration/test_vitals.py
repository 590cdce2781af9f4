"""What metrics are told without anybody asking: certificates, the record, changes of phase, writes at the door."""

import asyncio
from dataclasses import replace

from cutover.domain.events import (
    AuditLooked,
    CertificatesLooked,
    DatabaseAnswered,
    Event,
    PhaseChanged,
    PhaseChanging,
    RequestsHeld,
    TaskFailed,
)
from cutover.domain.phase import Phase
from cutover.domain.thresholds import DEFAULTS
from cutover.embedded.processes import until
from cutover.engine.vitals import SweepIntervals
from tests.integration.protocol_scene import Scene, eventually, scene
from tests.integration.read_scene import CHILD

VALID_SECONDS = 5.0


def heard(s: Scene, kind: type[Event]) -> list[Event]:
    return [event for event in s.daemons[-1].events if isinstance(event, kind)]


async def test_a_certificate_that_expired_unused_stays_for_those_who_approved_it(database: str) -> None:
    async with scene(database, phase=Phase.A1, thresholds=replace(DEFAULTS, certificate_validity=VALID_SECONDS)) as s:
        promotion = s.tenant.promotion
        assert await promotion.standing() == {}
        approved = await promotion.certify(Phase.A2, "edsger", "to see it expire")
        expires, missing = (await promotion.standing())[Phase.A2]
        assert missing == 2
        await promotion.approve(approved["hash"], "grace")
        assert await promotion.standing() == {Phase.A2: (expires, 1)}

        async def expired() -> bool:
            return bool(await s.database.fetchval("SELECT clock_timestamp() > to_timestamp($1)", expires))

        await until(expired, "the certificate expired", timeout=20)
        assert await promotion.standing() == {Phase.A2: (expires, 0)}, "its approver counts on it"
        await promotion.certify(Phase.A2, "edsger", "another that nobody approves")
        newest, missing = (await promotion.standing())[Phase.A2]
        assert newest > expires
        assert missing == 2
        await s.step(Phase.A0)
        assert await promotion.standing() == {}, "the tenant has moved on"


async def test_a_certificate_that_nobody_approved_is_gone_when_it_expires(database: str) -> None:
    async with scene(database, phase=Phase.A1, thresholds=replace(DEFAULTS, certificate_validity=1.0)) as s:
        await s.tenant.promotion.certify(Phase.A2, "edsger", "nobody cares for it")

        async def gone() -> bool:
            return await s.tenant.promotion.standing() == {}

        await until(gone, "nothing to tell", timeout=20)


async def test_the_record_is_verified_at_start_and_whoever_touched_it_is_told(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        await eventually(lambda: bool(heard(s, AuditLooked)), timeout=30)
        assert heard(s, AuditLooked) == [AuditLooked("default", intact=True)]
        assert heard(s, DatabaseAnswered)
        assert heard(s, CertificatesLooked)
        await s.database.execute("ALTER TABLE cutover.phase_event DISABLE TRIGGER append_only")
        await s.daemon()  # a start is a look
        await eventually(lambda: bool(heard(s, AuditLooked)), timeout=30)
        (seen,) = heard(s, AuditLooked)
        assert isinstance(seen, AuditLooked)
        assert not seen.intact
        assert "append_only" in seen.why


async def test_a_record_that_cannot_be_read_is_a_failed_task_and_not_a_verdict(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        await s.database.execute("ALTER TABLE cutover.phase_event RENAME TO hidden")
        try:
            await s.tenant._vitals._look("audit", s.tenant._vitals._audit)
        finally:
            await s.database.execute("ALTER TABLE cutover.hidden RENAME TO phase_event")
        failed = [event for event in heard(s, TaskFailed) if getattr(event, "task", "") == "vitals.audit"]
        assert failed
        assert all(getattr(event, "intact", True) for event in heard(s, AuditLooked))


async def test_a_change_of_phase_is_told_while_it_is_under_way_and_writes_at_the_door_are_counted(
    database: str,
) -> None:
    async with scene(database, phase=Phase.A1) as s:
        s.daemons[-1].events.clear()
        with s.tenant.admission.hold(20.0):
            writing = asyncio.create_task(s.create(CHILD, "it waits at the door"))
            await eventually(lambda: RequestsHeld("default", 1) in s.daemons[-1].events, timeout=20)
        await writing
        assert heard(s, RequestsHeld)[-1] == RequestsHeld("default", 0)
        await s.step(Phase.A0)
        order = [event for event in s.daemons[-1].events if isinstance(event, PhaseChanging | PhaseChanged)]
        assert [type(event) for event in order] == [PhaseChanging, PhaseChanged, PhaseChanging]
        began, _, ended = order
        assert isinstance(began, PhaseChanging)
        assert isinstance(ended, PhaseChanging)
        assert began.started_unix > 1_700_000_000
        assert ended.started_unix == 0


def test_sweeps_are_due_only_where_they_have_something_to_compare() -> None:
    intervals = SweepIntervals(count=60.0, digest=600.0, recall=900.0)
    due = {phase: {kind for kind, seconds in intervals.in_phase(phase).items() if seconds} for phase in Phase}
    assert due == {
        Phase.A0: {"count"},
        Phase.A1: {"count", "digest", "recall"},
        Phase.A2: {"count", "digest", "recall"},
        Phase.A3: {"count", "digest"},
        Phase.A4: {"count", "digest"},
    }
