"""The contract's search as background work: callers go first, and few requests are under way at once."""

import time
from collections.abc import Collection, Mapping

from cutover.domain.errors import PluginUnreachable
from cutover.domain.memory import Kind, PluginMemory
from cutover.engine.plugin_gate import PluginGate
from cutover.stores.plugin import PluginClient


class BackgroundSearch:
    """Searches through the plugin gate's background turn (see `plugin_gate`). Otherwise as `PluginClient.search`.

    How long they take says nothing about how many deliveries the plugin can bear, so the limiter is not told.
    """

    def __init__(self, client: PluginClient, gate: PluginGate) -> None:
        self._client = client
        self._gate = gate

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
        """Search once it is the background's turn; `timeout` covers the wait. Raises `PluginError`s."""
        deadline = time.monotonic() + timeout
        try:
            await self._gate.enter(deadline, background=True)
        except TimeoutError:
            raise PluginUnreachable("no slot towards the plugin was free in time") from None
        try:
            left = deadline - time.monotonic()
            return await self._client.search(namespaces, query, kinds, limit, embedding, timeout=left, headers=headers)
        finally:
            self._gate.leave()
