"""Write `docs/cli.md` and `docs/schemas/*.json` from the commands: `python -m reference.generate`."""

import json
import re
from pathlib import Path

import click

from cutover.cli import main
from cutover.cli.verb import Group, Verb, leaves, summary
from reference import control, stores
from reference.notation import Schema

ROOT = Path(__file__).parents[1]
BASE = "https://github.com/cutover/cutover/blob/main/docs/schemas"
SHAPES: dict[str, Schema] = {**control.SHAPES, **stores.SHAPES}
EXIT_CODES = (
    (0, "ok", "It was done, or what was asked about is well."),
    (1, "error", "It could not be done, or nothing could be proven."),
    (2, "usage or setting", "The call or a setting is wrong; nothing was begun. A change without a yes is one."),
    (3, "gate closed or divergent", "A verdict: the gate is closed, the stores differ, something is in the way."),
    (4, "unreachable", "The daemon, the database or the plugin does not answer."),
    (130, "interrupted", "Ctrl-C. What goes on, or how to go on, is said on stderr."),
)
_INTRODUCTION = """\
# The command line

Written by `python -m reference.generate` from the commands themselves; do not edit it.

Data goes to stdout, words to stderr. `-o table` (the default) is for people; `-o json`, `-o yaml` and `-o tsv` are for
programs. The schema of a verb's JSON, which YAML shares, is linked below; fields that are not in it do not occur. On a
terminal, tables have lines and words have colours, unless `NO_COLOR` is set; elsewhere everything is plain lines.

A verb that changes something has `--yes`: on a terminal it asks, elsewhere it ends with 2 unless `--yes` is given.
What stops something (`backfill --pause` and `--abort`, `phase scream-test --stop`) never asks.

An error is three lines: what, why, and what to do next.

## Exit codes

| code | meaning | |
|---|---|---|
"""


def schema_of(words: str) -> Schema:
    """The whole document of one verb."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{BASE}/{file_of(words)}",
        "title": f"cutover {words} -o json",
        **SHAPES[words],
    }


def file_of(words: str) -> str:
    """The file's name of a verb's schema."""
    return f"{words.replace(' ', '-')}.json"


def documents() -> dict[Path, str]:
    """Every file with what is in it."""
    context = click.Context(main, info_name="cutover")
    verbs = {" ".join(words): verb for words, verb in leaves(main, context).items()}
    files = {
        ROOT / "docs" / "schemas" / file_of(words): json.dumps(schema_of(words), indent=2, ensure_ascii=False) + "\n"
        for words in SHAPES
    }
    files[ROOT / "docs" / "cli.md"] = _page(verbs)
    return files


def _page(verbs: dict[str, Verb]) -> str:
    codes = "".join(f"| {code} | {words} | {meaning} |\n" for code, words, meaning in EXIT_CODES)
    parts = [_INTRODUCTION + codes, "\n## Completion\n\n" + _completion(verbs["completion"]), "\n## Verbs\n"]
    group = ""
    for words, verb in verbs.items():
        first, _, rest = words.partition(" ")
        if rest and first != group:
            command = main.get_command(click.Context(main), first)
            assert isinstance(command, Group)  # noqa: S101 - a verb of two words is in a group
            parts.append(f"\n### cutover {first}\n\n{_plain(command.help)}\n")
        group = first
        parts.append(_verb(words, verb, level=4 if rest else 3))
    return "".join(parts)


def _verb(words: str, verb: Verb, level: int) -> str:
    context = click.Context(verb, info_name=f"cutover {words}", max_content_width=100, terminal_width=100)
    usage = verb.get_usage(context).removeprefix("Usage: ")
    lines = [f"\n{'#' * level} cutover {words}\n", _plain(verb.help), "", "```", usage, ""]
    lines += [*verb.examples, "```", ""]
    options = [_option(each, context) for each in verb.params if isinstance(each, click.Option)]
    if options:
        lines += ["| option | |", "|---|---|", *options, ""]
    said = []
    if verb.changes:
        said.append("Changes something: asks, or needs `--yes`.")
    if verb.prints:
        said.append(f"JSON: [{file_of(words)}](schemas/{file_of(words)}).")
    return "\n".join([*lines, *([" ".join(said), ""] if said else [])])


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None  # noqa: S101 - no option of ours is hidden
    name, meaning = record
    return f"| `{_cell(name)}` | {_cell(' '.join(meaning.split()))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _completion(verb: Verb) -> str:
    lines = "\n".join(verb.examples)
    return f"{summary(verb)}\n\n```\n{lines}\n```\n"


def _plain(text: str | None) -> str:
    """A docstring's paragraphs, each on one line."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def write() -> None:
    """Write what differs, and take away schemas of verbs that are no more."""
    files = documents()
    (ROOT / "docs" / "schemas").mkdir(exist_ok=True)
    for path in set((ROOT / "docs" / "schemas").glob("*.json")) - set(files):
        path.unlink()
    for path, text in files.items():
        path.write_text(text)


if __name__ == "__main__":
    write()
