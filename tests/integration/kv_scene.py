"""A tenant with K/V switched on, and what is expected of its plugin, written anew from workspace_memory."""

import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

from cutover.domain.phase import Phase
from cutover.embedded.processes import until
from cutover.stores.database import Database
from tests.integration.protocol_scene import Scene, scene


def kv_id(workspace: UUID, key: str) -> UUID:
    """The id of a K/V row's memory."""
    return uuid.uuid5(workspace, key)


async def put(database: Database, workspace: UUID, key: str, value: Any, expires_at: datetime | None = None) -> UUID:
    """What workspace-server does with a key: insert, or overwrite and count the version."""
    await database.execute(
        "INSERT INTO workspace_memory AS v (workspace_id, key, value, expires_at) VALUES ($1, $2, $3::jsonb, $4)"
        " ON CONFLICT (workspace_id, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at,"
        " version = v.version + 1, updated_at = now()",
        workspace,
        key,
        value if isinstance(value, Raw) else json.dumps(value),
        expires_at,
    )
    return kv_id(workspace, key)


class Raw(str):
    """JSON text that is to be taken as it is."""

    __slots__ = ()


async def drop(database: Database, workspace: UUID, key: str) -> None:
    await database.execute("DELETE FROM workspace_memory WHERE workspace_id = $1 AND key = $2", workspace, key)


_ROWS = """
SELECT workspace_id, key, value::text AS content, version, updated_at,
       CASE WHEN expires_at < '9999-12-31' THEN expires_at END AS expires_at  -- infinity is never
FROM workspace_memory
WHERE expires_at IS NULL OR expires_at > now()
"""
_HELD = """
SELECT id, namespace, content, kind, source, pin, expires_at, created_at, propagation
FROM memory_plugin.memory_records
WHERE propagation #> '{cutover,kv}' IS NOT NULL AND (expires_at IS NULL OR expires_at > now())
"""


async def kv_differences(s: Scene) -> list[str]:
    """How the plugin's K/V memories differ from workspace_memory; empty when not. Only meaningful when quiet."""
    rows = {kv_id(row["workspace_id"], row["key"]): row for row in await s.database.fetch(_ROWS)}
    held = {row["id"]: row for row in await s.plugin_database.fetch(_HELD)}
    found = [f"missing {rows[each]['key']!r}" for each in rows.keys() - held.keys()]
    found += [f"extra {held[each]['content']!r}" for each in held.keys() - rows.keys()]
    for each in rows.keys() & held.keys():
        row, memory = rows[each], held[each]
        ours = json.loads(memory["propagation"])["cutover"]
        wanted = {
            "namespace": f"workspace:{row['workspace_id']}", "content": row["content"], "kind": "checkpoint",
            "source": "runtime", "pin": False, "expires_at": row["expires_at"], "created_at": row["updated_at"],
            "key": row["key"], "version": row["version"], "workspace_id": str(row["workspace_id"]), "scope": None,
        }  # fmt: skip
        has = {**dict(memory), **ours, **ours["kv"], **{k: memory[k] for k in ("namespace", "created_at")}}
        found += [f"{name} of {row['key']!r}: {has[name]!r}" for name in wanted if has[name] != wanted[name]]
        if "value" in ours["kv"] and ours["kv"]["value"] != json.loads(row["content"]):
            found.append(f"value of {row['key']!r}")
    return found


@contextlib.asynccontextmanager
async def kv_scene(database_url: str, *, phase: Phase = Phase.A0, **changes: Any) -> AsyncIterator[Scene]:
    """As `scene`, with `CUTOVER_KV=on`. The K/V backfill is the test's own business."""
    async with scene(database_url, **{"kv": True, **changes}) as s:
        await s.enter(min(phase, Phase.A2, key=lambda each: each.order))
        if phase is Phase.A3:
            await backfill_kv(s)
            await s.enter(Phase.A3)
        yield s


async def backfill_kv(s: Scene, chunk: int = 50) -> tuple[int, int]:
    """All chunks, and their deliveries; gives (scanned, marked)."""
    store = s.tenant._kv._store
    epoch = (await s.tenant.phase.reload()).epoch
    await store.open_backfill(epoch)
    scanned = marked = 0
    while True:
        done = await store.mark_chunk(epoch, chunk)
        scanned, marked = scanned + done.scanned, marked + done.marked
        if done.done:
            await quiet(s)
            return scanned, marked


async def quiet(s: Scene) -> None:
    """Nothing is marked, and creation times, which follow behind, are written."""
    await s.quiet()

    async def written() -> bool:
        return not any(found.startswith("created_at") for found in await kv_differences(s))

    await until(written, "creation times", timeout=10, every=0.05)
