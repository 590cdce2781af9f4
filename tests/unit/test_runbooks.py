"""The packaged runbooks: for somebody at 3 a.m. Every command in them is one that exists, options included."""

import re
import shlex
from itertools import pairwise

import click
import pytest

from cutover.cli.root import VERBS, main
from cutover.domain.redaction import redact_note
from cutover.stores.procedures import packaged

RUNBOOKS = packaged()
PHASES = [name for name in RUNBOOKS if re.match(r"a\d-", name)]
PLACEHOLDER = re.compile(r"^[A-Z]{2,}$")


def in_blocks(body: str) -> list[str]:
    """Command lines on lines of their own: indented, or in a block for a shell."""
    own = re.findall(r"^ {4,}(cutover .*)$", body, re.MULTILINE)
    for block in re.findall(r"^```(?:sh|console)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL):
        own += re.findall(r"^(?:\$ )?(?:until |nohup )?(cutover .*)$", block.replace("\\\n", " "), re.MULTILINE)
    return own


def in_quotes(body: str) -> list[str]:
    """Those in back quotes; `cutover phase show|check` are two."""
    found = [" ".join(each.split()) for each in re.findall(r"`(cutover\s[^`]+)`", body)]
    made = []
    for each in found:
        head, several, tail = each.partition(next((word for word in each.split() if "|" in word.strip("|")), "\0"))
        made += [head + one + tail for one in several.split("|")] if several else [each]
    return made


def commands(body: str) -> list[str]:
    """All of them."""
    return [*in_blocks(body), *in_quotes(body)]


ALL = sorted({(name, line) for name, each in RUNBOOKS.items() for line in commands(each.body)})


@pytest.mark.parametrize("name", sorted(RUNBOOKS))
def test_a_runbook_says_what_to_do_what_to_watch_and_how_to_go_back(name: str) -> None:
    body = RUNBOOKS[name].body
    heads = re.findall(r"^## (.*)$", body, re.MULTILINE)
    wanted = ["Steps", "What to watch"]
    if name in PHASES:
        wanted = ["Before you begin", *wanted]
    assert [head for head in heads if head in wanted] == wanted
    assert any(head.startswith("How to go") for head in heads)
    assert body.startswith(f"# {RUNBOOKS[name].title}\n")
    assert max(map(len, body.splitlines())) <= 120
    assert body.endswith("\n")
    assert redact_note(body) == body, "the record refuses it"


def test_there_is_one_for_every_phase() -> None:
    assert [name[:2] for name in PHASES] == ["a0", "a1", "a2", "a3", "a4"]


def check_command(name: str, line: str, *, whole: bool = True) -> None:
    """Fail unless `line` (of the document `name`) is a command that exists, with options and arguments that it takes.
    Not `whole`: what must be given may be left out."""
    words = shlex.split(line.replace(";", " ; "), comments=True)[1:]
    for end in (">", "2>", "|", ";", "&&", "&"):  # what a shell makes of the rest
        words = words[: words.index(end)] if end in words else words
    context = click.Context(main, info_name="cutover")
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None and PLACEHOLDER.match(words[0]):  # `cutover COMMAND --help`
            return
        assert found is not None, f"{name}: `{line}`: there is no {words[0]!r}"
        command, context, words = found, click.Context(found, parent=context, info_name=words[0]), words[1:]
    # A word in capitals stands for something; what matters is that the option or argument takes one.
    stand_in = "01234567-89ab-4def-8123-456789abcdef"
    there = {"PATH": "."}  # a directory that must exist
    given = [there.get(word, stand_in) if PLACEHOLDER.match(word) and word not in VERBS else word for word in words]
    given = [__file__ if before == "--token-file" else word for before, word in pairwise(["", *given])]
    if not words and isinstance(command, click.Group):
        return  # `cutover phase` speaks of all of its verbs
    try:
        command.make_context("cutover", given, parent=context.parent)
    except click.exceptions.Exit:
        pass
    except click.MissingParameter:
        assert not whole, f"{name}: `{line}`: something is missing"
    except click.ClickException as wrong:
        pytest.fail(f"{name}: `{line}`: {wrong.format_message()}")


@pytest.mark.parametrize(("name", "line"), ALL, ids=[f"{name}: {line}" for name, line in ALL])
def test_a_command_of_a_runbook_exists(name: str, line: str) -> None:
    check_command(name, line)


def test_every_runbook_that_is_named_in_another_one_exists() -> None:
    named = {word for each in RUNBOOKS.values() for word in re.findall(r"procedure show ([a-z0-9-]+)", each.body)}
    assert named
    assert named <= set(RUNBOOKS)
