"""The ops face's parts that need no tenant: who is an admin, which phase is meant, how often stores are looked at."""

import asyncio
from datetime import UTC, datetime

import pytest

from cutover.domain.check import HealthReport, Status, report
from cutover.domain.errors import Forbidden, IllegalStep, InvalidRequest, Unauthenticated
from cutover.domain.phase import Phase, PhaseState
from cutover.http.admins import Admins, token_digest
from cutover.http.health_cache import HealthCache
from cutover.http.ops_api import BackfillBody
from cutover.http.ops_control import parse_body
from cutover.http.ops_phase import ApproveBody, PhaseBody, PromoteBody, _target
from cutover.http.ops_sweeps import SweepBody

ADMINS = Admins({"admin": token_digest("first-token"), "alice": token_digest("second-token")})


@pytest.mark.parametrize(
    ("header", "name"),
    [("Bearer first-token", "admin"), ("bearer second-token", "alice"), ("Bearer  second-token ", "alice")],
)
def test_a_token_has_a_name(header: str, name: str) -> None:
    assert ADMINS.who(header) == name


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "first-token",
        "Basic first-token",
        "Bearer first-toke",
        "Bearer \udc80\udcff",
        "Bearer é",
    ],
)
def test_anything_else_is_nobody(header: str | None) -> None:
    with pytest.raises(Unauthenticated) as refused:
        ADMINS.who(header)
    assert "token" in refused.value.next_step


@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer first-token"])
def test_without_a_configured_token_nobody_is_let_in(header: str | None) -> None:
    with pytest.raises(Forbidden) as refused:
        Admins({}).who(header)
    assert "CUTOVER_ADMIN_TOKEN" in refused.value.next_step


def state(phase: Phase) -> PhaseState:
    return PhaseState(phase, 7, datetime(2026, 1, 1, tzinfo=UTC), 1)


@pytest.mark.parametrize("current", list(Phase))
@pytest.mark.parametrize("target", [None, *Phase])
@pytest.mark.parametrize("forward", [True, False])
def test_only_the_next_step_in_the_direction_asked_for_is_taken(
    current: Phase, target: Phase | None, forward: bool
) -> None:
    wanted = current.order + (1 if forward else -1)
    legal = 0 <= wanted <= 4 and target in (None, f"A{wanted}") and current is not Phase.A4
    if legal:
        assert _target(state(current), target, forward=forward) == f"A{wanted}"
    else:
        with pytest.raises(IllegalStep) as refused:
            _target(state(current), target, forward=forward)
        assert refused.value.next_step


def test_control_bodies_name_the_field_and_what_the_call_takes() -> None:
    assert parse_body(SweepBody, b"{}").kind == "count"
    good = parse_body(
        BackfillBody, b'{"mode": "apply", "workspace": "0b5e9c1e-5a0f-4c5e-9d4b-0a1b2c3d4e5f", "limit": 5}'
    )
    assert good.workspace is not None
    given = b'{"mode": "apply", "via": "database", "rate": 12.5, "pause_file": "/run/pause"}'
    chosen = parse_body(BackfillBody, given)
    assert (chosen.via, chosen.rate, chosen.pause_file) == ("database", 12.5, "/run/pause")
    for model, raw, field in (
        (PhaseBody, b"{}", "reason"),
        (PhaseBody, b'{"reason": ""}', "reason"),
        (PhaseBody, b'{"reason": "x", "target": "A5"}', "target"),
        (PhaseBody, b'{"reason": "x", "expected_epoch": "1"}', "expected_epoch"),
        (PhaseBody, b'{"reason": "x", "epoch": 1}', "epoch"),
        (PhaseBody, b'{"reason": "x", "certificate": "0123456789abcdef"}', "certificate"),
        (PromoteBody, b'{"reason": "x", "certificate": "0123456"}', "certificate"),
        (PromoteBody, b'{"reason": "x", "certificate": "0123456g"}', "certificate"),
        (ApproveBody, b"{}", "certificate"),
        (SweepBody, b'{"kind": "checksum"}', "kind"),
        (BackfillBody, b"{}", "mode"),
        (BackfillBody, b'{"mode": "verify"}', "mode"),
        (BackfillBody, b'{"mode": "apply", "limit": 0}', "limit"),
        (BackfillBody, b'{"mode": "apply", "workspace": "x"}', "workspace"),
        (BackfillBody, b'{"mode": "apply", "via": "magic"}', "via"),
        (BackfillBody, b'{"mode": "apply", "rate": -1}', "rate"),
        (BackfillBody, b'{"mode": "apply", "rate": "1"}', "rate"),
        (BackfillBody, b'{"mode": "apply", "rate": 1e400}', "rate"),
        (BackfillBody, b'{"mode": "apply", "pause_file": "here"}', "pause_file"),
        (BackfillBody, b'{"mode": "apply", "pause_file": "/a\\u0000b"}', "pause_file"),
        (BackfillBody, b"[]", "the body"),
        (BackfillBody, b"{", "the body"),
    ):
        with pytest.raises(InvalidRequest, match=f"^{field}") as refused:
            parse_body(model, raw)
        assert refused.value.next_step


class Looks:
    """Counts how often the stores were looked at, and can be slow."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()

    async def quick(self) -> HealthReport:
        self.count += 1
        return report("acme", Phase.A0, None, ())

    async def slow(self) -> HealthReport:
        await self.go.wait()
        return await self.quick()


async def test_questions_at_the_same_time_share_one_look() -> None:
    cache, looks = HealthCache(), Looks()
    asking = [asyncio.create_task(cache.ask("acme", "readyz", looks.slow)) for _ in range(50)]
    looks.go.set()
    answers = await asyncio.gather(*asking)
    assert looks.count == 1
    assert len({answer.made_at for answer in answers}) == 1


async def test_a_fresh_answer_is_kept_and_a_stale_or_forgotten_one_is_not() -> None:
    looks = Looks()
    keeping = HealthCache(fresh=3600.0)
    await keeping.ask("acme", "readyz", looks.quick)
    await keeping.ask("acme", "readyz", looks.quick)
    assert looks.count == 1
    keeping.forget("other")
    await keeping.ask("acme", "readyz", looks.quick)
    assert looks.count == 1
    keeping.forget("acme")
    await keeping.ask("acme", "readyz", looks.quick)
    assert looks.count == 2
    stale = HealthCache(fresh=0.0)
    await stale.ask("acme", "readyz", looks.quick)
    await stale.ask("acme", "readyz", looks.quick)
    assert looks.count == 4


async def test_a_red_answer_is_looked_at_again_sooner_than_a_green_one() -> None:
    """Else a daemon whose first probe came too early would stay red for a second after it is ready."""
    statuses = [Status.FAIL, Status.FAIL, Status.PASS, Status.FAIL]

    async def question() -> HealthReport:
        return HealthReport(tenant="acme", phase=None, target=None, status=statuses.pop(0), checks=())

    cache, seen = HealthCache(fresh=3600.0, red_fresh=0.0), []
    for _ in range(5):
        answer = await cache.ask("acme", "readyz", question)
        assert answer.report is not None
        seen.append(answer.report.status)
    assert seen == [Status.FAIL, Status.FAIL, Status.PASS, Status.PASS, Status.PASS]
    keeping = HealthCache(fresh=3600.0, red_fresh=3600.0)
    statuses[:] = [Status.FAIL, Status.PASS]
    for _ in range(2):
        answer = await keeping.ask("acme", "readyz", question)
        assert answer.report is not None
        assert answer.report.status is Status.FAIL, "a red answer is kept, too: probes must not become load"


async def test_a_look_that_takes_too_long_is_a_failed_check() -> None:
    answer = await HealthCache(patience=0.01).ask("acme", "readyz", Looks().slow)
    assert answer.report is not None
    assert answer.report.status is Status.FAIL
    assert answer.report.checks[0].next


async def test_a_client_that_goes_away_does_not_cancel_the_look_for_the_others() -> None:
    cache, looks = HealthCache(), Looks()
    impatient = asyncio.create_task(cache.ask("acme", "readyz", looks.slow))
    patient = asyncio.create_task(cache.ask("acme", "readyz", looks.slow))
    await asyncio.sleep(0)  # both have asked
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    looks.go.set()
    assert (await patient).report is not None
