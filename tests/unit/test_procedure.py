"""Which runbook a run follows, and which text is in force (architecture §8)."""

import re
from pathlib import Path

import pytest

from cutover.domain.phase import Phase
from cutover.domain.procedure import NAMES, name_for, release, takes_over
from cutover.stores.procedures import packaged

MIGRATIONS = Path(__file__).parents[2] / "cutover" / "migrations"


def kinds() -> list[str]:
    """The kinds of task_run, from its check constraint."""
    text = (MIGRATIONS / "001_tables.up.sql").read_text()
    found = re.search(r"create table cutover\.task_run \(.*?kind in \((.*?)\)\)", text, re.DOTALL)
    assert found is not None
    return re.findall(r"'([a-z.]+)'", found[1])


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_run_follows_a_runbook_that_is_packaged(kind: str) -> None:
    assert name_for(kind, {"from": "A0", "to": "A1"}) in packaged()


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (Phase.A0, Phase.A1, "a1-shadow"),
        (Phase.A1, Phase.A2, "a2-backfill"),
        (Phase.A2, Phase.A3, "a3-cutover"),
        (Phase.A3, Phase.A4, "a4-drop"),
        (Phase.A3, Phase.A2, "rollback"),
        (Phase.A2, Phase.A1, "rollback"),
        (Phase.A1, Phase.A0, "rollback"),
    ],
)
def test_a_phase_change_follows_the_runbook_of_where_it_goes_or_the_way_back(
    before: Phase, after: Phase, name: str
) -> None:
    assert name_for("phase", {"from": before.value, "to": after.value}) == name


def test_a_kind_without_a_runbook_is_an_error() -> None:
    with pytest.raises(KeyError):
        name_for("tea", {})


def test_what_is_packaged_is_what_runs_can_name() -> None:
    assert set(packaged()) == NAMES


@pytest.mark.parametrize(
    ("offered", "in_force", "expected"),
    [
        ("1.0", "1.0", True),
        ("1.0", "1.0.0", True),
        ("1.0.0", "1.0", True),
        ("1.2.0+build5", "1.2.0", True),
        ("1.2.0", "1.2.0+build5", True),
        ("1.2.0rc1+build5", "1.2.0", False),
        ("1.1", "1.0", True),
        ("1.10", "1.9", True),
        ("1.0", "1.0.1", False),
        ("0.9.9", "1.0", False),
        ("1.0rc1", "1.0", False),
        ("1.0", "1.0rc1", True),
        ("1.0.dev3", "1.0", False),
        ("nonsense", "1.0", False),
    ],
)
def test_an_older_release_does_not_undo_a_newer_one(offered: str, in_force: str, expected: bool) -> None:
    assert takes_over(offered, in_force) is expected


def test_a_release_is_ordered_by_numbers_and_not_by_letters() -> None:
    assert release("1.2.10") > release("1.2.9") > release("1.2.9a1")
