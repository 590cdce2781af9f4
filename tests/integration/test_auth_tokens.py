"""Workspace tokens against the real table: who is let in, what everybody else is told, and how soon revoking counts."""

import hashlib
import hmac
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from cutover.domain.errors import InvalidRequest, Unauthenticated
from cutover.http.auth import REMEMBERED_SECONDS, WorkspaceAuth
from cutover.stores.legacy import LiveToken
from tests.integration.read_scene import CHILD, ROOT, Scene, scene_on

TOKEN = "wst_0123456789abcdef"


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Counting:
    """The real look-up, counted."""

    def __init__(self, scene: Scene) -> None:
        self._legacy = scene.legacy
        self.calls = 0

    async def live_token(self, token_hash: bytes) -> LiveToken | None:
        self.calls += 1
        return await self._legacy.live_token(token_hash)


@pytest.fixture
async def scene(database: str) -> AsyncIterator[Scene]:
    async with scene_on(database) as made:
        await made.database.execute(
            "INSERT INTO workspace_auth_tokens (workspace_id, token_hash) VALUES ($1, $2)",
            CHILD,
            hashlib.sha256(TOKEN.encode()).digest(),
        )
        yield made


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer   {TOKEN} "])
async def test_a_live_token_of_the_workspace_is_let_in(scene: Scene, header: str) -> None:
    assert await WorkspaceAuth().workspace("t", scene.legacy, str(CHILD), header) == CHILD
    assert await WorkspaceAuth().workspace("t", scene.legacy, str(CHILD).upper(), header) == CHILD


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", TOKEN, "Bearer " + "x" * 5000])
async def test_no_token_is_missing(scene: Scene, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        await WorkspaceAuth().workspace("t", scene.legacy, str(CHILD), header)
    assert caught.value.message == "missing workspace auth token"
    assert caught.value.status == 401


async def test_every_wrong_token_is_told_the_same(scene: Scene) -> None:
    """A workspace that exists, one that does not, and no id at all: nobody learns which is which."""
    auth = WorkspaceAuth()
    for path, token in (
        (str(CHILD), "wrong"),
        (str(uuid4()), "wrong"),
        ("not-a-uuid", "wrong"),
        (str(ROOT), TOKEN),  # live, but another workspace's
        (str(uuid4()), TOKEN),
        ("not-a-uuid", TOKEN),
        (str(CHILD), "ÿ\udcff"),
    ):
        with pytest.raises(Unauthenticated) as caught:
            await auth.workspace("t", scene.legacy, path, f"Bearer {token}")
        assert caught.value.message == "invalid workspace auth token"


async def test_a_revoked_token_is_refused_after_one_second_at_the_latest(scene: Scene) -> None:
    clock, tokens = Clock(), Counting(scene)
    auth = WorkspaceAuth(clock=clock)
    for _ in range(3):
        await auth.workspace("t", tokens, str(CHILD), f"Bearer {TOKEN}")
    assert tokens.calls == 1
    await scene.database.execute("UPDATE workspace_auth_tokens SET revoked_at = now()")
    clock.now += REMEMBERED_SECONDS
    with pytest.raises(Unauthenticated):
        await auth.workspace("t", tokens, str(CHILD), f"Bearer {TOKEN}")
    assert REMEMBERED_SECONDS <= 1.0


async def test_a_new_token_works_at_once_and_refusals_are_not_remembered(scene: Scene) -> None:
    auth = WorkspaceAuth()
    with pytest.raises(Unauthenticated):
        await auth.workspace("t", scene.legacy, str(ROOT), "Bearer fresh")
    await scene.database.execute(
        "INSERT INTO workspace_auth_tokens (workspace_id, token_hash) VALUES ($1, $2)",
        ROOT,
        hashlib.sha256(b"fresh").digest(),
    )
    assert await auth.workspace("t", scene.legacy, str(ROOT), "Bearer fresh") == ROOT
    assert len(auth._live) == 1


async def test_a_remembered_token_counts_for_its_tenant_only(scene: Scene) -> None:
    clock, tokens = Clock(), Counting(scene)
    auth = WorkspaceAuth(clock=clock)
    await auth.workspace("one", tokens, str(CHILD), f"Bearer {TOKEN}")
    await auth.workspace("two", tokens, str(CHILD), f"Bearer {TOKEN}")
    assert tokens.calls == 2


async def test_comparisons_are_constant_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored hash and the workspace both go through hmac.compare_digest, found or not."""
    seen: list[tuple[int, int]] = []
    genuine = hmac.compare_digest

    def watching(left: bytes, right: bytes) -> bool:
        seen.append((len(left), len(right)))
        return genuine(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watching)
    await WorkspaceAuth().workspace("t", scene.legacy, str(CHILD), f"Bearer {TOKEN}")
    with pytest.raises(Unauthenticated):
        await WorkspaceAuth().workspace("t", scene.legacy, str(CHILD), "Bearer wrong")
    assert seen == [(32, 32), (16, 16)] * 2


async def test_a_trusted_network_needs_no_token_but_an_id(scene: Scene) -> None:
    auth = WorkspaceAuth(trusted_network=True)
    assert await auth.workspace("t", scene.legacy, str(ROOT), None) == ROOT
    with pytest.raises(InvalidRequest) as caught:
        await auth.workspace("t", scene.legacy, "not-a-uuid", None)
    assert caught.value.status == 400
