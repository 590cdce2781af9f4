"""Digest sweeps on real stores: every class in both directions, planted in the tables themselves (architecture §4)."""

from uuid import uuid4

import pytest

from cutover.domain.errors import Forbidden
from cutover.domain.memory import Kind
from cutover.domain.phase import Phase
from cutover.domain.requests import PutNamespace
from cutover.engine.canary_faults import FAULTS_NAMESPACE
from tests.integration.digest_scene import INSERT, confirmed, digest, findings, hurt
from tests.integration.protocol_scene import caller, refused, scene
from tests.integration.read_scene import CHILD, ROOT


async def test_a_clean_tenant_is_clean_and_the_sweep_is_trusted(database: str) -> None:
    rows = [(uuid4(), CHILD, f"memory {n} \u00e9\u4e16", ("LOCAL", "TEAM", "GLOBAL")[n % 3]) for n in range(300)]
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        outcome = await digest(s)
        assert outcome["outcome"] == "clean", outcome
        assert outcome["trusted"], outcome
        assert (outcome["expected_rows"], outcome["plugin_rows"]) == (300, 300)
        assert outcome["coverage"] == 1.0
        assert await findings(s, open_only=False) == {}


async def test_every_class_is_found_and_nothing_else(database: str) -> None:
    rows = [(uuid4(), CHILD if n % 2 else ROOT, f"memory {n}", "LOCAL") for n in range(60)]
    ids = [row[0] for row in rows]
    async with scene(database, phase=Phase.A1, rows=rows) as s:
        await s.enter(Phase.A2)
        deleted = await s.create(CHILD, "to be deleted")
        await s.quiet()
        await s.delete(CHILD, deleted.id)
        await s.quiet()
        await s.tenant._creation_times.flush()
        extra = uuid4()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", ids[0])
        await hurt(s, "UPDATE {records} SET content = content || '.' WHERE id = $1", ids[1])
        await hurt(s, "UPDATE {records} SET namespace = $2 WHERE id = $1", ids[2], f"workspace:{CHILD}")
        await hurt(s, "UPDATE {records} SET embedding = array_fill(0.5, array[1536])::vector WHERE id = $1", ids[3])
        await hurt(s, "UPDATE {records} SET created_at = created_at - interval '1 day' WHERE id = $1", ids[4])
        await hurt(s, "UPDATE {records} SET pin = true WHERE id = $1", ids[5])
        await hurt(s, INSERT, extra, f"workspace:{CHILD}", "nobody knows")
        await hurt(s, INSERT, deleted.id, f"workspace:{CHILD}", "to be deleted")
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert outcome["outcome"] == "divergent"
        assert await confirmed(s) == {
            (ids[0], "missing_in_plugin"),
            (ids[1], "content"),
            (ids[2], "namespace"),
            (ids[3], "embedding"),
            (ids[5], "provenance"),
            (extra, "missing_in_legacy"),
            (deleted.id, "resurrected"),
        }
        assert outcome["mended"] == 1  # the creation time
        assert (await s.plugin(ids[4]))["created_at"] == (await s.legacy(ids[4]))["created_at"]  # type: ignore[index]


@pytest.mark.parametrize("phase", [Phase.A0, Phase.A1, Phase.A3])
async def test_nobody_else_writes_where_faults_are_planted(database: str, phase: Phase) -> None:
    async with scene(database, phase=phase) as s:
        if phase is not Phase.A0:
            await digest(s)
        planted = await s.database.fetch("SELECT memory_id FROM cutover.canary WHERE fault <> 'missing'")
        name = FAULTS_NAMESPACE
        await refused(s.commit(name, "mine", Kind.SUMMARY), Forbidden)
        await refused(s.tenant.memories.put_namespace(PutNamespace(name, "custom", None, {}), caller()), Forbidden)
        await refused(s.tenant.memories.delete_namespace(name, caller()), Forbidden)
        for row in planted:
            await refused(s.forget(name, row["memory_id"]), Forbidden)
            assert await s.content(row["memory_id"]) is not None
