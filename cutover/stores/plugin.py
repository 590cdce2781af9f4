"""The client of the plugin's HTTP contract (domain §3): what every delivery and every read of v2 goes through.

One question decides how the write protocol may go on after a failure: can the plugin still apply the request later?
So each failure becomes exactly one of ours (`domain/errors.py`):

* the request never left: no connection could be made, or none was free in time → `PluginUnreachable`, definite;
* anything that happens once a connection is taken → `PluginTimeout`, ambiguous. A kept-alive connection that the
  plugin closed before reading us looks the same as one it closed after reading us, so it counts as ambiguous too;
* an answer → `PluginRejected`, `PluginFault`, or `PluginMisspoke` when a success breaks the contract.

A request is sent at most once. aiohttp sends idempotent methods a second time when a kept-alive connection breaks;
that would put a second PUT or DELETE on the wire behind the protocol's back, so a failure is translated inside
aiohttp's own retry loop (`_send_once`), where it no longer looks like one to retry.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

import aiohttp
from yarl import URL

from cutover.domain.errors import (
    BadSetting,
    PluginError,
    PluginFault,
    PluginMisspoke,
    PluginTimeout,
    PluginUnreachable,
)
from cutover.domain.memory import Kind, Namespace, PluginCommit, PluginHealth, PluginMemory
from cutover.domain.requests import UNSET, PutNamespace, Unset
from cutover.stores import plugin_wire as wire

NAMESPACE_MISSING = "memory_records_namespace_fkey"
"""What a plugin's 500 says when a commit's namespace was never put (domain §3)."""
DEFAULT_MAX_RESPONSE = 64 * 1024 * 1024
_CONNECT_SHARE = 0.95  # of the time-out; so that running out while connecting is told apart, and is definite
_NO_ROUNDING = 1e9  # aiohttp rounds time-outs above this many seconds up to whole ones
_JSON_HEADERS: Final = {"Content-Type": "application/json"}
_SKIPPED_HEADERS = ("Accept", "Accept-Encoding", "User-Agent")

_ANSWERED = (
    aiohttp.ClientResponseError,
    aiohttp.RedirectClientError,
)
_NEVER_SENT = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)
CLIENT_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
"""Everything that aiohttp and the sockets under it raise for a request."""

NamespaceSource = PutNamespace | Callable[[], Awaitable[PutNamespace]]
"""A namespace's exact definition (a PUT replaces everything), or how to look it up when it is needed."""


def translate(error: Exception) -> PluginError:
    """Our error for anything the HTTP client or the socket under it raises; complete over both trees (tested)."""
    if isinstance(error, PluginError):
        return error
    name = type(error).__name__
    if isinstance(error, _ANSWERED):
        return PluginMisspoke(f"the plugin's answer is not the contract's HTTP ({name})")
    if isinstance(error, _NEVER_SENT):
        return PluginUnreachable(
            f"the plugin could not be reached ({name})", next_step="check MEMORY_PLUGIN_URL and that the plugin runs"
        )
    return PluginTimeout(f"the plugin did not answer in time or hung up ({name})")


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except CLIENT_ERRORS as error:
        raise translate(error) from error


class PluginClient:
    """One plugin. Create it inside a running loop and close it; safe for concurrent calls.

    `url`: `http://host:port`, `https://…`, `unix:/path` or `http+unix://%2Fpath`. Every call takes `timeout` in
    seconds for the whole exchange, and raises `PluginError` subclasses only. `headers` are passed through
    (`traceparent`).
    """

    def __init__(
        self, url: str, *, max_connections: int = 128, max_response: int = DEFAULT_MAX_RESPONSE, keepalive: float = 15.0
    ) -> None:
        base, socket = _parse_url(url)
        self.url = url
        self.date: str | None = None
        """The header `Date` of the last answer, as it came."""
        self._base = base
        self._max_response = max_response
        self._search_url = URL(f"{base}/v1/search", encoded=True)
        self._health_url = URL(f"{base}/v1/health", encoded=True)
        connector: aiohttp.BaseConnector
        if socket is None:
            connector = aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=keepalive)
        else:
            connector = aiohttp.UnixConnector(socket, limit=max_connections, keepalive_timeout=keepalive)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED_HEADERS,
            auto_decompress=False,
            trust_env=False,
            middlewares=(_send_once,),
        )
        self._known: set[str] = set()
        self._putting: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Close all connections. Calls in flight end as `PluginTimeout`."""
        for task in list(self._putting.values()):
            task.cancel()
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    # -- the contract's calls -------------------------------------------------------------------------------------

    async def health(self, *, timeout: float, headers: Mapping[str, str] | None = None) -> PluginHealth:
        """`GET /v1/health`; a 503 is a `PluginFault`."""
        return wire.decode_health(await self._request("GET", self._health_url, None, timeout, headers))

    async def put_namespace(
        self,
        name: str,
        kind: str,
        expires_at: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> Namespace:
        """`PUT /v1/namespaces/{name}`: creates it, or replaces its kind, expires_at and metadata."""
        body: dict[str, Any] = {"kind": kind}
        if expires_at is not None:
            body["expires_at"] = wire.rfc3339(expires_at)
        if metadata is not None:
            body["metadata"] = metadata
        raw = await self._request("PUT", self._namespace_url(name), wire.encode(body), timeout, headers)
        namespace = wire.decode_namespace(raw, name)
        self._known.add(name)
        return namespace

    async def patch_namespace(
        self,
        name: str,
        *,
        expires_at: datetime | Unset | None = UNSET,
        metadata: Mapping[str, Any] | Unset | None = UNSET,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> Namespace:
        """`PATCH /v1/namespaces/{name}` with the given fields only."""
        body: dict[str, Any] = {}
        if not isinstance(expires_at, Unset):
            body["expires_at"] = None if expires_at is None else wire.rfc3339(expires_at)
        if not isinstance(metadata, Unset):
            body["metadata"] = metadata
        raw = await self._request("PATCH", self._namespace_url(name), wire.encode(body), timeout, headers)
        return wire.decode_namespace(raw, name)

    async def delete_namespace(self, name: str, *, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        """`DELETE /v1/namespaces/{name}`: it and all its memories; `PluginRejected` 404 when there is none."""
        self._known.discard(name)
        await self._request("DELETE", self._namespace_url(name), None, timeout, headers)

    async def commit(self, commit: PluginCommit, *, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        """`POST /v1/namespaces/{name}/memories`: upsert of one memory under our id."""
        url = self._namespace_url(commit.namespace, "/memories")
        wire.check_committed(await self._request("POST", url, wire.encode_commit(commit), timeout, headers), commit)

    async def search(
        self,
        namespaces: Collection[str],
        query: str = "",
        kinds: Collection[Kind] = (),
        limit: int | None = None,
        embedding: Collection[float] | None = None,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> list[PluginMemory]:
        """`POST /v1/search`, in the plugin's order; memories of namespaces not asked for are a breach."""
        body = wire.encode_search(namespaces, query, kinds, limit, embedding)
        return wire.decode_memories(await self._request("POST", self._search_url, body, timeout, headers), namespaces)

    async def forget(
        self, memory_id: UUID, namespace: str, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """`DELETE /v1/memories/{id}`; `PluginRejected` 404 when it is not in that namespace."""
        url = URL(f"{self._base}/v1/memories/{memory_id}", encoded=True)
        await self._request("DELETE", url, wire.encode({"requested_by_namespace": namespace}), timeout, headers)

    # -- known namespaces -----------------------------------------------------------------------------------------

    def knows_namespace(self, name: str) -> bool:
        """Whether this process has put `name` and not seen it missing since."""
        return name in self._known

    def forget_known_namespace(self, name: str) -> None:
        """Make the next `ensure_namespace` put it again."""
        self._known.discard(name)

    async def ensure_namespace(
        self, name: str, source: NamespaceSource, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> None:
        """PUT `name` unless this process already did. Concurrent callers share one PUT and its outcome.

        A failure leaves `ambiguous` false: a namespace put twice or late is the same namespace, and no memory was
        sent.
        """
        if name in self._known:
            return
        task = self._putting.get(name)
        if task is None:
            # Its own task: the caller who happened to come first may be cancelled without failing the others.
            task = asyncio.create_task(self._put_definition(name, source, timeout, headers), name=f"put {name}")
            self._putting[name] = task
            task.add_done_callback(lambda done: self._put_done(name, done))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(task)
        except TimeoutError:
            late = PluginTimeout(f"namespace {name} could not be put in time")
            late.ambiguous = False
            raise late from None
        except PluginError as error:
            error.ambiguous = False
            raise
        except asyncio.CancelledError:
            if task.cancelled():  # close() took the shared PUT away; the caller itself may go on
                raise PluginUnreachable("the request was not sent: closed") from None
            raise

    async def _put_definition(
        self, name: str, source: NamespaceSource, timeout: float, headers: Mapping[str, str] | None
    ) -> None:
        definition = source if isinstance(source, PutNamespace) else await source()
        await self.put_namespace(
            name, definition.kind, definition.expires_at, definition.metadata, timeout=timeout, headers=headers
        )

    def _put_done(self, name: str, task: asyncio.Task[None]) -> None:
        self._putting.pop(name, None)
        if not task.cancelled():
            task.exception()  # every waiter may be gone; asyncio would call it never retrieved

    async def commit_ensuring_namespace(
        self,
        commit: PluginCommit,
        source: NamespaceSource,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Commit with the namespace put first where unknown, and once more where the plugin has lost it.

        `timeout` covers all of it. The second commit is safe: the answer to the first said that nothing was stored.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        await self.ensure_namespace(commit.namespace, source, timeout=timeout, headers=headers)
        try:
            await self.commit(commit, timeout=_left(deadline), headers=headers)
        except PluginFault as fault:
            if NAMESPACE_MISSING not in fault.message:
                raise
        else:
            return
        self.forget_known_namespace(commit.namespace)
        await self.ensure_namespace(commit.namespace, source, timeout=_left(deadline), headers=headers)
        await self.commit(commit, timeout=_left(deadline), headers=headers)

    # -- one exchange ---------------------------------------------------------------------------------------------

    def _namespace_url(self, name: str, rest: str = "") -> URL:
        return URL(f"{self._base}/v1/namespaces/{quote(name, safe=':')}{rest}", encoded=True)

    async def _request(
        self, method: str, url: URL, body: bytes | None, timeout: float, headers: Mapping[str, str] | None
    ) -> bytes:
        """Send once; the body of a 2xx answer, or one of ours raised."""
        if self._session.closed or timeout <= 0:
            raise PluginUnreachable("the request was not sent: " + ("closed" if timeout > 0 else "no time was left"))
        limits = aiohttp.ClientTimeout(total=timeout, connect=timeout * _CONNECT_SHARE, ceil_threshold=_NO_ROUNDING)
        fields = _JSON_HEADERS if headers is None else {**headers, **_JSON_HEADERS}
        try:
            async with self._session.request(
                method, url, data=body, headers=fields, timeout=limits, allow_redirects=False
            ) as response:
                raw = await self._read(response)
                status = response.status
                self.date = response.headers.get("Date")
        except CLIENT_ERRORS as error:
            raise translate(error) from error
        if 200 <= status < 300:
            return raw
        if status < 400:
            raise PluginMisspoke(f"the plugin answered {status}, which the contract does not know")
        raise wire.decode_error(status, raw)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body; an answer beyond the limit is cut off and is a breach."""
        announced = response.content_length
        if announced is not None and announced <= self._max_response:
            return await response.read()
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._max_response:
                response.close()
                raise PluginMisspoke(f"the plugin's answer is larger than {self._max_response} bytes")
            parts.append(part)
        return b"".join(parts)


def _left(deadline: float) -> float:
    return deadline - asyncio.get_running_loop().time()


def _parse_url(url: str) -> tuple[str, str | None]:
    """The base for paths (without a trailing slash), and the socket's path for a unix URL."""
    example = "for example http://localhost:9100 or unix:/run/memory-plugin.sock"
    for prefix in ("http+unix://", "http+unix:", "unix://", "unix:"):
        if url.startswith(prefix):
            path = unquote(url.removeprefix(prefix))
            if not path.startswith("/"):
                raise BadSetting(f"the plugin's URL has no absolute socket path; {example}")
            return "http://plugin", path
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise BadSetting(f"the plugin's URL is not http(s)://host:port or unix:/path; {example}")
    return url.rstrip("/"), None
