"""The MCP bridge: JSON-RPC 2.0 over `POST /workspaces/{id}/mcp` (domain §2).

Stateless: no session id, one JSON answer per POST, 202 for what needs none, 405 for a GET of the same path, which is
what MCP's streamable HTTP transport asks of a server without streams. `GET …/mcp/stream` is the older transport's
hint: an event stream that names the endpoint.

What is wrong with the protocol is a JSON-RPC error; what goes wrong in a tool is a result with `isError` and the
error's sentence as text, because agents read results and not error objects.

With an upstream, only calls of memory tools are answered here: everything else is passed on byte for byte, and
`tools/list` is the upstream's list with the memory tools in it once.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic_core import from_json, to_json

import cutover
from cutover.domain.errors import CutoverError, InvalidRequest
from cutover.http.auth import WorkspaceAuth
from cutover.http.mcp_tools import TOOLS, ToolCall
from cutover.http.memories_face import ServedTenant, authenticated
from cutover.http.server import Call, Directory, Route
from cutover.http.upstream import Answer, Upstream, UpstreamFailed
from cutover.http.upstream_path import upstream_path
from cutover.http.wire import idempotency_key, json_response

PROTOCOL_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions that begin with `initialize`, oldest first; v1 spoke the first, clients of today ask for the others."""
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
MAX_BATCH = 100
HEARTBEAT_SECONDS = 15.0

Message = dict[str, Any]


class ProtocolError(Exception):
    """What JSON-RPC has a code for."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class McpBridge:
    """The routes of the bridge. `upstream` serves the default tenant only."""

    def __init__(self, auth: WorkspaceAuth, tenants: Directory[ServedTenant], upstream: Upstream | None = None) -> None:
        self._auth = auth
        self._tenants = tenants
        self._upstream = upstream
        self._ended = asyncio.Event()

    def routes(self) -> tuple[Route[ServedTenant], ...]:
        """Both routes, counted as face `mcp`."""
        path = "/workspaces/{workspace:[^/]+}/mcp"
        return (
            Route("POST", path, "mcp", self.post, face="mcp"),
            Route("GET", path + "/stream", "mcp_stream", self.stream, face="mcp"),
        )

    async def end_streams(self) -> None:
        """Let every open event stream end."""
        self._ended.set()

    # -- HTTP ------------------------------------------------------------------------------------------------------

    async def post(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """One JSON-RPC message, or a batch of them."""
        raw = await call.body()
        path = upstream_path(call.request, self._tenants) if self._upstream is not None else None
        try:
            message = from_json(raw, allow_inf_nan=False)
        except ValueError:
            message = None
            if path is None:
                await authenticated(self._auth, call)
                return _failure(400, ProtocolError(PARSE_ERROR, "the body is not valid JSON"))
        if self._upstream is not None and path is not None:
            return await self._post_with_upstream(call, self._upstream, path, raw, message)
        await authenticated(self._auth, call)
        if isinstance(message, list):
            return await self._batch(call, message)
        answer = await self._answer(call, message)
        if answer is None:
            return web.Response(status=202)
        malformed = "error" in answer and answer["error"]["code"] == INVALID_REQUEST
        return _json(400 if malformed else 200, answer)

    async def stream(self, call: Call[ServedTenant]) -> web.StreamResponse:
        """The endpoint hint, then heartbeats until the client or the daemon goes."""
        path = upstream_path(call.request, self._tenants) if self._upstream is not None else None
        if self._upstream is not None and path is not None:
            return await self._upstream.forward(call.request, path=path)
        await authenticated(self._auth, call)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        response.headers["X-Request-Id"] = call.request_id
        await response.prepare(call.request)
        endpoint = call.request.path.removesuffix("/stream")
        await response.write(f"event: endpoint\ndata: {endpoint}\n\n".encode())
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._ended.wait()
            except TimeoutError:
                await response.write(b": ping\n\n")
        await response.write_eof()
        return response

    # -- JSON-RPC --------------------------------------------------------------------------------------------------

    async def _batch(self, call: Call[ServedTenant], messages: list[Any]) -> web.StreamResponse:
        if not messages or len(messages) > MAX_BATCH:
            problem = ProtocolError(INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} messages")
            return _failure(400, problem)
        # One after the other: a batch that saves and then recalls means that order.
        answers = [answer for message in messages if (answer := await self._answer(call, message)) is not None]
        return _json(200, answers) if answers else web.Response(status=202)

    async def _answer(self, call: Call[ServedTenant], message: Any) -> Message | None:
        """The response to one message; None where none is due."""
        request_id = message.get("id") if isinstance(message, dict) else None
        try:
            method = _method(message)
            if method is None:
                return None
            return {"jsonrpc": "2.0", "id": request_id, "result": await self._result(call, method, message)}
        except ProtocolError as problem:
            call.outcome = "client_error"
            return _error(request_id if _is_id(request_id) else None, problem)

    async def _result(self, call: Call[ServedTenant], method: str, message: Message) -> Message:
        params = message.get("params")
        if params is None:
            params = {}
        if not isinstance(params, dict):
            raise ProtocolError(INVALID_PARAMS, "params must be an object")
        match method:
            case "initialize":
                return _initialized(params)
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [tool.listing() for tool in TOOLS.values()]}
            case "tools/call":
                return await self._call_tool(call, params)
        raise ProtocolError(METHOD_NOT_FOUND, "method not found")

    async def _call_tool(self, call: Call[ServedTenant], params: Message) -> Message:
        tool = TOOLS.get(params["name"]) if isinstance(params.get("name"), str) else None
        if tool is None:
            raise ProtocolError(INVALID_PARAMS, "params.name is not the name of a tool")
        arguments = params.get("arguments")
        if not isinstance(arguments, dict | None):
            raise ProtocolError(INVALID_PARAMS, "params.arguments must be an object")
        call.operation = tool.name
        workspace_id = await authenticated(self._auth, call)
        try:
            text = await tool.run(
                ToolCall(
                    call,
                    workspace_id,
                    to_json(arguments or {}),
                    idempotency_key(call.request.headers.get("Idempotency-Key")),
                )
            )
        except CutoverError as error:
            call.failed(error)
            words = f"{error.message}; {error.next_step}" if error.next_step else error.message
            return {"content": [{"type": "text", "text": words}], "isError": True}
        return {"content": [{"type": "text", "text": text}]}

    # -- beside an upstream ----------------------------------------------------------------------------------------

    async def _post_with_upstream(
        self, call: Call[ServedTenant], upstream: Upstream, path: str, raw: bytes, message: Any
    ) -> web.StreamResponse:
        if isinstance(message, list) and any(_is_ours(each) or _lists_tools(each) for each in message):
            return await self._mixed_batch(call, upstream, path, message)
        if _is_ours(message):
            await authenticated(self._auth, call)
            return _json(200, await self._answer(call, message))
        if _lists_tools(message):
            return _with_our_tools(await upstream.exchange(call.request, raw, path=path), message)
        return await upstream.forward(call.request, path=path, body=raw)

    async def _mixed_batch(
        self, call: Call[ServedTenant], upstream: Upstream, path: str, messages: list[Any]
    ) -> web.StreamResponse:
        if len(messages) > MAX_BATCH:
            raise InvalidRequest(f"a batch holds 1 to {MAX_BATCH} messages")
        answers: list[Any] = []
        for message in messages:
            if _is_ours(message):
                await authenticated(self._auth, call)
                answers.append(await self._answer(call, message))
            else:
                answers.append(await self._ask_upstream(call, upstream, path, message))
        due = [answer for answer in answers if answer is not None]
        return _json(200, due) if due else web.Response(status=202)

    async def _ask_upstream(self, call: Call[ServedTenant], upstream: Upstream, path: str, message: Any) -> Any:
        """The upstream's response to one message of a batch; None where it gave none."""
        request_id = message.get("id") if isinstance(message, dict) else None
        try:
            answer = await upstream.exchange(call.request, to_json(message), path=path)
        except UpstreamFailed as error:
            return _error(request_id, ProtocolError(INTERNAL, error.message))
        found = _response_in(answer, request_id)
        if found is None:
            if request_id is None:
                return None
            return _error(request_id, ProtocolError(INTERNAL, f"workspace-server answered {answer.status}"))
        return _merged(found, message) if _lists_tools(message) else found


# -- messages ----------------------------------------------------------------------------------------------------------


def _method(message: Any) -> str | None:
    """The method to run; None for a notification or a response, which get no answer. Raises `ProtocolError`."""
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, 'a message is an object with "jsonrpc": "2.0"')
    method = message.get("method")
    if method is None and ("result" in message or "error" in message):
        return None
    if not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, "method must be a string")
    if "id" not in message:
        if method == "tools/call":  # silence would look like a memory that was saved
            raise ProtocolError(INVALID_REQUEST, "tools/call needs an id")
        return None
    if not _is_id(message["id"]):
        raise ProtocolError(INVALID_REQUEST, "id must be a string or an integer")
    return method


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_ours(message: Any) -> bool:
    """Whether the message calls a memory tool."""
    if not isinstance(message, dict) or message.get("method") != "tools/call":
        return False
    params = message.get("params")
    return isinstance(params, dict) and isinstance(params.get("name"), str) and params["name"] in TOOLS


def _lists_tools(message: Any) -> bool:
    return isinstance(message, dict) and message.get("method") == "tools/list" and "id" in message


def _initialized(params: Message) -> Message:
    """The revision asked for where it is known; an older one gets the oldest, any other the newest."""
    asked = params.get("protocolVersion")
    version = asked if asked in PROTOCOL_VERSIONS else PROTOCOL_VERSIONS[-1]
    if not isinstance(asked, str) or asked < PROTOCOL_VERSIONS[0]:
        version = PROTOCOL_VERSIONS[0]
    return {
        "protocolVersion": version,
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "cutover", "version": cutover.__version__},
    }


def _error(request_id: Any, problem: ProtocolError) -> Message:
    return {"jsonrpc": "2.0", "id": request_id, "error": {"code": problem.code, "message": problem.message}}


def _failure(status: int, problem: ProtocolError) -> web.Response:
    return _json(status, _error(None, problem))


def _json(status: int, payload: Message | Sequence[Any] | None) -> web.Response:
    return json_response(status, payload)


def _response_in(answer: Answer, request_id: Any) -> Message | None:
    """The JSON-RPC response in an upstream's answer, which may be JSON or an event stream."""
    texts: list[bytes] = [answer.body]
    if answer.content_type == "text/event-stream":
        events = answer.body.replace(b"\r\n", b"\n").split(b"\n\n")
        texts = [
            b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")) for event in events
        ]
    for text in texts:
        try:
            message = json.loads(text)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("id") == request_id:
            return message
    return None


def _merged(response: Message, request: Message) -> Message:
    """The upstream's page of tools without any that are ours, and ours on the first page."""
    result = response.get("result")
    if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
        return response
    theirs = [tool for tool in result["tools"] if not (isinstance(tool, dict) and tool.get("name") in TOOLS)]
    params = request.get("params")
    first_page = not (isinstance(params, dict) and params.get("cursor"))
    ours = [tool.listing() for tool in TOOLS.values()] if first_page else []
    return {**response, "result": {**result, "tools": [*theirs, *ours]}}


def _with_our_tools(answer: Answer, request: Message) -> web.Response:
    response = _response_in(answer, request.get("id"))
    if answer.status != 200 or response is None:
        return answer.response()
    answer.headers.popall("Content-Type", None)
    return json_response(200, _merged(response, request), answer.headers)
