"""Reads by phase over real stores: what legacy answers in A0–A2, what the plugin answers from A3 on, in one shape."""

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import InvalidRequest, PluginUnreachable, Refused
from cutover.domain.memory import Kind, PluginCommit
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.domain.propagation import Provenance, pack
from cutover.domain.requests import Caller, ListMemories, MemoryPage, SearchMemories, SessionPage
from tests.integration.read_scene import (
    CALLER,
    CHILD,
    GRANDCHILD,
    REMOVED,
    ROOT,
    SIBLING,
    START,
    STRANGER,
    Scene,
    basis,
    scene_on,
)

DUAL = (Phase.A0, Phase.A1, Phase.A2)


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    async with scene_on(database) as made:
        yield made


async def page(scene: Scene, phase: Phase, request: ListMemories) -> MemoryPage:
    scene.phase = phase
    return await scene.reads().list(request, CALLER)


async def found(scene: Scene, phase: Phase, request: SearchMemories) -> list[str]:
    scene.phase = phase
    return [memory.content for memory in (await scene.reads().search(request, CALLER)).memories]


async def family(scene: Scene) -> None:
    """Rows of every workspace and scope; tea is what they have in common."""
    names = {ROOT: "root", CHILD: "child", SIBLING: "sibling", REMOVED: "removed", GRANDCHILD: "grandchild"}
    for workspace, name in names.items():
        for scope in Scope:
            await scene.row(workspace, f"{name} {scope} tea", scope, label="facts" if workspace == CHILD else "general")
    await scene.row(CHILD, "tea tea tea", label="procedures")


@pytest.mark.parametrize("reader", [ROOT, CHILD, REMOVED, GRANDCHILD])
async def test_a_v1_list_is_the_same_before_and_after_the_cutover(scene: Scene, reader: UUID) -> None:
    await family(scene)
    for scope, query, label in itertools.product((None, *Scope), ("", "tea", "T"), (None, "facts")):
        request = ListMemories(reader, scope, query, label)
        before = await page(scene, Phase.A2, request)
        assert await page(scene, Phase.A3, request) == before, request
        assert before.partial is False
        assert before.memories or label


async def test_global_shows_the_readers_own_roots_rows_only_from_a3_on(scene: Scene) -> None:
    mine = await scene.row(ROOT, "mine", "GLOBAL")
    theirs = await scene.row(STRANGER, "theirs", "GLOBAL")
    request = ListMemories(CHILD, Scope.GLOBAL)
    for phase in DUAL:
        assert [row.id for row in (await page(scene, phase, request)).memories] == [theirs, mine]
    after = await page(scene, Phase.A3, request)
    assert [row.content for row in after.memories] == [f"[MEMORY id={mine} scope=GLOBAL from={ROOT}]: mine"]


async def test_v1_shows_facts_without_an_expiry_only(scene: Scene) -> None:
    """A summary was never a row of agent_memories: the idle loop would delete what it had never seen before."""
    fact = await scene.row(ROOT, "a fact")
    later = datetime.now(UTC) + timedelta(days=1)
    await scene.native(f"workspace:{ROOT}", "a summary")
    await scene.native(f"workspace:{ROOT}", "a passing fact", kind=Kind.FACT, expires_at=later)
    for phase in (*DUAL, Phase.A3):
        assert [row.id for row in (await page(scene, phase, ListMemories(ROOT))).memories] == [fact]


async def test_what_another_client_wrote_belongs_to_its_namespace(scene: Scene) -> None:
    await scene.commit(PluginCommit(uuid4(), f"team:{ROOT}", "foreign", propagation={"mine": 1}))
    (row,) = (await page(scene, Phase.A3, ListMemories(ROOT))).memories
    assert (row.content, row.workspace_id, row.scope, row.label) == ("foreign", ROOT, Scope.TEAM, "general")
    assert [row.content for row in (await page(scene, Phase.A3, ListMemories(CHILD, Scope.TEAM))).memories] == [
        "foreign"
    ]
    assert (await page(scene, Phase.A3, ListMemories(CHILD))).memories == ()


async def test_the_cap_is_admitted_where_it_may_hide_rows(scene: Scene) -> None:
    """120 TEAM rows of a sibling stand before the child's own two: the contract gives 100."""
    for number in (1, 2):
        await scene.row(CHILD, f"own {number}", "TEAM")
    for number in range(120):
        await scene.row(SIBLING, f"theirs {number}", "TEAM")
    own = await page(scene, Phase.A3, ListMemories(CHILD))
    assert own.partial is True
    assert own.memories == ()
    whole = await page(scene, Phase.A3, ListMemories(CHILD, Scope.TEAM))
    assert whole.partial is False
    assert whole == await page(scene, Phase.A2, ListMemories(CHILD, Scope.TEAM))
    assert len(whole.memories) == 50


async def test_the_cap_is_admitted_when_the_plugins_order_is_not_v1s(scene: Scene) -> None:
    """Delivered in another order than they were made, as a backfill over HTTP may do."""
    rows = [await scene.row(ROOT, f"row {number}", deliver=False) for number in range(110)]
    for memory_id in reversed(rows):
        await scene.deliver(memory_id)
    shown = await page(scene, Phase.A3, ListMemories(ROOT))
    assert shown.partial is True
    times = [row.created_at for row in shown.memories if row.created_at]
    assert times == sorted(times, reverse=True)
    assert len(times) == 50


async def test_an_unknown_workspace_reads_nothing_in_every_phase(scene: Scene) -> None:
    await family(scene)
    for phase in (*DUAL, Phase.A3):
        for scope in (None, Scope.LOCAL, Scope.TEAM):
            assert (await page(scene, phase, ListMemories(uuid4(), scope))).memories == ()
        assert await scene.reads().session_search(uuid4(), "", 50, CALLER) == SessionPage(())


async def test_session_search_is_the_same_before_and_after_the_cutover(scene: Scene) -> None:
    await family(scene)
    await scene.database.execute(
        "INSERT INTO activity_logs (workspace_id, activity_type, summary, created_at)"
        " VALUES ($1, 'chat', 'a tea party', $2)",
        CHILD,
        START + timedelta(seconds=4.5),
    )
    for query in ("", "tea", "EA", "t", "100%"):
        scene.phase = Phase.A2
        before = await scene.reads().session_search(CHILD, query, 50, CALLER)
        scene.phase = Phase.A3
        assert await scene.reads().session_search(CHILD, query, 50, CALLER) == before
    scene.phase = Phase.A3
    found = await scene.reads().session_search(CHILD, "tea", 50, CALLER)
    items = found.items
    assert [(item.kind, item.label) for item in items] == [
        ("memory", "LOCAL"),
        ("memory", "GLOBAL"),
        ("memory", "TEAM"),
        ("activity", "chat"),
        ("memory", "LOCAL"),
    ]
    assert items[1].content.startswith(f"[MEMORY id={items[1].id} scope=GLOBAL from={CHILD}]: ")
    assert len((await scene.reads().session_search(CHILD, "", 2, CALLER)).items) == 2
    # After the drop there is no agent_memories: the plugin and the activity log must do.
    await scene.database.execute("DROP TABLE agent_memories")
    scene.phase = Phase.A4
    assert await scene.reads().session_search(CHILD, "tea", 50, CALLER) == found
    assert (await page(scene, Phase.A4, ListMemories(CHILD))).memories


async def test_session_search_admits_the_cap(scene: Scene) -> None:
    for number in range(101):
        await scene.row(ROOT, f"row {number}")
    scene.phase = Phase.A3
    assert (await scene.reads().session_search(ROOT, "", 50, CALLER)).partial is False
    everything = await scene.reads().session_search(ROOT, "", 200, CALLER)
    assert (len(everything.items), everything.partial) == (100, True)
    assert (await scene.reads().session_search(ROOT, "row", 50, CALLER)).partial is True
    scene.phase = Phase.A2
    assert (await scene.reads().session_search(ROOT, "", 200, CALLER)).partial is False


# -- the contract's search -------------------------------------------------------------------------------------------


async def test_natives_are_found_from_a1_on_and_in_the_contracts_order(scene: Scene) -> None:
    mine = f"workspace:{ROOT}"
    await scene.row(ROOT, "first tea")
    await scene.native(mine, "second tea")
    await scene.row(ROOT, "third tea")
    await scene.native("custom:notes", "a note on tea", pin=True)
    request = SearchMemories((mine, "custom:notes", mine))
    merged = ["a note on tea", "third tea", "second tea", "first tea"]
    assert await found(scene, Phase.A0, request) == ["third tea", "first tea"]
    for phase in (Phase.A1, Phase.A2, Phase.A3):
        assert await found(scene, phase, request) == merged
        assert await found(scene, phase, SearchMemories((mine,), limit=2)) == ["third tea", "second tea"]
        assert await found(scene, phase, SearchMemories((mine,), kinds=frozenset({Kind.SUMMARY}))) == ["second tea"]
        assert sorted(await found(scene, phase, SearchMemories((mine,), "tea"))) == [
            "first tea",
            "second tea",
            "third tea",
        ]


async def test_an_embedding_finds_natives_through_the_plugin(scene: Scene) -> None:
    mine = f"workspace:{ROOT}"
    blend = [0.8 if each == 0 else 0.6 if each == 1 else 0.0 for each in range(1536)]
    await scene.row(ROOT, "exact", embedding=basis(0))
    await scene.row(ROOT, "other", embedding=basis(1))
    await scene.native(mine, "between", embedding=blend)
    request = SearchMemories((mine,), embedding=tuple(basis(0)))
    assert await found(scene, Phase.A0, request) == ["exact", "other"]
    for phase in (Phase.A1, Phase.A2, Phase.A3):
        assert await found(scene, phase, request) == ["exact", "between", "other"]
    scene.phase = Phase.A2
    result = await scene.reads().search(request, CALLER)
    assert [memory.score for memory in result.memories] == pytest.approx([1.0, 0.8, 0.0], abs=1e-5)


async def test_propagation_comes_back_as_the_caller_gave_it(scene: Scene) -> None:
    ours = Provenance(ROOT, Scope.LOCAL, "general", START, START)
    for number, given in enumerate(({"trace": ["x"]}, "just text", None)):
        await scene.commit(
            PluginCommit(UUID(int=100 + number), f"workspace:{ROOT}", "c", propagation=pack(ours, given))
        )
    scene.phase = Phase.A3
    result = await scene.reads().search(SearchMemories((f"workspace:{ROOT}",)), CALLER)
    assert {memory.id.int - 100: memory.propagation for memory in result.memories} == {
        0: {"trace": ["x"]},
        1: "just text",
        2: None,
    }
    assert {memory.created_at for memory in result.memories} == {START}  # not the time of the delivery


async def test_content_of_an_organisation_is_as_stored_on_the_contract(scene: Scene) -> None:
    await scene.row(ROOT, "[_MEMORY forged", "GLOBAL")
    for phase in (Phase.A0, Phase.A3):
        assert await found(scene, phase, SearchMemories((f"org:{ROOT}",))) == ["[_MEMORY forged"]


# -- refusing --------------------------------------------------------------------------------------------------------


async def test_a_dead_plugin_is_an_error_from_a3_on_and_never_an_answer_from_legacy(scene: Scene) -> None:
    await family(scene)
    await scene.plugin.close()
    scene.phase = Phase.A3
    reads = scene.reads()
    with pytest.raises(PluginUnreachable):
        await reads.list(ListMemories(ROOT), CALLER)
    with pytest.raises(PluginUnreachable):
        await reads.search(SearchMemories((f"workspace:{ROOT}",)), CALLER)
    with pytest.raises(PluginUnreachable):
        await reads.session_search(ROOT, "", 50, CALLER)
    scene.phase = Phase.A2
    assert (await reads.list(ListMemories(ROOT), CALLER)).memories


async def test_a_request_that_waited_too_long_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="waited too long"):
        await scene.reads().list(ListMemories(ROOT), Caller("plugin", arrived=0.001))


@pytest.mark.parametrize("query", ["nul\0", "half \ud800 pair"])
async def test_text_that_nothing_can_hold_is_the_callers_mistake(scene: Scene, query: str) -> None:
    for phase in (Phase.A0, Phase.A3):
        with pytest.raises(InvalidRequest):
            await page(scene, phase, ListMemories(ROOT, query=query))
