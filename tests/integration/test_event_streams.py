"""Server-sent events over real sockets: how many, what is sent and when, and how they end."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession, web
from aiohttp.client import ClientResponse

from cutover.embedded.processes import until
from cutover.http.errors import ops_shape
from cutover.http.event_streams import EventStreams
from cutover.http.listen import parse_listen
from cutover.http.server import Call, Face, Route

PATIENCE = 20.0


@dataclass(frozen=True)
class Tenant:
    name: str


class Tenants:
    default = Tenant("first")

    def get(self, name: str) -> Tenant:
        return Tenant(name)


class Site:
    """A face with one route of streams, which show what `page` is."""

    def __init__(self, streams: EventStreams) -> None:
        self.streams = streams
        self.page = "<main>1</main>"
        self.url = ""

        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def events(self, call: Call[Tenant]) -> web.StreamResponse:
        async def look() -> str:
            await self.goes_on.wait()
            return self.page

        return await self.streams.serve(call, look)  # type: ignore[arg-type] # of the tenant nothing is asked


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(EventStreams(most=3, look=0.05, beat=0.2))
    face = Face("ops", Tenants(), [Route("GET", "/events", "events", made.events)], ops_shape, lambda _: None)
    await face.start(parse_listen("127.0.0.1:0"))
    made.url = f"http://{face.addresses[0]}/events"
    yield made
    made.streams.close()
    await face.stop(PATIENCE)


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def event(answer: ClientResponse) -> tuple[str, str]:
    """The next one: its name and its data."""
    name = data = ""
    async with asyncio.timeout(PATIENCE):
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = json.loads(line.removeprefix("data: "))
            elif not line and name:
                return name, data
    return "", ""


async def open_are(site: Site, number: int) -> None:
    """Wait until so many streams are open."""

    async def condition() -> bool:
        return site.streams.open == number

    await until(condition, f"{number} open streams", timeout=PATIENCE)


async def test_a_page_is_sent_when_it_changed_and_a_beat_when_it_did_not(site: Site, http: ClientSession) -> None:
    async with http.get(site.url) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        assert await event(answer) == ("page", "<main>1</main>")
        assert (await event(answer))[0] == "beat"
        site.page = "<main>\nevent: bye\ndata: forged\n\n\r</main>"
        while (told := await event(answer))[0] == "beat":
            pass
        assert told == ("page", site.page), "lines in it are no fields of the stream"


async def test_it_beats_while_a_look_hangs(site: Site, http: ClientSession) -> None:
    async with http.get(site.url) as answer:
        assert (await event(answer))[0] == "page"
        site.goes_on.clear()
        site.page = "<main>2</main>"
        for _ in range(3):
            assert (await event(answer))[0] == "beat"
        site.goes_on.set()
        while (told := await event(answer))[0] == "beat":
            pass
        assert told == ("page", site.page)


async def test_beyond_the_limit_it_says_so_and_a_client_that_goes_makes_room(site: Site, http: ClientSession) -> None:
    answers = [await http.get(site.url) for _ in range(3)]
    for answer in answers:
        await event(answer)
    refused = await http.get(site.url)
    assert refused.status == 503
    assert refused.headers["Retry-After"]
    told = await refused.json()
    assert told["error"] == "3 event streams are open, which is the limit"
    assert "every few seconds" in told["next"]
    answers[0].close()

    await open_are(site, 2)
    async with http.get(site.url) as again:
        assert again.status == 200
        assert (await event(again))[0] == "page"
    for answer in answers:
        answer.close()
    await open_are(site, 0)
    head = await http.head(site.url)
    assert (head.status, await head.read()) == (200, b"")


async def test_closing_ends_every_stream_with_a_word_and_opens_no_more(site: Site, http: ClientSession) -> None:
    answers = [await http.get(site.url) for _ in range(2)]
    for answer in answers:
        await event(answer)
    site.streams.close()
    for answer in answers:
        while (name := (await event(answer))[0]) == "beat":
            pass
        assert name == "bye"
        async with asyncio.timeout(PATIENCE):
            assert await answer.content.read() == b""
    async with http.get(site.url) as late:
        assert late.status == 503
        assert "shutting down" in (await late.json())["error"]
    assert site.streams.open == 0


async def test_a_client_that_does_not_read_is_let_go(
    site: Site, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.http.event_streams.WRITE_SECONDS", 0.2)
    site.page = "x" * 20_000_000
    stuck = await http.get(site.url)
    await open_are(site, 0)
    stuck.close()
