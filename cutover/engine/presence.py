"""A daemon tells the others that it is there, with which version and settings (decision 0031).

Nothing rests on it but what people are shown: a heartbeat that cannot be written is told once, and serving goes on.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from cutover.domain.errors import CutoverError
from cutover.domain.events import DaemonsCounted, Observer, TaskFailed
from cutover.stores.daemons import DaemonSeen, DaemonSelf, DaemonStore

BEAT_SECONDS = 10.0


class Presence:
    """One daemon's, for one tenant. It is silent until it knows where its faces listen (`announce`)."""

    def __init__(
        self, tenant: str, store: DaemonStore, me: DaemonSelf, observer: Observer, *, beat: float = BEAT_SECONDS
    ) -> None:
        self._tenant = tenant
        self._store = store
        self._me = me
        self._observer = observer
        self._beat = beat
        self._faces: Mapping[str, Sequence[str]] = {}
        self._announced = asyncio.Event()
        self._writing = asyncio.Lock()
        self._left = False
        self._failing = False
        self.seen: list[DaemonSeen] = []
        """Everyone as of the last heartbeat; nobody while none can be written."""

    def announce(self, faces: Mapping[str, Sequence[str]]) -> None:
        """From now on tell that we serve, at these addresses."""
        self._faces = faces
        self._announced.set()

    async def run(self) -> None:
        """A heartbeat now and then, for ever."""
        await self._announced.wait()
        while True:
            try:
                await self.tell()
            except CutoverError as error:
                if not self._failing:
                    words = f"the other daemons do not see this one: {error.message}"
                    self._observer(TaskFailed(self._tenant, "presence", type(error).__name__, words))
                self._failing = True
                self.seen = []  # what was seen before says nothing of now
            else:
                self._failing = False
            await asyncio.sleep(self._beat)

    async def tell(self) -> None:
        """One heartbeat. Raises the errors of `Database`."""
        async with self._writing:
            if self._left:
                return
            await self._store.tell(self._me, self._faces)
            self.seen = await self._store.all()
        self._observer(DaemonsCounted(self._tenant, sum(each.serving for each in self.seen)))

    async def leave(self) -> None:
        """Take our row away; a row that stays is old soon, so nothing that fails here matters."""
        async with self._writing:
            self._left = True
            if self._announced.is_set():
                with contextlib.suppress(CutoverError):
                    await self._store.leave(self._me.id)

    def status(self) -> list[dict[str, Any]]:
        """Every daemon of the tenant, for `cutover status`; empty while no heartbeat can be written."""
        return [{**each.as_json(), "me": each.id == self._me.id} for each in self.seen]
