"""The reference memory plugin: the whole HTTP contract (domain §3) on the built-in storage.

It is its own process, shares nothing with the daemon but the contract, and is what a tenant's plugin is compared
with in the contract suite and in the benchmarks. So it takes the short way wherever the contract leaves one: a
low-level server that routes by hand, one statement per commit, statements prepared once per connection.

Choices where the contract is silent: `memories` is null when nothing is found; a null field counts as absent, but
clears in a PATCH; `limit` 0 means the default; what is false or absent is left out of answers; a change whose caller
hung up before it was begun is not made.
"""

import argparse
import asyncio
import contextlib
import json
import math
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID, uuid4

import asyncpg
import uvloop
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

VERSION = "1.0.0"
CAPABILITIES = ("embedding", "fts", "ttl", "pin", "propagation")
DIMENSIONS = 1536
DEFAULT_LIMIT = 20
MAX_LIMIT = 100
MAX_BODY = 32 * 1024 * 1024
# A request ends within their sum, which is what a caller must wait after an ambiguous answer.
_ACQUIRE_SECONDS = 2.0
_STATEMENT_SECONDS = 4.0
_SCHEMA_LOCK = 0x6D656D706C7567  # "memplug"
_NAME = re.compile(r"[a-z]+:[A-Za-z0-9_:.\-]+")
_MAX_NAME = 256
_NAMESPACE_KINDS = ("workspace", "team", "org", "custom")
_KINDS = ("fact", "summary", "checkpoint")
_SOURCES = ("agent", "runtime", "user")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)


class ContractError(Exception):
    """What the contract answers instead of a result."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _bad(message: str) -> ContractError:
    return ContractError(400, "bad_request", message)


def _not_found(message: str) -> ContractError:
    return ContractError(404, "not_found", message)


# -- reading requests ---------------------------------------------------------------------------------------------


async def _wanted(request: web.BaseRequest) -> bytes:
    """The body of a change that its caller still waits for.

    After a pause of this process (SIGSTOP, a long swap) its sockets hold requests whose callers gave up long ago;
    applying those now would undo what the callers did since. Who hung up has been told nothing, so nothing is done.
    """
    raw = await request.read()
    if request.transport is None or request.transport.is_closing():
        raise ContractError(503, "unavailable", "the caller hung up")
    return raw


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _bad("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise _bad("the body must be a JSON object")
    return body


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME or _NAME.fullmatch(value) is None:
        raise _bad("a namespace must match ^[a-z]+:[A-Za-z0-9_:.\\-]+$ and have at most 256 characters")
    return value


def _uuid(value: Any, field: str) -> UUID:
    if isinstance(value, str) and len(value) == 36:
        with contextlib.suppress(ValueError):
            return UUID(value)
    raise _bad(f"{field} must be a UUID")


def _one_of(body: dict[str, Any], field: str, allowed: tuple[str, ...]) -> str:
    value = body.get(field)
    if value not in allowed:
        raise _bad(f"{field} must be one of {', '.join(allowed)}")
    return str(value)


def _time(body: dict[str, Any], field: str) -> datetime | None:
    value = body.get(field)
    if value is None:
        return None
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(value.upper())
    raise _bad(f"{field} must be an RFC 3339 timestamp")


def _metadata(body: dict[str, Any]) -> str | None:
    value = body.get("metadata")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise _bad("metadata must be an object")
    return json.dumps(value)


def _embedding(body: dict[str, Any]) -> str | None:
    """The embedding as pgvector reads it."""
    value = body.get("embedding")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != DIMENSIONS:
        raise _bad(f"embedding must be an array of {DIMENSIONS} numbers")
    if not all(type(each) in (int, float) and math.isfinite(each) for each in value):
        raise _bad("embedding must hold finite numbers only")
    return f"[{','.join(map(repr, value))}]"


def _commit_arguments(namespace: str, body: dict[str, Any]) -> tuple[Any, ...]:
    content, pin, propagation = body.get("content"), body.get("pin"), body.get("propagation")
    if not isinstance(content, str) or not content.strip():
        raise _bad("content must not be empty")
    if pin is not None and not isinstance(pin, bool):
        raise _bad("pin must be true or false")
    return (
        uuid4() if body.get("id") is None else _uuid(body["id"], "id"),
        namespace,
        content,
        _one_of(body, "kind", _KINDS),
        _one_of(body, "source", _SOURCES),
        _time(body, "expires_at"),
        None if propagation is None else json.dumps(propagation),
        pin is True,
        _embedding(body),
    )


def _search_arguments(body: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """The statement that answers this search, and its arguments."""
    namespaces, kinds, limit, query = (body.get(field) for field in ("namespaces", "kinds", "limit", "query"))
    if not isinstance(namespaces, list) or not namespaces:
        raise _bad("namespaces must name at least one namespace")
    if kinds is not None and (not isinstance(kinds, list) or any(kind not in _KINDS for kind in kinds)):
        raise _bad(f"kinds must hold only {', '.join(_KINDS)}")
    if limit is not None and (type(limit) is not int or not 0 <= limit <= MAX_LIMIT):
        raise _bad(f"limit must be a whole number from 0 to {MAX_LIMIT}")
    if query is not None and not isinstance(query, str):
        raise _bad("query must be a string")
    embedding = _embedding(body)
    common = ([_name(name) for name in namespaces], kinds or None, limit or DEFAULT_LIMIT)
    query = (query or "").strip()
    if embedding is not None:
        return "search_by_embedding", (*common, embedding)
    if len(query) >= 2:
        return "search_by_text", (*common, query)
    if query:
        return "search_by_substring", (*common, query)
    return "list_newest", common


# -- writing answers ----------------------------------------------------------------------------------------------


def _rfc3339(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _json(status: int, value: Any) -> web.Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return web.Response(status=status, body=body, content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    return _json(status, {"code": code, "message": message})


def _namespace(row: asyncpg.Record) -> dict[str, Any]:
    answer = {"name": row["name"], "kind": row["kind"], "created_at": _rfc3339(row["created_at"])}
    if row["expires_at"] is not None:
        answer["expires_at"] = _rfc3339(row["expires_at"])
    if row["metadata"] is not None:
        answer["metadata"] = json.loads(row["metadata"])
    return answer


def _memory(row: asyncpg.Record) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "id": str(row["id"]),
        "namespace": row["namespace"],
        "content": row["content"],
        "kind": row["kind"],
        "source": row["source"],
        "created_at": _rfc3339(row["created_at"]),
    }
    if row["expires_at"] is not None:
        answer["expires_at"] = _rfc3339(row["expires_at"])
    if row["propagation"] is not None:
        answer["propagation"] = json.loads(row["propagation"])
    if row["pin"]:
        answer["pin"] = True
    if row["score"] is not None and math.isfinite(row["score"]):
        answer["score"] = row["score"]
    return answer


# -- the plugin ---------------------------------------------------------------------------------------------------


def _statements() -> dict[str, str]:
    text = resources.files(__package__).joinpath("reference_plugin.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


_SQL = _statements()


class ReferencePlugin:
    """The contract's calls on one pool of connections to the built-in storage."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request; every failure leaves in the contract's error shape.

        Of PostgreSQL's errors only the first line is passed on: its DETAIL can quote the row.
        """
        try:
            return await self._route(request)
        except ContractError as error:
            return _error(error.status, error.code, str(error))
        except web.HTTPRequestEntityTooLarge:
            return _error(413, "bad_request", f"the body is larger than {MAX_BODY} bytes")
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            return _error(400, "bad_request", f"a value cannot be stored: {error.args[0]}")
        except UnicodeError:
            return _error(400, "bad_request", "a string is not valid Unicode")
        except _UNREACHABLE as error:
            return _error(503, "unavailable", f"the store cannot be reached: {type(error).__name__}")
        except asyncpg.PostgresError as error:
            return _error(500, "internal", f"the store refused the statement: {error.args[0]}")

    async def _route(self, request: web.BaseRequest) -> web.Response:
        match request.rel_url.raw_path.split("/"):
            case ["", "v1", "namespaces", name, "memories"]:
                calls = {"POST": lambda: self._commit(request, name)}
            case ["", "v1", "search"]:
                calls = {"POST": lambda: self._search(request)}
            case ["", "v1", "memories", memory_id]:
                calls = {"DELETE": lambda: self._forget(request, memory_id)}
            case ["", "v1", "namespaces", name]:
                calls = {
                    "PUT": lambda: self._put_namespace(request, name),
                    "PATCH": lambda: self._patch_namespace(request, name),
                    "DELETE": lambda: self._delete_namespace(request, name),
                }
            case ["", "v1", "health"]:
                calls = {"GET": self._health}
            case _:
                raise _not_found("no such route")
        call = calls.get(request.method)
        if call is None:
            response = _error(405, "bad_request", f"{request.method} is not allowed here")
            response.headers["Allow"] = ", ".join(calls)
            return response
        return await call()

    async def _commit(self, request: web.BaseRequest, raw_name: str) -> web.Response:
        name = _name(unquote(raw_name))
        arguments = _commit_arguments(name, _body(await _wanted(request)))
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
            await connection.execute(_SQL["commit"], *arguments)
        return web.Response(
            status=201,
            body=b'{"id":"%b","namespace":"%b"}' % (str(arguments[0]).encode(), name.encode()),
            content_type="application/json",
        )

    async def _search(self, request: web.BaseRequest) -> web.Response:
        statement, arguments = _search_arguments(_body(await request.read()))
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
            rows = await connection.fetch(_SQL[statement], *arguments)
        return _json(200, {"memories": [_memory(row) for row in rows] or None})

    async def _forget(self, request: web.BaseRequest, raw_id: str) -> web.Response:
        memory_id = _uuid(raw_id, "the memory id")
        namespace = _name(_body(await _wanted(request)).get("requested_by_namespace"))
        if await self._execute("forget", memory_id, namespace) == "DELETE 0":
            raise _not_found("no such memory in that namespace")
        return web.Response(status=204)

    async def _put_namespace(self, request: web.BaseRequest, raw_name: str) -> web.Response:
        name = _name(unquote(raw_name))
        body = _body(await _wanted(request))
        kind = _one_of(body, "kind", _NAMESPACE_KINDS)
        row = await self._fetchrow("put_namespace", name, kind, _time(body, "expires_at"), _metadata(body))
        if row is None:
            raise ContractError(500, "internal", "the namespace vanished while it was written")
        return _json(200, _namespace(row))

    async def _patch_namespace(self, request: web.BaseRequest, raw_name: str) -> web.Response:
        name = _name(unquote(raw_name))
        body = _body(await _wanted(request))
        gives_expiry, gives_metadata = "expires_at" in body, "metadata" in body
        if not (gives_expiry or gives_metadata):
            raise _bad("give at least one of expires_at and metadata")
        row = await self._fetchrow(
            "patch_namespace", name, gives_expiry, _time(body, "expires_at"), gives_metadata, _metadata(body)
        )
        if row is None:
            raise _not_found("no such namespace")
        return _json(200, _namespace(row))

    async def _delete_namespace(self, request: web.BaseRequest, raw_name: str) -> web.Response:
        await _wanted(request)
        if await self._execute("delete_namespace", _name(unquote(raw_name))) == "DELETE 0":
            raise _not_found("no such namespace")
        return web.Response(status=204)

    async def _health(self) -> web.Response:
        async with asyncio.timeout(1.0):
            async with self._pool.acquire() as connection:
                await connection.execute("SELECT 1")
        return _json(200, {"status": "ok", "version": VERSION, "capabilities": CAPABILITIES})

    async def _execute(self, statement: str, *arguments: Any) -> str:
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
            return await connection.execute(_SQL[statement], *arguments)

    async def _fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        async with self._pool.acquire(timeout=_ACQUIRE_SECONDS) as connection:
            return await connection.fetchrow(_SQL[statement], *arguments)


# -- the process --------------------------------------------------------------------------------------------------


async def _apply_schema(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Create what is missing. Several plugins may start at once; a running one is not disturbed by another's start."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
        if not await connection.fetchval(_SQL["schema_is_applied"]):
            schema = resources.files(__package__).joinpath("plugin_schema.sql").read_text(encoding="utf-8")
            await connection.execute(schema)


async def _keep_session(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Statements here leave nothing behind in a session, so asyncpg's reset (a round trip) is not needed."""


async def _open_pool(database_url: str) -> "asyncpg.Pool[asyncpg.Record]":
    # asyncpg hands unknown parameters of the URL to the server as settings, so search_path in it works as it is.
    settings = {"application_name": "memory-plugin", "jit": "off"}
    if "search_path" not in database_url:
        settings["search_path"] = "memory_plugin,public"
    connection = await asyncpg.connect(database_url, server_settings=settings, timeout=_STATEMENT_SECONDS)
    try:
        await _apply_schema(connection)
    finally:
        await connection.close()
    return await asyncpg.create_pool(
        database_url,
        min_size=0,  # with a floor, asyncpg would keep knocking at (and logging about) a database that is down
        max_size=16,
        max_inactive_connection_lifetime=0,
        max_cached_statement_lifetime=0,
        command_timeout=_STATEMENT_SECONDS,
        timeout=_STATEMENT_SECONDS,
        server_settings=settings,
        reset=_keep_session,
    )


async def _site(runner: web.ServerRunner, listen: str) -> str:
    """Open the listener; returns the address to tell others."""
    if listen.startswith("unix:"):
        path = Path(listen.removeprefix("unix:"))
        await web.UnixSite(runner, path).start()
        return listen
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or "127.0.0.1", int(port)).start()
    address = runner.addresses[0]
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{shown}:{address[1]}"


def _remove_socket(listen: str) -> None:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    return web.BaseRequest(
        message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=MAX_BODY
    )


@contextlib.asynccontextmanager
async def running(database_url: str, listen: str) -> AsyncIterator[str]:
    """The plugin, serving; gives its address. On the way out requests in flight get 5 s to finish.

    `listen`: `host:port` (port 0 picks a free one) or `unix:/path`.
    """
    pool = await _open_pool(database_url)
    try:
        plugin = ReferencePlugin(pool)
        server = web.Server(plugin.handle, request_factory=_make_request, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=5.0)
        await runner.setup()
        try:
            yield await _site(runner, listen)
        finally:
            await runner.cleanup()
            _remove_socket(listen)
    finally:
        pool.terminate()


async def serve(database_url: str, listen: str, *, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is told the address once connections are taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(database_url, listen) as address:
        ready(address)
        await stop.wait()


def main(arguments: list[str] | None = None) -> int:
    """The command line. One JSON line on stdout says the address when ready."""
    parser = argparse.ArgumentParser(prog="reference_plugin", description="The reference memory plugin.")
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--listen", default="127.0.0.1:9100", help="host:port or unix:/path")
    options = parser.parse_args(arguments)

    def announce(address: str) -> None:
        sys.stdout.write(json.dumps({"listening": address}) + "\n")
        sys.stdout.flush()

    try:
        uvloop.run(serve(options.database_url, options.listen, ready=announce))
    except asyncpg.PostgresError as error:
        sys.stderr.write(f"the plugin's database cannot be used: {error}\n")
        return 1
    except (OSError, ValueError, asyncpg.InterfaceError) as error:
        sys.stderr.write(f"the plugin cannot start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
