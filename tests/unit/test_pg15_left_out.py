"""Without PostgreSQL 15 its tests are left out and the report says so; on the build server they fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("ci", [False, True])
def test_missing_programs(tmp_path: Path, ci: bool) -> None:
    environment = {**os.environ, "CUTOVER_TEST_PG15_BIN": str(tmp_path), "CI": "true" if ci else ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/integration/test_postgresql_15.py",
         "-k", "test_it_is_postgresql_15"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"no PostgreSQL 15 in {tmp_path}" in done.stdout
    if ci:
        assert "1 error" in done.stdout
        assert done.returncode == 1
    else:
        assert "the tests marked so are left out" in done.stdout
        assert "2 deselected" in done.stdout
        assert done.returncode == 5  # nothing left to run
