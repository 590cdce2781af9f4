"""docs/doctor.md has one row for every check of `cutover doctor`, and its commands exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.cli import doctor
from tests.unit.test_runbooks import check_command, commands

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "doctor.md").read_text()
MAKERS = {"Finding", "finding", "room"}


def constants(node: ast.expr) -> Iterator[str]:
    """The name of a check as it is written; of an f-string, what it begins with and an ellipsis."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
        yield str(node.values[0].value) + "…"


def in_code() -> set[str]:
    """Every name that a finding is made with: given as such, or as a variable `check`."""
    found: set[str] = set()
    for path in Path(doctor.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in MAKERS and len(node.args) > 1:
                    found |= set(constants(node.args[1]))
            elif isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == "check" for t in node.targets
            ):
                found |= set(constants(node.value))
    return found


def test_every_check_has_its_row_and_every_row_its_check() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.partition("## What is looked at")[2], re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == in_code()
    assert "capture triggers" in rows


@pytest.mark.parametrize("line", sorted({each for each in commands(PAGE) if "…" not in each}))
def test_every_command_of_the_page_exists(line: str) -> None:
    check_command("doctor", line)


def test_the_remedies_in_the_code_that_are_commands_exist() -> None:
    """Every string of the package in which a `cutover` command stands after a beginning or a `then:`."""
    found = set()
    for path in Path(doctor.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= set(re.findall(r"(?:^|then: |; )(cutover [a-z].*?)(?=;|$)", node.value.strip()))
    found = {each for each in found if not each.startswith(("cutover doctor", "cutover-"))}
    assert len(found) >= 8
    for line in found:
        check_command("doctor", line)
