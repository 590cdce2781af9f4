"""The verbs where something else than one daemon that is well answers: several tenants, another service, one that is
being restarted, a disk that is full, a Ctrl-C that comes early."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from cutover.cli import complete, output
from cutover.cli.progress import Interrupted, interruptible
from cutover.domain.commands import VERBS_OF_A_TENANT, for_tenant
from tests.cli_tree import VERBS, assert_three_lines
from tests.terminal import clean_variables, on_pipes
from tests.unit.test_cli_findings import a_daemon, invoke

TOLD = {"tenant": "b", "phase": "A2", "epoch": 3}
NO_DEFAULT = (404, {"error": "this daemon has no default tenant", "next": "name one in the path: /tenants/{name}/…"})
STRANGERS: dict[str, Any] = {
    "object": {"status": "ok", "uptime": 7},
    "list": [1, 2],
    "lists": {"tenants": {"a": 1}},
    "text": "hello",
}
ASKED_OF_STRANGERS = (
    *("status", "status --tenant b", "phase show", "access", "sweep list", "archive list"),
    *("healthcheck", "healthcheck --ready"),
)


# -- several tenants --------------------------------------------------------------------------------------------------


def test_the_verbs_that_get_a_tenant_in_words_are_those_that_take_one() -> None:
    takers = {words for words, verb in VERBS.items() if any(each.name == "tenant" for each in verb.params)}
    assert set(VERBS_OF_A_TENANT) == takers


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("cutover doctor", "cutover doctor --tenant b"),
        ("mend it; then: cutover sweep run --kind digest", "mend it; then: cutover sweep run --tenant b --kind digest"),
        ("`cutover phase show`; `cutover serve`", "`cutover phase show --tenant b`; `cutover serve`"),
        ("cutover status --tenant a; cutover status", "cutover status --tenant a; cutover status --tenant b"),
        ("cutover phase certificates", "cutover phase certificates --tenant b"),
        ("cutover status-of, cutover's", "cutover status-of, cutover's"),
    ],
)
def test_a_command_in_words_names_the_tenant(words: str, named: str) -> None:
    assert for_tenant(words, "b") == named
    assert for_tenant(named, "b") == named, "once is enough"


def test_a_refusal_for_one_tenant_of_several_names_commands_for_it() -> None:
    checks = [{"id": "drift", "reason": "3 lost", "next": "cutover sweep run --kind count"}]
    refused = (409, {"error": "the gate is closed", "next": "cutover phase check A3", "checks": checks})
    with a_daemon((200, TOLD), refused) as (url, _):
        told = invoke(url, "phase", "refreeze", "--reason", "r", "--tenant", "b", "--yes").stderr
        told += invoke(url, "phase", "refreeze", "--reason", "r", "--tenant", "b", "--yes").stderr
    assert "next: cutover phase check --tenant b A3" in told
    assert "(next: cutover sweep run --tenant b --kind count)" in told


@pytest.mark.parametrize("form", output.FORMS)
def test_a_table_of_checks_names_commands_for_its_tenant(form: str) -> None:
    check = {"status": "fail", "output": "3 lost", "next": "cutover sweep run --kind count"}
    report = {"status": "fail", "tenant": "b", "checks": {"drift": [check]}, "notes": []}
    with a_daemon((200, TOLD), (503, report)) as (url, _):
        done = invoke(url, "phase", "check", "A3", "--tenant", "b", "-o", form)
    if form in ("json", "yaml"):
        assert "cutover sweep run --tenant b --kind count" in done.stdout
    assert "next: cutover sweep run --tenant b --kind count" in done.stderr


def test_what_goes_on_after_ctrl_c_is_asked_for_with_its_tenant() -> None:
    with click.Context(click.Command("sweep"), info_name="sweep") as context:
        context.params["tenant"] = "b"
        with pytest.raises(Interrupted) as caught, interruptible("`cutover status --watch` shows it"):
            raise KeyboardInterrupt
    assert caught.value.words == "`cutover status --tenant b --watch` shows it"


def test_where_there_is_no_default_tenant_the_refusal_says_to_name_one() -> None:
    with a_daemon(NO_DEFAULT) as (url, _):
        done = invoke(url, "access")
    assert (done.exit_code, done.stdout) == (2, "")
    assert_three_lines(done.stderr)
    assert "next: name one with --tenant" in done.stderr
    assert "in the path" not in done.stderr


# -- another service --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", STRANGERS.values(), ids=list(STRANGERS))
def test_another_json_service_is_no_daemon_no_traceback_and_not_healthy(
    told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = click.Context(click.Command("x"))
    with a_daemon((200, told)) as (url, _):
        for words in ASKED_OF_STRANGERS:
            done = invoke(url, *words.split())
            assert done.exception is None or isinstance(done.exception, SystemExit), (words, repr(done.exception))
            assert done.exit_code == 1, words
            assert_three_lines(done.stderr)
        monkeypatch.setenv("CUTOVER_OPS_URL", url)
        for completer in (complete.tenants, complete.certificates, complete.procedures):
            assert completer(context, click.Option(["--x"]), "") == []


def test_status_watch_goes_on_through_a_restart() -> None:
    refused = (503, {"error": "the daemon is shutting down", "next": "wait"})
    with a_daemon((200, {"tenants": []}), refused, (200, {"tenants": []})) as (url, _):
        with on_pipes("status", "--watch", "--interval", "0.2", at={"CUTOVER_OPS_URL": url}) as shown:
            shown.until("TENANT", times=3)
            shown.ctrl_c()
            code, seen = shown.end()
    assert code == 130
    assert "the daemon is shutting down; trying again" in seen


# -- the machine ------------------------------------------------------------------------------------------------------


def run(*arguments: str, **given: Any) -> "subprocess.CompletedProcess[str]":
    variables = clean_variables(given.pop("at", {}))
    return subprocess.run([sys.executable, *arguments], env=variables, check=False, timeout=60, cwd="/", **given)


@pytest.mark.parametrize("form", output.FORMS)
def test_output_that_cannot_be_written_is_told_in_three_lines(form: str) -> None:
    with a_daemon((200, {"tenants": [{"name": "b"}]}), (200, TOLD)) as (url, _), Path("/dev/full").open("w") as full:
        words = ("-m", "cutover", "status", "-o", form)
        done = run(*words, at={"CUTOVER_OPS_URL": url}, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert_three_lines(done.stderr)
    assert "No space left on device" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_early_ctrl_c_leaves_no_traceback() -> None:
    """In the middle of the imports, where no verb has begun."""
    code = """
import sys
class Interrupting:
    def find_spec(self, name, *rest):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
sys.argv = ["cutover", "--help"]
from cutover.cli import main
main()
"""
    done = run("-c", code, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
