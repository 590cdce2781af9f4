"""`make demo` is itself a test: the main job from beginning to end, on real stores."""

import asyncio
import re
import sys

import pytest

from cutover.embedded import demo
from cutover.embedded.processes import clean_environment

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]


async def test_the_demo_ends_well() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cutover", "demo",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=clean_environment(),
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), 560)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    lines = out.decode().splitlines()
    last = lines[-1]
    good = (
        r"demo: ok acknowledged=(\d+) lost=0 resurrected=0 unexplained=0 rollback=lossless"
        r" phases=A0,A1,A2,A3,A2,A3,A4"
    )
    found = re.fullmatch(good, last)
    assert found is not None, "\n".join(lines[-30:])
    assert int(found[1]) > 500
    assert process.returncode == 0
    assert any("plugin killed" in line and "503" in line for line in lines)
    assert any("SIGKILL" in line for line in lines)
    assert any("direct SQL by forgotten-cron-job was refused" in line for line in lines)
    assert any("back in A2 without loss" in line for line in lines)
    assert any("restored for a test: equal digests" in line for line in lines)
    assert any("agent_memories was held, and is gone" in line for line in lines)


def test_a_demo_that_cannot_run_says_so_in_its_last_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(demo.SETTINGS, "CUTOVER_SWEEP_INTERVAL", "nonsense")
    assert demo.run() == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("demo: FAILED ")
    assert "CUTOVER_SWEEP_INTERVAL" in last
