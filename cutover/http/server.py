"""A face: one aiohttp application with its own listeners, limits and error shape.

The path of a request: `FaceConnection` reads it (head deadline) → `Face._serve`, the one wrapper around everything,
gives it an id and turns every exception into the face's shape → aiohttp's router finds the route → `_entry` resolves
the tenant and calls the face's handler with a `Call`. There are no aiohttp middlewares: each would cost every request.

Every tenant route is served twice: `/<path>` for the default tenant, `/tenants/{name}/<path>` for the named one.
A client that goes away does not cancel its handler: a disconnect must not split a write (architecture §3).
"""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import structlog
from aiohttp import web
from pydantic_core import to_json

from cutover.domain.errors import CutoverError, InvalidRequest, NotFound, Refused
from cutover.domain.events import Observer, RequestFinished, RequestRefused
from cutover.domain.requests import Caller
from cutover.engine.trace import TRACE
from cutover.http import wire
from cutover.http.connection import FaceConnection
from cutover.http.errors import Problem, Shape, code_for, problem_of
from cutover.http.limits import Limits, connections_allowed, raise_open_files
from cutover.http.listen import Address, UnixAddress, bind, bound_address, remove_socket

TENANT_PREFIX = "/tenants/{tenant}"
_LOGGER = structlog.stdlib.get_logger("cutover.http")
_SERVER_NAME = "cutover"

R = TypeVar("R")


class Named(Protocol):
    """Anything with the configured label of a tenant."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)
T_co = TypeVar("T_co", bound=Named, covariant=True)


class Directory(Protocol[T_co]):
    """The tenants a face serves. `get` raises `NotFound` for an unknown name."""

    @property
    def default(self) -> T_co | None: ...

    def get(self, name: str) -> T_co: ...


def no_default() -> NotFound:
    """The answer to a path without a tenant where there is no default one. It lists none on purpose."""
    return NotFound("this daemon has no default tenant", next_step="name one in the path: /tenants/{name}/…")


class RequestTimedOut(InvalidRequest):
    """The body did not arrive in time."""

    status = 408


class BodyTooLarge(InvalidRequest):
    """The body is larger than the face takes."""

    status = 413


class Call(Generic[T]):
    """One request on its way through a face."""

    __slots__ = ("_face", "_request_id", "_tenant", "arrived", "caller", "operation", "outcome", "quiet", "request")

    def __init__(self, face: "Face[T]", request: web.Request, arrived: float) -> None:
        self._face = face
        self._tenant: T | None = None
        self._request_id = wire.request_id(request.headers.get("X-Request-Id"))
        self.request = request
        self.arrived = arrived
        """`time.monotonic()` at which the head had been read."""
        self.caller = Caller(face.name, self._request_id, None, arrived)
        self.operation = "unknown"
        self.outcome = ""
        self.quiet = False

    @property
    def request_id(self) -> str:
        """The caller's `X-Request-Id`, or the one minted for it."""
        return self._request_id

    @property
    def limits(self) -> Limits:
        """The face's limits."""
        return self._face.limits

    @property
    def tenant(self) -> T:
        """The tenant this call is for."""
        if self._tenant is None:
            raise no_default()
        return self._tenant

    @property
    def named_tenant(self) -> T | None:
        """The tenant that the path names, or the default one, or None (routes of scope `daemon` only)."""
        return self._tenant

    async def body(self, *, seconds: float | None = None) -> bytes:
        """The whole body. Raises 413 above the limit, 408 when it is not here `seconds` after the head."""
        request = self.request
        limits = self._face.limits
        if (request.content_length or 0) > limits.body_bytes:
            raise BodyTooLarge(f"the body is larger than the {limits.body_bytes} bytes this face takes")
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise InvalidRequest("Content-Encoding is not supported", next_step="send the body as it is")
        if request.content.is_eof():
            return await request.read()
        remaining = self.arrived + (limits.body_seconds if seconds is None else seconds) - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, remaining)):
                return await request.read()
        except TimeoutError:
            raise RequestTimedOut("the body of the request did not arrive in time") from None

    def failed(self, error: Exception) -> None:
        """Count this call as failed with `error`; for handlers that answer a failure with a success status (MCP)."""
        if isinstance(error, Refused):
            self.outcome = "refused"
            if self._tenant is not None:
                self._face.observe(RequestRefused(self._tenant.name, error.reason))
        else:
            problem = problem_of(error)
            self.outcome = "client_error" if problem is not None and problem.status < 500 else "error"

    async def within(self, seconds: float, work: Coroutine[Any, Any, R], message: str) -> R:
        """The result of `work`, or `Refused` once `seconds` have passed since the head was read.

        `work` runs in a task of its own and goes on when time is up or the client is gone: a write is never split.
        """
        return await self._face.within(self.arrived + seconds, work, message)

    async def read_within(self, seconds: float, work: Awaitable[R], message: str) -> R:
        """As `within`, for reads: they are cancelled when time is up, and need no task of their own."""
        timer = asyncio.timeout(max(0.0, self.arrived + seconds - time.monotonic()))
        try:
            async with timer:
                return await work
        except TimeoutError:
            if timer.expired():
                raise Refused("overload", message) from None
            raise


CALL: web.RequestKey[Any] = web.RequestKey("call", Any)

Handler = Callable[[Call[T]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """One route of a face. A GET route answers HEAD as well."""

    method: str
    path: str
    operation: str
    """The bounded word that metrics know it by."""
    handler: Handler[T]
    face: str | None = None
    """The metric label, where it differs from the face's name (`mcp` on the memories face)."""
    scope: str = "tenant"
    """`tenant`: needs one, and is served under both prefixes, or as it is where the path itself has `{tenant}`.
    `daemon`: under no prefix, with or without a tenant."""
    quiet: bool = False
    """Neither logged nor counted: probes and scrapes."""


class Face(Generic[T]):
    """A face's server: `await start(addresses)`, then `await stop(deadline)`."""

    def __init__(
        self,
        name: str,
        tenants: Directory[T],
        routes: Iterable[Route[T]],
        shape: Shape,
        observer: Observer,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or Limits()
        self.observe = observer
        self.addresses: tuple[Address, ...] = ()
        """Where it really listens; with port 0, the port that the system chose."""
        self.draining = False
        self.closing: list[Callable[[], Awaitable[None]]] = []
        """Called first on `stop`: streams that would never end by themselves."""
        self._tenants = tenants
        self._shape = shape
        self._connections: dict[FaceConnection, None] = {}
        self._max_connections = 0
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._servers: list[tuple[asyncio.Server, Address]] = []
        self._app = web.Application(client_max_size=self.limits.body_bytes)
        self._runner: web.AppRunner | None = None
        self._route: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
        for route in routes:
            self._add(route)

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self, addresses: Iterable[Address]) -> None:
        """Listen on every address. Raises `BadSetting` for one that cannot be had.

        Also lifts the process's soft limit on open files to the hard one: every connection is a descriptor.
        """
        raise_open_files()
        self._max_connections = connections_allowed(self.limits)
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        manager = self._runner.server
        assert manager is not None  # noqa: S101 - set up on the line above
        self._route = manager.request_handler
        manager.request_handler = self._serve
        loop = asyncio.get_running_loop()

        def connect() -> asyncio.Protocol:
            return FaceConnection(
                self,
                manager,
                loop,
                access_log=None,
                keepalive_timeout=self.limits.idle_seconds,
                max_line_size=self.limits.head_bytes,
                max_field_size=self.limits.head_bytes,
                lingering_time=2.0,
                auto_decompress=False,
            )

        bound: list[Address] = []
        try:
            for address in addresses:
                server = await bind(address, connect, f"CUTOVER_{self.name.upper()}_LISTEN")
                self._servers.append((server, address))
                bound.append(bound_address(server, address))
        except CutoverError:
            await self.stop(0.0)
            raise
        self.addresses = tuple(bound)

    async def stop(self, deadline: float = 5.0) -> None:
        """Stop accepting, end the streams, let requests in flight finish for `deadline` seconds, hang up."""
        self.draining = True
        for server, address in self._servers:
            server.close()
            if isinstance(address, UnixAddress):
                remove_socket(address)
        self._servers.clear()
        for close in self.closing:
            await close()
        try:
            async with asyncio.timeout(deadline):
                await self._quiet.wait()
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            _LOGGER.warning("http.drain_deadline", face=self.name, requests=self._active, tasks=len(self._tasks))
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def connections(self) -> int:
        """How many clients are connected right now."""
        return len(self._connections)

    # -- connections (see connection.Host) -------------------------------------------------------------------------

    def joined(self, connection: FaceConnection) -> None:
        """A client connected; at the limit the longest idle one makes room, and if none is idle nobody is let in."""
        if len(self._connections) >= self._max_connections:
            idle = next((one for one in self._connections if one.idle), None)
            if idle is None:
                self._connections[connection] = None
                connection.refuse(503, "too many connections")
                return
            idle.force_close()
        self._connections[connection] = None

    def left(self, connection: FaceConnection) -> None:
        """A client is gone."""
        self._connections.pop(connection, None)

    def raw_refusal(self, status: int, message: str) -> bytes:
        """A whole HTTP answer for a client that no request could be had from."""
        body = to_json(self._shape(Problem(status, code_for(status), message)))
        reason = {408: "Request Timeout", 503: "Service Unavailable"}[status]
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: {wire.JSON}\r\nContent-Length: {len(body)}\r\n"
            f"X-Request-Id: {wire.request_id(None)}\r\nServer: {_SERVER_NAME}\r\n{retry}Connection: close\r\n\r\n"
        )
        return head.encode() + body

    def malformed(self, status: int) -> web.Response:
        """The answer to bytes that are not HTTP."""
        words = "the request is not well-formed HTTP" if status < 500 else "something went wrong inside the daemon"
        response = self._render(Problem(status, code_for(status), words, close=True))
        self._dress(response, wire.request_id(None))
        return response

    # -- requests --------------------------------------------------------------------------------------------------

    def _add(self, route: Route[T]) -> None:
        entry = self._entry(route)
        prefixes = ("", TENANT_PREFIX) if route.scope == "tenant" and "{tenant}" not in route.path else ("",)
        for prefix in prefixes:
            if route.method == "GET":
                self._app.router.add_get(prefix + route.path, entry, allow_head=True)
            else:
                self._app.router.add_route(route.method, prefix + route.path, entry)

    def _entry(self, route: Route[T]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        label = route.face or self.name
        needs_tenant = route.scope == "tenant"

        async def entry(request: web.Request) -> web.StreamResponse:
            call: Call[T] = request[CALL]
            call.operation = route.operation
            call.quiet = route.quiet
            parent = wire.traceparent(request.headers.get("traceparent"))
            call.caller = Caller(label, call.request_id, parent, call.arrived)
            name = request.match_info.get("tenant")
            tenant = self._tenants.get(name) if name is not None else self._tenants.default
            call._tenant = tenant  # noqa: SLF001 - Call is this module's own
            if needs_tenant and tenant is None:
                raise no_default()
            trace = wire.trace_id(parent)
            TRACE.set(trace)
            structlog.contextvars.bind_contextvars(
                request=call.request_id, trace=trace, tenant=tenant.name if tenant else None
            )
            return await route.handler(call)

        return entry

    async def _serve(self, base: web.BaseRequest) -> web.StreamResponse:
        request = cast(web.Request, base)
        connection = cast(FaceConnection, request.protocol)
        call: Call[T] = Call(self, request, connection.take_arrival())
        request[CALL] = call
        self._active += 1
        self._quiet.clear()
        try:
            response = await self._answer(call)
        finally:
            self._active -= 1
            if not self._active:
                self._quiet.set()
        if not response.prepared:
            self._dress(response, call.request_id)
            if self.draining:
                response.force_close()
        if not call.quiet:
            self._finished(call, response.status)
        return response

    async def _answer(self, call: Call[T]) -> web.StreamResponse:
        assert self._route is not None  # noqa: S101 - there is no request before `start`
        try:
            return await self._route(call.request)
        except ConnectionError as error:
            if call.request.transport is None:
                raise  # the client is gone; nobody is left to answer
            return self._unexpected(call, error)
        except Exception as error:  # noqa: BLE001 - the edge: whatever it is, the client gets the face's shape
            problem = problem_of(error)
            if problem is None:
                return self._unexpected(call, error)
            call.failed(error)
            self._note_fault(call, problem)
            return self._render(self.told(call, problem))

    def told(self, call: Call[T], problem: Problem) -> Problem:
        """`problem` as this face tells it."""
        return problem

    def _note_fault(self, call: Call[T], problem: Problem) -> None:
        """A 500 that is understood: its message is safe to log, and says what broke."""
        if problem.status == 500:
            _LOGGER.error("http.fault", face=self.name, operation=call.operation, problem=problem.message)

    def _unexpected(self, call: Call[T], error: Exception) -> web.Response:
        """A fault of ours. The log says where; not the exception's text, which may quote content."""
        frames = traceback.extract_tb(error.__traceback__)[-8:]
        _LOGGER.error(
            "http.unexpected",
            face=self.name,
            operation=call.operation,
            request=call.request_id,
            error=type(error).__name__,
            at=[f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames],
        )
        call.outcome = "error"
        return self._render(Problem(500, "internal", "something went wrong inside the daemon", "see its log"))

    def _render(self, problem: Problem) -> web.Response:
        response = wire.json_response(problem.status, self._shape(problem), problem.headers)
        if problem.close:
            response.force_close()
        return response

    def _dress(self, response: web.StreamResponse, request_id: str) -> None:
        response.headers["X-Request-Id"] = request_id
        response.headers["Server"] = _SERVER_NAME

    def _finished(self, call: Call[T], status: int) -> None:
        tenant = call.named_tenant or self._tenants.default
        if tenant is None:
            return
        outcome = call.outcome or ("ok" if status < 400 else "client_error" if status < 500 else "error")
        seconds = time.monotonic() - call.arrived
        trace = wire.trace_id(call.caller.traceparent)
        self.observe(RequestFinished(tenant.name, call.caller.face, call.operation, outcome, seconds, trace))

    # -- work that outlives its request ----------------------------------------------------------------------------

    async def within(self, when: float, work: Coroutine[Any, Any, R], message: str) -> R:
        """See `Call.within`; `when` is a `time.monotonic()`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        done, _ = await asyncio.wait((task,), timeout=max(0.0, when - time.monotonic()))
        if done:
            return task.result()
        raise Refused("unresolved", message, retry_after=1.0)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that one nobody waits for any more is not reported as forgotten
