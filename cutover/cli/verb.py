"""What all verbs have in common: help that ends with examples, and no change without a yes where nobody is asked."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from cutover.domain.commands import for_tenant
from cutover.domain.errors import CutoverError

Asks = Callable[[Mapping[str, Any]], bool]


class NeedsYes(click.UsageError):
    """A change without `--yes` where nobody can be asked."""


class Verb(click.Command):
    """A command with examples. One that changes something has `--yes`, and off a terminal it begins only with it.

    `examples`: command lines as one types them, each with what it is for behind a `#` where that needs saying.
    `asks`: whether a call with these arguments has to be confirmed. Default: every one that is no dry run.
    """

    def __init__(self, *args: Any, examples: Sequence[str], asks: Asks | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self._asks = asks or (lambda given: not given.get("dry_run"))

    @property
    def changes(self) -> bool:
        """Whether this verb changes something that somebody else relies on."""
        return self._has("yes")

    @property
    def prints(self) -> bool:
        """Whether it prints data, in the form that `-o` names."""
        return self._has("form")

    def _has(self, parameter: str) -> bool:
        return any(each.name == parameter for each in self.params)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; a change that nobody has said yes to, and nobody can be asked about, is refused before it begins."""
        if self.changes and not ctx.params["yes"] and self._asks(ctx.params) and not can_be_asked():
            raise NeedsYes(f"`{ctx.command_path}` changes something, and there is no terminal to ask at", ctx)
        try:
            return super().invoke(ctx)
        except CutoverError as error:
            # Told when the call is over, and nothing knows its tenant any more.
            error.next_step = named(error.next_step)
            for part in ("why", "points"):
                if told := getattr(error, part, None):
                    setattr(error, part, named(told) if isinstance(told, str) else tuple(map(named, told)))
            raise

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, a line each as they are typed."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of verbs, whose list shows the whole first sentence of each."""

    command_class = Verb

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they were added, which is the one in which they are needed."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name and first sentence; long ones wrap and are not cut off."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(command)) for name, command in found if command is not None])


def summary(command: click.Command) -> str:
    """The first sentence of a command's help."""
    return command.get_short_help_str(limit=1000)


def leaves(group: click.Group, ctx: click.Context) -> dict[tuple[str, ...], Verb]:
    """Every verb below `group` by the words that call it, in the order of the help."""
    found: dict[tuple[str, ...], Verb] = {}
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            found |= {(name, *rest): verb for rest, verb in leaves(command, ctx).items()}
        else:
            assert isinstance(command, Verb), name  # noqa: S101 - a verb without examples is a mistake of ours
            found[(name,)] = command
    return found


def words_of(example: str) -> list[str]:
    """The arguments of an example, without the word `cutover`, comments, redirections and pipes."""
    words = shlex.split(example, comments=True)
    end = next((n for n, word in enumerate(words) if word in (">", "|", "&&")), len(words))
    return words[1:end]


def named(words: str) -> str:
    """`words` whose commands are for the tenant that this call is for, where it was given one."""
    context = click.get_current_context(silent=True)
    tenant = context.params.get("tenant") if context is not None else None
    return for_tenant(words, tenant) if tenant else words


def can_be_asked() -> bool:
    """Whether somebody reads the question and can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()
