"""What pictures are drawn from: the moments of a recording, and the alerts that fire within it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.recording import RULES, Recording, hasty, kept


def rules(path: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def test_each_dashboard_looks_back_from_its_own_moment(tmp_path: Path) -> None:
    made = Recording(tmp_path, 1000.0, {"": 1180.0, "cutover-backfill": 1090.0})
    made.keep()
    again = kept(tmp_path)
    assert again == made
    assert (again.moment("cutover-backfill"), again.moment("cutover-traffic")) == (1090.0, 1180.0)
    assert (again.asked("cutover-backfill").range_seconds, again.asked("other").range_seconds) == (90, 180)


@pytest.mark.prometheus
def test_alerts_of_a_recording_are_those_of_the_repository_but_fire_after_seconds(tmp_path: Path) -> None:
    made = hasty(tmp_path)
    assert {path.name for path in made} == {path.name for path in RULES.glob("*.yml")} != set()
    for path in made:
        done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout
        for rule, original in zip(rules(path), rules(RULES / path.name), strict=True):
            assert {rule.pop(key) for key in ("for", "keep_firing_for") if key in rule} <= {"5s"}
            assert rule == {key: value for key, value in original.items() if key not in ("for", "keep_firing_for")}
