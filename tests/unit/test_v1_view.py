"""A plugin memory as the v1 row it stands for, and when a capped answer can be trusted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.memory import Kind, LegacyMemory, PluginMemory, Source
from cutover.domain.namespace import Scope
from cutover.domain.propagation import Provenance, pack
from cutover.engine.v1_view import holds_first, in_order, row_of, shown

NOW = datetime(2026, 4, 1, 12, 0, 0, 1, tzinfo=UTC)
WRITER, HEAD = UUID(int=1), UUID(int=2)


def memory(namespace: str = f"team:{HEAD}", **fields: Any) -> PluginMemory:
    return PluginMemory(uuid4(), namespace, "content", fields.pop("kind", Kind.FACT), Source.AGENT, NOW, **fields)


def row(age: float = 0, score: float | None = None, number: int = 0) -> LegacyMemory:
    made = NOW - timedelta(seconds=age)
    return LegacyMemory(UUID(int=number), WRITER, "", Scope.LOCAL, "general", made, similarity_score=score)


@pytest.mark.parametrize("scope", list(Scope))
def test_a_delivered_row_comes_back_exactly(scope: Scope) -> None:
    namespace = {Scope.LOCAL: "workspace", Scope.TEAM: "team", Scope.GLOBAL: "org"}[scope] + f":{HEAD}"
    ours = Provenance(WRITER, scope, "facts", NOW - timedelta(days=9), NOW - timedelta(days=1))
    found = memory(namespace, propagation=pack(ours, {"theirs": 1}))
    back = row_of(found)
    assert back == LegacyMemory(
        found.id, WRITER, "content", scope, "facts", NOW - timedelta(days=9), NOW - timedelta(days=1)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": Kind.SUMMARY},
        {"kind": Kind.CHECKPOINT},
        {"expires_at": NOW},
        {"namespace": "custom:x"},
        {"namespace": "workspace:nobody"},
        {"propagation": pack(Provenance(WRITER, None, "general", NOW, NOW))},
    ],
)
def test_what_has_no_v1_form_is_not_shown(fields: dict[str, Any]) -> None:
    assert row_of(memory(**fields)) is None


@pytest.mark.parametrize("propagation", [None, "text", {"cutover": "forged"}, {"cutover": {"workspace_id": "no"}}])
def test_without_provenance_the_namespace_decides(propagation: Any) -> None:
    back = row_of(memory(propagation=propagation))
    assert back is not None
    assert (back.workspace_id, back.scope, back.label, back.created_at) == (HEAD, Scope.TEAM, "general", NOW)


def test_global_is_wrapped_and_scores_are_not_shown() -> None:
    plain = replace(row(score=0.5), content="c")
    assert shown(plain) == replace(plain, similarity_score=None)
    wrapped = shown(replace(plain, scope=Scope.GLOBAL))
    assert wrapped.content == f"[MEMORY id={plain.id} scope=GLOBAL from={WRITER}]: c"


def test_order_is_score_then_newest_then_id_to_the_microsecond() -> None:
    best, newer, older = row(9, 0.5, 1), row(0.000001, 0.1, 2), row(0.000002, 0.1, 3)
    twin = row(0.000002, 0.1, 4)
    timeless = replace(row(0, 0.1, 5), created_at=None)
    assert in_order([timeless, twin, older, newer, best]) == [best, newer, older, twin, timeless]


def test_a_capped_answer_holds_the_first_only_in_v1s_order_and_when_enough_is_left() -> None:
    listed = [row(age, number=age) for age in range(3)]
    assert holds_first(listed, 3)
    assert not holds_first(listed, 4)
    assert not holds_first([listed[1], listed[0], listed[2]], 2)
    assert holds_first([], 0)
