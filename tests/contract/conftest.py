"""One suite over every implementation of the contract: each test of `plugin` runs once per implementation."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.stores.plugin import PluginClient
from tests.contract.implementations import IMPLEMENTATIONS, Running

NamespaceFactory = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session", params=sorted(IMPLEMENTATIONS))
def plugin(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[Running]:
    """A running implementation of the contract."""
    with IMPLEMENTATIONS[request.param](postgres) as running:
        yield running


@pytest.fixture
def plugin_url(plugin: Running) -> str:
    return plugin.url


@pytest.fixture
async def http(plugin_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client on the plugin: what goes over the wire is asserted with nothing of ours in between."""
    if plugin_url.startswith("unix:"):
        transport = httpx.AsyncHTTPTransport(uds=plugin_url.removeprefix("unix:"))
        client = httpx.AsyncClient(base_url="http://plugin", transport=transport, timeout=10)
    else:
        client = httpx.AsyncClient(base_url=plugin_url, timeout=10)
    async with client:
        yield client


@pytest.fixture
async def client(plugin_url: str) -> AsyncIterator[PluginClient]:
    """Our client on the plugin."""
    async with PluginClient(plugin_url) as client:
        yield client


@pytest.fixture
def namespace_factory(plugin: Running, http: httpx.AsyncClient) -> NamespaceFactory:
    """Makes namespaces that are put and empty. `put=False` gives only the name."""

    async def make(kind: str = "workspace", *, put: bool = True) -> str:
        name = plugin.new_namespace(kind)
        if put:
            answer = await http.put(f"/v1/namespaces/{name}", json={"kind": kind})
            assert answer.status_code == 200, answer.text
        return name

    return make


@pytest.fixture
async def namespace(namespace_factory: NamespaceFactory) -> str:
    """A fresh workspace namespace."""
    return await namespace_factory()


@pytest.fixture
def commit(http: httpx.AsyncClient) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Commits a memory and gives the answer's body; fields beside the content are optional."""

    async def send(namespace: str, content: str, **fields: Any) -> dict[str, Any]:
        body = {"content": content, "kind": "fact", "source": "agent", **fields}
        answer = await http.post(f"/v1/namespaces/{namespace}/memories", json=body)
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert isinstance(body, dict)
        return body

    return send


@pytest.fixture
def search(http: httpx.AsyncClient) -> Callable[..., Awaitable[list[dict[str, Any]]]]:
    """Searches and gives the memories; null counts as none."""

    async def send(*namespaces: str, **fields: Any) -> list[dict[str, Any]]:
        answer = await http.post("/v1/search", json={"namespaces": list(namespaces), **fields})
        assert answer.status_code == 200, answer.text
        memories = answer.json()["memories"]
        assert memories is None or isinstance(memories, list)
        return memories or []

    return send
