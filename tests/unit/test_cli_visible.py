"""Escape sequences from outside never reach a terminal as such, in whatever form they are printed."""

import json
from collections.abc import Callable

import click
import pytest
import yaml

from cutover.cli import doctor, output
from cutover.cli.doctor.finding import Finding
from cutover.cli.failure import CommandFailed, explain, misused
from cutover.cli.progress import ProgressLine
from cutover.cli.visible import visible

HOSTILE = "x\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202egnp\u2028\U000e0041 é 東 \ud800"
HARMLESS = "é 東 😀 a\tb\nc"
SAYS: dict[str, Callable[[], None]] = {
    **{form: lambda form=form: output.emit([{"a": HOSTILE, "b": 1}], form) for form in output.FORMS},  # type: ignore[misc]
    "record": lambda: output.emit({"a": HOSTILE, "b": [HOSTILE]}, "table"),
    "say": lambda: output.say(HOSTILE, "green"),
    "explain": lambda: click.echo(explain(CommandFailed("w", HOSTILE, HOSTILE, points=[HOSTILE])), err=True),
    "misused": lambda: click.echo(misused(click.UsageError(HOSTILE)), err=True),
    "doctor": lambda: doctor._show([Finding("*", "plugin version", "fail", HOSTILE, HOSTILE)], "table"),
    "progress": lambda: ProgressLine().show(HOSTILE),
}


@pytest.mark.parametrize("where", SAYS)
def test_escape_sequences_from_outside_never_reach_the_terminal(where: str, capfd: pytest.CaptureFixture[str]) -> None:
    SAYS[where]()
    told = "".join(capfd.readouterr())
    assert "owned" in told, "what is no control character is still there"
    assert all(
        character == "\n" or (where == "tsv" and character == "\t") or character.isprintable() for character in told
    ), ascii(told)


def test_what_is_no_control_character_stays_as_it_is() -> None:
    assert visible(HARMLESS) == HARMLESS
    assert visible("a\x1b\u202eb") == r"a\x1b\u202eb"


def test_json_and_yaml_hold_the_data_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for form, read in (("json", json.loads), ("yaml", yaml.safe_load)):
        for text in (HOSTILE[:-1], HARMLESS):
            output.emit([{"a": text}], form)
            told = capsys.readouterr().out
            assert read(told) == [{"a": text}]
            assert "東" in told or text != HARMLESS
