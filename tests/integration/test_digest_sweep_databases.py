"""Digest sweeps with the plugin's tables in another database: of the same server, and of another major version."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from cutover.domain.load_budget import LoadPolicy
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from tests.integration.digest_scene import INSERT, confirmed, digest, findings, hurt
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD, ROOT

SMALL = LoadPolicy(chunk_seconds=0.0001, share=1.0, first=20, smallest=20)
CONTENTS = ["plain", "\u00e9\u4e16\U0001f9e0", "y" * 100_000, "\u4e16|'\\ \t\n"]


@pytest.mark.parametrize("server", ["16", pytest.param("15", marks=pytest.mark.pg15)])
async def test_two_databases_are_compared_as_exactly_as_one(request: Any, make_database: Any, server: str) -> None:
    here = "make_database15" if server == "15" else "make_database"
    legacy = await request.getfixturevalue(here)(embedding=False)
    plugin = await make_database(legacy=False)
    rows = [(uuid4(), CHILD if n % 2 else ROOT, CONTENTS[n % 4], ("LOCAL", "TEAM", "GLOBAL")[n % 3]) for n in range(60)]
    async with scene(legacy, phase=Phase.A1, rows=rows, plugin_at=plugin, sweep_load=SMALL) as s:
        version = await s.database.fetchval("SHOW server_version_num")
        assert version.startswith(server)
        await s.enter(Phase.A2)
        native = await s.commit("custom:x", "a native", Kind.SUMMARY)
        await s.quiet()
        for phase in (Phase.A2, Phase.A3):
            await s.enter(phase)
            if phase is Phase.A3:
                await s.create(CHILD, "after the cutover", Scope.TEAM)
                await s.quiet()
            outcome = await digest(s)
            assert (outcome["outcome"], outcome["trusted"]) == ("clean", True), (outcome, await findings(s))
        extra = uuid4()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", rows[0][0])
        await hurt(s, "UPDATE {records} SET content = 'other' WHERE id = $1", native.id)
        await hurt(s, INSERT, extra, "custom:x", "nobody knows")
        await digest(s)
        assert await confirmed(s) == {
            (rows[0][0], "missing_in_plugin"),
            (native.id, "content"),
            (extra, "missing_in_legacy"),
        }


async def test_what_expires_meanwhile_is_no_divergence_though_the_clocks_differ(make_database: Any) -> None:
    legacy, plugin = await make_database(), await make_database(legacy=False)
    async with scene(legacy, phase=Phase.A1, plugin_at=plugin) as s:
        soon = datetime.now(UTC) + timedelta(seconds=20)
        gone = await s.commit("custom:x", "expires soon", Kind.SUMMARY, expires_at=soon)
        later = await s.commit("custom:x", "expires later", Kind.SUMMARY, expires_at=soon + timedelta(hours=1))
        await s.quiet()
        # The plugin's server is half a minute ahead and has removed the one that expires.
        await hurt(s, "DELETE FROM {records} WHERE id = $1", gone.id)
        assert (await digest(s))["outcome"] == "clean", await findings(s)
        await hurt(s, "DELETE FROM {records} WHERE id = $1", later.id)
        await digest(s)
        assert await confirmed(s) == {(later.id, "missing_in_plugin")}
