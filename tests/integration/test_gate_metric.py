"""Gates are judged without anybody asking, so that an alert can."""

from cutover.domain.events import Event, GateJudged
from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from tests.integration.protocol_scene import eventually, scene


async def test_every_gate_is_judged_with_each_of_its_checks(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        seen: dict[Phase, dict[str, bool]] = {}
        heard = s.tenant._readiness._observer

        def listen(event: Event) -> None:
            heard(event)
            if isinstance(event, GateJudged):
                seen[event.target] = event.checks

        s.tenant._readiness._observer = listen
        await eventually(lambda: Phase.A4 in seen, timeout=20)
        assert set(seen) == set(Phase)
        for phase, checks in seen.items():
            assert set(check_ids(phase)) <= set(checks)
        assert seen[Phase.A3]["backfill"] is False
        assert seen[Phase.A0]["database"] is True
