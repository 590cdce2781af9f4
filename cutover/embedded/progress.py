"""One line that says how it goes: rewritten in place on a terminal, at most one new line per second elsewhere."""

import sys
import time
from typing import TextIO


class Progress:
    """`update()` as often as one likes; `say()` for what must stay."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._terminal = self._out.isatty()
        self._every = 0.1 if self._terminal else 1.0
        self._last = 0.0
        self._width = 0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def update(self, line: str) -> None:
        """Show the state of affairs, unless it was shown just now."""
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        text = f"{self.seconds:5.1f}s  {line}"
        if self._terminal:
            self._out.write(f"\r{text[:150]:<{self._width}}")
            self._width = min(150, len(text))
        else:
            self._out.write(f"{text}\n")
        self._out.flush()

    def say(self, line: str) -> None:
        """A line of its own."""
        if self._terminal and self._width:
            self._out.write(f"\r{'':<{self._width}}\r")
            self._width = 0
        self._out.write(f"{self.seconds:5.1f}s  {line}\n")
        self._out.flush()

    def last(self, line: str) -> None:
        """The final line, without the time."""
        if self._terminal and self._width:
            self._out.write("\n")
            self._width = 0
        self._out.write(f"{line}\n")
        self._out.flush()
