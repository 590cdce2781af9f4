"""The whole move by the command line alone, from A0 to a tenant without cutover: what every verb prints is as its
schema says (observability §5), and archive, drop and retire do what they promise.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import PEOPLE
from tests.cli_tree import VERBS, Operator
from tests.integration.test_cli_daemon import wait_for
from tests.served import Served, served

ROWS = 30
UNPLACEABLE = "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, ' ', 'LOCAL')"
SPOIL = """
update memory_plugin.memory_records set content = content || '!'
where id in (select id from memory_plugin.memory_records where content like 'old memory %' order by id limit 3)
"""


@pytest.fixture
def running(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Served]:
    settings = {
        "CUTOVER_ARCHIVE_DIRECTORY": str(tmp_path / "archives"),
        "CUTOVER_DROP_HOLD": "3",
        "CUTOVER_QUARANTINE_SECONDS": "2",
    }
    (tmp_path / "archives").mkdir()
    with served(postgres, rows=ROWS, settings=settings) as made:
        yield made


@pytest.fixture
def cutover(running: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    for name in os.environ:
        if name.startswith(("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # no `.env` there
    return Operator(
        {
            "CUTOVER_OPS_URL": running.daemon.at.ops,
            "CUTOVER_ADMIN_TOKEN": PEOPLE["edsger"],
            "CUTOVER_TENANT": "sample",
            "DATABASE_URL": running.database_url,
            "MEMORY_PLUGIN_URL": running.plugin_url,
        }
    )


def test_every_verb_prints_what_its_schema_says_on_the_way_from_a0_to_the_end(
    cutover: Operator, running: Served, tmp_path: Path
) -> None:
    workspace = asyncio.run(running.workspace())
    for _ in range(2):
        asyncio.run(running.execute(UNPLACEABLE, workspace))
    in_a0(cutover)
    in_a2(cutover, running)
    in_a3(cutover)
    to_the_end(cutover, running, tmp_path)
    assert cutover.printed == {words for words, verb in VERBS.items() if verb.prints}, "every verb that prints data"


def past_the_gate(cutover: Operator, target: str) -> None:
    """With an override that two people approve; a sweep that ends meanwhile voids a certificate, and then there is
    another."""
    for _ in range(5):
        made = cutover.json("phase", "certify", target, "--override", "a test", "--yes")
        assert cutover.json("phase", "certificate", made["hash"][:12])["approvals_missing"] == 2
        for name in ("ada", "grace"):
            done = cutover("phase", "approve", made["hash"], "--as", name, "--yes", "-o", "json", token=PEOPLE[name])
            if done.exit_code:
                break
        else:
            done = cutover("phase", "promote", target, "--certificate", made["hash"], "--yes", "-o", "json")
        if done.exit_code == 0:
            return
        assert "is void: a" in done.stderr, done.stderr
    raise AssertionError(done.stderr)


def in_a0(cutover: Operator) -> None:
    assert cutover.json("phase", "show")["next"] == "A1"
    wait_for(lambda: cutover("phase", "check").exit_code == 0, lambda: cutover("phase", "check").stdout)
    assert cutover.json("phase", "check")["target"] == "A1"
    assert [step["step"] for step in cutover.json("phase", "promote", "--dry-run")][:2] == [1, 2]
    assert cutover.json("serve", "--check")["CUTOVER_TENANT"] == "sample"
    assert {each["state"] for each in cutover.json("migrate", "status")} == {"applied"}
    cutover.json("doctor")
    assert cutover.json("procedure", "list")
    assert cutover.json("procedure", "show", "a3-cutover")["body"].startswith("# A3")
    assert cutover.json("procedure", "diff", "a3-cutover")["same"]
    assert cutover.json("phase", "promote", "A1", "--yes")["certificate"]["requested_by"] == "edsger"


def in_a2(cutover: Operator, running: Served) -> None:
    past_the_gate(cutover, "A2")
    assert cutover.json("backfill", "--dry-run")["quarantine"]["empty_content"] == 2
    held = cutover.json("backfill", "--apply", "--yes", code=3)
    assert (held["state"], held["quarantine_blocking"]) == ("finished", 2)
    verified = cutover.json("backfill", "--verify")
    assert sorted((each["memories"], each["quarantined"]) for each in verified["workspaces"]) == [(0, 2), (ROWS, 0)]

    one, other = (each["memory_id"] for each in cutover.json("quarantine", "list")["quarantine"])
    assert cutover.json("quarantine", "retry", one, "--yes")["marked"] == 1
    wait_for(lambda: not cutover.json("quarantine", "show", one)["marked"], lambda: "still marked")
    for each in (one, other):
        cutover.json("quarantine", "acknowledge", each, "--why", "a test", "--yes")

    asyncio.run(running.execute(SPOIL))
    found = cutover.json("sweep", "run", "--kind", "digest", "--full", code=3)
    assert found["confirmed"] == {"content": 3}
    assert cutover.json("sweep", "run", "--kind", "count")["outcome"] == "clean"
    assert cutover.json("sweep", "run", "--kind", "recall")["outcome"] == "partial"  # nobody has read anything
    assert cutover.json("sweep", "show", found["run"])["found"]
    assert {each["kind"] for each in cutover.json("sweep", "list")} == {"count", "digest", "recall"}
    assert cutover.json("divergence", "list", "--groups")["groups"][0]["rows"] == 3
    spoilt = cutover.json("divergence", "list")["divergences"][0]["memory_id"]
    assert cutover.json("divergence", "show", spoilt)["findings"]
    assert cutover.json("divergence", "accept", spoilt, "--why", "a test", "--yes")["accepted"] == 1
    assert cutover.json("divergence", "repair", "--all", "--yes")["marked"] == 2
    wait_for(lambda: divergences(cutover)["accepted"] == {"content": 1}, lambda: divergences(cutover))

    assert cutover.json("phase", "rehearse-rollback", "--yes")["ok"]
    assert cutover.json("phase", "scream-test", "--seconds", "1", "--yes")["refused"] == []


def divergences(cutover: Operator) -> dict[str, Any]:
    """Looked at every few seconds."""
    told: dict[str, Any] = cutover.json("status")[0]["divergences"]
    return told


def in_a3(cutover: Operator) -> None:
    past_the_gate(cutover, "A3")
    assert cutover.json("phase", "refreeze", "--reason", "a test", "--dry-run") == []
    assert cutover.json("phase", "refreeze", "--reason", "a test", "--yes")["intact"]
    assert cutover.json("phase", "rollback", "--yes")["to"] == "A2"
    assert cutover.json("phase", "thaw", "--reason", "a test", "--dry-run")
    past_the_gate(cutover, "A3")
    assert cutover.json("access")["reads"]["began_with"] is not None
    assert cutover.json("audit", "verify")["ok"]
    assert len(cutover.json("phase", "certificates")) >= 4


def to_the_end(cutover: Operator, running: Served, tmp_path: Path) -> None:
    unasked = cutover("archive", "create")
    assert (unasked.exit_code, "give --yes" in unasked.stderr) == (2, True)
    made = cutover.json("archive", "create", "--yes")
    assert (made["restore_tested"], made["tables"]["memories"]["rows"]) == (True, ROWS + 2)
    assert [each["path"] for each in cutover.json("archive", "list")] == [made["path"]]
    assert cutover.json("archive", "verify", made["path"])["tables"] == made["tables"]
    back = cutover.json("archive", "restore", made["path"], "--schema", "back", "--yes")
    assert (back["rows"], back["digests_equal"]) == (ROWS + 2, True)
    early = cutover("retire", "--yes")
    assert (early.exit_code, "the tenant is in A3" in early.stderr) == (3, True)

    assert cutover.json("drop", "show")["state"] == "none"
    past_the_gate(cutover, "A4")
    assert cutover.json("phase", "show")["next"] is None
    assert cutover.json("drop", "cancel", "--reason", "a test", "--yes")["state"] == "cancelled"
    assert cutover.json("drop", "start", "--yes")["state"] == "held"
    refused = cutover("retire", "--yes")
    assert (refused.exit_code, "agent_memories is not dropped yet" in refused.stderr) == (3, True)
    wait_for(lambda: cutover.json("drop", "show")["state"] == "dropped", lambda: cutover("drop", "show").stdout)
    serving = cutover("retire", "--yes")
    assert (serving.exit_code, "stop" in serving.stderr) == (3, True)

    running.daemon.child.send(signal.SIGTERM)
    assert asyncio.run(running.daemon.child.ended()) == 0
    assert cutover.json("retire", "--dry-run")["archives"] == [made["path"]]
    assert cutover.json("retire", "--yes")["in_the_way"] == []
    assert (Path(made["path"]) / "deleted-since.json").is_file()
    gone = cutover("migrate", "up", "--yes")
    assert (gone.exit_code, "it was retired" in gone.stderr) == (1, True)

    # And back to v1: what is archived is all that is needed.
    assert cutover.json("archive", "restore", made["path"], "--yes")["made_table"]
    assert [each["version"] for each in cutover.json("migrate", "up", "--yes")][:2] == [1, 2]
    assert [each["version"] for each in cutover.json("migrate", "down", "--to", "0", "--yes")][-1] == 1
