"""Looking at the files of an archive without depending on where they are: a mount can hang for ever, or come and go.

Each look is one thread that nobody waits for longer than was agreed, and there is one at a time: while it hangs, no
other is begun. The threads are daemons', so a process ends although one of them hangs.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cutover.domain.archive import MANIFEST
from cutover.domain.errors import OperatorError
from cutover.stores import archive_files
from cutover.stores.archive_files import Unreadable

_LOOK_SECONDS = 0.5
_KEPT_SECONDS = 60.0
_VERIFY_SECONDS = 900.0
_REMEDY = "see to the mount that holds the archive, then look again"


class ArchiveLooks:
    """Looks at one tenant's archives. `seconds`: how long a quick look may take, `kept`: for how long an answer stands
    for one that is late."""

    def __init__(self, *, seconds: float = _LOOK_SECONDS, kept: float = _KEPT_SECONDS) -> None:
        self._quick = _OneThread()
        self._whole = _OneThread()
        self._seconds = seconds
        self._kept = kept

    async def quick(self, path: Path, sealed: str) -> str:
        """What is wrong, by manifest and the size of every file; empty: nothing. Raises `Unreadable`."""
        key = (str(path), sealed)
        answer = await self._quick.ask(key, lambda: _quick(path, sealed), self._seconds)
        if answer is not None:
            return answer
        since, last = self._quick.since, self._quick.last
        if last is not None and last[0] == key and isinstance(last[1], str) and time.monotonic() - last[2] < self._kept:
            return last[1]
        raise Unreadable(f"the files in {path} have not answered for {since:.0f} s", next_step=_REMEDY)

    async def whole(self, path: Path, sealed: str, *, seconds: float = _VERIFY_SECONDS) -> str:
        """The same by reading every byte. Raises `Unreadable`."""
        answer = await self._whole.ask((str(path), sealed), lambda: _whole(path, sealed), seconds)
        if answer is None:
            raise Unreadable(f"{path} could not be read within {seconds:.0f} s", next_step=_REMEDY)
        return answer


def _quick(path: Path, sealed: str) -> str:
    try:
        manifest, found = archive_files.read_manifest(path)
        if found != sealed:
            return f"{path / MANIFEST} is another one than was written"
        return "; ".join(map(str, archive_files.missing(path, manifest)[:3]))
    except Unreadable:
        raise
    except OperatorError as error:
        return error.message


def _whole(path: Path, sealed: str) -> str:
    if wrong := _quick(path, sealed):
        return wrong
    return "; ".join(map(str, archive_files.verify(path)[1][:3]))


_Answer = str | Exception


class _OneThread:
    """`since`: for how many seconds the work under way has been. `last`: (key, answer, when) of the last that ended."""

    def __init__(self) -> None:
        self._under_way: asyncio.Future[_Answer] | None = None
        self._key: object = None
        self._began = 0.0
        self.last: tuple[object, _Answer, float] | None = None

    @property
    def since(self) -> float:
        return time.monotonic() - self._began

    async def ask(self, key: object, work: Callable[[], str], seconds: float) -> str | None:
        """The answer, or None when there is none in time. Raises what the work raised."""
        deadline = time.monotonic() + seconds
        while True:
            if self._under_way is None:
                self._begin(key, work)
            under_way, whose = self._under_way, self._key
            assert under_way is not None  # noqa: S101 - begun above
            await asyncio.wait({under_way}, timeout=max(deadline - time.monotonic(), 0))
            if not under_way.done():
                return None
            if whose == key:
                if isinstance(answer := under_way.result(), Exception):
                    raise answer
                return answer

    def _begin(self, key: object, work: Callable[[], str]) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Answer] = loop.create_future()
        self._under_way, self._key, self._began = future, key, time.monotonic()

        def ended(answer: _Answer) -> None:
            self._under_way, self.last = None, (key, answer, time.monotonic())
            future.set_result(answer)

        def run() -> None:
            answer: _Answer
            try:
                answer = work()
            except OSError as error:
                answer = Unreadable(f"the archive cannot be read: {error.strerror or error}", next_step=_REMEDY)
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                answer = error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
                loop.call_soon_threadsafe(ended, answer)

        threading.Thread(target=run, name="archive look", daemon=True).start()
