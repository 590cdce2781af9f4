"""The callers of a tenant's memory, as they really call: v1 REST, the MCP bridge, the plugin contract, direct SQL.

Each method makes one call and says what its caller may believe afterwards: `DONE` (it happened), `REFUSED` (nothing
happened), `MISSING` (there is no such memory), `UNKNOWN` (no answer that tells).
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg

CALLER_SECONDS = 10.0
"""The agent runtime's time-out (domain §2)."""


class Outcome(StrEnum):
    """What the caller knows after the call."""

    DONE = "done"
    REFUSED = "refused"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Seat:
    """A workspace that acts: its id, its bearer token, its place in the tree."""

    workspace_id: UUID
    token: str
    parent_id: UUID | None = None
    root_id: UUID | None = None

    @property
    def is_root(self) -> bool:
        """Whether it may write GLOBAL memories."""
        return self.parent_id is None

    def namespace(self, scope: str) -> str:
        """The contract's namespace of its memories of `scope` (domain §3)."""
        if scope == "LOCAL":
            return f"workspace:{self.workspace_id}"
        if scope == "TEAM":
            return f"team:{self.parent_id or self.workspace_id}"
        return f"org:{self.root_id or self.workspace_id}"


@dataclass(frozen=True, slots=True)
class Reply:
    """`status` 0: no answer. `items` are what a read found, as the face gives them."""

    outcome: Outcome
    status: int = 0
    memory_id: UUID | None = None
    items: tuple[dict[str, Any], ...] = ()
    words: str = ""


_UNDECIDED = ("may yet be applied", "outcome is unknown", "outcome unknown", "cut off")


def _outcome(status: int, words: str) -> Outcome:
    if status < 300:
        return Outcome.DONE
    if status == 404:
        return Outcome.MISSING
    if status < 500 or (status == 503 and not any(said in words for said in _UNDECIDED)):
        return Outcome.REFUSED
    return Outcome.UNKNOWN  # a 5xx that is not a refusal says nothing about what was written


class AnswerLostError(Exception):
    """The connection broke with a request on it: it may have been applied."""


async def send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """A middleware that keeps aiohttp from sending a DELETE again when its connection breaks: a second one that is
    refused, or finds nothing to delete, would hide what the first one did."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise AnswerLostError(str(error)) from error


class Http:
    """One client's connections to one face."""

    def __init__(self, session: aiohttp.ClientSession, base: str, *, seconds: float = CALLER_SECONDS) -> None:
        self._session = session
        self._base = base
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    async def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[Reply, Any]:
        """The reply without items, and the decoded body (None when there is none)."""
        try:
            async with self._session.request(
                method,
                self._base + path,
                json=body,
                headers=headers,
                timeout=self._timeout,
                middlewares=(send_once,),
            ) as response:
                raw = await response.read()
                decoded = json.loads(raw) if raw else None
                words = raw[:300].decode(errors="replace") if response.status >= 300 else ""
                return Reply(_outcome(response.status, words), response.status, words=words), decoded
        except aiohttp.ClientConnectorError as error:
            return Reply(Outcome.REFUSED, words=f"not connected: {error}"), None
        except (AnswerLostError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Reply(Outcome.UNKNOWN, words=f"{type(error).__name__}: {error}"), None


class MemoriesCaller:
    """The v1 REST routes."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(self, seat: Seat, content: str, scope: str, label: str, key: str | None = None) -> Reply:
        """POST; `key` is the Idempotency-Key."""
        headers = _bearer(seat) | ({"Idempotency-Key": key} if key else {})
        body = {"content": content, "scope": scope, "namespace": label}
        reply, answer = await self._http.call("POST", f"/workspaces/{seat.workspace_id}/memories", body, headers)
        return _with_id(reply, answer)

    async def edit(self, seat: Seat, memory_id: UUID, content: str) -> Reply:
        """PATCH of the content."""
        path = f"/workspaces/{seat.workspace_id}/memories/{memory_id}"
        return (await self._http.call("PATCH", path, {"content": content}, _bearer(seat)))[0]

    async def delete(self, seat: Seat, memory_id: UUID) -> Reply:
        """DELETE."""
        path = f"/workspaces/{seat.workspace_id}/memories/{memory_id}"
        return (await self._http.call("DELETE", path, None, _bearer(seat)))[0]

    async def recall(self, seat: Seat, query: str = "", scope: str = "") -> Reply:
        """GET of the newest, or of what matches."""
        path = f"/workspaces/{seat.workspace_id}/memories?limit=50&scope={scope}&q={query}"
        reply, answer = await self._http.call("GET", path, None, _bearer(seat))
        return Reply(reply.outcome, reply.status, items=_items(reply, answer), words=reply.words)


class McpCaller:
    """The MCP bridge's v1 tools."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def _tool(self, seat: Seat, name: str, arguments: dict[str, Any]) -> tuple[Reply, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        reply, answer = await self._http.call("POST", f"/workspaces/{seat.workspace_id}/mcp", body, _bearer(seat))
        if reply.outcome is not Outcome.DONE:
            return reply, None
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict) or result.get("isError"):
            return Reply(Outcome.REFUSED, reply.status, words=json.dumps(answer)[:300]), None
        text = result["content"][0]["text"]
        return reply, json.loads(text) if text[:1] in ("{", "[") else []

    async def commit(self, seat: Seat, content: str, scope: str) -> Reply:
        """`commit_memory`."""
        reply, answer = await self._tool(seat, "commit_memory", {"content": content, "scope": scope})
        return _with_id(reply, answer)

    async def recall(self, seat: Seat, query: str = "", scope: str = "") -> Reply:
        """`recall_memory`."""
        arguments = {key: value for key, value in (("query", query), ("scope", scope)) if value}
        reply, answer = await self._tool(seat, "recall_memory", arguments)
        return Reply(reply.outcome, reply.status, items=_items(reply, answer), words=reply.words)


class PluginCaller:
    """The plugin contract, as workspace-server speaks it."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def commit(self, namespace: str, memory_id: UUID, content: str, kind: str = "fact") -> Reply:
        """Commit with an id: create, or replace the content of that memory."""
        body = {"id": str(memory_id), "content": content, "kind": kind, "source": "agent"}
        reply, answer = await self._http.call("POST", f"/v1/namespaces/{namespace}/memories", body)
        return _with_id(reply, answer)

    async def forget(self, namespace: str, memory_id: UUID) -> Reply:
        """Forget one memory."""
        body = {"requested_by_namespace": namespace}
        return (await self._http.call("DELETE", f"/v1/memories/{memory_id}", body))[0]

    async def search(self, namespaces: list[str], query: str = "", limit: int = 100) -> Reply:
        """Search."""
        body = {"namespaces": namespaces, "query": query, "limit": limit}
        reply, answer = await self._http.call("POST", "/v1/search", body)
        found = (answer or {}).get("memories") if isinstance(answer, dict) else None
        return Reply(reply.outcome, reply.status, items=tuple(found or ()), words=reply.words)


class SqlCaller:
    """Programs that write `agent_memories` behind everybody's back (domain §4.6)."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def _run(self, sql: str, *arguments: object) -> tuple[Outcome, list[asyncpg.Record]]:
        sent = False
        try:
            if self._connection is None or self._connection.is_closed():
                settings = {"application_name": "workspace-server"}
                self._connection = await asyncpg.connect(self._url, timeout=5, server_settings=settings)
            sent = True
            return Outcome.DONE, await self._connection.fetch(sql, *arguments, timeout=CALLER_SECONDS)
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, TimeoutError):
            await self.close()
            return Outcome.UNKNOWN if sent else Outcome.REFUSED, []
        except asyncpg.PostgresError:
            return Outcome.REFUSED, []  # an error is a rollback

    async def insert(self, seat: Seat, memory_id: UUID, content: str, scope: str) -> Reply:
        """A row of one's own."""
        outcome, _ = await self._run(
            "INSERT INTO agent_memories (id, workspace_id, content, scope) VALUES ($1, $2, $3, $4)",
            memory_id,
            seat.workspace_id,
            content,
            scope,
        )
        return Reply(outcome, memory_id=memory_id)

    async def update(self, memory_id: UUID, content: str) -> Reply:
        """Another content."""
        sql = "UPDATE agent_memories SET content = $2, updated_at = now() WHERE id = $1 RETURNING id"
        return self._one(*await self._run(sql, memory_id, content))

    async def delete(self, memory_id: UUID) -> Reply:
        """Gone."""
        return self._one(*await self._run("DELETE FROM agent_memories WHERE id = $1 RETURNING id", memory_id))

    async def replace_many(self, contents: dict[UUID, str]) -> Reply:
        """A new content for many rows in one statement; `items` are the ids that were there."""
        outcome, rows = await self._run(
            "UPDATE agent_memories a SET content = n.content FROM unnest($1::uuid[], $2::text[]) AS n (id, content) "
            "WHERE a.id = n.id RETURNING a.id",
            list(contents),
            list(contents.values()),
        )
        return Reply(outcome, items=tuple({"id": row["id"]} for row in rows))

    @staticmethod
    def _one(outcome: Outcome, rows: list[asyncpg.Record]) -> Reply:
        return Reply(Outcome.MISSING if outcome is Outcome.DONE and not rows else outcome)

    async def close(self) -> None:
        """Cut the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def _bearer(seat: Seat) -> dict[str, str]:
    return {"Authorization": f"Bearer {seat.token}"}


def _with_id(reply: Reply, answer: Any) -> Reply:
    if reply.outcome is not Outcome.DONE or not isinstance(answer, dict):
        return reply
    return Reply(reply.outcome, reply.status, UUID(answer["id"]))


def _items(reply: Reply, answer: Any) -> tuple[dict[str, Any], ...]:
    return tuple(answer) if reply.outcome is Outcome.DONE and isinstance(answer, list) else ()
