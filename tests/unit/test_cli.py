"""The command line without a daemon: verbs, forms, exit codes, words (observability §5)."""

import ast
import json
import os
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from cutover.cli import healthcheck, main, output
from cutover.cli.backfill import news, progress_line
from cutover.cli.failure import CommandFailed, exit_code, explain
from cutover.cli.loosened import loosened
from cutover.cli.ops_url import environment, ops_url
from cutover.cli.phase import _neighbour, _shown
from cutover.cli.root import VERBS
from cutover.cli.status import summary
from cutover.domain.errors import (
    BadSetting,
    BootRefused,
    CutoverError,
    DatabaseUnavailable,
    IllegalStep,
    PluginFault,
    PluginTimeout,
)
from cutover.domain.phase import Phase

NOWHERE = {"CUTOVER_OPS_URL": "http://127.0.0.1:9"}


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, without this process's settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("CUTOVER_", "MEMORY_PLUGIN", "DATABASE_URL"))}
    return subprocess.run(
        [sys.executable, "-m", "cutover", *arguments],
        env={**clean, **variables, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def invoke(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(main, arguments, env=variables)


@pytest.mark.parametrize("name", sorted(VERBS))
def test_every_verb_of_the_table_is_there_and_explains_itself(name: str) -> None:
    result = invoke(name, "--help")
    assert result.exit_code == 0
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for sub in command.commands.values() if isinstance(command, click.Group) else [command]:
        assert sub.help
        assert invoke(name, *([sub.name] if sub is not command and sub.name else []), "--help").exit_code == 0


def test_help_lists_every_verb_and_the_exit_codes() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    assert all(text in " ".join(result.output.split()) for _, _, text in VERBS.values())
    assert "3 gate closed or divergent" in " ".join(result.output.split())


def test_help_starts_without_any_of_the_heavy_libraries(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom cutover.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = ('aiohttp', 'asyncpg', 'httpx', 'pydantic', 'rich', 'asyncio', 'yaml')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_heavy_libraries_are_imported_inside_commands_only() -> None:
    heavy = {"aiohttp", "asyncpg", "httpx", "pydantic", "rich", "yaml", "uvloop"}
    for file in (Path(__file__).parents[2] / "cutover" / "cli").glob("*.py"):
        if file.name == "ops_client.py":  # itself imported inside commands only
            continue
        for node in ast.parse(file.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & heavy, file
            assert "cutover.cli.ops_client" not in names, file


def test_an_unknown_verb_and_a_wrong_option_are_usage_errors(tmp_path: Path) -> None:
    for arguments in (
        ["fly"],
        ["status", "--fast"],
        ["backfill"],
        ["migrate", "down", "--yes"],
        ["phase", "promote", "A9"],
    ):
        done = run(*arguments, cwd=tmp_path, **NOWHERE)
        assert done.returncode == 2, arguments
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")


class Elsewhere(BaseHTTPRequestHandler):
    """What listens at an address that is not the ops face's."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: object) -> None:
        """Nothing: pytest's output is for failures."""


@pytest.mark.parametrize("body", [b"<html>not here</html>", b'{"error":"no such route"}', b"[]"])
def test_something_that_is_not_the_ops_face_is_recognised(body: bytes) -> None:
    handler = type("Handler", (Elsewhere,), {"body": body})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        result = invoke("phase", "show", CUTOVER_OPS_URL=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert result.exit_code == 1
    assert "not cutover's ops face" in result.output
    assert "CUTOVER_OPS_URL=http://127.0.0.1:9202" in result.output


@pytest.mark.parametrize(
    "modes",
    [("--dry-run", "--apply"), ("--apply", "--dry-run"), ("--pause", "--resume"), ("--abort", "--apply")],
)
def test_a_backfill_has_one_mode(modes: tuple[str, str]) -> None:
    result = invoke("backfill", *modes, "--yes", **NOWHERE)
    assert result.exit_code == 2
    assert all(mode in result.output for mode in modes)
    assert "not both" in result.output


@pytest.mark.parametrize("option", [("--via", "contract"), ("--rate", "5"), ("--pause-file", "/x"), ("--limit", "5")])
@pytest.mark.parametrize("mode", ["--pause", "--verify", "--dry-run"])
def test_an_option_that_the_mode_would_ignore_is_refused(mode: str, option: tuple[str, str]) -> None:
    result = invoke("backfill", mode, *option, **NOWHERE)
    assert result.exit_code == 2
    assert f"{option[0]} goes with --apply" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["phase", "show"],
        ["phase", "promote", "--yes"],
        ["sweep", "run"],
        ["backfill", "--dry-run"],
        ["healthcheck"],
    ],
)
def test_no_daemon_is_exit_4_with_what_why_and_next(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, cwd=tmp_path, **NOWHERE)
    assert done.returncode == 4
    assert done.stdout == ""
    what, why, then = done.stderr.strip().splitlines()
    assert what == "error: the daemon cannot be reached"
    assert why.startswith("  why: nothing answers at http://127.0.0.1:9")
    assert "cutover serve" in then


def test_a_wrong_setting_is_one_line_and_exit_2(tmp_path: Path) -> None:
    for arguments in (["serve"], ["serve", "--check"], ["migrate", "status"]):
        done = run(*arguments, cwd=tmp_path, DATABASE_URL="mysql://u:hunter2@h/x")
        assert done.returncode == 2
        assert done.stderr.startswith("cutover: DATABASE_URL is not a PostgreSQL URL")
        assert len(done.stderr.strip().splitlines()) == 1
        assert "hunter2" not in done.stderr


def test_serve_check_prints_the_settings_without_secrets(tmp_path: Path) -> None:
    variables = {"DATABASE_URL": "postgres://u:hunter2@h/x", "MEMORY_PLUGIN_URL": "http://127.0.0.1:9100"}
    done = run("serve", "--check", "-o", "json", cwd=tmp_path, **variables)
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["DATABASE_URL"] == "postgres://u:***@h/x"
    assert len(told["config_hash"]) == 64
    shown = run("serve", "--check", cwd=tmp_path, **variables).stdout
    assert re.search(r"^CUTOVER_GATE_SOAK +2592000$", shown, re.MULTILINE), "a number as one would write it"
    assert re.search(r"^default\.plugin_url +http://127\.0\.0\.1:9100$", shown, re.MULTILINE)
    config = tmp_path / "c.toml"
    config.write_text('cutover_tenant = "from-file"\n')
    done = run("serve", "--check", "-o", "json", "--config", str(config), cwd=tmp_path, **variables)
    assert json.loads(done.stdout)["CUTOVER_TENANT"] == "from-file"


def test_a_database_out_of_reach_is_exit_4(tmp_path: Path) -> None:
    variables = {"DATABASE_URL": "postgres://u@127.0.0.1:9/x", "MEMORY_PLUGIN_URL": "http://127.0.0.1:9100"}
    done = run("migrate", "status", cwd=tmp_path, **variables)
    assert done.returncode == 4
    assert "PostgreSQL could not be reached" in done.stderr
    done = run("migrate", "status", "--tenant", "nobody", cwd=tmp_path, **variables)
    assert done.returncode == 2
    assert "no tenant 'nobody'" in done.stderr


def test_a_change_needs_yes_where_nobody_can_be_asked(tmp_path: Path) -> None:
    variables = {"DATABASE_URL": "postgres://u@127.0.0.1:9/x", "MEMORY_PLUGIN_URL": "http://127.0.0.1:9100"}
    done = run("migrate", "down", "--to", "0", cwd=tmp_path, **variables)
    assert done.returncode == 2
    assert "give --yes" in done.stderr


def test_exit_codes_follow_the_error() -> None:
    codes: list[tuple[CutoverError, int]] = [
        (BadSetting("X"), 2),
        (IllegalStep("X"), 3),
        (BootRefused("X"), 4),
        (DatabaseUnavailable("X"), 4),
        (PluginTimeout("X"), 4),
        (PluginFault(500, "internal", "X"), 1),
        (CommandFailed("a", "b", "c", 3), 3),
    ]
    for error, code in codes:
        assert exit_code(error) == code
        lines = {BadSetting: 1, CommandFailed: 3}.get(type(error), 2)  # what, why where it is known, what next
        assert len(explain(error).splitlines()) == lines


ROWS: list[dict[str, Any]] = [
    {"tenant": "acme", "plugin": {"up": True, "why": None}, "text": "tab\there\nand line"},
    {"tenant": "größe", "plugin": {"up": False}, "text": ""},
]


@pytest.mark.parametrize("form", output.FORMS)
def test_every_form_holds_the_data(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(ROWS, form)
    printed = capsys.readouterr().out
    if form == "json":
        assert json.loads(printed) == ROWS
    elif form == "yaml":
        assert yaml.safe_load(printed) == ROWS
    else:
        lines = printed.splitlines()
        assert len(lines) == 3
        assert "plugin.up" in lines[0].lower()
        assert "tab here and line" in lines[1]
        assert "größe" in lines[2]
    if form == "tsv":
        assert {line.count("\t") for line in printed.splitlines()} == {3}


def test_colours_only_on_a_terminal_and_never_with_no_color(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output.say("words", "red")
    assert capsys.readouterr().err == "words\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    output.say("words", "red")
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://127.0.0.1:9202"),
        ({"CUTOVER_OPS_URL": "http://ops:1/"}, "http://ops:1"),
        ({"CUTOVER_OPS_LISTEN": "unix:/run/ops.sock"}, "unix:/run/ops.sock"),
        ({"CUTOVER_OPS_LISTEN": "0.0.0.0:8"}, "http://127.0.0.1:8"),
        ({"CUTOVER_OPS_LISTEN": "[::]:8"}, "http://[::1]:8"),
        ({"CUTOVER_OPS_LISTEN": "off"}, "http://127.0.0.1:9202"),
    ],
)
def test_where_the_daemon_is(variables: dict[str, str], url: str) -> None:
    assert ops_url(variables) == url


@pytest.mark.parametrize("url", ["foo", "127.0.0.1:9202", "http://", "unix:ops.sock", "http://h:port", "ftp://h"])
@pytest.mark.parametrize("verb", [("status",), ("healthcheck",)])
def test_an_address_that_is_none_is_a_wrong_setting(url: str, verb: tuple[str]) -> None:
    result = invoke(*verb, CUTOVER_OPS_URL=url)
    assert result.exit_code == 2
    assert "for example CUTOVER_OPS_URL=http://127.0.0.1:9202" in result.output


def test_dotenv_serves_the_operator_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("CUTOVER_OPS_URL=http://from-dotenv:1\nCUTOVER_ADMIN_TOKEN=x\n")
    monkeypatch.delenv("CUTOVER_OPS_URL", raising=False)
    assert ops_url(environment(tmp_path)) == "http://from-dotenv:1"
    monkeypatch.setenv("CUTOVER_OPS_URL", "http://from-environment:1")
    assert ops_url(environment(tmp_path)) == "http://from-environment:1"


def test_the_progress_line_says_how_far_how_fast_how_long_and_why_not_faster() -> None:
    told = {
        "state": "running",
        "total": 400,
        "remaining": 100,
        "rate_rows_per_second": 50.0,
        "eta_seconds": 2.0,
        "throttled": "queue",
    }
    line = progress_line(told)
    for part in ("75.0%", "100 left", "50 rows/s", "2 s to go", "held back by queue"):
        assert part in line
    assert "CUTOVER_BACKFILL_QUEUE" in line
    assert "100.0%" in progress_line({"state": "done", "total": 0})


def test_off_a_terminal_a_wait_is_told_and_so_is_its_end() -> None:
    told: dict[str, Any] = {"total": 100, "remaining": 95}
    lines, last = [], (-1, "")
    for reason in ("", "rate", "", "rate", "", "plugin", "plugin", "", "queue"):
        now = news({**told, "throttled": reason}, last)
        if now != last:
            lines.append(reason)
        last = now
    assert lines == ["", "rate", "plugin", "", "queue"]
    assert news({**told, "remaining": 75}, last) == (2, "")


def test_a_change_is_shown_once_and_its_notes_as_sentences() -> None:
    changed = {"from": "A0", "phase": "A1", "to": "A1", "notes": ["one, two", "three"]}
    assert _shown(changed, "table") == {"from": "A0", "to": "A1", "notes": "one, two; three"}
    assert _shown(changed, "json") == {"from": "A0", "to": "A1", "notes": ["one, two", "three"]}


def test_before_the_first_phase_there_is_none() -> None:
    with pytest.raises(CommandFailed) as refused:
        _neighbour(Phase.A0, -1)
    assert "A0 is the first phase: there is nothing to go back to" in explain(refused.value)
    assert _neighbour(Phase.A1, -1) is Phase.A0
    assert _neighbour(Phase.A4, +1) is Phase.A4  # `step` has the words for this one


def test_migrate_down_without_a_version_gives_an_example() -> None:
    result = invoke("migrate", "down", "--yes")
    assert result.exit_code == 2
    assert "--to 0" in result.output


def test_a_status_line_survives_what_it_does_not_know() -> None:
    assert set(summary({}).values()) == {None}
    assert summary({"tenant": "a", "plugin": {"up": False, "why": "refused"}})["plugin"] == "down: refused"


def test_a_status_line_tells_how_many_others_are_at_the_table() -> None:
    assert summary({"access": {"writers": ["psql/me", "seed/me"], "readers": ["ui/me"]}})["others"] == (
        "2 writers, 1 readers"
    )
    assert summary({"access": {"writers": [], "readers": []}})["others"] == "none"


def test_a_failing_probe_names_the_failing_checks() -> None:
    check = {"status": "fail", "output": "it is dead"}
    one = json.dumps({"checks": {"plugin": [check, {"status": "pass", "output": "-"}]}}).encode()
    many = json.dumps({"tenants": {"a": {"checks": {"plugin": [check]}}}}).encode()
    assert healthcheck._reason(one) == healthcheck._reason(many) == "plugin: it is dead"
    assert "names no failing check" in healthcheck._reason(b"<html>")


def test_a_step_that_is_not_answered_in_time_goes_on_and_the_message_names_what_shows_it() -> None:
    from cutover.cli.failure import UNREACHABLE, CommandFailed
    from cutover.cli.ops_client import Ops

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Ops({"CUTOVER_OPS_URL": url}, timeout=0.2) as ops, pytest.raises(CommandFailed) as failed:
            ops.post("/api/v1/phase/rollback", {}, shown_by="cutover phase show")
    assert failed.value.exit_code == UNREACHABLE
    assert "goes on with this all the same" in failed.value.why
    assert failed.value.next_step == "cutover phase show"


def test_times_are_short_in_tables_and_exact_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"at": "2026-05-01T12:00:01.234567+00:00", "when": datetime(2026, 5, 1, 12, 0, 1, 5, UTC)}
    output.emit([row], "table")
    assert capsys.readouterr().out.splitlines()[1].split("  ") == ["2026-05-01 12:00:01Z", "2026-05-01 12:00:01Z"]
    output.emit([row], "tsv")
    exact = "2026-05-01T12:00:01.234567+00:00", "2026-05-01T12:00:01.000005+00:00"
    assert capsys.readouterr().out.splitlines()[1] == "\t".join(exact)
    output.emit([row], "json")
    assert tuple(json.loads(capsys.readouterr().out)[0].values()) == exact


def test_loosened_thresholds_are_told_short() -> None:
    assert loosened(["soak is 4 s, loosened from 30 d", "write_errors is 50 %, loosened from 0.1 %"]) == (
        "soak 4 s (not 30 d); write_errors 50 % (not 0.1 %)"
    )
    assert loosened([]) is loosened(None) is None
