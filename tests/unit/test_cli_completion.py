"""Completion in the shells (observability §5). What a daemon knows: tests/integration/test_cli_terminal.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cutover.cli import main

SHELLS = ("bash", "zsh", "fish")
HERE = [shell for shell in SHELLS if shutil.which(shell)]
ROOT = Path(__file__).parents[2]
IN_BASH = """
. ./script || exit 9
complete -p cutover > /dev/null || exit 8
for line in "cutover ph" "cutover phase pro" "cutover phase promote A" "cutover sweep run --kind d" "cutover status --w"
do
    COMP_WORDS=($line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _cutover_completion cutover "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "$line: ${COMPREPLY[*]}"
done
"""


def script(shell: str) -> str:
    made = CliRunner().invoke(main, ["completion", shell])
    assert made.exit_code == 0
    return made.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_there_is_a_script_for_every_shell(shell: str) -> None:
    assert f"_CUTOVER_COMPLETE={shell}_complete" in script(shell)


def test_bash_is_there_so_that_one_script_at_least_is_run() -> None:
    assert "bash" in HERE


@pytest.mark.parametrize("shell", HERE)
def test_the_script_is_accepted_by_the_shell(shell: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script(shell))
    done = subprocess.run(
        [shell, "-n", "script"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_verbs_phases_kinds_and_options(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script("bash"))
    (tmp_path / "cutover").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cutover "$@"\n')
    (tmp_path / "cutover").chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "-c", IN_BASH],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "cutover ph: phase",
        "cutover phase pro: promote",
        "cutover phase promote A: A0 A1 A2 A3 A4",
        "cutover sweep run --kind d: digest",
        "cutover status --w: --watch",
    ]
