"""The documents for people: every link leads somewhere, every command exists, every test that is named is there."""

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cutover.domain.gate import check_ids
from cutover.domain.phase import Phase
from cutover.settings import _OTHER_VARIABLES, Settings
from tests.unit.test_runbooks import check_command, in_blocks, in_quotes

ROOT = Path(__file__).parents[2]
OURS = [each for each in ROOT.iterdir() if each.is_dir() and each.name[0] != "." and each.name not in ("build", "dist")]
PAGES = sorted(
    page.relative_to(ROOT) for page in [*ROOT.glob("*.md"), *(page for each in OURS for page in each.rglob("*.md"))]
)
FOR_OPERATORS = [page for page in PAGES if page.parts[0] != "cutover" and "decisions" not in page.parts]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)|<(?:img|a|source)[^>]+(?:src|srcset|href)=\"([^\"]+)\"")


@cache
def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Without fenced blocks and code in quotes: links in these are examples."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "`x`", text)


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them, and of explicit ids."""
    found: dict[str, int] = {}
    made = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.+?) *$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        made.add(f"{slug}-{number}" if number else slug)
    return made


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_relative_link_and_picture_of_a_page_is_there(page: Path) -> None:
    wrong = []
    for target in (first or second for first, second in LINK.findall(prose(text_of(page)))):
        if re.match(r"[a-z+]+:", target):
            continue
        name, _, anchor = target.partition("#")
        at = (ROOT / page).parent / name if name else ROOT / page
        if not at.exists() or (anchor and at.suffix == ".md" and anchor not in anchors(at.read_text(encoding="utf-8"))):
            wrong.append(target)
    assert not wrong


def test_links_are_seen() -> None:
    assert anchors("# A `b` c: d\n## A b c d\n") == {"a-b-c-d", "a-b-c-d-1"}
    assert LINK.findall('![x](a.png) [y](b.md#c) <img src="d.png">') == [("a.png", ""), ("b.md#c", ""), ("", "d.png")]
    assert prose("a `[x](y)` b") == "a `x` b"


IN_BLOCKS = sorted({(str(page), line) for page in FOR_OPERATORS for line in in_blocks(text_of(page))})
IN_QUOTES = sorted({(str(page), line) for page in FOR_OPERATORS for line in in_quotes(text_of(page))})


@pytest.mark.parametrize(("page", "line"), IN_BLOCKS, ids=[f"{page}: {line}" for page, line in IN_BLOCKS])
def test_a_command_to_be_copied_exists_and_is_whole(page: str, line: str) -> None:
    check_command(page, line)


@pytest.mark.parametrize(("page", "line"), IN_QUOTES, ids=[f"{page}: {line}" for page, line in IN_QUOTES])
def test_a_command_that_is_spoken_of_exists(page: str, line: str) -> None:
    check_command(page, line, whole=False)


def test_commands_are_found() -> None:
    text = "```sh\n$ cutover status\nuntil cutover healthcheck; do x; done\n```\n`cutover phase show|check`\n"
    assert in_blocks(text) == ["cutover status", "cutover healthcheck; do x; done"]
    assert in_quotes(text) == ["cutover phase show", "cutover phase check"]
    with pytest.raises(AssertionError, match="there is no 'shoe'"):
        check_command("a page", "cutover phase shoe")
    with pytest.raises(pytest.fail.Exception, match="No such option"):
        check_command("a page", "cutover status --loud")


@cache
def names_of_tests() -> dict[str, set[str]]:
    """Functions by the file that they are in."""
    return {
        str(path.relative_to(ROOT)): {
            node.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        }
        for path in (ROOT / "tests").rglob("test_*.py")
    }


@pytest.mark.parametrize("page", FOR_OPERATORS, ids=str)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    files, functions = names_of_tests(), set().union(*names_of_tests().values())
    for file, function in re.findall(r"`(tests/[a-z_0-9/]+\.py)(?:::(test_\w+))?`", text_of(page)):
        assert (ROOT / file).exists(), file
        assert not function or function in files[file], f"{file}::{function}"
    for function in re.findall(r"`(test_\w+)`", text_of(page)):
        assert function in functions or any(file.endswith(f"/{function}.py") for file in files), function


def test_every_page_of_docs_is_in_the_index() -> None:
    index = text_of(Path("docs/README.md"))
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


FOR_PEOPLE = [*FOR_OPERATORS, *(page for page in PAGES if page.parent == Path("cutover/procedures"))]


@pytest.mark.parametrize("page", FOR_PEOPLE, ids=str)
def test_settings_and_metrics_that_a_page_names_exist(page: Path) -> None:
    text = text_of(page)
    settings = {str(field.validation_alias) for field in Settings.model_fields.values()} | _OTHER_VARIABLES
    named = set(re.findall(r"\b((?:CUTOVER|MEMORY_PLUGIN)_[A-Z_]*[A-Z])\b(?!_?…)", text))
    assert {name for name in named if not name.startswith("CUTOVER_TEST_")} <= settings
    known = set(re.findall(r"\bcutover_[a-z_]+", text_of(Path("docs/metrics.md"))))
    metrics = set(re.findall(r"`(cutover_[a-z_]+)(?:\{[^}`]*\})?`", text))
    assert metrics - known - NO_METRICS == set()


def test_alerts_that_a_page_names_exist() -> None:
    alerts = set(re.findall(r"^ *- alert: (\w+)$", (ROOT / "alerts" / "cutover.yml").read_text(), re.MULTILINE))
    named = {found for page in FOR_PEOPLE for found in re.findall(r"`(Cutover[A-Z]\w+)`", text_of(page))}
    assert alerts
    assert len(named) >= 10
    assert named <= alerts


NO_METRICS = {"cutover_rehearsal", "cutover_tenant"}  # a schema, and a network of containers
PHASES = text_of(Path("docs/phases.md"))


@pytest.mark.parametrize("phase", list(Phase)[1:], ids=str)
def test_the_page_of_phases_names_every_check_of_a_gate(phase: Phase) -> None:
    """The gate of a phase is told in the chapter of the one before it."""
    before = list(Phase)[phase.order - 1]
    general = PHASES.partition("## A0")[0]
    (chapter,) = re.findall(rf"^## {before}: .*?(?=^## )", PHASES, re.MULTILINE | re.DOTALL)
    gate = chapter.partition(f"**The gate of {phase} asks**")[2].partition("\n\n")[0]
    missing = [check for check in check_ids(phase) if f"`{check}`" not in gate and f"(`{check}`" not in general]
    assert not missing


def test_every_panel_that_a_page_points_at_is_on_that_dashboard() -> None:
    def titles(panels: list[dict[str, Any]]) -> set[str]:
        return {each["title"] for each in panels}.union(*(titles(each.get("panels") or []) for each in panels))

    named = {found for page in FOR_OPERATORS for found in re.findall(r"`(cutover-\w+) › ([^`]+)`", text_of(page))}
    assert len(named) >= 10
    for board, panel in sorted(named):
        shown = json.loads((ROOT / "dashboards" / f"{board}.json").read_text())
        assert " ".join(panel.split()) in titles(shown["panels"]), f"{board}: {panel}"


def test_the_readme_begins_with_what_it_is_for_whom_a_picture_and_the_two_commands() -> None:
    first = text_of(Path("README.md")).partition("\n| ")[0]
    assert len(first.splitlines()) <= 30, "one screen"
    for words in (
        "# cutover",
        "no write lost",
        "For SREs",
        "<img src=",
        "$ make demo",
        "$ make test",
        "quick-start.md",
    ):
        assert words in first, words


def test_every_other_way_is_in_the_table_and_says_when_to_choose_it() -> None:
    page = text_of(Path("docs/comparison.md"))
    chapters = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    ways = {title: body for title, body in chapters if title not in ("The table", "What speaks against cutover")}
    assert len(ways) == 7
    rows = re.findall(r"^\| \[[^\]]+\]\((#[^)]+)\) \|((?:[^|]+\|){6})$", page, re.MULTILINE)
    assert {anchor for anchor, _ in rows} == {f"#{each}" for title in ways for each in anchors(f"## {title}")}
    assert all("**Choose " in body for body in ways.values())


@pytest.mark.parametrize("number", range(1, 13))
def test_each_incident_of_practice_says_what_prevents_it_and_which_test_proves_it(number: int) -> None:
    found = re.search(rf"^### {number}\. .+?$(.*?)(?=^#)", text_of(Path("docs/faq.md")), re.MULTILINE | re.DOTALL)
    assert found is not None
    for word in ("**What happened.**", "**Here.**", "**Prevented by.**", "**Proven by.**"):
        assert word in found[1], word
    assert re.search(r"`tests/[a-z_0-9/]+\.py::test_\w+`", found[1].partition("**Proven by.**")[2])
