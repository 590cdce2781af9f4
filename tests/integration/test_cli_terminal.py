"""The verbs on a terminal and off it, what Ctrl-C leaves behind, and how they fail, against a running daemon
(observability §5)."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import asyncpg
import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import PEOPLE
from cutover.stores.task_lock import DIGEST_SWEEP
from tests.cli_tree import VERBS, Operator, a_call_of, asks_the_daemon, assert_three_lines
from tests.integration.test_cli_daemon import wait_for
from tests.served import Served, served
from tests.terminal import ANSI, on_a_terminal, on_pipes

ROWS = 60
SPOIL = "update memory_plugin.memory_records set content = content || '!' where content = 'old memory 1'"


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A tenant in A2, nothing copied."""
    settings = {
        "CUTOVER_ARCHIVE_DIRECTORY": str(tmp_path_factory.mktemp("archives")),
        "CUTOVER_QUARANTINE_SECONDS": "5",
    }
    with served(postgres, "A2", rows=ROWS, settings=settings) as made:
        yield made


@pytest.fixture(scope="module")
def at(running: Served) -> dict[str, str]:
    return {"CUTOVER_OPS_URL": running.daemon.at.ops, "CUTOVER_ADMIN_TOKEN": PEOPLE["edsger"]}


@pytest.fixture
def cutover(at: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.chdir(tmp_path)
    return Operator(at)


@contextmanager
def locked(running: Served, statement: str) -> Iterator[None]:
    """While somebody's transaction holds a lock."""
    taken, leave = Event(), Event()

    async def hold() -> None:
        connection = await asyncpg.connect(running.database_url)
        async with connection.transaction():
            await connection.execute(statement)
            taken.set()
            while not leave.is_set():  # noqa: ASYNC110 - the event is of another thread
                await asyncio.sleep(0.05)
        await connection.close()

    thread = Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert taken.wait(30)
        yield
    finally:
        leave.set()
        thread.join()


def test_a_backfill_asks_draws_its_progress_and_goes_on_after_ctrl_c(cutover: Operator, at: dict[str, str]) -> None:
    with on_a_terminal("backfill", "--apply", "--via", "contract", "--rate", "1", at=at, columns=100) as shown:
        shown.until("Go on? [y/N]")
        shown.type("y\n")
        for words in ("via contract", "\r\x1b[2Kbackfill [", " left", "rows/s", " s to go", "held back by rate"):
            shown.until(words)
        shown.ctrl_c()
        code, seen = shown.end()
    assert code == 130
    assert "\ninterrupted: the backfill goes on in the daemon; `cutover status --watch` shows how far it is" in seen
    assert "Traceback" not in seen
    drawn = [re.split(r"[\r\n^]", part)[0] for part in seen.split("\r\x1b[2K")[1:]]
    assert max(map(len, drawn)) == 99, "a longer line would wrap, and could not be drawn over"
    told = cutover.json("status")[0]["backfill"]
    assert (told["state"], told["remaining"] > 0) == ("running", True)
    wait_for(lambda: cutover.json("status")[0]["backfill"]["scanned"] > told["scanned"], lambda: told)
    cutover.json("backfill", "--abort")
    wait_for(lambda: cutover.json("status")[0]["backfill"]["state"] == "aborted", lambda: cutover("status").stdout)
    again = cutover("backfill", "--apply", "--yes")
    assert again.exit_code == 0, "it goes on where it was ended"
    assert "100.0%" in again.stderr
    assert not ANSI.search(again.stderr + again.stdout)
    assert "\r" not in again.stderr


def finished(cutover: Operator, kind: str) -> bool:
    found = cutover.json("archive", "list") if kind == "archive" else cutover.json("sweep", "list", "--kind", kind)
    return bool(found) and found[0]["state"] == "finished"


def came_to_its_end(running: Served, kind: str) -> bool:
    found = asyncio.run(running.execute("select state from cutover.task_run where kind = $1", kind))
    return [row["state"] for row in found] == ["finished"]


INTERRUPTED: dict[str, tuple[tuple[str, ...], str, str, str | None, Callable[[Operator, Served], Any]]] = {
    "sweep run": (
        ("sweep", "run", "--kind", "digest", "--full"),
        "second look",
        "the sweep goes on in the daemon; `cutover sweep show ",
        None,
        lambda cutover, _: finished(cutover, "digest"),
    ),
    "verify": (
        ("backfill", "--verify"),
        "verify: ",
        "the verification goes on in the daemon and changes nothing",
        f"select pg_advisory_xact_lock({DIGEST_SWEEP})",  # a digest sweep is under way, for all it knows
        lambda _, running: came_to_its_end(running, "verify"),
    ),
    "scream-test": (
        ("phase", "scream-test", "--seconds", "600", "--yes"),
        "frozen until",
        "`cutover phase scream-test --stop` ends it now and lists who was refused",
        None,
        lambda cutover, _: cutover("phase", "scream-test", "--stop").exit_code == 0,
    ),
    "archive create": (
        ("archive", "create", "--yes"),
        "archive: copying",
        "the archive goes on in the daemon; `cutover archive list` shows what it comes to",
        "lock table workspace_memory in access exclusive mode",
        lambda cutover, _: finished(cutover, "archive"),
    ),
    "rehearse": (
        ("phase", "rehearse-rollback", "--yes"),
        "rehearsal: ",
        "the rehearsal goes on in the daemon, on a copy",
        "lock table cutover.rehearsal in share mode",
        lambda cutover, _: cutover("phase", "rehearse-rollback", "--show").exit_code == 0,
    ),
}


@pytest.mark.parametrize("verb", INTERRUPTED)
def test_ctrl_c_leaves_it_going_on_in_the_daemon_and_says_how_to_go_on(
    cutover: Operator, running: Served, at: dict[str, str], verb: str
) -> None:
    arguments, begun, words, lock, done = INTERRUPTED[verb]
    if verb == "verify":
        assert not came_to_its_end(running, verb)
    if verb == "sweep run":
        asyncio.run(running.execute(SPOIL))  # so that it waits for a second look
    with locked(running, lock or "select 1"):
        with on_pipes(*arguments, at=at) as shown:
            shown.until(begun)
            shown.ctrl_c()
            code, seen = shown.end()
    assert code == 130
    assert words in seen.splitlines()[-1]
    assert seen.splitlines()[-1].startswith("interrupted: ")
    assert not ANSI.search(seen), "plain lines off a terminal"
    assert "\r" not in seen
    wait_for(lambda: done(cutover, running), lambda: (verb, seen))


def test_status_watch_is_drawn_anew_on_a_terminal_and_is_lines_elsewhere(at: dict[str, str]) -> None:
    with on_a_terminal("status", "--watch", "--interval", "0.2", at=at) as shown:
        shown.until("\x1b[2J", times=3)
        shown.ctrl_c()
        code, _ = shown.end()
    assert code == 130
    with on_pipes("status", "--watch", "--interval", "0.2", at=at) as shown:
        shown.until("TENANT", times=2)
        shown.ctrl_c()
        code, seen = shown.end()
    assert code == 130
    assert not ANSI.search(seen)


def test_a_table_that_is_wider_than_the_terminal_stands_upright(at: dict[str, str]) -> None:
    for columns, upright in ((80, True), (160, False)):
        with on_a_terminal("status", at=at, columns=columns) as shown:
            _, seen = shown.end()
        lines = [ANSI.sub("", line).split() for line in seen.splitlines()]
        assert (["tenant", "sample"] in lines) is upright
        assert "unexplained" in seen, "no heading breaks within a word"


def test_colours_on_a_terminal_unless_no_color_is_set(at: dict[str, str]) -> None:
    with on_a_terminal("phase", "check", "A2", at=at) as shown:
        _, coloured = shown.end()
    with on_a_terminal("phase", "check", "A2", at={**at, "NO_COLOR": "1"}) as shown:
        _, plain = shown.end()
    assert "\x1b[32m" in coloured
    assert "its invariants hold" in plain
    assert not ANSI.search(plain)


def test_tenants_certificates_and_runbooks_are_completed_from_the_daemon(cutover: Operator, at: dict[str, str]) -> None:
    def completed(line: str, **variables: str) -> list[str]:
        asked = {"_CUTOVER_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        with on_pipes(at={**at, **asked, **variables}) as shown:
            _, seen = shown.end()
        return [each.partition(",")[2] for each in seen.split()]

    made = cutover.json("phase", "certify", "A3", "--override", "a test", "--yes")["hash"]
    assert completed("cutover status --tenant sam") == ["sample"]
    assert completed(f"cutover phase approve {made[:4]}") == [made[:12]]
    assert completed("cutover procedure show a3") == ["a3-cutover"]
    assert completed("cutover status --tenant sam", CUTOVER_OPS_URL="http://127.0.0.1:9") == []  # and no error


ASKING = [words for words, verb in VERBS.items() if asks_the_daemon(verb)]


def test_a_tenant_that_is_not_there_is_told_in_three_lines_by_every_verb(cutover: Operator, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(PEOPLE["edsger"])
    for words in ASKING:
        done = cutover(*a_call_of(words, tmp_path / "token"), "--tenant", "nobody")
        assert (done.exit_code, done.stdout) == (2, ""), words
        assert_three_lines(done.stderr)
        assert "no such tenant" in done.stderr, words


def test_a_wrong_token_is_told_in_three_lines_by_every_verb_that_changes_something(
    cutover: Operator, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("wrong")
    refused = []
    for words in ASKING:
        if VERBS[words].changes or words == "sweep run":
            done = cutover(*a_call_of(words, tmp_path / "token"), token="wrong")
            assert done.exit_code in (1, 2, 3), (words, done.stderr)
            assert done.stdout == "", words
            assert_three_lines(done.stderr)
            refused += [words] if "CUTOVER_ADMIN_TOKEN" in done.stderr else []
    # The others come to nothing before: a step that is none, a certificate that is not there.
    assert {words for words in ASKING if VERBS[words].changes} - set(refused) <= {
        "phase promote",
        "phase approve",
        "phase rehearse-rollback",
    }


def test_a_closed_gate_is_told_in_three_lines_and_ends_with_3(cutover: Operator) -> None:
    for words in (("phase", "check", "A3"), ("phase", "certify", "A3")):
        done = cutover(*words)
        assert done.exit_code == 3
        assert_three_lines(done.stderr)
        assert "the gate" in done.stderr
