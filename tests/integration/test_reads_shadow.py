"""Shadow reads over real stores: what counts as a mismatch, what does not, and that the caller never notices."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from uuid import UUID, uuid4

import pytest

from cutover.domain.events import ShadowReadCompared
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.requests import ListMemories, SearchMemories
from cutover.embedded.processes import until
from cutover.engine.shadow_read import Answers, ShadowReader, differing, overlap
from tests.integration.read_scene import CALLER, CHILD, ROOT, STRANGER, Scene, scene_on


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    async with scene_on(database) as made:
        made.phase = Phase.A2
        await made.database.execute("UPDATE cutover.phase_state SET phase = 'A2', generation = 1")
        await made.database.execute(
            "INSERT INTO cutover.backfill_cursor (scope, generation, done) VALUES ('tenant', 1, true)"
        )
        yield made


@contextlib.asynccontextmanager
async def comparing(scene: Scene, shadow: ShadowReader) -> AsyncIterator[None]:
    task = asyncio.create_task(shadow.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def outcomes(scene: Scene, count: int) -> list[ShadowReadCompared]:
    """The first `count` comparisons, once they are there."""
    await settled(lambda: len(comparisons(scene)) >= count)
    return comparisons(scene)


def comparisons(scene: Scene) -> list[ShadowReadCompared]:
    return [event for event in scene.events if isinstance(event, ShadowReadCompared)]


async def settled(holds: Callable[[], bool]) -> None:
    async def condition() -> bool:
        return holds()

    await until(condition, "a comparison", timeout=10, every=0.005)


async def compared(scene: Scene, request: ListMemories | SearchMemories) -> ShadowReadCompared:
    """What one sampled read comes to."""
    scene.events.clear()
    shadow = scene.shadow(ratio=1.0)
    async with comparing(scene, shadow):
        reads = scene.reads(shadow)
        if isinstance(request, ListMemories):
            await reads.list(request, CALLER)
        else:
            await reads.search(request, CALLER)
        (event,) = await outcomes(scene, 1)
    return event


async def test_equal_stores_match(scene: Scene) -> None:
    for number in range(5):
        await scene.row(ROOT, f"tea {number}")
    for request in (ListMemories(ROOT), ListMemories(ROOT, Scope.TEAM, "tea"), SearchMemories((f"workspace:{ROOT}",))):
        assert await compared(scene, request) == ShadowReadCompared("test", "match", 1.0)


async def test_a_row_that_the_plugin_lacks_is_a_mismatch_and_lowers_the_overlap(scene: Scene) -> None:
    await scene.row(ROOT, "there")
    await scene.row(ROOT, "missing", deliver=False)
    event = await compared(scene, ListMemories(ROOT))
    assert event.outcome == "mismatch"
    assert event.overlap < 0.6
    assert (await compared(scene, SearchMemories((f"workspace:{ROOT}",)))).outcome == "mismatch"


async def test_a_row_that_only_the_plugin_shows_is_a_mismatch(scene: Scene) -> None:
    gone = await scene.row(ROOT, "deleted past every trigger")
    await scene.database.execute("DELETE FROM agent_memories WHERE id = $1", gone)
    assert (await compared(scene, ListMemories(ROOT))).outcome == "mismatch"


async def test_a_marked_row_is_no_mismatch(scene: Scene) -> None:
    await scene.row(ROOT, "there")
    late = await scene.row(ROOT, "on its way", deliver=False)
    await scene.database.execute("INSERT INTO cutover.mark (memory_id, rev, origin) VALUES ($1, 1, 'write')", late)
    assert await compared(scene, ListMemories(ROOT)) == ShadowReadCompared("test", "match", 1.0)


async def test_rows_that_the_backfill_has_not_reached_are_no_mismatch(scene: Scene) -> None:
    await scene.database.execute("UPDATE cutover.backfill_cursor SET done = false")
    for number in range(60):
        await scene.row(ROOT, f"old {number}", deliver=number % 2 == 0)
    assert (await compared(scene, ListMemories(ROOT))).outcome == "match"


async def test_the_intended_change_is_no_mismatch_but_a_real_one_beside_it_is(scene: Scene) -> None:
    await scene.row(ROOT, "mine", "GLOBAL")
    await scene.row(STRANGER, "theirs", "GLOBAL")
    await scene.row(None, "nobody's", "GLOBAL")
    assert await compared(scene, ListMemories(CHILD, Scope.GLOBAL)) == ShadowReadCompared("test", "match", 1.0)
    await scene.row(CHILD, "mine but missing", "GLOBAL", deliver=False)
    assert (await compared(scene, ListMemories(CHILD, Scope.GLOBAL))).outcome == "mismatch"


async def test_natives_are_on_both_sides(scene: Scene) -> None:
    await scene.row(ROOT, "row")
    await scene.native(f"workspace:{ROOT}", "native")
    assert (await compared(scene, SearchMemories((f"workspace:{ROOT}",)))).outcome == "match"
    assert (await compared(scene, ListMemories(ROOT))).outcome == "match"


async def test_what_one_look_sees_and_the_next_does_not_is_no_mismatch(scene: Scene) -> None:
    late = await scene.row(ROOT, "late", deliver=False)
    shadow = scene.shadow(ratio=1.0, recent=1.5)
    async with comparing(scene, shadow):
        await scene.reads(shadow).list(ListMemories(ROOT), CALLER)
        await settled(lambda: bool(shadow._again))  # the first look is done
        await scene.deliver(late)
        await scene.row(ROOT, "late in its turn", deliver=False)  # only the second look can see this one missing
        (event,) = await outcomes(scene, 1)
    assert event.outcome == "match"


async def test_a_dead_plugin_is_an_error_for_the_count_and_nothing_for_the_caller(scene: Scene) -> None:
    await scene.row(ROOT, "kept")
    await scene.plugin.close()
    assert (await compared(scene, ListMemories(ROOT))).outcome == "error"


async def test_offers_beyond_the_queue_are_dropped_and_counted(scene: Scene) -> None:
    shadow = scene.shadow(ratio=1.0, capacity=2)
    reads = scene.reads(shadow)
    for _ in range(5):  # nobody compares
        await reads.list(ListMemories(ROOT), CALLER)
    assert [event.outcome for event in await outcomes(scene, 3)] == ["dropped"] * 3


async def test_only_the_sampled_share_is_compared(scene: Scene) -> None:
    chances = iter([0.1, 0.9, 0.4, 0.5])
    shadow = scene.shadow(ratio=0.5, chance=lambda: next(chances))
    reads = scene.reads(shadow)
    for _ in range(4):
        await reads.list(ListMemories(ROOT), CALLER)
    assert len(shadow._fresh) == 2


async def test_nothing_is_sampled_or_compared_outside_a1_and_a2(scene: Scene) -> None:
    await scene.row(ROOT, "missing", deliver=False)
    shadow = scene.shadow(ratio=1.0)
    reads = scene.reads(shadow)
    await reads.list(ListMemories(ROOT), CALLER)  # offered in A2 …
    scene.phase = Phase.A3
    await reads.list(ListMemories(ROOT), CALLER)
    scene.phase = Phase.A0
    await reads.list(ListMemories(ROOT), CALLER)
    assert len(shadow._fresh) == 1
    async with comparing(scene, shadow):
        await settled(lambda: not shadow._fresh)  # … and let go once the phase is over
    assert not comparisons(scene)


# -- the comparison itself -------------------------------------------------------------------------------------------


def ids(*numbers: int) -> tuple[UUID, ...]:
    return tuple(UUID(int=number) for number in numbers)


def answers(
    legacy: tuple[UUID, ...],
    plugin: tuple[UUID, ...],
    *,
    limit: int = 50,
    partial: bool = False,
    expected: tuple[UUID, ...] = (),
) -> Answers:
    return Answers(legacy, plugin, frozenset(expected), limit, partial)


def test_differing_by_case() -> None:
    assert differing(answers(ids(1, 2), ids(2, 3))) == set(ids(1, 3))
    assert differing(answers(ids(1, 2), ids(2, 1))) == set()
    assert differing(answers(ids(1, 2), ids(2, 3), limit=2)) == set(ids(1))  # 3 may be what legacy cut off
    assert differing(answers(ids(1, 2), ids(2, 3), partial=True)) == set(ids(3))
    assert differing(answers(ids(1, 2), ids(2), expected=ids(1))) == set()


def test_overlap_is_one_for_equal_rankings_and_falls_with_exchanges_and_gaps() -> None:
    nothing: frozenset[UUID] = frozenset()
    assert overlap(answers((), ()), nothing) == 1.0
    assert overlap(answers(ids(1, 2, 3), ids(1, 2, 3)), nothing) == 1.0
    early = overlap(answers(ids(1, 2, 3, 4), ids(2, 1, 3, 4)), nothing)
    late = overlap(answers(ids(1, 2, 3, 4), ids(1, 2, 4, 3)), nothing)
    assert early < late < 1.0
    assert overlap(answers(ids(1, 2), ids(1)), nothing) == 0.75
    assert overlap(answers(ids(1, 2), ids(1)), frozenset(ids(2))) == 1.0
    assert overlap(answers(ids(1), ids(2)), nothing) == 0.0
    assert overlap(answers(ids(1, 2), ids(2, 3), limit=2, expected=ids(1)), nothing) == 1.0
    assert overlap(answers(ids(1, 2), ids(1), partial=True), nothing) == 1.0
    assert overlap(answers((uuid4(),), ()), nothing) == 0.0
