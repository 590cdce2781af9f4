"""The legacy store on real PostgreSQL: v1's visibility and search, the contract's search, the tree, tokens."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from cutover.domain.errors import NotFound
from cutover.domain.memory import Kind, Source
from cutover.domain.namespace import Scope
from cutover.domain.requests import ListMemories
from tests.conftest import MakeDatabase
from tests.integration.read_scene import (
    CHILD,
    GRANDCHILD,
    LEFT,
    REMOVED,
    RIGHT,
    ROOT,
    SELF,
    SIBLING,
    START,
    STRANGER,
    Scene,
    basis,
    scene_on,
)


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    async with scene_on(database) as made:
        yield made


async def listed(scene: Scene, workspace: UUID, scope: Scope | None = None, **options: object) -> list[str]:
    request = ListMemories(workspace, scope, **options)  # type: ignore[arg-type]
    return [memory.content for memory in await scene.legacy.list(request)]


async def found(scene: Scene, *namespaces: str, natives: bool = False, **options: object) -> list[str]:
    options.setdefault("limit", 20)
    memories = await scene.legacy.search(namespaces, natives=natives, **options)  # type: ignore[arg-type]
    return [memory.content for memory in memories]


# -- v1: who sees what ---------------------------------------------------------------------------------------------


async def every_scope(scene: Scene) -> None:
    for name, workspace in (
        ("root", ROOT),
        ("child", CHILD),
        ("sibling", SIBLING),
        ("removed", REMOVED),
        ("grandchild", GRANDCHILD),
        ("stranger", STRANGER),
    ):
        for scope in Scope:
            await scene.row(workspace, f"{name} {scope}", scope, deliver=False)


async def test_local_and_no_scope_show_the_workspaces_own_rows_newest_first(scene: Scene) -> None:
    await every_scope(scene)
    assert await listed(scene, CHILD, Scope.LOCAL) == ["child LOCAL"]
    assert await listed(scene, CHILD) == ["child GLOBAL", "child TEAM", "child LOCAL"]


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (ROOT, {"root", "child", "sibling"}),
        (CHILD, {"root", "child", "sibling"}),
        (REMOVED, {"root", "child", "sibling"}),
        (GRANDCHILD, {"child", "grandchild"}),
        (STRANGER, {"stranger"}),
    ],
)
async def test_team_shows_the_parent_and_its_children_but_no_removed_ones(
    scene: Scene, reader: UUID, expected: set[str]
) -> None:
    await every_scope(scene)
    assert set(await listed(scene, reader, Scope.TEAM)) == {f"{name} TEAM" for name in expected}


async def test_global_shows_every_row_of_the_database_and_those_of_no_workspace(scene: Scene) -> None:
    await every_scope(scene)
    await scene.row(None, "nobody GLOBAL", "GLOBAL")
    shown = await listed(scene, STRANGER, Scope.GLOBAL)
    assert len(shown) == 7
    assert shown[0] == "nobody GLOBAL"
    assert "removed GLOBAL" in shown


async def test_team_visibility_with_a_text_status(make_database: MakeDatabase) -> None:
    async with scene_on(await make_database(status_enum=False, embedding=False)) as scene:
        await every_scope(scene)
        assert set(await listed(scene, CHILD, Scope.TEAM)) == {"root TEAM", "child TEAM", "sibling TEAM"}
        assert await scene.legacy.has_embedding() is False
        assert (await scene.legacy.tree(REMOVED)).status == "removed"
        # Without the column an embedding is no way to search: the text decides, as in a plugin that cannot embed.
        assert await found(scene, f"workspace:{ROOT}", embedding=basis(0)) == ["root LOCAL"]


async def test_label_filters_exactly(scene: Scene) -> None:
    await scene.row(ROOT, "a fact", label="facts", deliver=False)
    await scene.row(ROOT, "a habit", label="procedures", deliver=False)
    assert await listed(scene, ROOT, label="facts") == ["a fact"]
    assert await listed(scene, ROOT, label="fact") == []


@pytest.mark.parametrize(("limit", "count"), [(-3, 1), (0, 1), (2, 2), (50, 50), (51, 50), (10**9, 50)])
async def test_limit_clamps(scene: Scene, limit: int, count: int) -> None:
    for number in range(52):
        await scene.row(ROOT, f"row {number}", deliver=False)
    assert len(await listed(scene, ROOT, limit=limit)) == count


async def test_full_text_stems_ranks_and_then_takes_the_newest(scene: Scene) -> None:
    await scene.row(ROOT, "deploys on Friday", deliver=False)
    await scene.row(ROOT, "deploying: deploy, deployed, deploys", deliver=False)
    await scene.row(ROOT, "deployed on Friday", deliver=False)
    await scene.row(ROOT, "nothing of the kind", deliver=False)
    assert await listed(scene, ROOT, query="deploy") == [
        "deploying: deploy, deployed, deploys",
        "deployed on Friday",
        "deploys on Friday",
    ]
    assert await listed(scene, ROOT, query="deploy friday") == ["deployed on Friday", "deploys on Friday"]
    assert await listed(scene, ROOT, query="the") == []  # a stop word finds nothing, as in v1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("%", ["100% sure"]),
        ("_", ["snake_case"]),
        ("\\", ["back\\slash"]),
        ("S", ["snake_case", "back\\slash", "100% sure"]),
    ],
)
async def test_one_character_is_a_literal_substring_in_any_case(scene: Scene, query: str, expected: list[str]) -> None:
    for content in ("100% sure", "back\\slash", "snake_case"):
        await scene.row(ROOT, content, deliver=False)
    assert await listed(scene, ROOT, query=query) == expected


async def test_a_row_without_created_at_is_the_oldest(scene: Scene) -> None:
    await scene.row(ROOT, "timeless", created_at=None, deliver=False)
    await scene.row(ROOT, "dated", deliver=False)
    assert await listed(scene, ROOT) == ["dated", "timeless"]


async def test_hostile_text_is_a_parameter(scene: Scene) -> None:
    await scene.row(ROOT, "kept", deliver=False)
    assert await listed(scene, ROOT, query="'; DROP TABLE agent_memories; --") == []
    assert await listed(scene, ROOT, label="' OR true --") == []
    assert await listed(scene, ROOT) == ["kept"]


# -- the contract's search -------------------------------------------------------------------------------------------


async def test_namespaces_are_derived_from_the_tree_as_it_is_now(scene: Scene) -> None:
    await every_scope(scene)
    assert await found(scene, f"workspace:{CHILD}") == ["child LOCAL"]
    assert set(await found(scene, f"team:{ROOT}")) == {"root TEAM", "child TEAM", "sibling TEAM", "removed TEAM"}
    assert await found(scene, f"team:{CHILD}") == ["grandchild TEAM"]
    assert set(await found(scene, f"org:{ROOT}")) == {
        f"{name} GLOBAL" for name in ("root", "child", "sibling", "removed", "grandchild")
    }
    assert await found(scene, f"org:{CHILD}") == []  # no root: nothing derives to it
    await scene.database.execute("UPDATE workspaces SET parent_id = $1 WHERE id = $2", STRANGER, CHILD)
    assert set(await found(scene, f"org:{STRANGER}")) == {"stranger GLOBAL", "child GLOBAL", "grandchild GLOBAL"}
    assert set(await found(scene, f"team:{STRANGER}")) == {"stranger TEAM", "child TEAM"}


async def test_a_cycle_ends_and_agrees_with_the_writes(scene: Scene) -> None:
    for name, workspace in (("left", LEFT), ("right", RIGHT), ("self", SELF)):
        await scene.row(workspace, name, "GLOBAL", deliver=False)
    rows = await scene.database.fetch(
        "SELECT content, cutover.namespace_of(workspace_id, scope) AS place FROM agent_memories ORDER BY content"
    )
    for row in rows:
        assert await found(scene, row["place"]) == [row["content"]]


async def test_nonsense_and_custom_namespaces_find_no_legacy_rows(scene: Scene) -> None:
    await every_scope(scene)
    upper = UUID("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
    await scene.database.execute("INSERT INTO workspaces (id, name) VALUES ($1, 'w')", upper)
    await scene.row(upper, "other spelling", deliver=False)
    assert await found(scene, "custom:x", "workspace:nobody", f"workspace:{str(upper).upper()}") == []


async def test_extras_are_joined_and_pinned_rows_come_first(scene: Scene) -> None:
    pinned = await scene.row(ROOT, "old and pinned", deliver=False)
    await scene.row(ROOT, "newer", deliver=False)
    await scene.database.execute(
        "INSERT INTO cutover.extra (memory_id, source, pin, propagation) VALUES ($1, 'user', true, '{\"a\": [1]}')",
        pinned,
    )
    first, second = await scene.legacy.search([f"workspace:{ROOT}"], limit=20, natives=False)
    assert (first.content, first.source, first.pin, first.propagation) == (
        "old and pinned",
        Source.USER,
        True,
        {"a": [1]},
    )
    assert (second.source, second.pin, second.propagation, second.score) == (Source.AGENT, False, None, None)
    assert first.kind is Kind.FACT
    assert first.expires_at is None


async def test_search_by_text_scores_and_by_one_character_does_not(scene: Scene) -> None:
    await scene.row(ROOT, "coffee", deliver=False)
    await scene.row(ROOT, "coffee coffee coffee and tea", deliver=False)
    memories = await scene.legacy.search([f"workspace:{ROOT}"], text="coffee", limit=20, natives=False)
    scores = [memory.score for memory in memories]
    assert scores == sorted((score for score in scores if score is not None), reverse=True)
    assert len(scores) == 2
    assert await found(scene, f"workspace:{ROOT}", text="%") == []


async def test_search_by_embedding_is_exact_under_a_filter(scene: Scene) -> None:
    for axis in range(40):
        await scene.row(STRANGER, f"noise {axis}", embedding=basis(0), deliver=False)
    near = [0.9 if each == 0 else 0.1 if each == 1 else 0.0 for each in range(1536)]
    await scene.row(ROOT, "near", embedding=near, deliver=False)
    await scene.row(ROOT, "far", embedding=basis(1), deliver=False)
    await scene.row(ROOT, "none", deliver=False)
    memories = await scene.legacy.search([f"workspace:{ROOT}"], embedding=basis(0), limit=20, natives=False)
    assert [memory.content for memory in memories] == ["near", "far"]
    assert memories[0].score == pytest.approx(0.9 / (0.82**0.5), abs=1e-4)
    assert memories[1].score == pytest.approx(0.0, abs=1e-6)


async def test_kinds_leave_legacy_rows_out_unless_facts_are_asked_for(scene: Scene) -> None:
    await scene.row(ROOT, "a fact", deliver=False)
    assert await found(scene, f"workspace:{ROOT}", kinds=frozenset({Kind.SUMMARY})) == []
    assert await found(scene, f"workspace:{ROOT}", kinds=frozenset({Kind.SUMMARY, Kind.FACT})) == ["a fact"]


async def test_natives_are_merged_in_order_cut_to_the_limit_and_expire(scene: Scene) -> None:
    mine = f"workspace:{ROOT}"
    await scene.row(ROOT, "row one tea", deliver=False)
    await scene.native(mine, "native two tea tea tea")
    await scene.row(ROOT, "row three tea", deliver=False)
    await scene.native(mine, "gone tea", expires_at=START)
    await scene.native("custom:notes", "custom tea")
    assert await found(scene, mine, natives=True) == ["row three tea", "native two tea tea tea", "row one tea"]
    assert await found(scene, mine, natives=True, limit=2) == ["row three tea", "native two tea tea tea"]
    assert await found(scene, mine, natives=False) == ["row three tea", "row one tea"]
    assert (await found(scene, mine, natives=True, text="tea"))[0] == "native two tea tea tea"
    assert await found(scene, mine, natives=True, text="w") == [
        "row three tea",
        "native two tea tea tea",
        "row one tea",
    ]
    assert await found(scene, "custom:notes", natives=True) == ["custom tea"]
    assert await found(scene, mine, natives=True, kinds=frozenset({Kind.SUMMARY})) == ["native two tea tea tea"]


# -- the tree, tokens, what may differ -------------------------------------------------------------------------------


async def test_tree_of_every_shape(scene: Scene) -> None:
    child, grandchild = await scene.legacy.tree(CHILD), await scene.legacy.tree(GRANDCHILD)
    assert (child.parent_id, child.root_id, child.status) == (ROOT, ROOT, "online")
    assert grandchild.readable() == (f"workspace:{GRANDCHILD}", f"team:{CHILD}", f"org:{ROOT}")
    assert (await scene.legacy.tree(ROOT)).writable() == (f"workspace:{ROOT}", f"team:{ROOT}", f"org:{ROOT}")
    assert (await scene.legacy.tree(LEFT)).root_id == RIGHT
    assert (await scene.legacy.tree(SELF)).root_id == SELF
    with pytest.raises(NotFound, match="workspace not found"):
        await scene.legacy.tree(uuid4())


async def test_a_chain_longer_than_fifty_hops_stops(scene: Scene) -> None:
    chain = [uuid4() for _ in range(60)]
    parents = [None, *chain[:-1]]
    await scene.database.executemany(
        "INSERT INTO workspaces (id, name, parent_id) VALUES ($1, 'w', $2)", list(zip(chain, parents, strict=True))
    )
    assert (await scene.legacy.tree(chain[50])).root_id == chain[0]
    assert (await scene.legacy.tree(chain[59])).root_id == chain[9]


async def test_only_a_live_token_is_found(scene: Scene) -> None:
    digest = hashlib.sha256(b"secret").digest()
    await scene.database.execute(
        "INSERT INTO workspace_auth_tokens (workspace_id, token_hash) VALUES ($1, $2)", CHILD, digest
    )
    live = await scene.legacy.live_token(digest)
    assert live is not None
    assert (live.workspace_id, live.token_hash) == (CHILD, digest)
    await scene.database.execute("UPDATE workspace_auth_tokens SET revoked_at = now()")
    assert await scene.legacy.live_token(digest) is None


async def test_unsettled_names_what_may_differ_and_nothing_else(scene: Scene) -> None:
    before, after = START - timedelta(days=1), START + timedelta(days=1)
    await scene.database.execute(
        "INSERT INTO cutover.phase_event (epoch, from_phase, to_phase, actor, reason, at, previous_hash, hash)"
        " VALUES (99, 'A0', 'A1', 'test', '', $1, '', '')",
        START,
    )
    old = await scene.row(ROOT, "not backfilled", created_at=before, deliver=False)
    new = await scene.row(ROOT, "captured", created_at=after - timedelta(hours=1), deliver=False)
    marked, held, gone, unknown = uuid4(), uuid4(), uuid4(), uuid4()
    await scene.database.execute("INSERT INTO cutover.mark (memory_id, rev, origin) VALUES ($1, 1, 'write')", marked)
    await scene.database.execute(
        "INSERT INTO cutover.quarantine (memory_id, reason, rev) VALUES ($1, 'empty_content', 1)", held
    )
    await scene.database.execute("INSERT INTO cutover.tombstone (memory_id, rev) VALUES ($1, 1)", gone)
    everything = [old, new, marked, held, gone, unknown]
    assert await scene.legacy.unsettled(everything, seconds=5) == {old, marked, held, gone}
    await scene.database.execute(
        "INSERT INTO cutover.backfill_cursor (scope, generation, done)"
        " SELECT 'tenant', generation, true FROM cutover.phase_state"
    )
    assert await scene.legacy.unsettled(everything, seconds=5) == {marked, held, gone}
    await scene.database.execute("UPDATE agent_memories SET updated_at = now() WHERE id = $1", new)
    assert new in await scene.legacy.unsettled(everything, seconds=60)


async def test_session_rows_hold_the_text_in_any_field_and_any_case(scene: Scene) -> None:
    await scene.row(ROOT, "100% Coffee", deliver=False)
    await scene.row(ROOT, "tea", "TEAM", deliver=False)
    await scene.database.execute(
        "INSERT INTO activity_logs (workspace_id, activity_type, summary, method, request_body, created_at) VALUES"
        " ($1, 'a2a_send', 'brewed coffee', 'POST', '{\"k\": [1, \"v\"]}', $2), ($1, 'idle', NULL, NULL, NULL, $2)",
        ROOT,
        START,
    )
    coffee = await scene.legacy.session_activity(ROOT, "COFFEE", 200)
    assert [(item.kind, item.label, item.method, item.request_body) for item in coffee] == [
        ("activity", "a2a_send", "POST", {"k": [1, "v"]})
    ]
    assert [row.content for row in await scene.legacy.session_memories(ROOT, "0% c", 200)] == ["100% Coffee"]
    assert [row.content for row in await scene.legacy.session_memories(ROOT, "team", 200)] == ["tea"]
    assert len(await scene.legacy.session_activity(ROOT, "", 0)) == 1
    assert len(await scene.legacy.session_activity(ROOT, "", 200)) == 2
