"""The verbs in this process, against a daemon that runs in its own: as quick as the daemon, and every `-o json` is held
against its schema.
"""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from cutover.cli import main
from cutover.cli.verb import Verb, leaves, words_of
from reference.generate import schema_of

VERBS: Mapping[str, Verb] = {
    " ".join(words): verb for words, verb in leaves(main, click.Context(main, info_name="cutover")).items()
}


def verb_of(arguments: tuple[str, ...]) -> str:
    """The words that call the verb, of a whole call."""
    return next(name for name in (" ".join(arguments[:2]), arguments[0]) if name in VERBS)


def assert_valid(words: str, told: object) -> None:
    """Holds what a verb printed as JSON against its schema; fails with the innermost reasons."""
    reasons = list(Draft202012Validator(schema_of(words)).iter_errors(told))
    while any(each.context for each in reasons):
        reasons = [inner for each in reasons for inner in (each.context or [each])]
    words_of = [f"{list(each.absolute_path)}: {each.message}" for each in reasons]
    assert not reasons, f"cutover {words} -o json is not as docs/schemas says: {words_of}"


def asks_the_daemon(verb: Verb) -> bool:
    """By its own source, or that of the one function that it hands everything to."""
    assert verb.callback is not None
    return any(word in inspect.getsource(verb.callback) for word in ("ops_client", " _change(", " _asked(tenant"))


def a_call_of(words: str, token: Path) -> list[str]:
    """A call that goes as far as it can: the first example that is no dry run, with a yes. `token`: for the file that
    an example names."""
    found = [words_of(example) for example in VERBS[words].examples]
    given = next((each for each in found if "--dry-run" not in each), words.split())
    given = [str(token) if each.startswith("~/") else each for each in given if each != "--yes"]
    return [*given, *(["--yes"] if VERBS[words].changes else [])]


def assert_three_lines(told: str) -> None:
    """What, why and what next, the last of what was said; where the why has several points, these are in between."""
    lines = told.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("error: ")]
    assert len(starts) == 1, told
    what, why, *points, then = lines[starts[0] :]
    assert len(what) > len("error: "), told
    assert why.startswith("  why: "), told
    assert all(each.startswith("    - ") for each in points), told
    assert then.startswith("  next: "), told


class Operator:
    """Somebody with a token, at the verbs."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)
        self.printed: set[str] = set()
        """Verbs whose JSON was seen, and was as their schemas say."""

    def __call__(self, *arguments: str, token: str | None = None) -> Result:
        mine = {**self._variables, **({"CUTOVER_ADMIN_TOKEN": token} if token else {})}
        done = CliRunner().invoke(main, arguments, env=mine)
        assert "Traceback" not in done.stderr
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        if arguments[-2:] == ("-o", "json") and done.stdout:
            words = verb_of(arguments)
            assert_valid(words, json.loads(done.stdout))
            self.printed.add(words)
        return done

    def json(self, *arguments: str, code: int = 0, token: str | None = None) -> Any:
        """What it printed as JSON, which is as its schema says."""
        done = self(*arguments, "-o", "json", token=token)
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout)
