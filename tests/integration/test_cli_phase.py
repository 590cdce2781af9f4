"""`cutover phase certify|approve|promote|certificates` against a running daemon, each person with a token."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import PEOPLE
from tests.integration.test_cli_daemon import Command, wait_for
from tests.served import Served, served


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """In A0; every test leaves it there."""
    with served(postgres) as made:
        yield made


@pytest.fixture
def command(running: Served) -> Command:
    return Command(running)


def test_a_dry_run_prints_the_ordered_steps_and_what_each_checks(command: Command) -> None:
    done = command("phase", "promote", "A1", "--dry-run", "-o", "tsv")
    assert done.returncode == 0, done.stderr
    head, *lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert head == ["step", "what"]
    numbered = [what for number, what in lines if number != "-"]
    assert "judge the gate of A1" in numbered[0]
    assert "issue a certificate of A1 and consume it" in numbered[1]
    assert any("capture triggers" in what for what in numbered)
    assert "let writes go on" in numbered[-1]
    checks = [what for number, what in lines if number == "-"]
    assert any("canary: " in what for what in checks)
    assert any("expired" in what for what in checks)
    rows = command.json("phase", "promote", "--dry-run")
    assert [row["step"] for row in rows] == list(range(1, len(numbered) + 1))
    assert command.json("status")[0]["phase"] == "A0"


def test_certify_approve_promote_by_names_and_the_override_stays_on_every_status(
    command: Command, tmp_path: Path
) -> None:
    ada, grace = command.holding(PEOPLE["ada"]), command.holding(PEOPLE["grace"])
    edsger = command.holding(PEOPLE["edsger"])
    shared = command("phase", "certify", "A1", "--override", "the window closes tonight", "--yes")
    assert shared.returncode == 3
    assert "a person's own token" in shared.stderr
    asked = edsger("phase", "certify", "A1", "--override", "the window closes tonight")
    assert asked.returncode == 2
    assert "give --yes" in asked.stderr
    asked = edsger("phase", "certify", "A1", "--override", "the window closes tonight", "--yes", "-o", "json")
    assert asked.returncode == 0, asked.stderr
    made = json.loads(asked.stdout)["hash"]
    assert f"cutover phase approve {made[:12]} --as NAME" in asked.stderr

    early = command("phase", "promote", "A1", "--certificate", made, "--yes")
    assert early.returncode == 3
    assert "lacks 2 approvals" in early.stderr
    unasked = ada("phase", "approve", made, "--as", "ada")
    assert (unasked.returncode, "give --yes" in unasked.stderr) == (2, True)
    somebody_else = ada("phase", "approve", made, "--as", "grace", "--yes")
    assert somebody_else.returncode == 1
    assert "this token is ada's, so it cannot approve as grace" in somebody_else.stderr
    seen = ada("phase", "approve", made[:8], "--as", "ada", "--yes", "-o", "json")
    assert json.loads(seen.stdout)["approvals_missing"] == 1
    for words in ("asked for by edsger", "valid until", "the window closes tonight", "loosened: "):
        assert words in seen.stderr, "an approver sees what it is"
    again = ada("phase", "approve", made, "--as", "ada", "--yes")
    assert again.returncode == 3
    assert "approved it already" in again.stderr
    short = grace("phase", "approve", made[:7], "--as", "grace", "--yes")
    assert short.returncode == 1
    # A person whose shell has somebody else's token brings the own one along.
    token = tmp_path / "grace"
    token.write_text(PEOPLE["grace"] + "\n")
    approved = command("phase", "approve", made[:8], "--as", "grace", "--token-file", str(token), "--yes")
    assert approved.returncode == 0, approved.stderr
    assert "2 of 2: ada, grace" in approved.stdout

    listed = command("phase", "certificates", "-o", "tsv").stdout.splitlines()
    line = dict(zip(listed[0].split("\t"), listed[1].split("\t"), strict=True))
    assert (line["hash"], line["approvals"]) == (made[:12], "2 of 2: ada, grace")
    assert (line["target"], line["requested_by"]) == ("A1", "edsger")
    assert line["valid"].startswith("until ")

    for line_of in (listed[1], command("phase", "certificate", made[:8], "-o", "tsv").stdout):
        assert "the window closes tonight" in line_of
    unsure = command("phase", "promote", "A1", "--certificate", made[:8])
    assert (unsure.returncode, "give --yes" in unsure.stderr) == (2, True)
    done = command("phase", "promote", "A1", "--certificate", made[:8], "--yes", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["certificate"]["hash"] == made
    for words in (made[:12], "asked for by edsger", "the window closes tonight", "loosened: "):
        assert words in done.stderr, "what is consumed is told before it is"
    shown = command("status", "-o", "tsv").stdout.splitlines()
    assert dict(zip(shown[0].split("\t"), shown[1].split("\t"), strict=True))["override"] == "the window closes tonight"
    assert command.json("phase", "show")["override"]["why"] == "the window closes tonight"
    assert "the window closes tonight" in command("phase", "show").stdout
    (kept,) = [each for each in command.json("phase", "certificates") if each["hash"] == made]
    assert "used already" in kept["void"]
    used = command("phase", "certificate", made[:8])
    assert used.returncode == 3
    assert "it is void: it was used already" in used.stderr

    assert command("phase", "rollback", "--yes").returncode == 0
    shown = command("status", "-o", "tsv").stdout.splitlines()
    assert dict(zip(shown[0].split("\t"), shown[1].split("\t"), strict=True))["override"] == "-"


def test_a_closed_gate_is_exit_3_with_each_check_and_its_remedy(command: Command, running: Served) -> None:
    running.plugin.kill()
    try:
        wait_for(lambda: not command.json("status")[0]["plugin"]["up"], running.daemon.child.last_words)
        for verb in (("certify", "A1"), ("promote", "A1", "--yes")):
            done = command("phase", *verb)
            assert done.returncode == 3
            assert "the gate of A1 is closed by" in done.stderr
            (line,) = [line for line in done.stderr.splitlines() if line.startswith("    - plugin: ")]
            assert "(next: " in line
            assert done.stdout == ""
    finally:
        running.plugin.launch()
