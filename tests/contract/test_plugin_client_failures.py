"""What each failure of the plugin or of the network becomes: definite or ambiguous, and never a second send."""

import asyncio
import inspect
import socket
import ssl
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import client_exceptions
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from cutover.domain.errors import (
    BadSetting,
    PluginError,
    PluginFault,
    PluginMisspoke,
    PluginRejected,
    PluginTimeout,
    PluginUnreachable,
)
from cutover.domain.memory import PluginCommit
from cutover.domain.requests import PutNamespace
from cutover.stores.plugin import CLIENT_ERRORS, PluginClient, translate
from tests.contract.misbehaving import response, server

OK_FORGET = response(204, b"")
NAME = "custom:x"
NAMESPACE_BODY = b'{"name":"custom:x","kind":"custom","created_at":"2026-01-01T00:00:00Z"}'


async def _send(method: str, client: PluginClient, timeout: float = 5) -> None:
    if method == "GET":
        await client.health(timeout=timeout)
    elif method == "PUT":
        await client.put_namespace(NAME, "custom", timeout=timeout)
    elif method == "POST":
        await client.commit(PluginCommit(uuid4(), NAME, "words"), timeout=timeout)
    else:
        await client.forget(uuid4(), NAME, timeout=timeout)


METHODS = pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])


# -- the map ------------------------------------------------------------------------------------------------------

_KEY = ConnectionKey("h", 80, False, True, None, None, None)
_INFO = aiohttp.RequestInfo(URL("http://h"), "GET", CIMultiDictProxy(CIMultiDict()), URL("http://h"))
_ARGUMENTS: dict[type[BaseException], tuple[Any, ...]] = {
    aiohttp.ClientConnectorCertificateError: (_KEY, ssl.CertificateError("bad")),
    aiohttp.ServerFingerprintMismatch: (b"a", b"b", "h", 80),
    client_exceptions.UnixClientConnectorError: ("/s", _KEY, OSError(2, "no")),
    aiohttp.ContentTypeError: (_INFO, ()),
}
NEVER_SENT = {
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientProxyConnectionError",
    "ClientSSLError",
    "ClientConnectorSSLError",
    "ClientConnectorCertificateError",
    "UnixClientConnectorError",
    "ConnectionTimeoutError",
    "ServerFingerprintMismatch",
    "InvalidURL",
    "InvalidUrlClientError",
    "NonHttpUrlClientError",
}
ANSWERED = {
    "ClientResponseError",
    "ContentTypeError",
    "WSServerHandshakeError",
    "ClientHttpProxyError",
    "TooManyRedirects",
    "RedirectClientError",
    "InvalidUrlRedirectClientError",
    "NonHttpUrlRedirectClientError",
}
SENT = {
    "ClientError",
    "ClientConnectionError",
    "ClientConnectionResetError",
    "ClientOSError",
    "ServerConnectionError",
    "ServerDisconnectedError",
    "ServerTimeoutError",
    "SocketTimeoutError",
    "ClientPayloadError",
    "UploadAbortedError",
}


def _client_exceptions() -> dict[str, type[Exception]]:
    """Every exception that aiohttp's client can raise for an HTTP request, whatever version is installed."""
    return {
        name: kind
        for name, kind in inspect.getmembers(client_exceptions, inspect.isclass)
        if issubclass(kind, Exception)
        and kind.__module__ == client_exceptions.__name__
        and name != "WSMessageTypeError"
    }


def _make(kind: type[Exception]) -> Exception:
    if kind in _ARGUMENTS:
        return kind(*_ARGUMENTS[kind])
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(_KEY, OSError(111, "refused"))
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(_INFO, ())
    if issubclass(kind, aiohttp.InvalidURL):
        return kind("http://")
    return kind("why")


def test_every_exception_of_the_client_is_classified_by_name() -> None:
    assert set(_client_exceptions()) == NEVER_SENT | ANSWERED | SENT


@pytest.mark.parametrize("name", sorted(_client_exceptions()))
def test_every_exception_of_the_client_becomes_exactly_one_of_ours(name: str) -> None:
    error = _make(_client_exceptions()[name])
    assert isinstance(error, CLIENT_ERRORS)
    ours = translate(error)
    expected = PluginUnreachable if name in NEVER_SENT else PluginMisspoke if name in ANSWERED else PluginTimeout
    assert type(ours) is expected
    assert ours.ambiguous is (name not in NEVER_SENT)


def _subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(_subclasses(each) for each in kind.__subclasses__()))


def test_every_operating_system_error_is_ambiguous_unless_it_is_the_connectors() -> None:
    plain = [each for each in _subclasses(OSError) if each.__module__ in ("builtins", "socket", "ssl")]
    assert ConnectionResetError in plain
    assert TimeoutError in plain
    for kind in plain:
        assert type(translate(kind(5, "why"))) is PluginTimeout  # type: ignore[arg-type]


# -- definite: the request never left -----------------------------------------------------------------------------


@METHODS
async def test_a_refused_connection_is_unreachable(method: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connecting is refused
        async with PluginClient(f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
            with pytest.raises(PluginUnreachable) as caught:
                await _send(method, client)
    assert not caught.value.ambiguous


@METHODS
async def test_a_missing_socket_is_unreachable(method: str, tmp_path: Path) -> None:
    async with PluginClient(f"unix:{tmp_path}/none.sock") as client:
        with pytest.raises(PluginUnreachable):
            await _send(method, client)


async def test_no_free_connection_in_time_is_unreachable() -> None:
    async def silent(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with server(silent) as seen, PluginClient(seen.url, max_connections=1) as client:
        first = asyncio.create_task(_send("POST", client, 30))
        await asyncio.wait_for(seen.first.wait(), 5)
        with pytest.raises(PluginUnreachable):
            await _send("POST", client, 2)  # the share of it that is for the connection ends well before the rest
        assert len(seen.requests) == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@METHODS
@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_time_nothing_is_sent(method: str, timeout: float) -> None:
    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK_FORGET)

    async with server(answer) as seen, PluginClient(seen.url) as client:
        with pytest.raises(PluginUnreachable):
            await _send(method, client, timeout)
        assert seen.connections == 0


@METHODS
async def test_after_close_nothing_is_sent(method: str) -> None:
    client = PluginClient("http://127.0.0.1:9")
    await client.close()
    with pytest.raises(PluginUnreachable):
        await _send(method, client)


# -- ambiguous: it may have been, or may yet be applied -----------------------------------------------------------


@METHODS
async def test_silence_is_a_timeout(method: str) -> None:
    async def silent(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with server(silent) as seen, PluginClient(seen.url) as client:
        with pytest.raises(PluginTimeout) as caught:
            await _send(method, client, 0.15)
        assert len(seen.requests) == 1
    assert caught.value.ambiguous


@METHODS
@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 20", b"HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{"])
async def test_hanging_up_is_a_timeout_and_nothing_is_sent_again(method: str, words: bytes) -> None:
    async def hang_up(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with server(hang_up) as seen, PluginClient(seen.url) as client:
        with pytest.raises(PluginTimeout):
            await _send(method, client)
        assert len(seen.requests) == 1


@METHODS
async def test_a_kept_alive_connection_that_breaks_is_ambiguous_and_nothing_is_sent_again(method: str) -> None:
    async def once(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(OK_FORGET)
        else:
            writer.close()

    async with server(once) as seen, PluginClient(seen.url) as client:
        await client.forget(uuid4(), NAME, timeout=5)
        with pytest.raises(PluginTimeout):
            await _send(method, client)
        assert seen.connections == 1  # the second call did take the kept-alive connection
        assert len(seen.requests) == 2


async def _until_hung_up(client: PluginClient) -> None:
    """Until the client's side of every kept connection knows that the peer is gone."""
    connector = client._session.connector
    assert connector is not None
    async with asyncio.timeout(5):
        # aiohttp has no event for this, so it is looked at with a deadline.
        while any(protocol.is_connected() for kept in connector._conns.values() for protocol, _ in kept):  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_a_connection_closed_while_idle_is_not_used() -> None:
    async def close_after(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK_FORGET)
        writer.close()

    async with server(close_after) as seen, PluginClient(seen.url) as client:
        for _ in range(3):
            await client.forget(uuid4(), NAME, timeout=5)
            await _until_hung_up(client)
        assert seen.connections == 3


@METHODS
@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"<html>hello</html>", "Content-Type: text/html"),
        response(200, b""),
        response(200, b"\x1f\x8b\x08\x00", "Content-Encoding: gzip"),
        response(302, b"", "Location: http://127.0.0.1:9/"),
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["html", "empty", "gzip", "redirect", "not http"],
)
async def test_a_success_that_breaks_the_contract(method: str, answer: bytes) -> None:
    async def behave(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with server(behave) as seen, PluginClient(seen.url) as client:
        if method == "DELETE" and answer.startswith(b"HTTP/1.1 200"):
            await _send(method, client)  # a forget has no body to break
        else:
            with pytest.raises(PluginMisspoke) as caught:
                await _send(method, client)
            assert caught.value.ambiguous
        assert len(seen.requests) == 1


async def test_an_endless_answer_is_cut_off() -> None:
    async def endless(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b" " * 0x1000 + b"\r\n")
            await writer.drain()

    async with server(endless) as seen, PluginClient(seen.url, max_response=100_000) as client:
        with pytest.raises(PluginMisspoke, match="larger than 100000 bytes"):
            await client.search([NAME], timeout=5)


# -- answers ------------------------------------------------------------------------------------------------------


@METHODS
@pytest.mark.parametrize(
    ("status", "kind", "ambiguous"),
    [
        (400, PluginRejected, False),
        (404, PluginRejected, False),
        (500, PluginFault, False),
        (503, PluginFault, False),
        (429, PluginFault, False),
        (504, PluginFault, True),
    ],
)
async def test_refusals(method: str, status: int, kind: type[PluginError], ambiguous: bool) -> None:
    async def refuse(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, b'{"code":"unavailable","message":"why"}'))

    async with server(refuse) as seen, PluginClient(seen.url) as client:
        with pytest.raises(kind, match="why") as caught:
            await _send(method, client)
        assert caught.value.ambiguous is ambiguous
        assert len(seen.requests) == 1


async def test_headers_are_passed_on() -> None:
    heads: list[str] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(response(200, b'{"status":"ok","version":"1.0.0"}'))
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with listener, PluginClient(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as client:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        await client.health(timeout=5, headers={"traceparent": trace})
    assert f"traceparent: {trace}" in heads[0]


# -- ensuring namespaces ------------------------------------------------------------------------------------------


async def test_a_failed_put_is_shared_not_remembered_and_never_ambiguous() -> None:
    async def fail_then_put(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.close()
        else:
            writer.write(response(200, NAMESPACE_BODY))

    async with server(fail_then_put) as seen, PluginClient(seen.url) as client:
        put = PutNamespace(NAME, "custom")
        outcomes = await asyncio.gather(
            *(client.ensure_namespace(NAME, put, timeout=5) for _ in range(5)), return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [PluginTimeout] * 5
        assert not any(outcome.ambiguous for outcome in outcomes if isinstance(outcome, PluginError))
        assert len(seen.requests) == 1
        await client.ensure_namespace(NAME, put, timeout=5)
        assert len(seen.requests) == 2


async def test_a_cancelled_caller_does_not_take_the_others_put_away() -> None:
    go = asyncio.Event()

    async def later(_: int, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(response(200, NAMESPACE_BODY))

    async with server(later) as seen, PluginClient(seen.url) as client:
        put = PutNamespace(NAME, "custom")
        first = asyncio.create_task(client.ensure_namespace(NAME, put, timeout=5))
        second = asyncio.create_task(client.ensure_namespace(NAME, put, timeout=5))
        await asyncio.wait_for(seen.first.wait(), 5)
        first.cancel()
        go.set()
        await second
        assert len(seen.requests) == 1
        assert first.cancelled()


async def test_a_waiter_has_its_own_deadline_and_close_frees_the_rest() -> None:
    async def silent(_: int, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with server(silent) as seen, PluginClient(seen.url) as client:
        put = PutNamespace(NAME, "custom")
        patient = asyncio.create_task(client.ensure_namespace(NAME, put, timeout=30))
        await asyncio.wait_for(seen.first.wait(), 5)
        with pytest.raises(PluginTimeout) as caught:
            await client.ensure_namespace(NAME, put, timeout=0.05)
        assert not caught.value.ambiguous
        await client.close()
        with pytest.raises(PluginUnreachable):
            await patient


async def test_one_budget_for_put_and_commit() -> None:
    async def silent_commit(number: int, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(response(200, NAMESPACE_BODY))
        else:
            await asyncio.Event().wait()

    async with server(silent_commit) as seen, PluginClient(seen.url) as client:
        commit = PluginCommit(uuid4(), NAME, "words")
        with pytest.raises(PluginTimeout) as caught:
            await client.commit_ensuring_namespace(commit, PutNamespace(NAME, "custom"), timeout=0.3)
        assert caught.value.ambiguous
        assert len(seen.requests) == 2


async def test_a_plugin_that_never_keeps_the_namespace_is_not_asked_forever() -> None:
    missing = response(500, b'{"code":"internal","message":"violates memory_records_namespace_fkey"}')

    async def forgetful(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, NAMESPACE_BODY) if seen.requests[-1].startswith("PUT") else missing)

    async with server(forgetful) as seen, PluginClient(seen.url) as client:
        with pytest.raises(PluginFault):
            await client.commit_ensuring_namespace(
                PluginCommit(uuid4(), NAME, "words"), PutNamespace(NAME, "custom"), timeout=5
            )
        assert [line.split()[0] for line in seen.requests] == ["PUT", "POST", "PUT", "POST"]


# -- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "localhost:9100", "ftp://h", "http://", "unix:relative", "http+unix://x", "http://h/?q=1", "http://h#f"]
)
async def test_a_wrong_url_is_told_without_quoting_it(url: str) -> None:
    with pytest.raises(BadSetting, match="for example"):
        PluginClient(url)


async def test_a_path_before_the_contract_is_kept() -> None:
    async def answer(_: int, writer: asyncio.StreamWriter) -> None:
        writer.write(response(200, b'{"status":"ok","version":"1.0.0"}'))

    async with server(answer) as seen, PluginClient(seen.url + "/tenants/a/") as client:
        await client.health(timeout=5)
        assert seen.requests == ["GET /tenants/a/v1/health HTTP/1.1"]
