"""`cutover dev`: the stack comes up, what it prints to try works as printed, and nothing is left behind."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


def clean_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL"))}
    bin_with_cutover = str(Path(sys.executable).parent)
    return {**kept, "PYTHONPATH": str(ROOT), "PATH": f"{bin_with_cutover}:{kept['PATH']}", "PYTHONUNBUFFERED": "1"}


def test_what_dev_prints_to_try_works_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "cutover", "dev", "--memories", "200", "--logs", str(tmp_path / "logs")],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        printed = ""
        while "cutover doctor" not in printed:
            line = child.stdout.readline()
            assert line, child.communicate()
            printed += line
        below = psutil.Process(child.pid).children(recursive=True)
        assert below
        script = printed.partition("in another terminal:")[2]
        # As a user would paste it; the questions are answered beforehand, and a machine need not have curl.
        script = re.sub(r"#.*|^ *curl .*", "", script, flags=re.MULTILINE)
        script = script.replace("promote", "promote --yes").replace("--apply", "--apply --yes")
        script = re.sub(r"^ *cutover ", f"{sys.executable} -m cutover ", script, flags=re.MULTILINE)
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr  # the last one's: doctor finds nothing failing
        assert "cannot be placed and are not acknowledged" in done.stderr
        assert "clean: every difference has a cause" in done.stderr
        assert "CUTOVER_TENANT=sample" in script
        plugin = next(one for one in below if "serve" not in one.cmdline() and "plugin" in " ".join(one.cmdline()))
        plugin.kill()
        assert child.stderr is not None
        while "the plugin ended with -9" not in (line := child.stderr.readline()):
            assert line, "nobody said that the plugin died"
        child.send_signal(signal.SIGINT)
        _, words = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0, words
    assert "everything is down again" in words
    assert psutil.wait_procs(below, timeout=30)[1] == []
