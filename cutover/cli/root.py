"""The group of all verbs: finds the file of a verb by name, and turns whatever ends a verb into words and a code."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import click

from cutover import __version__
from cutover.cli.failure import ERROR, CommandFailed, exit_code, explain, misused
from cutover.cli.verb import Group
from cutover.cli.visible import visible
from cutover.domain.errors import CutoverError

# name -> (module of this package, function in it, help line)
VERBS = {
    "serve": ("serve", "serve", "Run the daemon."),
    "status": ("status", "status", "Show every tenant's phase, plugin, marks, drift, findings and backfill."),
    "doctor": ("doctor", "doctor", "Check settings, database, plugin and daemon, and print remedies."),
    "phase": ("phase", "phase", "Show or change a tenant's phase."),
    "backfill": ("backfill", "backfill", "Copy what was there before A1, through marks."),
    "sweep": ("sweep", "sweep", "Compare the two stores, and list what sweeps came to."),
    "divergence": ("divergence", "divergence", "Show and settle the differences that sweeps found."),
    "quarantine": ("quarantine", "quarantine", "Show and settle memories that cannot be placed."),
    "procedure": ("procedure", "procedure", "Show the runbooks, and what changed in them."),
    "audit": ("audit", "audit", "Check the record of phase changes."),
    "access": ("access", "access", "Show who else reads and writes agent_memories."),
    "archive": ("archive", "archive", "Archive agent_memories, check an archive, bring it back."),
    "drop": ("drop", "drop", "Show, call off or begin again the hold before the drop."),
    "retire": ("retire", "retire", "Remove schema cutover when the move is over."),
    "migrate": ("migrate", "migrate", "Apply, undo or list the migrations of schema cutover."),
    "healthcheck": ("healthcheck", "healthcheck", "Exit 0 when the daemon answers (for container probes)."),
    "plugin": ("plugin", "plugin", "Run the reference memory plugin."),
    "dev": ("dev", "dev", "Keep an embedded PostgreSQL, plugin and daemon up to try things on."),
    "demo": ("demo", "demo", "Run the whole move on an embedded PostgreSQL, under traffic and faults."),
    "completion": ("completion", "completion", "Print the shell completion script."),
}


class Verbs(Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which an operator meets them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, or None, which click turns into a usage error."""
        found = VERBS.get(cmd_name)
        if found is None:
            return None
        command = getattr(import_module(f"cutover.cli.{found[0]}"), found[1])
        assert isinstance(command, click.Command)  # noqa: S101 - a table of ours; a test walks it
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help lines from the table: listing the verbs imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in VERBS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run one verb and end the process with its code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        sys.exit(self._run(args, prog_name, complete_var, **extra))

    def _run(self, args: Sequence[str] | None, prog_name: str | None, complete_var: str | None, **extra: Any) -> int:
        try:
            result = super().main(args, prog_name or "cutover", complete_var, standalone_mode=False, **extra)
        except click.exceptions.Exit as ended:
            return ended.exit_code
        except click.exceptions.NoArgsIsHelpError as asked:
            asked.show()
            return asked.exit_code
        except click.ClickException as wrong:
            click.echo(misused(wrong), err=True)
            return wrong.exit_code
        except (click.Abort, KeyboardInterrupt) as ended:
            words = getattr(ended, "words", "")
            click.echo(visible(f"interrupted: {words}") if words else "interrupted", err=True)
            return 130
        except CutoverError as error:
            click.echo(explain(error), err=True)
            return exit_code(error)
        except BrokenPipeError:  # whoever read stdout has seen enough
            _drop_output()
            return 0
        except OSError as error:  # a disk that is full, a terminal that is gone, a file that may not be read
            _drop_output()
            where = f" ({error.filename})" if error.filename else ""
            why = f"{error.strerror or type(error).__name__}{where}"
            step = "see what that says: is the disk full, or the file not ours?"
            with suppress(OSError):
                click.echo(explain(CommandFailed("the command could not be finished", why, step)), err=True)
            return ERROR
        return result if isinstance(result, int) else 0


def _drop_output() -> None:
    """What is still to be written goes nowhere: Python would complain about it at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    name="cutover",
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 error, 2 usage or setting, 3 gate closed or divergent, 4 unreachable, 130 interrupted.",
)
@click.version_option(__version__, prog_name="cutover")
def main() -> None:
    """Move a live agent-memory service from its old store to its new one, with proof at every step."""
