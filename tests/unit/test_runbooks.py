"""The packaged runbooks: for somebody at 3 a.m. Every command in them is one that exists, options included."""

import re
import shlex

import click
import pytest

from cutover.cli.root import VERBS, main
from cutover.domain.redaction import redact_note
from cutover.stores.procedures import packaged

RUNBOOKS = packaged()
PHASES = [name for name in RUNBOOKS if re.match(r"a\d-", name)]
PLACEHOLDER = re.compile(r"^[A-Z]{2,}$")


def commands(body: str) -> list[str]:
    """Command lines on lines of their own, and in back quotes."""
    own = re.findall(r"^ {4,}(cutover .*)$", body, re.MULTILINE)
    quoted = [" ".join(each.split()) for each in re.findall(r"`(cutover [^`]+)`", body)]
    return [*own, *quoted]


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


@pytest.mark.parametrize(("name", "line"), ALL, ids=[f"{name}: {line}" for name, line in ALL])
def test_a_command_of_a_runbook_exists(name: str, line: str) -> None:
    words = shlex.split(line)[1:]
    context = click.Context(main, info_name="cutover")
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(context, words[0])
        assert found is not None, f"{name}: `{line}`: there is no {words[0]!r}"
        command, context, words = found, click.Context(found, parent=context, info_name=words[0]), words[1:]
    # A word in capitals stands for something; what matters is that the option or argument takes one.
    stand_in = "01234567-89ab-4def-8123-456789abcdef"
    there = {"PATH": "."}  # a directory that must exist
    given = [there.get(word, stand_in) if PLACEHOLDER.match(word) and word not in VERBS else word for word in words]
    try:
        command.make_context("cutover", given, parent=context.parent)
    except click.exceptions.Exit:
        pass
    except click.ClickException as wrong:
        pytest.fail(f"{name}: `{line}`: {wrong.format_message()}")


def test_every_runbook_that_is_named_in_another_one_exists() -> None:
    named = {word for each in RUNBOOKS.values() for word in re.findall(r"procedure show ([a-z0-9-]+)", each.body)}
    assert named
    assert named <= set(RUNBOOKS)
