"""A runbook per alert: what is wrong and what to type come first, and every command exists (observability §3)."""

import re
from pathlib import Path

import pytest

from tests.unit.test_runbooks import check_command, commands

RUNBOOKS = sorted((Path(__file__).parents[2] / "docs" / "runbooks").glob("*.md"))
PAGES = [path for path in RUNBOOKS if path.stem != "README"]
ALL = sorted({(path.stem, line) for path in RUNBOOKS for line in commands(path.read_text())})


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_runbook_begins_with_one_line_and_what_to_type(path: Path) -> None:
    text = path.read_text()
    title, line, command = text.split("\n\n")[:3]
    assert title == f"# {path.stem}"
    assert re.fullmatch(r"\*\*[^*]+\.\*\* Type:", " ".join(line.split())), "what is wrong, in a line"
    assert re.fullmatch(r" {4}cutover .+", command), "and what to type"
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    diagnosis, mitigation = text.split("\n## Diagnosis\n")[1].split("\n## Mitigation\n")
    for part in (diagnosis, mitigation):
        assert re.search(r"^1\. ", part, re.MULTILINE)
        assert re.search(r"^ {4,}cutover ", part, re.MULTILINE), "exact commands"
    assert max(map(len, text.splitlines())) <= 120
    assert text.endswith("\n")


@pytest.mark.parametrize(("name", "line"), ALL, ids=[f"{name}: {line}" for name, line in ALL])
def test_a_command_of_an_alerts_runbook_exists(name: str, line: str) -> None:
    check_command(name, line)
