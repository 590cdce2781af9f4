"""The command line against a running daemon: what an operator does from A0 to A3 and back, and when it is refused."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import PEOPLE, Processes
from tests.served import Served, served

ROOT = Path(__file__).parents[2]
Done = subprocess.CompletedProcess[str]
ROWS = 300


class Command:
    """The real `cutover` in a process of its own, pointed at one daemon."""

    def __init__(self, made: Served, **variables: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL"))}
        self._environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "CUTOVER_OPS_URL": made.daemon.at.ops,
            "CUTOVER_ADMIN_TOKEN": made.daemon.admin_token,
            **variables,
        }

    def __call__(self, *arguments: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "cutover", *arguments],
            env=self._environment,
            cwd="/",  # no `.env` there
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    def holding(self, token: str) -> "Command":
        """The same by somebody else."""
        other = copy.copy(self)
        other._environment = {**self._environment, "CUTOVER_ADMIN_TOKEN": token}
        return other

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self(*arguments, "-o", "json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with served(postgres, rows=ROWS) as made:
        yield made


@pytest.fixture
def command(running: Served) -> Command:
    return Command(running)


def test_others_at_the_table_are_listed(command: Command) -> None:
    told = command.json("access")
    assert (told["writes"]["by"], told["reads"]["by"]) == ([], [])
    done = command("access")
    assert done.returncode == 0, done.stderr
    assert "writes: not watched in this phase" in done.stderr
    assert "others" in command("status").stdout.lower()


def test_the_whole_move_and_back(command: Command) -> None:
    assert command.json("phase", "show")["phase"] == "A0"
    planned = command("phase", "promote", "--dry-run", "-o", "tsv")
    assert planned.returncode == 0
    assert "capture triggers" in planned.stdout
    assert command.json("phase", "show")["phase"] == "A0"

    refused = command("phase", "promote")
    assert refused.returncode == 2
    assert "give --yes" in refused.stderr

    wait_for(lambda: command("phase", "certify", "A1").returncode == 0, lambda: command("phase", "show").stderr)
    promoted = command("phase", "promote", "--yes", "--reason", "a test", "-o", "json")
    assert promoted.returncode == 0, promoted.stderr
    told = json.loads(promoted.stdout)
    assert (told["from"], told["certificate"]["requested_by"], told["certificate"]["override"]) == ("A0", "admin", None)
    assert command.json("phase", "show")["phase"] == "A1"

    early = command("backfill", "--apply", "--yes")
    assert early.returncode == 3
    assert "backfill runs in A2" in early.stderr
    skipped = command("phase", "promote", "A3", "--yes")
    assert skipped.returncode == 3
    assert "steps go one at a time" in skipped.stderr

    _past_the_gate(command, "A2")
    off = command("backfill", "--apply", "--source", "kv", "--yes")
    assert off.returncode == 3
    assert "K/V is not captured" in off.stderr
    assert "CUTOVER_KV=on" in off.stderr
    assert command.json("status")[0]["kv"] == {"switch": "off", "applied": "kept"}
    plan = command.json("backfill", "--dry-run")
    assert (plan["rows"], plan["placeable"]) == (ROWS, ROWS)
    _steer_a_backfill(command)
    copied = command("backfill", "--apply", "--yes", "-o", "json")
    assert copied.returncode == 0, copied.stderr
    told = json.loads(copied.stdout)
    assert (told["state"], told["scanned"], told["remaining"], told["quarantine_blocking"]) == ("finished", ROWS, 0, 0)
    assert "100.0%" in copied.stderr
    assert "via database: the plugin's tables share the tenant's database" in copied.stderr

    swept = command.json("sweep", "run", "--kind", "count")
    assert (swept["outcome"], swept["unexplained"], swept["plugin"]) == ("clean", 0, ROWS)

    _past_the_gate(command, "A3")
    assert command.json("phase", "show")["phase"] == "A3"
    assert command("phase", "rollback", "--yes").returncode == 0
    assert command.json("phase", "show")["phase"] == "A2"
    wrong_way = command("phase", "promote", "A1", "--yes")
    assert wrong_way.returncode == 2
    assert "cutover phase rollback" in wrong_way.stderr


def _past_the_gate(command: Command, target: str) -> None:
    """With an override that two people approve: this test is not about what the gates ask for. A sweep of the daemon's
    own that ends meanwhile voids the certificate, rightly; then there is another."""
    for _ in range(5):
        made = command.holding(PEOPLE["edsger"]).json("phase", "certify", target, "--override", "a test", "--yes")
        done = _approved(command, made["hash"]) or command(
            "phase", "promote", target, "--certificate", made["hash"], "--yes"
        )
        if done.returncode == 0 or "is void: a" not in done.stderr or "sweep has ended since" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    assert "entered past a closed gate" in done.stderr


def _approved(command: Command, certificate: str) -> "subprocess.CompletedProcess[str] | None":
    """By ada and by grace; gives back what refused, if something did."""
    for name, missing in (("ada", 1), ("grace", 0)):
        told = command.holding(PEOPLE[name])("phase", "approve", certificate[:8], "--as", name, "--yes", "-o", "json")
        if told.returncode:
            return told
        assert json.loads(told.stdout)["approvals_missing"] == missing
    return None


def _steer_a_backfill(command: Command) -> None:
    """Started with options of its own, held, let go, ended: all but the first of its rows are left for the next."""
    started = command.json("backfill", "--apply", "--yes", "--no-wait", "--via", "contract", "--rate", "1")
    assert (started["state"], started["via"], started["rate_limit"]) == ("running", "contract", 1.0)
    again = command("backfill", "--apply", "--yes")
    assert again.returncode != 0
    assert "under way already" in again.stderr
    assert command.json("backfill", "--pause")["paused_by"]
    assert not command.json("backfill", "--resume")["paused_by"]
    ended = command.json("backfill", "--abort")
    assert ended["scanned"] < ROWS
    deadline = time.monotonic() + 30
    while (told := command.json("status")[0]["backfill"])["state"] != "aborted":
        assert time.monotonic() < deadline, told
    assert "aborted by" in told["why"]
    beside = command("backfill", "--apply", "--yes", "--pause-file", "here")
    assert beside.returncode == 1
    assert "pause_file" in beside.stderr
    assert command("backfill", "--abort").returncode != 0


def test_status_in_every_form(command: Command, running: Served) -> None:
    (tenant,) = command.json("status")
    assert (tenant["tenant"], tenant["plugin"]["up"]) == ("sample", True)
    assert yaml.safe_load(command("status", "-o", "yaml").stdout)[0]["tenant"] == "sample"
    header, line = command("status").stdout.splitlines()
    assert header.split()[:3] == ["TENANT", "PHASE", "EPOCH"]
    assert line.split()[0] == "sample"
    header, line = command("status", "--tenant", "sample", "-o", "tsv").stdout.splitlines()
    row = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert (row["plugin"], row["traffic"]) == ("up", "served")
    unknown = command("status", "--tenant", "nobody")
    assert unknown.returncode == 2  # a wrong call
    assert "no such tenant" in unknown.stderr


def test_the_way_back_is_rehearsed(command: Command) -> None:
    assert command.json("phase", "show")["phase"] in ("A1", "A2")
    none = command("phase", "rehearse-rollback", "--show")
    assert none.returncode == 3
    assert "has not been rehearsed yet" in none.stderr
    planned = command("phase", "rehearse-rollback", "--dry-run", "-o", "tsv")
    assert "cutover_rehearsal" in planned.stdout
    asked = command("phase", "rehearse-rollback")
    assert asked.returncode == 2
    assert "give --yes" in asked.stderr
    done = command("phase", "rehearse-rollback", "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["ok"], told["mismatches"], told["rows"], told["whole"]) == (True, 0, ROWS, True)
    assert done.stderr.splitlines()[-1].startswith("lossless: ")
    assert command.json("phase", "rehearse-rollback", "--show") | {"age_seconds": 0} == told | {"age_seconds": 0}
    # Nothing thaws here.
    refused = command("phase", "thaw", "--reason", "a test", "--yes")
    assert refused.returncode != 0
    assert "nothing is thawing" in refused.stderr
    assert command("phase", "thaw", "--yes").returncode == 2


def test_without_the_right_token_nothing_changes(running: Served) -> None:
    for token in ("", "not-the-token-at-all"):
        done = Command(running, CUTOVER_ADMIN_TOKEN=token)("sweep", "run")
        assert done.returncode == 1
        what, why, then = done.stderr.strip().splitlines()
        assert (what, bool(why)) == ("error: the daemon refused", True)
        assert "CUTOVER_ADMIN_TOKEN" in then


def test_watch_goes_on_until_interrupted(running: Served, command: Command) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "cutover", "status", "--watch", "--interval", "0.2", "-o", "tsv"],
        env=command._environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A build that runs in the background has it ignored, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout is not None
    try:
        shown = [child.stdout.readline() for _ in range(4)]
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert [line.split("\t")[0] for line in shown] == ["tenant", "sample", "tenant", "sample"]
    assert child.returncode == 130


def test_the_ops_face_on_a_unix_socket(running: Served, tmp_path: Path) -> None:
    """A second daemon on the same tenant, which listens on nothing but a socket."""
    url = f"unix:{tmp_path}/ops.sock"
    variables = {
        "DATABASE_URL": running.database_url,
        "MEMORY_PLUGIN_URL": running.plugin_url,
        "CUTOVER_PLUGIN_LISTEN": "off",
        "CUTOVER_MEMORIES_LISTEN": "off",
        "CUTOVER_OPS_LISTEN": url,
    }
    command = Command(running, **variables, CUTOVER_OPS_URL="")
    with Processes(tmp_path / "logs") as processes:
        second = processes.child("second", [sys.executable, "-m", "cutover", "serve"], variables)
        second.launch()
        wait_for(lambda: second.pid is None or command("healthcheck").returncode == 0, second.output)
        # It answers before it is ready: the ops face is up first.
        wait_for(lambda: second.pid is None or command("healthcheck", "--ready").returncode == 0, second.output)
        assert command.json("status")[0]["plugin"]["up"] is True


def wait_for(condition: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    """Wait until `condition` holds; fails with `otherwise` after 30 s."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, otherwise()


def test_ready_fails_with_the_reason_once_the_plugin_is_gone(postgres: EmbeddedPostgres) -> None:
    with served(postgres, "A1") as made:
        command = Command(made)
        assert command("healthcheck", "--ready").returncode == 0
        made.plugin.kill()
        wait_for(lambda: command("healthcheck", "--ready").returncode == 1, made.daemon.child.last_words)
        done = command("healthcheck", "--ready")
        assert done.returncode == 1
        assert "plugin" in done.stderr
        assert command("healthcheck").returncode == 0  # a restart would not bring the plugin back
        assert "refused" in command("status", "-o", "tsv").stdout
