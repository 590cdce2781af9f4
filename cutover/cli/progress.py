"""Waiting for what the daemon does: a line that moves on a terminal, lines elsewhere, and what Ctrl-C leaves behind."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from cutover.cli.output import say
from cutover.cli.verb import named
from cutover.cli.visible import visible


class Interrupted(click.Abort):
    """Ctrl-C while something was under way. `words`: what became of it, and how to go on."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


@contextmanager
def interruptible(words: str) -> Iterator[None]:
    """Ctrl-C in here ends the process with 130, and with `words`."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        if sys.stderr.isatty():
            click.echo(err=True)  # the line that moved, and the ^C, stay as they are
        raise Interrupted(named(words)) from None


class ProgressLine:
    """How far it is, on stderr: on a terminal one line that is drawn anew, elsewhere a line for whatever is news."""

    def __init__(self) -> None:
        self.moving = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._last: object = None

    def show(self, line: str, news: object = None) -> None:
        """`news`: what has to change for another line where lines do not move. Default: the line."""
        if self.moving:
            # A line that wraps could not be drawn over.
            self._draw(visible(line)[: shutil.get_terminal_size().columns - 1])
        elif (now := line if news is None else news) != self._last:
            say(line)
            self._last = now

    def end(self, line: str = "") -> None:
        """`line` stays behind; nothing does where there is none."""
        if self.moving:
            self._draw(f"{visible(line)}\n" if line else "")
        elif line and line != self._last:
            say(line)

    @staticmethod
    def _draw(text: str) -> None:
        click.echo(f"\r\x1b[2K{text}", err=True, nl=False)
