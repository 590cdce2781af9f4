"""What the verbs about findings say, without a daemon: times, one line per sweep, progress, verdicts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID

import click
import pytest
from click.testing import CliRunner, Result

from cutover.cli import divergence, main, output, quarantine, sweep
from cutover.cli.moments import age, interval, moment
from cutover.cli.status import summary as status_summary
from cutover.cli.sweep import _judge, news, progress_line, shown_outcome, summary


@pytest.mark.parametrize(
    ("after", "before", "words"),
    [
        (None, "2026-05-01T12:00:10Z", "by 05-01 12:00"),
        ("2026-05-01T11:49:00Z", "2026-05-01T12:00:10Z", "05-01 11:49 to 12:00"),
        ("2026-05-01T12:00:01.5Z", "2026-05-01T12:00:10Z", "05-01 12:00:01 to 12:00:10"),
        ("2026-04-30T23:59:00Z", "2026-05-01T00:10:00Z", "04-30 23:59 to 05-01 00:10"),
        ("2026-05-01T13:49:00+02:00", "2026-05-01T12:00:10Z", "05-01 11:49 to 12:00"),
    ],
)
def test_an_interval_takes_no_more_room_than_it_needs(after: str | None, before: str, words: str) -> None:
    assert interval(after, before) == words


def test_times_and_ages() -> None:
    assert moment("2026-05-01T12:00:10.123456+02:00") == "2026-05-01 10:00:10"
    assert moment(None) is None
    told = [age(seconds) for seconds in (None, 0.2, 119, 120, 3599, 3600, 90_000)]
    assert told == [None, "0 s", "119 s", "2 min", "60 min", "1.0 h", "1.0 d"]


UUIDS = ["00079a17-394d-462c-b3a7-29ecf7ee8f47", "35ab3c13-dd1f-4698-abdb-c6587c2fc32b"]


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        (divergence.NARROW_COLUMNS, [*UUIDS[:1], "missing_in_plugin", "confirmed", "11-20 11:40"]),
        (
            divergence.NARROW_GROUP_COLUMNS,
            ["9cae72d48904", "412", "missing_in_plugin", "workspace", "by 11-20 11:40", "a/b"],
        ),
        (sweep.NARROW_COLUMNS, [*UUIDS[1:], "digest", "divergent, untrusted", "11-20 11:40", "9"]),
        (quarantine.NARROW_COLUMNS, [*UUIDS[:1], "refused_by_plugin", "acknowledged by alice (token of admin)"]),
    ],
    ids=["divergence", "groups", "sweep", "quarantine"],
)
def test_ids_stay_whole_on_a_narrow_terminal(
    columns: tuple[str, ...], cells: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    output._rich_table(columns, [cells])
    shown = capsys.readouterr().out
    assert cells[0] in shown
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80


CANARY = {"planted": {"extra": 2, "missing": 2}, "caught": {"extra": 2, "missing": 2}, "false_alarms": 0}
DIGEST: dict[str, Any] = {
    "outcome": "divergent", "trusted": True, "full": True, "coverage": 1.0, "canary": CANARY, "why": "",
    "confirmed": {"content": 3, "namespace": 1}, "accepted": {}, "expected_rows": 50, "plugin_rows": 49,
    "compared": 50, "suspects": 0, "seconds": 2.5, "seconds_database": 0.4, "seconds_own": 0.1,
}  # fmt: skip


def test_a_digest_in_a_table() -> None:
    shown = shown_outcome("digest", DIGEST)
    assert list(shown)[:3] == ["outcome", "trusted", "full"], "what matters comes first"
    assert (shown["confirmed"], shown["accepted"]) == ("3 content, 1 namespace", "0")
    assert shown["planted faults"] == "4 of 4 caught, 0 false alarms"
    assert shown["seconds"] == "2.50, 0.40 in the databases, 0.00 on the way, 0.10 here, 0.00 at rest"
    failed = {"outcome": "failed", "trusted": False, "why": "the plugin's database went away"}
    assert shown_outcome("digest", failed) == failed
    assert shown_outcome("recall", {"outcome": "clean", "lowest": [{"overlap": 0.5}]}) == {"outcome": "clean"}


def test_one_line_per_sweep() -> None:
    run = {"run": "x", "kind": "digest", "state": "finished", "started_at": "2026-05-01T12:00:00Z", "outcome": DIGEST}
    line = summary(run)
    assert (line["outcome"], line["found"], line["rows"]) == ("divergent", 4, 50)
    assert summary({**run, "outcome": {**DIGEST, "trusted": False}})["outcome"] == "divergent, untrusted"
    running = summary({"run": "x", "kind": "digest", "state": "running", "started_at": "2026-05-01T12:00:00Z"})
    assert (running["outcome"], running["found"]) == ("running", None)
    recall = {"outcome": "divergent", "visibility": {"plugin_shows_more": 2, "plugin_shows_less": 1, "expected": 9}}
    assert summary({**run, "kind": "recall", "outcome": recall})["found"] == 3
    count = {"outcome": "drift", "unexplained": -1, "legacy": 7}
    assert (summary({**run, "outcome": count})["found"], summary({**run, "outcome": count})["rows"]) == (-1, 7)


def test_progress_says_how_far_how_fast_and_what_it_waits_for() -> None:
    assert progress_line({}, 0.0, 1.0) == "digest: waiting for its turn"
    half = {
        "full": True,
        "share": 0.5,
        "compared": 500,
        "rate_rows_per_second": 99.6,
        "suspects": 2,
        "throttled": "busy",
    }
    line = progress_line(half, 0.25, 10.0)
    assert line == "digest [##########          ]  50.0%  500 rows  20 s to go  100 rows/s  2 suspect  resting: busy"
    # A resumed one cannot tell yet how long it takes.
    assert "to go" not in progress_line(half, 0.5, 10.0)
    assert progress_line({"full": False, "compared": 7}, 0.0, 1.0) == "digest 7 rows"
    assert news(half) != news({**half, "throttled": ""})
    assert news(half) == news({**half, "share": 0.55})


@pytest.mark.parametrize(
    ("kind", "result", "code", "words"),
    [
        ("count", {"outcome": "clean"}, 0, "every difference has a cause"),
        ("count", {"outcome": "drift"}, 3, "no cause accounts for"),
        ("count", {"outcome": "partial"}, 3, "proves nothing"),
        ("count", {"outcome": "failed", "why": "gone"}, 1, "gone"),
        ("digest", DIGEST, 3, "--groups"),
        ("digest", {**DIGEST, "outcome": "clean", "confirmed": {}}, 0, "every planted fault"),
        (
            "digest",
            {"outcome": "clean", "trusted": True, "accepted": {"content": 2}},
            0,
            "2 accepted differences aside",
        ),
        ("digest", {"outcome": "clean", "trusted": False, "why": "missed"}, 3, "not trusted: missed"),
        ("digest", {"outcome": "partial", "trusted": True, "why": "too lively"}, 3, "too lively"),
        ("digest", {"outcome": "partial", "trusted": True, "via": "contract", "why": "sampled"}, 0, "sampled"),
        ("digest", {"outcome": "clean", "trusted": True, "full": False, "compared": 7}, 0, "7 memories"),
        ("digest", {"outcome": "failed", "trusted": False, "why": "gone"}, 1, "did not finish: gone"),
        ("digest", {"outcome": "interrupted"}, 1, "interrupted"),
        ("recall", {"outcome": "divergent", "why": "a leak"}, 3, "a leak"),
        ("recall", {"outcome": "not_applicable", "why": "A3"}, 0, "A3"),
    ],
    ids=str,
)
def test_each_verdict_has_its_code(
    kind: str, result: dict[str, Any], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = 0
    try:
        _judge(kind, result)
    except click.exceptions.Exit as exit_:
        ended = exit_.exit_code
    captured = capsys.readouterr()
    assert (ended, captured.out) == (code, "")
    assert words in captured.err


def test_status_says_it_short() -> None:
    told = {
        "digest": {"outcome": "clean", "trusted": True, "age_seconds": 250.0},
        "divergences": {"confirmed": {"content": 7, "namespace": 1}, "oldest_seconds": 11_000.0},
    }
    assert (status_summary(told)["digest"], status_summary(told)["divergent"]) == ("clean, 4 min", "8, 3.1 h")
    told["digest"]["trusted"] = False
    assert status_summary(told)["digest"] == "untrusted, 4 min"
    assert status_summary({"divergences": {"confirmed": {}}})["divergent"] == "0"


@contextmanager
def a_daemon(*answers: tuple[int, dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An ops face that gives these answers in turn, the last one again and again; and the bodies it was sent."""
    waiting, bodies = list(answers), list[dict[str, Any]]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_GET()

        def do_GET(self) -> None:
            status, told = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Nothing: pytest's output is for failures."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()


def invoke(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"CUTOVER_OPS_URL": url, "CUTOVER_ADMIN_TOKEN": "t"})


def test_a_sweep_that_cannot_begin_is_an_error_and_no_verdict() -> None:
    busy = (409, {"error": "a digest sweep is under way already", "next": "cutover sweep list"})
    with a_daemon(busy) as (url, bodies):
        result = invoke(url, "sweep", "run", "--kind", "digest", "--full")
    assert (result.exit_code, "under way already" in result.output) == (1, True)
    assert (bodies[0]["kind"], bodies[0]["full"]) == ("digest", True)


def test_a_digest_is_followed_to_its_end() -> None:
    running = {"state": "running", "progress": {"full": True, "share": 0.4, "compared": 40, "throttled": "busy"}}
    with a_daemon((202, {"run": "r"}), (200, running), (200, {"state": "finished", "outcome": DIGEST})) as (url, _):
        result = invoke(url, "sweep", "run", "--kind", "digest", "-o", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["confirmed"] == {"content": 3, "namespace": 1}
    assert "40.0%  40 rows  resting: busy" in result.stderr


def test_a_large_repair_goes_on_until_nothing_is_left() -> None:
    """The daemon marks as many as its backlog has room for, and refuses while there is none."""

    def part(marked: int, remaining: int) -> tuple[int, dict[str, Any]]:
        return 200, {"marked": marked, "remaining": remaining, "by_class": {}, "refused": [], "next": ""}

    full = (503, {"error": "5000 memories wait for delivery already", "next": "let them drain"})
    with a_daemon(part(5000, 200), full, part(200, 0)) as (url, bodies):
        result = invoke(url, "divergence", "repair", "--class", "content", "--yes", "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["marked"] == 5200
    assert len(bodies) == 3
    assert all(body["class"] == "content" for body in bodies)
    with a_daemon(full) as (url, _):  # the first refusal is told: nothing has begun that could go on
        result = invoke(url, "divergence", "repair", "--class", "content", "--yes")
    assert (result.exit_code, "let them drain" in result.output) == (4, True)
    with a_daemon(part(10, 5190)) as (url, bodies):
        result = invoke(url, "divergence", "repair", "--class", "content", "--limit", "10", "--yes")
    assert (result.exit_code, len(bodies)) == (0, 1), "a limit of one's own is kept"


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "list"),
        ("sweep", "show"),
        ("divergence", "list"),
        ("divergence", "show", str(UUID(int=7))),
        ("divergence", "repair", "--all", "--yes"),
        ("quarantine", "list"),
        ("quarantine", "retry", "--all", "--yes"),
    ],
    ids=" ".join,
)
def test_no_daemon_is_exit_4(arguments: tuple[str, ...]) -> None:
    result = invoke("http://127.0.0.1:9", *arguments)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "the daemon cannot be reached" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("divergence", "repair", "--yes"), "Say which"),
        (("divergence", "repair", "--all", "--class", "content", "--yes"), "Say which"),
        (("divergence", "repair", "--class", "colour"), "colour"),
        (("divergence", "accept", "--class", "content"), "--why"),
        (("divergence", "show", "not-an-id"), "not-an-id"),
        (("quarantine", "retry", "--yes"), "Say which"),
        (("quarantine", "acknowledge", str(UUID(int=7))), "--why"),
        (("sweep", "run", "--no-wait"), "--kind digest"),
    ],
    ids=str,
)
def test_usage_errors_reach_no_daemon(arguments: tuple[str, ...], words: str) -> None:
    result = invoke("http://127.0.0.1:9", *arguments)
    assert (result.exit_code, words in result.output) == (2, True)
