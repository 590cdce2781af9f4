"""How A1 has gone, from the record: which sweeps count, what resets and what pauses, and what became of writes."""

from collections.abc import Sequence

import pytest

from cutover.domain.errors import CutoverError
from cutover.domain.evidence import ShadowEvidence
from cutover.domain.phase import Phase
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.shadow import ShadowStore
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD

GAP = 180.0
Sweep = tuple[str, float, str]
"""Kind, minutes after A1 was entered at which it ended (it began a second before), outcome."""

C = "sweep.count"
CASES: dict[str, tuple[Sequence[Sweep], float, float, bool]] = {
    # sweeps, clean minutes, missing minutes, whether something was found
    "none": ((), 0, 0, False),
    "one": (((C, 1, "clean"),), 0, 0, False),
    "three in a row": (((C, 1, "clean"), (C, 2, "clean"), (C, 3, "clean")), 2, 0, False),
    "before a1": (((C, -2, "clean"), (C, -1, "drift"), (C, 1, "clean"), (C, 2, "clean")), 1, 0, False),
    "drift resets": (((C, 1, "clean"), (C, 5, "drift"), (C, 6, "clean"), (C, 8, "clean")), 2, 0, True),
    "drift at the end": (((C, 1, "clean"), (C, 2, "clean"), (C, 3, "drift")), 0, 0, True),
    "a gap counts for nothing": (((C, 1, "clean"), (C, 2, "clean"), (C, 9, "clean"), (C, 10, "clean")), 2, 7, False),
    "a gap of the longest length": (((C, 1, "clean"), (C, 4 + 1 / 60, "clean")), 3 + 1 / 60, 0, False),
    "failed is missing": (((C, 1, "clean"), (C, 2, "failed"), (C, 3, "clean")), 2, 0, False),
    "partial is missing": (((C, 1, "clean"), (C, 4, "partial"), (C, 7, "clean")), 0, 6, False),
    "a divergent digest resets": (
        ((C, 1, "clean"), (C, 2, "clean"), ("sweep.digest", 3, "divergent"), (C, 4, "clean"), (C, 5, "clean")),
        1,
        0,
        True,
    ),
    "a clean digest is no count": (((C, 1, "clean"), ("sweep.digest", 3, "clean"), (C, 7, "clean")), 0, 6, False),
}


async def recorded(
    database: Database, sweeps: Sequence[Sweep], *, ended_minutes_ago: float = 0.0, contract_only: bool = False
) -> ShadowEvidence:
    last = max((minutes for _, minutes, _ in sweeps), default=0.0)
    # The last sweep ended just now: A1 was entered that long before it.
    await database.execute(
        "UPDATE cutover.phase_state SET phase = 'A1', entered_at = now() - make_interval(secs => $1)",
        (last + ended_minutes_ago) * 60,
    )
    for kind, minutes, outcome in sweeps:
        await database.execute(
            "INSERT INTO cutover.task_run (kind, state, outcome, started_at, finished_at)"
            " SELECT $1, CASE $3::text WHEN 'failed' THEN 'failed' ELSE 'finished' END,"
            " jsonb_build_object('outcome', $3::text),"
            " s.entered_at + make_interval(secs => $2 - 1), s.entered_at + make_interval(secs => $2)"
            " FROM cutover.phase_state s",
            kind,
            minutes * 60,
            outcome,
        )
    return await ShadowStore(database).evidence(2, contract_only=contract_only, gap=GAP)


async def test_shadow_time_counts_clean_sweeps_in_a_row_and_nothing_else(database: str) -> None:
    db = await Database.connect(database)
    try:
        await migrate.up(db)
        for name, (sweeps, clean, missing, found) in CASES.items():
            await db.execute("DELETE FROM cutover.task_run")
            seen = await recorded(db, sweeps)
            assert seen.clean_seconds == pytest.approx(clean * 60, abs=0.01), name
            assert seen.missing_seconds == pytest.approx(missing * 60, abs=0.01), name
            assert (seen.dirty_seconds_ago is not None) is found, name
    finally:
        await db.close()


async def test_sweeps_that_stopped_are_missing_time_and_a_contract_only_plugin_is_judged_by_digests(
    database: str,
) -> None:
    db = await Database.connect(database)
    try:
        await migrate.up(db)
        seen = await recorded(db, ((C, 1, "clean"), (C, 2, "clean")), ended_minutes_ago=30)
        assert seen.clean_seconds == pytest.approx(60, abs=0.01)
        assert seen.missing_seconds == pytest.approx(1800, abs=60)
        digests: Sequence[Sweep] = (("sweep.digest", 1, "clean"), ("sweep.digest", 2, "partial"), (C, 3, "partial"))
        await db.execute("DELETE FROM cutover.task_run")
        assert (await recorded(db, digests, contract_only=True)).clean_seconds == pytest.approx(60, abs=0.01)
        await db.execute("DELETE FROM cutover.task_run")
        assert (await recorded(db, digests)).clean_seconds == 0
    finally:
        await db.close()


async def test_writes_of_a1_and_their_errors_outlive_the_daemon_and_start_anew_with_the_stay(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        for number in range(3):
            await s.create(CHILD, f"memory {number}")
        epoch = s.tenant.phase.current().epoch
        told = "SELECT coalesce(sum(writes), 0) FROM cutover.write_tally"
        s.tenant._tally._pending[epoch + 2] = (1, 0)
        before = await s.database.fetchval(told)
        await s.tenant._readiness.fresh(Phase.A2)
        assert await s.database.fetchval(told) == before, "judging only reads"
        del s.tenant._tally._pending[epoch + 2]
        await s.tenant._tally.flush()
        seen = (await s.tenant._readiness.fresh(Phase.A2)).evidence.shadow
        assert seen is not None
        assert (seen.writes, seen.write_errors) == (3, 0)
        s.tenant.health.breaker.trip(0.0, "for the test")
        with pytest.raises(CutoverError):
            await s.create(CHILD, "refused")
        await s.tenant._tally.flush()
        await s.daemons[-1].abandon()
        await s.daemon()
        kept = (await s.tenant._readiness.fresh(Phase.A2)).evidence.shadow
        assert kept is not None
        assert (kept.writes, kept.write_errors) == (4, 1)
        store = ShadowStore(s.database)
        await store.add(epoch, 6, 0)
        assert (await store.evidence(epoch, contract_only=False, gap=GAP)).writes == 10
        assert (await store.evidence(epoch + 2, contract_only=False, gap=GAP)).writes == 0


async def test_outside_of_a1_the_shadow_is_not_known_and_says_why(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        await s.enter(Phase.A2)
        evidence = (await s.tenant._readiness.fresh(Phase.A3)).evidence
        assert evidence.shadow is None
        assert evidence.unknown["shadow"] == "it is measured in A1, and the tenant is in A2"
