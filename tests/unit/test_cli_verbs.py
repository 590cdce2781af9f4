"""Every verb, found by walking the tree of commands: help with examples, a yes for changes, errors in three lines."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from cutover.cli import main
from cutover.cli.output import FORMS
from cutover.cli.verb import Group, leaves, summary, words_of
from tests import cli_tree
from tests.cli_tree import a_call_of, asks_the_daemon, assert_three_lines

VERBS = leaves(main, click.Context(main, info_name="cutover"))
EXAMPLES = [(words, example) for words, verb in VERBS.items() for example in verb.examples]
CHANGING = {words: verb for words, verb in VERBS.items() if verb.changes}
NOWHERE = {"CUTOVER_OPS_URL": "http://127.0.0.1:9"}
POSTS_BUT_CHANGES_NOTHING = {
    ("sweep", "run"): "a sweep compares and writes down what it found",
}


def called(words: tuple[str, ...]) -> str:
    return " ".join(words)


@pytest.fixture
def any_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples name files that are not here."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: Path(value))


def test_the_walk_finds_the_verbs() -> None:
    assert len(VERBS) > 45
    assert {("status",), ("phase", "promote"), ("archive", "restore"), ("backfill",)} <= set(VERBS)


@pytest.mark.parametrize("words", VERBS, ids=called)
def test_every_verb_has_help_with_an_example(words: tuple[str, ...]) -> None:
    verb = VERBS[words]
    assert verb.examples
    shown = CliRunner().invoke(main, [*words, "--help"])
    assert shown.exit_code == 0
    assert verb.help
    for example in verb.examples:
        assert f"  {example}\n" in shown.output, "examples are shown as they are typed"
        assert len(example) <= 130
    assert "..." not in summary(verb)
    assert len(summary(verb)) <= 110, "a summary is one short sentence"
    for parameter in verb.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            assert parameter.help, f"{parameter.opts} says what it is for"


@pytest.mark.parametrize(("words", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_every_example_parses(words: tuple[str, ...], example: str, any_path: None) -> None:
    given = words_of(example)
    assert example.startswith(f"cutover {called(words)}")
    verb, rest = VERBS[words], given[len(words) :]
    verb.make_context(called(words), rest)  # raises a usage error otherwise


def test_groups_list_their_verbs_with_whole_sentences() -> None:
    for name in main.list_commands(click.Context(main)):
        group = main.get_command(click.Context(main), name)
        if isinstance(group, click.Group):
            assert isinstance(group, Group)
            shown = " ".join(CliRunner().invoke(main, [name, "--help"]).output.split())
            assert "..." not in shown.partition("Commands:")[2]
            assert all(" ".join(summary(verb).split()) in shown for verb in group.commands.values())


@pytest.mark.parametrize("words", [words for words, verb in VERBS.items() if verb.prints], ids=called)
def test_every_verb_that_prints_data_has_all_forms(words: tuple[str, ...]) -> None:
    (option,) = (each for each in VERBS[words].params if each.name == "form")
    assert option.opts == ["-o", "--output"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == FORMS


@pytest.mark.parametrize("words", CHANGING, ids=called)
def test_off_a_terminal_every_changing_verb_needs_a_yes(words: tuple[str, ...], any_path: None) -> None:
    """Every one of its examples that would change something is refused, before anybody is asked or told anything."""
    refused = 0
    for example in CHANGING[words].examples:
        given = [word for word in words_of(example) if word != "--yes"]
        if {"--dry-run", "--stop", "--show", "--pause", "--verify"} & set(given) or given == ["phase", "certify", "A3"]:
            continue
        done = CliRunner().invoke(main, given, env=NOWHERE)
        assert done.exit_code == 2, done.output
        assert done.stderr.splitlines() == [
            "error: nothing was changed",
            f"  why: `cutover {called(words)}` changes something, and there is no terminal to ask at",
            "  next: give --yes",
        ]
        assert done.stdout == ""
        refused += 1
    assert refused, "an example shows how it is used"


def test_a_verb_that_has_the_daemon_do_something_has_a_yes() -> None:
    for words, verb in VERBS.items():
        assert verb.callback is not None
        posts = ".post(" in inspect.getsource(verb.callback) or "_asked(ops" in inspect.getsource(verb.callback)
        if posts and words not in POSTS_BUT_CHANGES_NOTHING:
            assert verb.changes, words


def test_wrong_calls_are_told_in_three_lines() -> None:
    for words in (
        ["fly"],
        ["status", "--fast"],
        ["backfill"],
        ["phase", "promote", "A9"],
        ["migrate", "down", "--yes"],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2
        what, why, then = done.stderr.splitlines()
        assert (what.startswith("error: `cutover"), why[:7], then[:8]) == (True, "  why: ", "  next: ")
        assert then.endswith("--help")


@pytest.mark.parametrize("words", [words for words, verb in cli_tree.VERBS.items() if asks_the_daemon(verb)])
def test_with_the_daemon_away_every_verb_says_so_in_three_lines_and_ends_with_4(words: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token")
    done = CliRunner().invoke(main, a_call_of(words, tmp_path / "token"), env=NOWHERE)
    assert (done.exit_code, done.stdout) == (4, "")
    assert_three_lines(done.stderr)
    what, why, then = done.stderr.splitlines()[-3:]
    assert what == "error: the daemon cannot be reached"
    assert "http://127.0.0.1:9" in why
    assert "cutover serve" in then


def test_exit_codes_of_real_processes(tmp_path: Path) -> None:
    """0, 2 and 4; tests/integration/test_cli_daemon.py has 1, 3 and 130."""

    def ended(*words: str, **more: Any) -> int:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL"))}
        return subprocess.run(
            [sys.executable, "-m", "cutover", *words],
            env={**clean, **NOWHERE, "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=tmp_path,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
            **more,
        ).returncode

    assert [ended("--version"), ended("status", "--fast"), ended("status"), ended("healthcheck")] == [0, 2, 4, 4]
