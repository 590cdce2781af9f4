"""The legacy store (v1): `agent_memories` and the tables around it, as domain §2 describes them.

Read side only: writes go through functions of schema `cutover`, which write the row and its mark together
(`stores/ledger.py`). Every statement works with and without the column `embedding`, and with `workspaces.status` as an
enum or as text.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import asyncpg

from cutover.domain.errors import NotFound
from cutover.domain.memory import Kind, LegacyMemory, PluginMemory, SessionItem, Source, wrap_global
from cutover.domain.namespace import Scope, WorkspaceTree, legacy_place
from cutover.domain.requests import ListMemories
from cutover.stores.database import Database
from cutover.stores.sql import query

MAX_LIST_LIMIT = 50
MAX_SESSION_LIMIT = 200
READ_SECONDS = 8.0
"""How long a read may take where its caller sets no budget."""


class Matching(Enum):
    """How a query's text is looked for: by its length (domain §2 and §3), or by an embedding (§3)."""

    NEWEST = "no query"
    SUBSTRING = "one character"
    FULL_TEXT = "two characters or more"
    COSINE = "an embedding"

    @classmethod
    def of(cls, text: str) -> "Matching":
        """The way for this text. v1's semantic mode needs an embedder, and only workspace-server has one: here an
        embedding comes from a contract caller or not at all."""
        return (cls.NEWEST, cls.SUBSTRING)[len(text)] if len(text) < 2 else cls.FULL_TEXT


@dataclass(frozen=True, slots=True)
class TeamMember:
    """A workspace whose TEAM rows a reader sees, with the parent that places them."""

    workspace_id: UUID
    parent_id: UUID | None


@dataclass(frozen=True, slots=True)
class LiveToken:
    """A token that is not revoked: the workspace it is bound to and the sha256 that is stored."""

    workspace_id: UUID
    token_hash: bytes


def like_pattern(text: str) -> str:
    """An ILIKE pattern for `text` anywhere, with `%`, `_` and `\\` taken literally."""
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


_LIST_SQL = {Scope.LOCAL: "own", None: "own", Scope.TEAM: "team", Scope.GLOBAL: "global"}
# Fragments that complete the statements; values always stay parameters ($N is the text of the query). A row without
# created_at is the oldest there can be. The id makes every order total, so that two looks agree.
_LIST_MATCHES = {
    Matching.NEWEST: "$4::text IS NOT NULL",
    Matching.SUBSTRING: "m.content ILIKE $4",
    Matching.FULL_TEXT: "m.content_tsv @@ plainto_tsquery('english', $4)",
}
_LIST_NEWEST = "m.created_at DESC NULLS LAST, m.id"
_LIST_ORDER = {
    Matching.NEWEST: _LIST_NEWEST,
    Matching.SUBSTRING: _LIST_NEWEST,
    Matching.FULL_TEXT: f"ts_rank(m.content_tsv, plainto_tsquery('english', $4)) DESC, {_LIST_NEWEST}",
}
_SEARCH_MATCHES = {
    Matching.NEWEST: "$5::text IS NOT NULL",
    Matching.SUBSTRING: "m.content ILIKE $5",
    Matching.FULL_TEXT: "m.content_tsv @@ plainto_tsquery('english', $5)",
    Matching.COSINE: "m.embedding IS NOT NULL",
}
_SEARCH_SCORE = {
    Matching.NEWEST: "NULL::float8",
    Matching.SUBSTRING: "NULL::float8",
    Matching.FULL_TEXT: "ts_rank(m.content_tsv, plainto_tsquery('english', $5))::float8",
    # `<=>` is not ordered by here, so the approximate index is not used: with a filter on the workspace it would
    # give back a few of its probed rows only.
    Matching.COSINE: "1 - (m.embedding <=> $5::text::vector)",
}
_SEARCH_ORDER = {
    Matching.NEWEST: "pin DESC, created_at DESC, id",
    Matching.SUBSTRING: "pin DESC, created_at DESC, id",
    Matching.FULL_TEXT: "score DESC, created_at DESC, id",
    Matching.COSINE: "score DESC, created_at DESC, id",
}


def _complete(name: str, **fragments: str) -> str:
    text = query(name)
    for key, fragment in fragments.items():
        text = text.replace("{" + key + "}", fragment)
    return text


class LegacyStore:
    """The v1 tables of one tenant. Raises only errors of `domain.errors`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._has_embedding: bool | None = None

    async def has_embedding(self) -> bool:
        """Whether `agent_memories.embedding` exists; asked once, as only a migration of the tenant changes it."""
        if self._has_embedding is None:
            self._has_embedding = bool(await self._database.fetchval(query("legacy_has_embedding")))
        return self._has_embedding

    async def list(self, request: ListMemories, *, timeout: float = READ_SECONDS) -> tuple[LegacyMemory, ...]:
        """v1's list and search (domain §2): visibility by scope, label filter, at most 50. Content as stored."""
        matching = Matching.of(request.query)
        sql = _complete(
            f"legacy_list_{_LIST_SQL[request.scope]}", matches=_LIST_MATCHES[matching], order=_LIST_ORDER[matching]
        )
        text = like_pattern(request.query) if matching is Matching.SUBSTRING else request.query
        limit = min(max(request.limit, 1), MAX_LIST_LIMIT)
        rows = await self._database.fetch(
            sql, request.workspace_id, request.scope, request.label, text, limit, timeout=timeout
        )
        return tuple(_memory(row) for row in rows)

    async def session_activity(
        self, workspace_id: UUID, text: str, limit: int, *, timeout: float = READ_SECONDS
    ) -> tuple[SessionItem, ...]:
        """Activity rows whose visible fields hold `text` (any case), newest first; `limit` clamps to 1..200."""
        pattern = like_pattern(text) if text else None
        rows = await self._database.fetch(
            query("legacy_session_activity"),
            workspace_id,
            pattern,
            min(max(limit, 1), MAX_SESSION_LIMIT),
            timeout=timeout,
        )
        return tuple(_activity(row) for row in rows)

    async def session_memories(
        self, workspace_id: UUID, text: str, limit: int, *, timeout: float = READ_SECONDS
    ) -> tuple[LegacyMemory, ...]:
        """Rows of the workspace whose content, scope or label holds `text`, newest first; `limit` clamps to 1..200."""
        pattern = like_pattern(text) if text else None
        rows = await self._database.fetch(
            query("legacy_session_memories"),
            workspace_id,
            pattern,
            min(max(limit, 1), MAX_SESSION_LIMIT),
            timeout=timeout,
        )
        return tuple(_memory(row) for row in rows)

    async def search(
        self,
        namespaces: Sequence[str],
        *,
        text: str = "",
        kinds: frozenset[Kind] = frozenset(),
        limit: int,
        natives: bool,
        embedding: Sequence[float] | None = None,
        timeout: float = READ_SECONDS,
    ) -> tuple[PluginMemory, ...]:
        """The contract's search (domain §3) over rows whose namespace, in the tree as it is now, is asked for.

        `natives` merges in what only the plugin holds (table `cutover.native`), in the same order. With an
        `embedding` only legacy rows are found: the caller asks the plugin for the natives. Where the tenant has no
        embedding column the text decides, as in a plugin without that capability.
        """
        matching = Matching.of(text)
        argument = like_pattern(text) if matching is Matching.SUBSTRING else text
        if embedding is not None and await self.has_embedding():
            matching, argument, natives = Matching.COSINE, json.dumps(list(embedding)), False
        native = Matching.NEWEST if matching is Matching.COSINE else matching
        sql = _complete(
            "legacy_search",
            matches=_SEARCH_MATCHES[matching],
            score=_SEARCH_SCORE[matching],
            native_matches=_SEARCH_MATCHES[native],
            native_score=_SEARCH_SCORE[native],
            order=_SEARCH_ORDER[matching],
        )
        places = [place for place in map(legacy_place, namespaces) if place is not None]
        anchors = [[place.workspace_id for place in places if place.scope is scope] for scope in Scope]
        wanted = [str(kind) for kind in kinds] or None
        rows = await self._database.fetch(
            sql, list(namespaces), *anchors, argument, limit, wanted, natives, timeout=timeout
        )
        return tuple(_contract_memory(row) for row in rows)

    async def natives_in(self, namespaces: Iterable[str], *, timeout: float = READ_SECONDS) -> frozenset[UUID]:
        """The live memories of these namespaces that only the plugin holds."""
        rows = await self._database.fetch(query("legacy_natives_in"), list(namespaces), timeout=timeout)
        return frozenset(row["memory_id"] for row in rows)

    async def tree(self, workspace_id: UUID) -> WorkspaceTree:
        """The workspace's place in the tree; raises `NotFound` for an unknown one.

        The root is decided by the SQL function `cutover.root_of`, so that reads and writes agree on cycles too.
        """
        row = await self._database.fetchrow(query("legacy_tree"), workspace_id)
        if row is None:
            raise NotFound("workspace not found")
        return WorkspaceTree(row["id"], row["parent_id"], row["root_id"], row["status"])

    async def team_members(self, head: UUID) -> tuple[TeamMember, ...]:
        """Who is in the team of `head`, a reader's parent or, for a root, the reader: removed workspaces are not."""
        rows = await self._database.fetch(query("legacy_team_members"), head)
        return tuple(TeamMember(row["id"], row["parent_id"]) for row in rows)

    async def unsettled(self, ids: Iterable[UUID], *, seconds: float) -> frozenset[UUID]:
        """Of these memories, those by which the stores may differ right now without anything being wrong: marked,
        quarantined, not reached by the backfill, or changed within the last `seconds` (architecture §3, §4)."""
        rows = await self._database.fetch(query("legacy_unsettled"), list(ids), seconds)
        return frozenset(row["id"] for row in rows)

    async def live_token(self, token_hash: bytes) -> LiveToken | None:
        """The live token with this sha256, or None."""
        row = await self._database.fetchrow(query("legacy_token"), token_hash)
        return None if row is None else LiveToken(row["workspace_id"], bytes(row["token_hash"]))


def session_item(memory: LegacyMemory) -> SessionItem:
    """A memory row as session-search shows it: its scope is the label; GLOBAL content is wrapped as everywhere."""
    content = memory.content
    if memory.scope is Scope.GLOBAL:
        content = wrap_global(memory.id, memory.workspace_id, content)
    assert memory.workspace_id is not None  # noqa: S101 - selected by workspace
    created = memory.created_at or memory.updated_at or _EPOCH
    return SessionItem("memory", memory.id, memory.workspace_id, memory.scope, content, "", "", None, None, created)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _memory(row: asyncpg.Record) -> LegacyMemory:
    return LegacyMemory(
        id=row["id"],
        workspace_id=row["workspace_id"],
        content=row["content"],
        scope=Scope(row["scope"]),
        label=row["label"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _activity(row: asyncpg.Record) -> SessionItem:
    return SessionItem(
        kind="activity",
        id=row["id"],
        workspace_id=row["workspace_id"],
        label=row["label"],
        content=row["content"],
        method=row["method"],
        status=row["status"],
        request_body=_json(row["request_body"]),
        response_body=_json(row["response_body"]),
        created_at=row["created_at"] or _EPOCH,
    )


def _contract_memory(row: asyncpg.Record) -> PluginMemory:
    return PluginMemory(
        id=row["id"],
        namespace=row["namespace"],
        content=row["content"],
        kind=Kind(row["kind"]),
        source=Source(row["source"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        propagation=_json(row["propagation"]),
        pin=row["pin"],
        score=row["score"],
    )


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
