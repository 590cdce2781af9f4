"""Data on stdout in the form that was asked for; words, questions and progress on stderr."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

from cutover.cli.complete import tenants
from cutover.cli.verb import NeedsYes, can_be_asked, named
from cutover.cli.visible import is_visible, visible, visible_json

FORMS = ("table", "json", "yaml", "tsv")
NARROW = 112
"""Columns of a terminal below which a table with ids in it shows less."""
Row = Mapping[str, Any]
_WIDEST = 72
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)$")
"""A moment in UTC as the daemon tells it; tables show its seconds."""
_ID = re.compile(r"[0-9a-f-]{12,36}")
C = TypeVar("C", bound=Callable[..., Any])


def output_option(command: C) -> C:
    """`-o table|json|yaml|tsv`, as the argument `form`."""
    return click.option(
        "-o", "--output", "form", type=click.Choice(FORMS), default="table", show_default=True, help="Form of the data."
    )(command)


def tenant_option(command: C) -> C:
    """`--tenant NAME`, as the argument `tenant`."""
    return click.option(
        "--tenant",
        shell_complete=tenants,
        help="Name of the tenant. Default: the default tenant, or all where that makes sense.",
    )(command)


def yes_option(command: C) -> C:
    """`--yes`, which a changing verb needs where nobody can be asked."""
    return click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask at.")(command)


def emit(data: Row | Sequence[Row], form: str, columns: Sequence[str] = ()) -> None:
    """Write one record or several to stdout. `columns` picks and orders a table's; other forms hold everything."""
    if form == "json":
        text = json.dumps(_named(data), indent=2 if sys.stdout.isatty() else None, default=_told, ensure_ascii=False)
        click.echo(visible_json(text))
    elif form == "yaml":
        import yaml

        text = json.dumps(_named(data), default=_told, ensure_ascii=False)
        plain = is_visible(text)  # else everything that is not ASCII is escaped, as YAML does it
        click.echo(yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=plain), nl=False)
    else:
        _emit_rows(_named(data), form, columns)


_COMMANDS = ("next", "remedy")
"""Members that are for people to type."""


def _named(data: Any) -> Any:
    """Where this call is for one tenant, the commands in `data` are so, too."""
    if isinstance(data, Mapping):
        return {
            key: named(value) if key in _COMMANDS and isinstance(value, str) else _named(value)
            for key, value in data.items()
        }
    return [_named(each) for each in data] if isinstance(data, list | tuple) else data


def _told(value: Any) -> str:
    """What JSON has no form for: times are RFC 3339, as the daemon tells them."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _emit_rows(data: Row | Sequence[Row], form: str, columns: Sequence[str]) -> None:
    if isinstance(data, Mapping):
        rows: list[Row] = [{"field": key, "value": value} for key, value in flatten(data).items()]
        columns = ("field", "value")
    else:
        rows = [flatten(row) for row in data]
        columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    columns = [_cell(column) for column in columns]
    if form == "tsv":
        for line in (columns, *cells):
            click.echo("\t".join(line))
        return
    cells = [[_TIME.sub(r"\1 \2Z", cell) for cell in line] for line in cells]
    if sys.stdout.isatty() and sum(len(column) + 2 for column in columns) > shutil.get_terminal_size().columns:
        # Headings that break within a word cannot be read: each record stands upright instead.
        for line in cells:
            _rich_table(("field", "value"), list(zip(columns, line, strict=True)))
    elif sys.stdout.isatty():
        _rich_table(columns, cells)
    else:
        _plain_table(columns, cells)


def narrow() -> bool:
    """Whether a table goes to a terminal that is too narrow for all its columns."""
    return sys.stdout.isatty() and shutil.get_terminal_size().columns < NARROW


def flatten(record: Row, prefix: str = "") -> dict[str, Any]:
    """Nested records as one, with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


_EXACT = 1e15
"""Whole floats below it are shown digit by digit."""


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < _EXACT else f"{value:g}"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return visible(text.replace("\t", " ").replace("\n", " ").replace("\r", " ")) or "-"


def _plain_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    lines = [[column.upper() for column in columns], *cells]
    # One long sentence must not push the next column of every other line off the screen: it juts out by itself.
    widths = [max(min(len(line[n]), _WIDEST) for line in lines) for n in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    plain = bool(os.environ.get("NO_COLOR"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="none" if plain else None)
    for n, column in enumerate(columns):
        # An id is to be copied: everything else gives way first.
        whole = bool(cells) and all(_ID.fullmatch(line[n]) for line in cells)
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=whole)
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)


def say(words: str, colour: str | None = None) -> None:
    """A line of words on stderr; coloured on a terminal unless NO_COLOR is set."""
    words = visible(named(words))
    coloured = colour is not None and sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    click.echo(click.style(words, fg=colour) if coloured else words, err=True)


def confirm(yes: bool, sentence: str) -> None:
    """Ask before a change. Off a terminal only `--yes` will do."""
    if yes:
        return
    if not can_be_asked():
        raise NeedsYes(f"{sentence} There is no terminal to ask at")
    if not click.confirm(f"{sentence} Go on?", err=True):
        say("nothing was changed")
        raise click.exceptions.Exit(1)
