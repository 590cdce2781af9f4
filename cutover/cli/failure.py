"""How a verb fails: a line what, a line why where that is known, a line what to do next (observability §5)."""

from collections.abc import Sequence

import click

from cutover.cli.verb import NeedsYes
from cutover.cli.visible import visible
from cutover.domain.errors import (
    BadSetting,
    CutoverError,
    DatabaseUnavailable,
    OperatorError,
    PluginTimeout,
    PluginUnreachable,
)

ERROR, USAGE, DIVERGENT, UNREACHABLE = 1, 2, 3, 4
_UNREACHABLE = (DatabaseUnavailable, PluginUnreachable, PluginTimeout)


class CommandFailed(OperatorError):
    """A verb could not do what it was asked: what, why, what next, and the code to end with. `points`: what the why is
    made of, a line each."""

    def __init__(self, what: str, why: str, next_step: str, code: int = ERROR, *, points: Sequence[str] = ()) -> None:
        super().__init__(what, next_step=next_step)
        self.why = why
        self.points = tuple(points)
        self.exit_code = code


def exit_code(error: CutoverError) -> int:
    """The code that a verb ends with after `error`."""
    if isinstance(error, OperatorError):
        return error.exit_code
    return UNREACHABLE if isinstance(error, _UNREACHABLE) else ERROR


def explain(error: CutoverError) -> str:
    """What an operator reads; no line `why` where the message says all that is known.

    A wrong setting is one line, which names the variable and an example already.
    """
    if isinstance(error, BadSetting):
        return visible(f"cutover: {error.message}")
    what, why = error.message, getattr(error, "why", "")
    if not why:
        what, _, why = what.partition(": ")  # our messages say what, then why
    points = [f"    - {point}" for point in getattr(error, "points", ())]
    next_step = f"  next: {error.next_step or 'cutover doctor'}"
    lines = [f"error: {what}", *([f"  why: {why}"] if why else []), *points, next_step]
    return visible("\n".join(lines))


def misused(error: click.ClickException) -> str:
    """What an operator reads who gave a verb something wrong, or nobody's yes to a change."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "cutover"
    why = visible(" ".join(error.format_message().split()).rstrip("."))
    if isinstance(error, NeedsYes):
        return f"error: nothing was changed\n  why: {why}\n  next: give --yes"
    return f"error: `{command}` was called wrongly\n  why: {why}\n  next: {command} --help"
