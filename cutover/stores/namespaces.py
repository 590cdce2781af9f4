"""`cutover.namespace`: the definitions clients have PUT, so that they can be put again exactly (architecture §3)."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import asyncpg

from cutover.domain.memory import Namespace
from cutover.domain.requests import PatchNamespace, PutNamespace, Unset
from cutover.stores.database import Database

_COLUMNS = "name, kind, expires_at, metadata, created_at"


class NamespaceStore:
    """Remembered namespace definitions of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> Namespace | None:
        """The definition, or None when no client put one."""
        row = await self._database.fetchrow(f"select {_COLUMNS} from cutover.namespace where name = $1", name)
        return _namespace(row) if row else None

    async def put(self, request: PutNamespace, created_at: datetime | None = None) -> Namespace:
        """Remember a definition: replaces kind, expiry and metadata, keeps the creation time."""
        row = await self._database.fetchrow(
            "insert into cutover.namespace (name, kind, expires_at, metadata, created_at)"
            " values ($1, $2, $3, $4::jsonb, coalesce($5, now())) on conflict (name) do update set"
            " kind = excluded.kind, expires_at = excluded.expires_at, metadata = excluded.metadata"
            f" returning {_COLUMNS}",
            request.name,
            request.kind,
            request.expires_at,
            _encode(request.metadata),
            created_at,
        )
        assert row is not None  # noqa: S101 - an upsert always returns its row
        return _namespace(row)

    async def patch(self, request: PatchNamespace) -> Namespace | None:
        """Change the given fields; None when there is no such namespace."""
        keep_expiry = isinstance(request.expires_at, Unset)
        keep_metadata = isinstance(request.metadata, Unset)
        row = await self._database.fetchrow(
            "update cutover.namespace set expires_at = case when $2 then expires_at else $3::timestamptz end,"
            " metadata = case when $4 then metadata else $5::jsonb end where name = $1"
            f" returning {_COLUMNS}",
            request.name,
            keep_expiry,
            None if isinstance(request.expires_at, Unset) else request.expires_at,
            keep_metadata,
            None if isinstance(request.metadata, Unset) else _encode(request.metadata),
        )
        return _namespace(row) if row else None

    async def remove(self, name: str) -> bool:
        """Forget a definition; False when there was none."""
        tag = await self._database.execute("delete from cutover.namespace where name = $1", name)
        return not tag.endswith(" 0")


def _encode(metadata: Mapping[str, Any] | None) -> str | None:
    return None if metadata is None else json.dumps(metadata)


def _namespace(row: asyncpg.Record) -> Namespace:
    metadata = row["metadata"]
    return Namespace(
        row["name"],
        row["kind"],
        row["expires_at"],
        json.loads(metadata) if metadata is not None else None,
        row["created_at"],
    )
