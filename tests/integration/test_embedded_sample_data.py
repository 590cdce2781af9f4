"""The sample tenant holds every oddity it promises, and is the same at every run."""

import hashlib
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from cutover.embedded.sample_data import LAST_DAY, seed
from tests.conftest import MakeDatabase


async def _one(connection: "asyncpg.Connection[asyncpg.Record]", condition: str) -> int:
    return int(await connection.fetchval(f"SELECT count(*) FROM agent_memories WHERE {condition}"))


async def test_the_default_tenant(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    tenant = await seed(connection)
    assert len(tenant.workspaces) == await connection.fetchval("SELECT count(*) FROM workspaces") == 40
    assert tenant.memories == await _one(connection, "true") == 5000
    assert await connection.fetchval("SELECT count(*) FROM workspaces WHERE status::text = 'removed'") == 1
    assert sum(workspace.removed for workspace in tenant.workspaces) == 1
    assert max(workspace.depth for workspace in tenant.workspaces) == 3
    assert len(tenant.roots) >= 2
    for scope in ("LOCAL", "TEAM", "GLOBAL"):
        assert await _one(connection, f"scope = '{scope}'") > 100
    assert tenant.without_workspace == await _one(connection, "workspace_id IS NULL") > 0
    blank = "content !~ '\\S' AND workspace_id IS NOT NULL"
    assert tenant.blank == await _one(connection, blank) > await _one(connection, "content = ''") > 0
    assert tenant.unplaceable == tenant.without_workspace + tenant.blank
    assert tenant.large == await _one(connection, "octet_length(content) >= 102400") >= 5
    assert tenant.with_embedding == await _one(connection, "embedding IS NOT NULL") > 100
    assert await _one(connection, "created_at IS NULL") > 0
    assert await _one(connection, "updated_at IS NULL AND created_at IS NOT NULL") > 0
    assert await _one(connection, "octet_length(content) > char_length(content)") > 1000
    assert await _one(connection, "namespace = workspace_id::text") > 100
    assert await _one(connection, "extract(microseconds FROM created_at)::int % 1000 <> 0") > 4000
    assert (
        await connection.fetchval("SELECT max(n) FROM (SELECT count(*) n FROM agent_memories GROUP BY workspace_id)")
        > 100
    )
    span = await connection.fetchval("SELECT max(created_at) - min(created_at) FROM agent_memories")
    assert timedelta(days=150) < span
    assert await connection.fetchval("SELECT max(created_at) FROM agent_memories") <= LAST_DAY


async def test_tokens(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    tenant = await seed(connection, memories=100, workspaces=8)
    rows = await connection.fetch("SELECT workspace_id, token_hash FROM workspace_auth_tokens WHERE revoked_at IS NULL")
    live = {row["token_hash"]: row["workspace_id"] for row in rows}
    assert live == {hashlib.sha256(workspace.token.encode()).digest(): workspace.id for workspace in tenant.workspaces}
    assert tenant.workspaces[3].token == "demo-3"
    revoked = await connection.fetchval("SELECT token_hash FROM workspace_auth_tokens WHERE revoked_at IS NOT NULL")
    assert revoked == hashlib.sha256(str(tenant.workspaces[0].revoked_token).encode()).digest()


async def test_activity_and_key_values(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await seed(connection, memories=500)
    written = await connection.fetchval(
        "SELECT count(*) FROM activity_logs a JOIN agent_memories m ON m.id = (a.request_body ->> 'memory_id')::uuid"
        " WHERE a.activity_type = 'memory_write_global' AND m.scope = 'GLOBAL' AND m.workspace_id = a.workspace_id"
        " AND a.request_body ->> 'content_sha256' = encode(sha256(convert_to(m.content, 'UTF8')), 'hex')"
    )
    assert written == await _one(connection, "scope = 'GLOBAL' AND workspace_id IS NOT NULL") > 0
    assert (
        await connection.fetchval("SELECT count(*) FROM activity_logs WHERE activity_type <> 'memory_write_global'")
        == 200
    )
    assert await connection.fetchval("SELECT count(*) FROM workspace_memory") == 120
    assert await connection.fetchval("SELECT count(*) FROM workspace_memory WHERE expires_at IS NOT NULL") > 0


@pytest.mark.parametrize("status_enum", [True, False])
async def test_the_same_seed_gives_the_same_tenant_in_every_shape_of_the_schema(
    make_database: MakeDatabase, status_enum: bool
) -> None:
    seen: list[Any] = []
    for embedding in (True, False):
        connection = await asyncpg.connect(await make_database(embedding=embedding, status_enum=status_enum))
        tenant = await seed(connection, memories=600, workspaces=12)
        assert (tenant.with_embedding > 0) is embedding
        digests = [
            await connection.fetchval(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM ({select}) t")
            for select in (
                "SELECT id, workspace_id, content, scope, namespace, created_at, updated_at FROM agent_memories",
                "SELECT id, name, parent_id, status::text, created_at FROM workspaces",
                "SELECT id, workspace_id, request_body, created_at FROM activity_logs",
                "SELECT id, workspace_id, key, value, expires_at FROM workspace_memory",
            )
        ]
        seen.append((tenant.workspaces, digests))
        await connection.close()
    assert seen[0] == seen[1]


async def test_another_seed_gives_another_tenant(make_database: MakeDatabase) -> None:
    ids = []
    for number in (1, 2):
        connection = await asyncpg.connect(await make_database())
        ids.append((await seed(connection, memories=100, workspaces=8, seed=number)).workspaces[0].id)
        await connection.close()
    assert ids[0] != ids[1]


async def test_too_small_a_tenant_is_refused(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    with pytest.raises(ValueError, match="at least 8 workspaces"):
        await seed(connection, workspaces=3)
