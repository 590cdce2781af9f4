"""A TCP server that answers with exactly the bytes a test wants, or with none: what no well-meant server does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Seen:
    """What arrived: one item per request head, and how many connections were made."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    first: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by the first request."""


Behaviour = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
"""Called after each request with its number (from 1) on the whole server; closes the writer to hang up."""


async def read_request(reader: asyncio.StreamReader) -> str:
    """One request's first line; its body is read and dropped. Raises `IncompleteReadError` at the end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            await reader.readexactly(int(value))
    return head.split("\r\n")[0]


@asynccontextmanager
async def server(behave: Behaviour) -> AsyncIterator[Seen]:
    """Serve on a free port of loopback; gives what arrives. All connections are cut at the end."""
    seen = Seen()
    tasks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while not writer.is_closing():
                    seen.requests.append(await read_request(reader))
                    seen.first.set()
                    await behave(len(seen.requests), writer)
        finally:
            writer.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    seen.url = f"http://{host}:{port}"
    try:
        yield seen
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


def response(status: int, body: bytes, *headers: str) -> bytes:
    """An HTTP/1.1 response with its length."""
    lines = [f"HTTP/1.1 {status} Something", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
