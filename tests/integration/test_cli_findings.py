"""Findings on the command line against a running daemon: differences and quarantined memories, seen and settled."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from tests.integration.test_cli_daemon import Command, wait_for
from tests.served import Served, served

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant in A2, whose findings no sweep of its own touches."""
    with served(postgres, "A2", settings={"CUTOVER_DIGEST_INTERVAL": "24h"}) as made:
        yield made


@pytest.fixture
def command(running: Served) -> Command:
    return Command(running)


@pytest.fixture
def workspace(running: Served) -> UUID:
    return asyncio.run(running.workspace())


@pytest.fixture(autouse=True)
def nothing_found(running: Served) -> None:
    """Each test begins without findings."""
    asyncio.run(running.execute("DELETE FROM cutover.divergence"))
    asyncio.run(running.execute("DELETE FROM cutover.quarantine"))


def found(running: Served, memory: UUID, workspace: UUID, cls: str = "content", **values: Any) -> None:
    """A confirmed difference, as a sweep would write it down."""
    row = {
        "memory_id": memory, "class": cls, "state": "confirmed", "namespace": f"workspace:{workspace}",
        "namespace_kind": "workspace", "workspace_id": workspace, "writer": "daemon", "first_run": UUID(int=1),
        "last_run": UUID(int=1), "first_seen": NOON, "confirmed_at": NOON, "onset_before": NOON,
        "onset_after": NOON - timedelta(minutes=10), "expected_length": 5, "plugin_length": 9,
        "expected_hash": bytes(32), **values,
    }  # fmt: skip
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    sql = f"INSERT INTO cutover.divergence ({', '.join(row)}, snapshot) VALUES ({marks}, pg_current_snapshot()::text)"
    asyncio.run(running.execute(sql, *row.values()))


def saved(running: Served, workspace: UUID, content: str = "alpha") -> UUID:
    """A memory that both stores hold (or that is in quarantine): nothing of it is on its way any more."""
    sql = "INSERT INTO agent_memories (workspace_id, content, scope) VALUES ($1, $2, 'LOCAL') RETURNING id"
    memory: UUID = asyncio.run(running.execute(sql, workspace, content))[0]["id"]
    wait_for(lambda: not marked(running, memory), lambda: "not delivered")
    return memory


def marked(running: Served, memory: UUID) -> bool:
    return bool(asyncio.run(running.execute("SELECT FROM cutover.mark WHERE memory_id = $1", memory)))


def in_plugin(running: Served, memory: UUID) -> bool:
    return bool(asyncio.run(running.execute("SELECT FROM memory_plugin.memory_records WHERE id = $1", memory)))


def test_nothing_found(command: Command) -> None:
    for verb in (("divergence", "list"), ("divergence", "list", "--groups"), ("quarantine", "list")):
        done = command(*verb)
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1, "the head of an empty table"
    assert command.json("divergence", "list") == {"divergences": [], "next": None}
    unknown = command("divergence", "show", str(uuid4()))
    assert unknown.returncode == 1
    assert unknown.stderr.splitlines()[1:] == [
        "  why: nothing was ever found of this memory",
        "  next: cutover divergence list",
    ]


def test_a_cause_is_seen_as_one_and_repaired_as_one(command: Command, running: Served, workspace: UUID) -> None:
    """Rows vanished from the plugin behind everybody's back: listed, grouped, shown, repaired, and there again."""
    lost = [saved(running, workspace) for _ in range(3)]
    asyncio.run(running.execute("DELETE FROM memory_plugin.memory_records WHERE id = ANY ($1)", lost))
    for memory in lost:
        found(running, memory, workspace, "missing_in_plugin", plugin_length=None)

    listed = command("divergence", "list")
    assert listed.returncode == 0
    header, *lines = listed.stdout.splitlines()
    assert header.split() == ["MEMORY_ID", "CLASS", "STATE", "KIND", "FIRST_SEEN", "LENGTH", "GROUP"]
    assert {line.split()[0] for line in lines} == {str(memory) for memory in lost}
    assert max(map(len, (header, *lines))) <= 120
    grouped = command("divergence", "list", "--groups")
    header, line = grouped.stdout.splitlines()
    assert line.split()[1:4] == ["3", "missing_in_plugin", "workspace"]
    assert "05-01 11:50 to 12:00" in line
    assert len(line) <= 120
    group = line.split()[0]

    shown = command("divergence", "show", str(lost[0]))
    assert shown.returncode == 0
    assert "missing_in_plugin" in shown.stdout
    assert "no mark, no tombstone" in shown.stderr

    refused = command("divergence", "repair", "--group", group)
    assert refused.returncode == 2
    assert "give --yes" in refused.stderr
    repaired = command.json("divergence", "repair", "--group", group, "--yes", "--actor", "alice")
    assert (repaired["marked"], repaired["remaining"]) == (3, 0)
    wait_for(lambda: all(in_plugin(running, memory) for memory in lost), lambda: repaired)
    (first, *_) = command.json("divergence", "list", "--state", "repaired")["divergences"]
    assert first["repair_by"] == "alice (token of admin)"
    again = command("divergence", "repair", "--group", group, "--yes")
    assert again.returncode == 1
    assert "no open divergence matches" in again.stderr


def test_what_only_the_plugin_knows_is_not_repaired_but_can_be_accepted(
    command: Command, running: Served, workspace: UUID
) -> None:
    extra, other = uuid4(), saved(running, workspace)
    found(running, extra, workspace, "missing_in_legacy", expected_length=None)
    refused = command("divergence", "repair", str(extra), "--yes")
    assert refused.returncode == 3
    assert "would delete it" in refused.stderr
    assert "divergence accept" in refused.stderr
    assert not marked(running, extra)

    found(running, other, workspace)
    mixed = command("divergence", "repair", "--all", "--yes", "-o", "json")
    assert mixed.returncode == 0
    assert "left alone: 1 missing_in_legacy" in mixed.stderr

    accepted = command("divergence", "accept", str(extra), "--why", "written by the importer", "--yes", "-o", "tsv")
    assert accepted.returncode == 0, accepted.stderr
    assert command.json("divergence", "list", "--class", "missing_in_legacy")["divergences"] == []
    (row,) = command.json("divergence", "list", "--state", "accepted")["divergences"]
    assert (row["memory_id"], row["why"]) == (str(extra), "written by the importer")


def test_a_suspicion_cannot_be_accepted(command: Command, running: Served, workspace: UUID) -> None:
    memory = uuid4()
    found(running, memory, workspace, state="suspect", confirmed_at=None)
    done = command("divergence", "accept", str(memory), "--why", "hurry", "--yes")
    assert done.returncode == 3
    assert "one look only" in done.stderr
    for arguments in ([], [str(memory), "--class", "content"]):
        wrong = command("divergence", "accept", *arguments, "--why", "x", "--yes")
        assert wrong.returncode == 2
        assert "Say which" in wrong.stderr
    assert command("divergence", "accept", str(memory), "--yes").returncode == 2, "why is not optional"


def test_pages(command: Command, running: Served, workspace: UUID) -> None:
    for number in range(5):
        found(running, UUID(int=number), workspace)
    first = command.json("divergence", "list", "--limit", "3")
    rest = command.json("divergence", "list", "--limit", "3", "--after", first["next"])
    numbers = [UUID(row["memory_id"]).int for row in (*first["divergences"], *rest["divergences"])]
    assert (numbers, rest["next"]) == ([0, 1, 2, 3, 4], None)
    assert f"--after {first['next']}" in command("divergence", "list", "--limit", "3").stderr


def test_quarantine_from_the_list_to_the_end(command: Command, running: Served, workspace: UUID) -> None:
    bad, worse = saved(running, workspace, "  "), saved(running, workspace, "")
    listed = command("quarantine", "list")
    assert listed.returncode == 0
    header, *lines = listed.stdout.splitlines()
    assert header.split() == ["MEMORY_ID", "REASON", "DETAIL", "LAST_SEEN", "STATE"]
    assert {(line.split()[0], line.split()[1]) for line in lines} == {
        (str(bad), "empty_content"),
        (str(worse), "empty_content"),
    }
    assert max(map(len, (header, *lines))) <= 120
    shown = command.json("quarantine", "show", str(bad))
    assert (shown["held_by"], shown["content_length"], shown["workspace_known"]) == ("legacy", 2, True)

    retried = command.json("quarantine", "retry", "--reason", "empty_content", "--yes")
    assert (retried["marked"], retried["remaining"]) == (2, 0)
    wait_for(lambda: not marked(running, bad) and not marked(running, worse), lambda: "retry under way")
    assert len(command.json("quarantine", "list")["quarantine"]) == 2, "still empty"

    done = command("quarantine", "acknowledge", str(bad), "--why", "the owner knows", "--yes", "--actor", "alice")
    assert done.returncode == 0, done.stderr
    assert "alice (token of admin)" in done.stdout
    twice = command("quarantine", "acknowledge", str(bad), "--why", "again", "--yes")
    assert twice.returncode == 3
    assert "has acknowledged it already" in twice.stderr
    (left,) = command.json("quarantine", "list")["quarantine"]
    assert left["memory_id"] == str(worse)
    assert len(command.json("quarantine", "list", "--all")["quarantine"]) == 2
    nobody = command("quarantine", "acknowledge", str(uuid4()), "--why", "x", "--yes")
    assert (nobody.returncode, "not in quarantine" in nobody.stderr) == (1, True)

    # What somebody answered for was the empty one; its next state is placed, or has to be looked at anew.
    asyncio.run(running.execute("UPDATE agent_memories SET content = ' \n' WHERE id = $1", bad))
    wait_for(lambda: len(command.json("quarantine", "list")["quarantine"]) == 2, lambda: "still acknowledged")
    asyncio.run(running.execute("UPDATE agent_memories SET content = 'mended' WHERE id = $1", bad))
    wait_for(lambda: in_plugin(running, bad), lambda: "not delivered")
    wait_for(lambda: len(command.json("quarantine", "list")["quarantine"]) == 1, lambda: "still in quarantine")


def test_sweeps_are_listed_and_shown(command: Command) -> None:
    swept = command.json("sweep", "run")
    assert swept["outcome"] in ("clean", "drift")
    (newest,) = command.json("sweep", "list", "--kind", "count", "--limit", "1")
    listed = command("sweep", "list")
    header, *lines = listed.stdout.splitlines()
    assert header.split() == ["RUN", "KIND", "OUTCOME", "FULL", "STARTED", "SECONDS", "ROWS", "FOUND"]
    assert newest["run"] in {line.split()[0] for line in lines}
    assert max(map(len, (header, *lines))) <= 120
    shown = command.json("sweep", "show", newest["run"])
    assert (shown["kind"], shown["state"], shown["outcome"]["outcome"]) == ("count", "finished", swept["outcome"])
    assert shown["requested_by"] == newest["requested_by"]
    unknown = command("sweep", "show", str(uuid4()))
    assert (unknown.returncode, "no such sweep" in unknown.stderr) == (1, True)
    assert command("sweep", "run", "--full").returncode == 2


def test_without_the_right_token_nothing_is_settled(running: Served, workspace: UUID) -> None:
    memory = saved(running, workspace)
    found(running, memory, workspace)
    stranger = Command(running, CUTOVER_ADMIN_TOKEN="not-the-token")
    for verb in (
        ("divergence", "repair", str(memory), "--yes"),
        ("divergence", "accept", str(memory), "--why", "x", "--yes"),
        ("quarantine", "retry", "--all", "--yes"),
        ("quarantine", "acknowledge", str(memory), "--why", "x", "--yes"),
    ):
        done = stranger(*verb)
        assert (done.returncode, "CUTOVER_ADMIN_TOKEN" in done.stderr) == (1, True), verb
    assert not marked(running, memory)
    (row,) = stranger.json("divergence", "list")["divergences"]
    assert row["state"] == "confirmed"


def test_from_a_difference_to_its_end(postgres: EmbeddedPostgres) -> None:
    """A sweep finds what vanished from the plugin, a repair brings it back, the next sweep closes the finding."""
    quick = {"MEMORY_PLUGIN_TIMEOUT": "1", "CUTOVER_QUARANTINE_SECONDS": "1", "CUTOVER_DIGEST_INTERVAL": "1h"}
    with served(postgres, "A2", settings=quick, rows=40) as made:
        command = Command(made)
        assert command("backfill", "--apply", "--yes").returncode == 0
        (lost,) = asyncio.run(made.execute("DELETE FROM memory_plugin.memory_records WHERE id ="
            " (SELECT id FROM agent_memories ORDER BY id LIMIT 1) RETURNING id"))  # fmt: skip

        swept = a_digest(command, made, "--full", code=3)
        assert (swept["outcome"], swept["trusted"]) == ("divergent", True), swept
        assert swept["confirmed"] == {"missing_in_plugin": 1}
        (group,) = command.json("divergence", "list", "--groups")["groups"]
        assert (group["class"], group["examples"]) == ("missing_in_plugin", [str(lost["id"])])
        shown = command("sweep", "show")
        assert (shown.returncode, swept["run"] in shown.stdout) == (0, True)
        assert "missing_in_plugin" in shown.stdout, "what it found"

        repaired = command.json("divergence", "repair", "--group", group["group"], "--yes")
        assert repaired["marked"] == 1
        wait_for(lambda: in_plugin(made, lost["id"]), lambda: repaired)
        swept = a_digest(command, made, code=0)
        assert (swept["outcome"], swept["trusted"], swept["full"]) == ("clean", True, False), swept
        assert command.json("divergence", "list")["divergences"] == []
        (finding,) = command.json("divergence", "show", str(lost["id"]))["findings"]
        assert (finding["closed_by"], finding["repair_by"] is not None) == ("repair", True)
        wait_for(lambda: "clean, " in command("status", "-o", "tsv").stdout, lambda: command("status").stdout)


def a_digest(command: Command, made: Served, *options: str, code: int) -> Any:
    """One digest sweep from its start to its end, after any that is under way."""
    wait_for(
        lambda: all(one["state"] != "running" for one in command.json("sweep", "list", "--kind", "digest")),
        made.daemon.child.last_words,
    )
    return command.json("sweep", "run", "--kind", "digest", *options, code=code)
