"""Which rows digest sweeps call equal: odd contents, odd times, odd trees, and rows made to look alike."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from tests.integration.digest_scene import INSERT, confirmed, digest, findings, hurt
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD, ROOT

SCOPES = ("LOCAL", "TEAM", "GLOBAL")
CONTENTS = [
    "plain",
    "plain",  # equal contents under different ids
    "\u00e9\u4e16\U0001f9e0 e\u0301 \u202e\u200b",
    "tab\tnew\nline\r\n  ends with spaces  ",
    "x" * 100_000,
    "\u4e16" * 40_000,
    "|,;:'\"\\ \x01\x1f {}[] NULL \\N \\x00",
    "0",
]


def rows() -> list[tuple[Any, ...]]:
    return [(uuid4(), CHILD if n % 2 else ROOT, content, SCOPES[n % 3]) for n, content in enumerate(CONTENTS * 3)]


async def odd_rows(s: Scene) -> None:
    """What no caller can make through a face, but old tables hold."""
    loop, other = uuid4(), uuid4()
    await s.database.execute(
        "INSERT INTO workspaces (id, name, parent_id) VALUES ($1, 'loop', NULL), ($2, 'other', $1)", loop, other
    )
    await s.database.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", loop, other)
    deep = ROOT
    for _ in range(60):
        below = uuid4()
        await s.database.execute("INSERT INTO workspaces (id, name, parent_id) VALUES ($1, 'deep', $2)", below, deep)
        deep = below
    for workspace in (loop, other, deep):
        for scope in SCOPES:
            await s.insert(workspace, f"of {workspace} {scope}", scope)
    for time in (
        "NULL",
        "'-infinity'",
        "'infinity'",
        "'0001-01-01 BC'",
        "'9999-12-31 12:00'",
        "'1970-01-01 00:00:00.000001+00'",
        "now() + interval '400 days'",
    ):
        await s.database.execute(
            "INSERT INTO agent_memories (workspace_id, content, scope, namespace, created_at, updated_at)"
            f" VALUES ($1, 'at some time', 'LOCAL', 'l|a\u00e9\tbel', {time}, {time})",
            CHILD,
        )


@pytest.mark.parametrize("embedding", [True, False], ids=["embedding", "no embedding"])
async def test_whatever_was_delivered_is_equal(make_database: Any, embedding: bool) -> None:
    async with scene(await make_database(embedding=embedding), phase=Phase.A0, rows=rows()) as s:
        await odd_rows(s)
        await s.insert(None, "of nobody")
        await s.insert(CHILD, "   ")
        await s.enter(Phase.A2)
        await odd_rows(s)
        edited = await s.create(CHILD, "before", Scope.TEAM)
        await s.edit(CHILD, edited.id, "after", label="other label")
        await s.commit("custom:x", "a native", Kind.SUMMARY, pin=True)
        await s.commit(f"workspace:{CHILD}", "pinned fact", pin=True)
        await s.quiet()
        outcome = await digest(s)
        assert (outcome["outcome"], outcome["trusted"]) == ("clean", True), (outcome, await findings(s))
        await s.step(Phase.A3)
        assert (await digest(s))["outcome"] == "clean", await findings(s)


# Each changes bytes without changing the concatenation of the fields that a naive digest would hash.
SWAPS = {
    "content and label trade a character": (
        (
            "UPDATE {records} SET content = 'b' || content, propagation ="
            " jsonb_set(propagation, '{{cutover,namespace}}',"
            " to_jsonb(left(propagation -> 'cutover' ->> 'namespace', -1)))"
            " WHERE id = $1"
        ),
        {"content", "provenance"},
    ),
    "content becomes its own hash's text": (
        "UPDATE {records} SET content = encode(sha256(convert_to(content, 'UTF8')), 'hex') WHERE id = $1",
        {"content"},
    ),
    "a space more at the end": ("UPDATE {records} SET content = content || ' ' WHERE id = $1", {"content"}),
    "the same letters, composed": ("UPDATE {records} SET content = normalize(content, NFD) WHERE id = $1", {"content"}),
    "label and scope trade places": (
        (
            "UPDATE {records} SET propagation = jsonb_set(jsonb_set(propagation, '{{cutover,scope}}',"
            " propagation -> 'cutover' -> 'namespace'), '{{cutover,namespace}}', propagation -> 'cutover' -> 'scope')"
            " WHERE id = $1"
        ),
        {"provenance"},
    ),
    "a delimiter in the owner": (
        (
            "UPDATE {records} SET propagation = jsonb_set(jsonb_set(propagation, '{{cutover,workspace_id}}',"
            " to_jsonb(propagation -> 'cutover' ->> 'workspace_id' || '|LOCAL')), '{{cutover,scope}}', '\"fact\"')"
            " WHERE id = $1"
        ),
        {"provenance"},
    ),
    "no provenance at all": ("UPDATE {records} SET propagation = NULL WHERE id = $1", {"provenance"}),
    "another kind": ("UPDATE {records} SET kind = 'summary' WHERE id = $1", {"provenance"}),
    "another source": ("UPDATE {records} SET source = 'user' WHERE id = $1", {"provenance"}),
    "an expiry": ("UPDATE {records} SET expires_at = now() + interval '1 day' WHERE id = $1", {"provenance"}),
    "expired": ("UPDATE {records} SET expires_at = now() - interval '1 day' WHERE id = $1", {"missing_in_plugin"}),
}


async def test_rows_made_to_look_alike_are_told_apart(database: str) -> None:
    made = {name: uuid4() for name in SWAPS}
    given = [(memory_id, CHILD, "caf\u00e9 b|fact|", "LOCAL") for memory_id in made.values()]
    two = [uuid4(), uuid4()]
    given += [(memory_id, CHILD, f"content of {memory_id}", "LOCAL") for memory_id in two]
    async with scene(database, phase=Phase.A0, rows=given) as s:
        await s.database.execute("UPDATE agent_memories SET namespace = 'lab'")
        await s.enter(Phase.A2)
        await s.quiet()
        await s.tenant._creation_times.flush()
        for name, (sql, _) in SWAPS.items():
            await hurt(s, sql, made[name])
        # Two rows exchange their contents: every field of the table still occurs as often as before.
        for one, other in (two, reversed(two)):
            await hurt(s, "UPDATE {records} SET content = $2 WHERE id = $1", one, f"content of {other}")
        assert (await digest(s))["outcome"] == "divergent"
        expected = {(made[name], each) for name, (_, classes) in SWAPS.items() for each in classes}
        assert await confirmed(s) == expected | {(each, "content") for each in two}


async def test_a_moved_workspace_whose_rows_were_not_moved(database: str) -> None:
    given = [(uuid4(), CHILD, f"memory {n}", SCOPES[n % 3]) for n in range(9)]
    async with scene(database, phase=Phase.A1, rows=given) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        # As a writer would do it that the triggers do not see: replication, or a dump that is restored.
        await s.database.execute("ALTER TABLE workspaces DISABLE TRIGGER ALL")
        await s.database.execute("UPDATE workspaces SET parent_id = NULL WHERE id = $1", CHILD)
        await s.database.execute("ALTER TABLE workspaces ENABLE TRIGGER ALL")
        assert (await digest(s))["outcome"] == "divergent"
        assert await confirmed(s) == {(row[0], "namespace") for row in given if row[3] != "LOCAL"}


@pytest.mark.parametrize("phases", [(Phase.A1, Phase.A2), (Phase.A3,)], ids=["before A3", "in A3"])
async def test_natives_are_expected_too(database: str, phases: tuple[Phase, ...]) -> None:
    async with scene(database, phase=phases[0]) as s:
        lost = await s.commit("custom:x", "lost", Kind.SUMMARY)
        changed = await s.commit("custom:x", "changed", Kind.CHECKPOINT)
        kept = await s.commit("custom:x", "kept", Kind.SUMMARY)
        forgotten = await s.commit("custom:x", "forgotten", Kind.SUMMARY)
        await s.forget("custom:x", forgotten.id)
        await s.quiet()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", lost.id)
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", changed.id)
        await hurt(s, INSERT, forgotten.id, "custom:x", "forgotten")
        for phase in phases:
            await s.enter(phase)
            await digest(s)
            assert await confirmed(s) == {
                (lost.id, "missing_in_plugin"),
                (changed.id, "content"),
                (forgotten.id, "resurrected"),
            }, phase
        assert await s.content(kept.id) == "kept"


async def test_in_a3_expected_is_frozen_legacy_with_the_journal_over_it(database: str) -> None:
    given = [(uuid4(), CHILD, f"memory {n}", "LOCAL") for n in range(12)]
    ids: list[UUID] = [row[0] for row in given]
    async with scene(database, phase=Phase.A1, rows=given) as s:
        await s.enter(Phase.A3)
        made = await s.create(CHILD, "made after the cutover", Scope.TEAM)
        other = await s.create(CHILD, "made and lost")
        await s.edit(CHILD, ids[0], "edited after the cutover")
        await s.edit(CHILD, ids[1], "edited and undone")
        await s.delete(CHILD, ids[2])
        await s.delete(CHILD, ids[3])
        await s.quiet()
        assert (await digest(s))["outcome"] == "clean", await findings(s)
        await hurt(s, "UPDATE {records} SET content = 'memory 1' WHERE id = $1", ids[1])
        await hurt(s, INSERT, ids[3], f"workspace:{CHILD}", "memory 3")
        await hurt(s, "DELETE FROM {records} WHERE id = $1", other.id)
        await hurt(s, "DELETE FROM {records} WHERE id = $1", ids[4])
        await digest(s)
        assert await confirmed(s) == {
            (ids[1], "content"),
            (ids[3], "resurrected"),
            (other.id, "missing_in_plugin"),
            (ids[4], "missing_in_plugin"),
        }
        assert await s.content(made.id) == "made after the cutover"
