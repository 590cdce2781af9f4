"""A real `cutover` on a real terminal, or on pipes: what it draws, what Ctrl-C does to it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 40.0
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def clean_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without settings, and with these."""
    foreign = ("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **variables}


class Running:
    """A command under way, whose output is read through one file."""

    def __init__(self, process: subprocess.Popen[bytes], reads: int, interrupt: bytes | None) -> None:
        self.process = process
        self.seen = ""
        self._reads = reads
        self._interrupt = interrupt

    def until(self, words: str, times: int = 1) -> str:
        """Read until these words were seen so often; fails with what was seen when they do not come."""
        return self._read(lambda: self.seen.count(words) >= times, words)

    def type(self, words: str) -> None:
        """As somebody at the keyboard."""
        os.write(self._reads, words.encode())

    def ctrl_c(self) -> None:
        """On a terminal the key; on pipes the signal that it sends."""
        if self._interrupt is None:
            self.process.send_signal(signal.SIGINT)
        else:
            os.write(self._reads, self._interrupt)

    def end(self) -> tuple[int, str]:
        """Its exit code and everything that it wrote."""
        self._read(lambda: False, "")
        return self.process.wait(PATIENCE), self.seen

    def _read(self, enough: Callable[[], bool], words: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while not enough():
            assert time.monotonic() < deadline, f"no {words!r} in {self.seen!r}"
            ready, _, _ = select.select([self._reads], [], [], 0.2)
            if not ready:
                continue
            try:
                more = os.read(self._reads, 65_536)
            except OSError:  # Linux: nobody holds the terminal any more
                more = b""
            if not more:
                assert not words, f"ended without {words!r}: {self.seen!r}"
                break
            self.seen += more.decode(errors="replace")
        return self.seen


@contextmanager
def on_a_terminal(*arguments: str, at: Mapping[str, str], columns: int = 160) -> Iterator[Running]:
    """The command with a terminal of its own as stdin, stdout and stderr. `at`: its variables."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))

    def take_over() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-m", "cutover", *arguments],
        env=clean_variables(at),
        cwd="/",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=take_over,
    )
    os.close(theirs)
    try:
        yield Running(process, ours, b"\x03")
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@contextmanager
def on_pipes(*arguments: str, at: Mapping[str, str]) -> Iterator[Running]:
    """The command without a terminal; stdout and stderr are read as one."""
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "cutover", *arguments],
        env=clean_variables(at),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        # A build that runs in the background has it ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    try:
        yield Running(process, ours, None)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
