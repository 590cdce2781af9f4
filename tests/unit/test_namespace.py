"""Scope and namespace, forth and back (domain §3)."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.namespace import (
    MAX_NAMESPACE_LENGTH,
    LegacyPlace,
    NamespaceKind,
    Scope,
    WorkspaceTree,
    is_valid_name,
    kind_of,
    legacy_place,
    name_for,
)

W, P, R = (UUID(int=n) for n in (0xA, 0xB, 0xC))


@pytest.mark.parametrize(
    "name", ["workspace:x", "custom:a:b.c-d_E9", "z:0", f"team:{W}", "a:" + "x" * (MAX_NAMESPACE_LENGTH - 2)]
)
def test_names_that_are(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "x",
        "x:",
        ":x",
        "X:x",
        "x1:x",
        "x:ä",
        "x: y",
        "x:y\n",
        "x:y/z",
        "x:y\0",
        "a:" + "x" * (MAX_NAMESPACE_LENGTH - 1),
    ],
)
def test_names_that_are_not(name: str) -> None:
    assert not is_valid_name(name)


@given(st.uuids(), st.sampled_from(Scope))
def test_forth_and_back(anchor: UUID, scope: Scope) -> None:
    name = name_for(scope, anchor)
    assert is_valid_name(name)
    assert legacy_place(name) == LegacyPlace(anchor, scope)
    assert kind_of(name).value in ("workspace", "team", "org")


@given(st.text(max_size=60))
def test_whatever_has_a_place_has_exactly_its_own_name(name: str) -> None:
    place = legacy_place(name)
    assert place is None or name_for(place.scope, place.workspace_id) == name


@pytest.mark.parametrize(
    "name",
    [
        f"custom:{W}",
        "workspace:x",
        f"workspace:{str(W).upper()}",
        f"workspace:{W.hex}",
        f"workspace:{{{W}}}",
        f"team:{W}x",
        f"Workspace:{W}",
    ],
)
def test_names_without_a_place(name: str) -> None:
    assert legacy_place(name) is None


def test_kinds() -> None:
    assert [kind_of(f"{prefix}:x") for prefix in ("workspace", "team", "org", "custom", "other")] == [
        NamespaceKind.WORKSPACE, NamespaceKind.TEAM, NamespaceKind.ORG, NamespaceKind.CUSTOM, NamespaceKind.CUSTOM,
    ]  # fmt: skip


def test_rights_of_a_root_and_of_a_child() -> None:
    root = WorkspaceTree(R, None, R, "online")
    assert root.readable() == (f"workspace:{R}", f"team:{R}", f"org:{R}")
    assert root.writable() == root.readable()
    child = WorkspaceTree(W, P, R, "online")
    assert child.readable() == (f"workspace:{W}", f"team:{P}", f"org:{R}")
    assert child.writable() == (f"workspace:{W}", f"team:{P}")
