"""The plugin as the daemon's own child (`CUTOVER_PLUGIN_COMMAND`, architecture §1).

Started before anything needs it, restarted with backoff when it ends, stopped last. Its database URL is derived from
the tenant's (`search_path=memory_plugin,public`, domain §3) unless one was given, which is left alone.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Mapping, Sequence

from cutover.domain.backoff import delay
from cutover.domain.errors import BootRefused
from cutover.domain.events import Observer, PluginRestarted
from cutover.stores.database import Database

_STABLE_SECONDS = 30.0
_STOP_SECONDS = 5.0


async def check_pgvector(database: Database) -> None:
    """Raise `BootRefused` when the plugin could not create its tables: it would crash-loop instead (domain §4.9)."""
    row = await database.fetchrow(
        "select exists (select from pg_extension where extname = 'vector') as installed,"
        " exists (select from pg_available_extensions where name = 'vector') as available"
    )
    assert row is not None  # noqa: S101 - a select without from gives one row
    if not row["installed"] and not row["available"]:
        raise BootRefused(
            "pgvector is not installed on this PostgreSQL, so the plugin cannot start",
            next_step="install the pgvector package on the database server, then start again",
        )


class PluginProcess:
    """One child. `start` launches it, `run` keeps it alive, `stop` ends it."""

    def __init__(self, tenant: str, command: Sequence[str], environment: Mapping[str, str], observer: Observer) -> None:
        self._tenant = tenant
        self._command = tuple(command)
        self._environment = {**os.environ, **environment}
        self._observer = observer
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The child's process id while it lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Launch the child; raises `BootRefused` when the command cannot be run."""
        try:
            self._process = await asyncio.create_subprocess_exec(*self._command, env=self._environment)
        except OSError as error:
            raise BootRefused(
                f"CUTOVER_PLUGIN_COMMAND cannot be run: {error.strerror}",
                next_step="give the full path of an executable file",
            ) from error

    async def run(self) -> None:
        """Restart the child whenever it ends, ever more slowly until it has lived for a while."""
        attempt = 0
        while True:
            assert self._process is not None, "start comes first"  # noqa: S101
            began = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            attempt = 0 if time.monotonic() - began > _STABLE_SECONDS else attempt + 1
            await asyncio.sleep(0.1 + delay(attempt + 1, 0.1, 10.0, random.random()))  # noqa: S311 - jitter
            self.restarts += 1
            self._observer(PluginRestarted(self._tenant, self.restarts, f"it ended with code {code}"))
            await self.start()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when it does not end in time."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
