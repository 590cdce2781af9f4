"""The memories face of a real tenant on a real socket, and a client that holds a token for every workspace."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from cutover.domain.events import Event, RequestRefused
from cutover.domain.phase import Phase
from cutover.http.auth import WorkspaceAuth
from cutover.http.listen import TcpAddress
from cutover.http.memories_face import ServedTenant
from cutover.http.memories_server import build
from cutover.http.server import Face
from cutover.http.upstream import STALL_SECONDS, Upstream
from cutover.stores.database import Database
from tests.integration.read_scene import WORKSPACES
from tests.integration.tenant_scene import One, Running, running_tenant


@dataclass
class Served:
    """A tenant behind its memories face."""

    face: Face[ServedTenant]
    http: aiohttp.ClientSession
    running: Running
    events: list[Event]

    @property
    def host(self) -> str:
        return self._address.host

    @property
    def port(self) -> int:
        return self._address.port

    @property
    def url(self) -> str:
        return f"http://{self._address}"

    @property
    def _address(self) -> TcpAddress:
        (address,) = self.face.addresses
        assert isinstance(address, TcpAddress)
        return address

    def bearer(self, workspace: UUID) -> dict[str, str]:
        return {"Authorization": f"Bearer token-of-{workspace}"}

    def call(self, method: str, path: str, workspace: UUID, body: Any = None, **headers: str) -> Any:
        """A request with the workspace's token; an async context manager of its response."""
        fields = {**self.bearer(workspace), **headers}
        return self.http.request(method, self.url + path, json=body, headers=fields)

    def post(self, workspace: UUID, body: Any, **headers: str) -> Any:
        return self.call("POST", f"/workspaces/{workspace}/memories", workspace, body, **headers)

    def post_mcp(self, workspace: UUID, message: Any) -> Any:
        return self.call("POST", f"/workspaces/{workspace}/mcp", workspace, message)

    async def create(self, workspace: UUID, body: Any, **headers: str) -> dict[str, Any]:
        async with self.post(workspace, body, **headers) as response:
            assert response.status == 201, await response.text()
            made: dict[str, Any] = await response.json()
            return made

    async def list(self, workspace: UUID, **parameters: str) -> list[dict[str, Any]]:
        url = f"{self.url}/workspaces/{workspace}/memories"
        async with self.http.get(url, params=parameters, headers=self.bearer(workspace)) as response:
            assert response.status == 200, await response.text()
            rows: list[dict[str, Any]] = await response.json()
            return rows

    async def mcp(
        self, workspace: UUID, method: str, params: Any = None, *, request_id: int | str = 1
    ) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": request_id, "method": method}
        async with self.post_mcp(workspace, message | ({} if params is None else {"params": params})) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, Any] = await response.json()
            return answer

    async def enter(self, phase: Phase) -> None:
        """Forward to `phase`; from A2 on everything that legacy holds has been delivered."""
        await self.running.enter(phase)

    async def stop_plugin(self) -> None:
        """The plugin is gone, and the tenant knows."""
        await self.running.stop_plugin()

    def refused(self) -> int:
        """How many requests admission has refused, as the metrics count them."""
        return sum(isinstance(event, RequestRefused) for event in self.events)


@asynccontextmanager
async def served_on(
    database_url: str, *, upstream: str | None = None, stall: float = STALL_SECONDS
) -> AsyncIterator[Served]:
    """The tenant `default` on a fresh database, with a token `token-of-<id>` for each workspace of the scene."""
    events: list[Event] = []
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(running_tenant(database_url, events.append))
        await add_tokens(running.database)
        behind = Upstream(upstream, stall_seconds=stall) if upstream is not None else None
        if behind is not None:
            stack.push_async_callback(behind.close)
        face = build(One(running.tenant), WorkspaceAuth(), events.append, upstream=behind)
        await face.start([TcpAddress("127.0.0.1", 0)])
        stack.push_async_callback(face.stop, 1.0)
        http = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
        yield Served(face, http, running, events)


async def add_tokens(database: Database) -> None:
    await database.executemany(
        "INSERT INTO workspace_auth_tokens (workspace_id, token_hash) VALUES ($1, $2)",
        [(each, hashlib.sha256(f"token-of-{each}".encode()).digest()) for each, _, _ in WORKSPACES],
    )
