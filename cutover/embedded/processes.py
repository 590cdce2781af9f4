"""Real child processes with an end: the daemon, the plugin, and whatever a test wants to kill.

One object owns the children that it started, knows their pids, keeps what they print in files, and leaves none
behind, however its owner ends. Children get a session of their own, so Ctrl-C at a terminal reaches their owner only,
and a daemon's own children go with it.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

POLL_SECONDS = 0.02


class ChildError(Exception):
    """A child did not start, did not become ready or did not end in time; the message ends with its last words."""


ADMIN_TOKEN = "embedded-admin-token-0123456789abcdef"  # noqa: S105 -- loopback only, dies with the process
PEOPLE = {name: f"embedded-token-of-{name}-0123456789abcdef" for name in ("ada", "grace", "edsger")}
"""Who may approve a phase change beside whoever holds `ADMIN_TOKEN`, each with a token."""
LOOSENED = {
    "CUTOVER_GATE_PLUGIN_HEALTHY": "0",
    "CUTOVER_GATE_SHADOW_CLEAN": "0",
    "CUTOVER_GATE_BYPASS_WINDOW": "0",
    "CUTOVER_GATE_SOAK": "0",
    "CUTOVER_GATE_FOREIGN_WINDOW": "0",
}
"""A daemon that lives for minutes cannot wait for days. Its gates show these as loosened."""
_PORTS = range(12_000, 32_000)
"""Below the ports that the kernel hands out by itself, so that no client's connection can take one meanwhile."""
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago, and that this process has not been given before."""
    generator = random.SystemRandom()
    for _ in range(1000):
        port = generator.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise ChildError("no free port was found in 1000 tries")


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, *, timeout: float, every: float = POLL_SECONDS
) -> float:
    """Wait until `condition` holds; gives back the seconds it took. ChildError names `what` after `timeout` seconds."""
    started = time.monotonic()
    while not await condition():
        if time.monotonic() - started > timeout:
            raise ChildError(f"{what}: not within {timeout:g} s")
        await asyncio.sleep(every)
    return time.monotonic() - started


async def answers(session: aiohttp.ClientSession, url: str, status: int = 200) -> bool:
    """Whether a GET of `url` is answered with `status` right now."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as response:
            return response.status == status
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


@dataclass(slots=True)
class Child:
    """One program that can be started, hurt and started again. Its log file gets the output of every life."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    ready_url: str = ""
    """A GET that answers 200 once the child is ready; empty: ready as soon as it runs."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What the last life ended with (negative: the signal), or None while it runs."""
        return None if self._process is None else self._process.poll()

    def launch(self) -> None:
        """Start it without waiting."""
        if self.pid is not None:
            raise ChildError(f"{self.name} runs already (pid {self.pid})")
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(self.environment),
                start_new_session=True,
            )

    async def start(self, timeout: float = 30.0) -> float:
        """Start it and wait until it is ready; gives back the seconds from start to ready."""
        began = time.monotonic()
        self.launch()
        await self.ready(timeout)
        return time.monotonic() - began

    async def ready(self, timeout: float = 30.0) -> float:
        """Wait until `ready_url` answers 200."""
        if not self.ready_url:
            return 0.0
        async with aiohttp.ClientSession() as session:

            async def condition() -> bool:
                if self.pid is None:
                    raise ChildError(f"{self.name} ended with {self.exit_code}")
                return await answers(session, self.ready_url)

            try:
                return await until(condition, f"{self.name} ready", timeout=timeout)
            except ChildError as error:
                raise ChildError(f"{error}\n{self.last_words()}") from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child itself."""
        if self._process is not None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP: sockets stay open, nothing is answered."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the child and everything in its session; returns once it is reaped. Harmless when it is down."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def ended(self, timeout: float = 20.0) -> int:
        """Wait until it has ended by itself; gives back its exit code."""

        async def condition() -> bool:
            return self.pid is None

        await until(condition, f"end of {self.name}", timeout=timeout)
        code = self.exit_code
        if code is None:
            raise ChildError(f"{self.name} was never started")
        return code

    async def terminate(self, timeout: float = 20.0) -> int:
        """SIGTERM and wait; kills it and raises when it does not end in time. Gives back its exit code."""
        self.send(signal.SIGTERM)
        try:
            return await self.ended(timeout)
        except ChildError:
            self.kill()
            raise

    def output(self) -> str:
        """Everything that it printed in all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def last_words(self, characters: int = 1500) -> str:
        """The end of its output."""
        return self.output()[-characters:]

    def resident_bytes(self) -> int:
        """The memory it holds right now (resident set), in bytes; 0 when it is down."""
        pid = self.pid
        if pid is None:
            return 0
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0


class Processes:
    """The owner of children. A context manager: whatever still runs at its end is ended, children of children too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """Where the logs are."""
        return self._directory

    def child(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None, *, ready_url: str = ""
    ) -> Child:
        """Describe a child; `start()` or `launch()` runs it. Its environment is ours without settings of ours."""
        made = Child(
            name=name,
            command=tuple(command),
            environment={**clean_environment(), **(environment or {})},
            log=self._directory / f"{name}.log",
            ready_url=ready_url,
        )
        self._children.append(made)
        return made

    def close(self) -> None:
        """End every child: SIGTERM for all at once (the daemon first), SIGKILL for whoever is left after 5 s."""
        for child in reversed(self._children):
            child.resume()
            child.send(signal.SIGTERM)
        deadline = time.monotonic() + 5.0
        for child in reversed(self._children):
            while child.pid is not None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            child.kill()


def clean_environment() -> dict[str, str]:
    """Our environment without any setting of cutover or PostgreSQL that a shell may hold."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith(("CUTOVER_", "MEMORY_PLUGIN_", "PG"))
    }


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs of one daemon's faces, without a slash at the end."""

    plugin: str
    memories: str
    ops: str


@dataclass(frozen=True, slots=True)
class DaemonChild:
    """A daemon, where it listens and the token for its control routes."""

    child: Child
    at: Addresses
    admin_token: str


def plugin_child(
    processes: Processes, database_url: str, *, name: str = "plugin", port: int | None = None
) -> tuple[Child, str]:
    """The reference plugin on its own port; gives back the child (not started) and its URL."""
    chosen = port or free_port()
    url = f"http://127.0.0.1:{chosen}"
    options = ["--database-url", database_url, "--listen", f"127.0.0.1:{chosen}"]
    command = [sys.executable, "-m", "cutover.embedded.reference_plugin", *options]
    return processes.child(name, command, ready_url=f"{url}/v1/health"), url


def _tokens_file(directory: Path) -> Path:
    """The people's tokens, as digests; one file for all daemons, because its path is part of their configuration."""
    listed = [f'{name} = "sha256:{hashlib.sha256(token.encode()).hexdigest()}"' for name, token in PEOPLE.items()]
    path = directory / "tokens.toml"
    path.write_text("\n".join(["[tokens]", *listed, ""]))
    path.chmod(0o600)
    return path


def daemon_child(
    processes: Processes,
    *,
    database_url: str | None = None,
    plugin_url: str | None = None,
    name: str = "daemon",
    settings: Mapping[str, str] | None = None,
    command: Sequence[str] = (),
) -> DaemonChild:
    """A daemon on three free ports of loopback (not started). `settings` are environment variables that win.

    Without `database_url` its tenants come from the settings.
    """
    ports = [free_port() for _ in range(3)]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    tenant = {"DATABASE_URL": database_url, "MEMORY_PLUGIN_URL": plugin_url, "CUTOVER_TENANT": "sample"}
    environment = {
        **{name: value for name, value in tenant.items() if database_url is not None and value is not None},
        "CUTOVER_PLUGIN_LISTEN": addresses[0],
        "CUTOVER_MEMORIES_LISTEN": addresses[1],
        "CUTOVER_OPS_LISTEN": addresses[2],
        "CUTOVER_ADMIN_TOKEN": ADMIN_TOKEN,
        "CUTOVER_ADMIN_TOKENS_FILE": str(_tokens_file(processes.directory)),
        **LOOSENED,
        **(settings or {}),
    }
    at = Addresses(*(f"http://{address}" for address in addresses))
    child = processes.child(
        name, command or (sys.executable, "-m", "cutover", "serve"), environment, ready_url=f"{at.ops}/readyz"
    )
    return DaemonChild(child, at, ADMIN_TOKEN)
