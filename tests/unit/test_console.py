"""The console's page as the daemon writes it: the four answers, the sections, and that nobody's words become markup."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cutover.cli.root import main as cli
from cutover.domain.check import Check, HealthReport, Status, report
from cutover.domain.commands import VERBS_OF_A_TENANT
from cutover.domain.phase import Phase, PhaseState
from cutover.http.console_facts import Facts
from cutover.http.console_headline import headline
from cutover.http.console_view import document, everybody, whole
from cutover.http.console_words import lasted
from cutover.http.markup import VOID, Html, element, text
from dashboards.console_images import IMAGES, NAMES

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(minutes=12)
HOSTILE = "<img src=x onerror=alert(1)></p><script>alert(2)</script>\"'&\u202e\0"


def good(id_: str = "plugin") -> Check:
    return Check(id_, Status.PASS, True, "boolean", "true", "the plugin is healthy")


def bad(id_: str = "backfill", why: str = "2828 rows are left", following: str = "cutover backfill --apply") -> Check:
    return Check(id_, Status.FAIL, 2828, "rows", "= 0", why, following)


FRESH = Check("sweep_fresh", Status.PASS, 20.0, "seconds", "<= 3 min", "the last count sweep ended 20 s ago")
DIGEST = Check(
    "digest", Status.PASS, "clean", "outcome", "clean, trusted, whole",
    "the last full digest sweep was clean and trusted, 12 min ago",
)  # fmt: skip


def told(phase: Phase | None, *checks: Check, proof: tuple[Check, ...] = (FRESH, DIGEST)) -> HealthReport:
    """What was found of `phase`; the gate of A3 asks for proof as well."""
    return report("acme", Phase.A1, phase, (checks or (good(),)) + (proof if phase is Phase.A3 else ()))


def drift(unexplained: int = 0, **causes: int) -> dict[str, Any]:
    return {
        "outcome": "drift" if unexplained else "clean",
        "unexplained": unexplained,
        "finished_at": (NOW - timedelta(seconds=20)).isoformat(),
        "why": "",
        "legacy": 4000,
        "plugin": 1000,
        "causes": {"not_backfilled": 3000 - unexplained, "unexplained": unexplained, **causes},
    }


CERTIFICATE: Mapping[str, Any] = {
    "hash": "ab" * 32,
    "target": "A2",
    "requested_by": "edsger",
    "override": None,
    "approvals": [{"approver": "ada", "at": EARLIER.isoformat()}],
    "approvals_needed": 2,
    "approvals_missing": 1,
    "issued_at": EARLIER.isoformat(),
    "expires_at": (NOW + timedelta(minutes=48)).isoformat(),
    "used_in": None,
    "void": None,
}
CHANGE: Mapping[str, Any] = {
    "epoch": 2,
    "from": "A0",
    "to": "A1",
    "at": EARLIER.isoformat(),
    "by": "edsger",
    "reason": "the shadow may begin",
    "override": None,
    "approvers": ["ada", "grace"],
    "certificate": "ab" * 32,
}
BACKFILL: Mapping[str, Any] = {
    "state": "running",
    "total": 4000,
    "scanned": 1200,
    "remaining": 3000,
    "rate_rows_per_second": 250.0,
    "eta_seconds": 12.0,
    "quarantined_by_copy": 3,
    "via": "database",
    "throttled": "",
    "paused_by": "",
    "why": "",
    "complete": False,
}


def facts(**changes: Any) -> Facts:
    """A tenant in A1, well, with an open gate before it."""
    given: dict[str, Any] = {
        "tenant": "acme",
        "at": NOW,
        "state": PhaseState(Phase.A1, 2, EARLIER, 1),
        "serving": told(None),
        "phases": {phase: told(phase) for phase in Phase},
        "status": {"drift": drift(), "backfill": {"state": "idle", "complete": False}, "plugin": {"up": True}},
        "changes": (CHANGE,),
    }
    return Facts(**(given | changes))


def with_status(**status: Any) -> Facts:
    made = facts()
    return replace(made, status={**made.status, **status})


class Read(HTMLParser):
    """What a browser would make of it: tags with attributes, and the words between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())

    def ids(self) -> list[str]:
        return [value for _, given in self.tags if (value := given.get("id"))]


def page(made: Facts) -> Read:
    body = whole(made)
    read = Read(document(made.tenant, body, base="/tenants/acme", events="/tenants/acme/api/events", names=["acme"]))
    assert read.open == [], "every element that is opened is closed"
    ids = read.ids()
    assert len(ids) == len(set(ids)), "an id is one element's"
    return read


# -- escaping ----------------------------------------------------------------------------------------------------------


@given(st.text())
@example("a\0b\ud800c")
def test_whatever_is_not_markup_becomes_text(words: str) -> None:
    read = Read(element("p", words, title=words))
    shown = words.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    # A parser makes one newline of each kind of line end; nothing else may differ.
    assert [tag for tag, _ in read.tags] == ["p"]
    assert "".join(read.words) == shown
    assert read.tags[0][1] == {"title": shown}


def test_markup_that_we_made_stays_markup() -> None:
    assert element("p", element("b", "a<b"), None, 3) == "<p><b>a&lt;b</b>3</p>"
    assert element("input", type="text", required=True, hidden=False, class_="a", data_act="x") == (
        '<input type="text" required class="a" data-act="x">'
    )
    assert isinstance(text("x"), Html)


def hostile(value: Any, key: str = "") -> Any:
    """Every free text of what the daemon tells, hostile; what it chooses itself (numbers, hashes, times) as it is."""
    kept = {"hash", "at", "issued_at", "expires_at", "finished_at", "started_at", "target", "state", "kind", "outcome"}
    if isinstance(value, str):
        return value if key in kept else HOSTILE
    if isinstance(value, Mapping):
        return {name: hostile(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(hostile(each, key) for each in value)
    return value


def test_hostile_words_of_anybody_are_shown_and_do_nothing() -> None:
    check = Check("plugin", Status.FAIL, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    made = facts(
        tenant=HOSTILE,
        serving=report(HOSTILE, Phase.A1, None, (check,)),
        phases={phase: report(HOSTILE, Phase.A1, phase, (check,), (HOSTILE,)) for phase in Phase},
        certificates=(
            hostile({**CERTIFICATE, "override": "x"}),
            hostile({**CERTIFICATE, "hash": "cd" * 32, "void": "x"}),
        ),
        changes=(hostile({**CHANGE, "override": "x"}),),
        sweeps=(
            hostile({"kind": "count", "state": "failed", "finished_at": EARLIER.isoformat(), "outcome": {"why": "x"}}),
        ),
        missing={"sweeps": HOSTILE},
    )
    status = hostile(
        {
            "override": {"by": "x", "why": "x"},
            "loosened": ["x"],
            "divergences": {"confirmed": {HOSTILE: 3}, "oldest_seconds": 60},
            "backfill": {**BACKFILL, "throttled": "x", "paused_by": "x", "why": "x"},
            "sweeping": {"full": True, "share": 0.5, "compared": 3, "rate_rows_per_second": 2.0, "throttled": "x"},
            "changing": {"to": "A2", "doing": "x"},
            "drift": {"causes": None, "why": "x"},
        }
    )
    made = replace(made, status=status)
    read = page(made)
    known = "a article b bdi body button code dd details div dl dt footer h1 h2 h3 head header html i li link main meta"
    known += " noscript ol p progress rect script section small span strong summary svg table tbody td th thead time"
    known += " title tr ul path circle"
    assert {tag for tag, _ in read.tags} <= set(known.split())
    assert [given.get("src") for tag, given in read.tags if tag == "script"] == ["/console/console.js"]
    for _, given_ in read.tags:
        assert not [name for name in given_ if name.startswith("on") or name == "style"]
        for name in ("href", "src"):
            assert (given_.get(name) or "/").startswith(("/", "#"))
    assert read.said.count("<img src=x onerror=alert(1)>") > 20, "they are still there to be read"
    listed = Read(everybody([made]))
    assert "img" not in {tag for tag, _ in listed.tags}
    assert [given["href"] for tag, given in listed.tags if tag == "a"] == [f"/tenants/{quote(HOSTILE, safe='')}/"]


# -- the four answers --------------------------------------------------------------------------------------------------

FAIL, WARN, PASS = Status.FAIL, Status.WARN, Status.PASS
STALE = Check(
    "sweep_fresh", FAIL, 4000.0, "seconds", "<= 3 min", "the last count sweep ended 4000 s ago", "cutover doctor"
)
UNTRUSTED = Check(
    "digest", FAIL, "clean", "outcome", "clean, trusted, whole",
    "the last full digest sweep missed planted faults, so it proves nothing", "cutover sweep run --kind digest --full",
)  # fmt: skip


def unproven(*proof: Check) -> dict[Phase, HealthReport]:
    return {phase: told(phase, proof=proof) for phase in Phase}


CLOSED = {phase: told(phase, good(), bad()) if phase.order > 1 else told(phase) for phase in Phase}


@pytest.mark.parametrize(
    ("made", "healthy", "lost", "following"),
    [
        pytest.param(facts(), (PASS, "Healthy"), (PASS, "Nothing lost"), (PASS, "Promote to A2"), id="all is well"),
        pytest.param(
            facts(phases=CLOSED),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (WARN, "A2 is closed by 1 check"),
            id="a closed gate is no illness",
        ),
        pytest.param(
            facts(serving=told(None, bad("traffic", "the plugin is down", "cutover doctor"))),
            (FAIL, "Refusing traffic"),
            (PASS, "Nothing lost"),
            (FAIL, "Mend this first"),
            id="refusing",
        ),
        pytest.param(
            facts(phases={**CLOSED, Phase.A1: told(Phase.A1, bad("capture", "missing: cutover_capture_row"))}),
            (FAIL, "Not healthy"),
            (PASS, "Nothing lost"),
            (FAIL, "Mend this first"),
            id="an invariant broken",
        ),
        pytest.param(
            replace(with_status(drift=drift(3)), unexplained_since=EARLIER.isoformat()),
            (PASS, "Healthy"),
            (FAIL, "3 rows unexplained"),
            (FAIL, "Find the cause"),
            id="unexplained",
        ),
        pytest.param(
            with_status(drift=drift(-1)),
            (PASS, "Healthy"),
            (FAIL, "1 row unexplained"),
            (FAIL, "Find the cause"),
            id="one too many",
        ),
        pytest.param(
            with_status(divergences={"confirmed": {"content": 2, "missing": 1}, "oldest_seconds": 300.0}),
            (PASS, "Healthy"),
            (FAIL, "3 differences confirmed"),
            (FAIL, "Find the cause"),
            id="confirmed",
        ),
        pytest.param(
            with_status(quarantine_blocking=4),
            (PASS, "Healthy"),
            (WARN, "4 in quarantine"),
            (PASS, "Promote to A2"),
            id="quarantine",
        ),
        pytest.param(
            with_status(drift=None),
            (PASS, "Healthy"),
            (WARN, "Not known"),
            (PASS, "Promote to A2"),
            id="never swept",
        ),
        pytest.param(
            facts(phases=unproven(STALE, DIGEST)),
            (PASS, "Healthy"),
            (WARN, "Not known now"),
            (PASS, "Promote to A2"),
            id="counted too long ago",
        ),
        pytest.param(
            facts(phases=unproven(FRESH, UNTRUSTED)),
            (PASS, "Healthy"),
            (WARN, "Counts agree"),
            (PASS, "Promote to A2"),
            id="contents not proven",
        ),
        pytest.param(
            facts(phases={phase: told(phase, proof=()) for phase in Phase}),
            (PASS, "Healthy"),
            (WARN, "Not known now"),
            (PASS, "Promote to A2"),
            id="no gate could be judged",
        ),
        pytest.param(
            with_status(changing={"to": "A2", "doing": "draining marks", "since": NOW.isoformat()}),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (WARN, "Wait for the step"),
            id="a step under way",
        ),
        pytest.param(
            replace(with_status(backfill=BACKFILL), phases=CLOSED),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (PASS, "Wait for the backfill"),
            id="a backfill under way",
        ),
        pytest.param(
            replace(with_status(backfill={**BACKFILL, "state": "paused", "paused_by": "ada"}), phases=CLOSED),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (WARN, "Resume the backfill"),
            id="a backfill that somebody paused",
        ),
        pytest.param(
            facts(certificates=(CERTIFICATE,)),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (PASS, "1 approval for A2"),
            id="an approval is missing",
        ),
        pytest.param(
            facts(certificates=({**CERTIFICATE, "approvals_missing": 0},)),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (PASS, "Promote to A2"),
            id="approved",
        ),
        pytest.param(
            facts(state=PhaseState(Phase.A2, 3, EARLIER, 1)),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (PASS, "Certify A3"),
            id="two people are needed",
        ),
        pytest.param(
            facts(state=PhaseState(Phase.A4, 5, EARLIER, 1)),
            (PASS, "Healthy"),
            (PASS, "Nothing lost"),
            (PASS, "Nothing"),
            id="done",
        ),
        pytest.param(
            facts(state=None, serving=told(None, bad("database", "PostgreSQL does not answer", "cutover doctor"))),
            (FAIL, "Refusing traffic"),
            (WARN, "Not known"),
            (FAIL, "Mend this first"),
            id="no database",
        ),
        pytest.param(
            facts(
                state=PhaseState(Phase.A0, 1, EARLIER, 0),
                status={"drift": drift(), "plugin": {"up": False, "why": "-"}},
            ),
            (WARN, "Serving, plugin down"),
            (PASS, "Nothing lost"),
            (PASS, "Promote to A1"),
            id="plugin down before it matters",
        ),
    ],
)
def test_the_first_look_says_healthy_lost_and_next(
    made: Facts, healthy: tuple[Status, str], lost: tuple[Status, str], following: tuple[Status, str]
) -> None:
    told_ = headline(made)
    assert (told_.healthy.status, told_.healthy.short) == healthy
    assert (told_.lost.status, told_.lost.short) == lost
    assert (told_.next.status, told_.next.short) == following
    read = page(made)
    for answer in (told_.phase, told_.healthy, told_.lost, told_.next):
        assert answer.short in read.said
        exists(answer.command)


def exists(line: str) -> None:
    """A command that is shown is one that can be typed."""
    if not line.startswith("cutover "):
        return
    words = shlex.split(line)[1:]
    context, command = click.Context(cli, info_name="cutover"), cli
    made: click.Command = command
    while isinstance(made, click.Group):
        found = made.get_command(context, words[0])
        assert found is not None, line
        made, words = found, words[1:]
    try:
        made.make_context("cutover", words, parent=context)
    except click.exceptions.Exit:
        return


def test_what_is_spoken_does_not_move_by_itself() -> None:
    """Ages go on; only news is read out."""
    later = replace(facts(), at=NOW + timedelta(minutes=5))
    assert headline(later).spoken == headline(facts()).spoken


def test_nothing_lost_is_said_with_its_evidence_and_never_without() -> None:
    lost = headline(facts()).lost
    assert lost.words == f"every row is accounted for, 20 s ago; {DIGEST.output}"
    lost = headline(facts(phases=unproven(FRESH, UNTRUSTED))).lost
    assert lost.words == f"contents are not proven: {UNTRUSTED.output}"
    assert lost.command == UNTRUSTED.next
    legacy_alone = facts(state=PhaseState(Phase.A0, 1, EARLIER, 0), phases=unproven(FRESH, UNTRUSTED))
    assert headline(legacy_alone).lost.status is PASS, "in A0 the plugin has nothing that could differ"
    over = facts(state=PhaseState(Phase.A4, 5, EARLIER, 1), phases=unproven())
    assert headline(over).lost.words == "every row is accounted for, 20 s ago; legacy is compared no more"


def test_a_phase_that_nobody_confirmed_is_no_pass() -> None:
    assert headline(facts(serving=None)).phase.status is WARN


def test_with_several_tenants_every_command_names_its_own() -> None:
    """One of another tenant would be refused, or worse: be carried out there."""
    wide = told(Phase.A1, bad("capture", "missing", "look at `cutover status`, then: cutover doctor"))
    phases = {**CLOSED, Phase.A1: wide, Phase.A3: told(Phase.A3, good(), bad(), proof=(STALE, UNTRUSTED))}
    status = {"divergences": {"confirmed": {"content": 2}}, "quarantine_blocking": 4, "drift": drift(3)}
    made = facts(phases=phases, status=status, state=PhaseState(Phase.A2, 3, EARLIER, 1), several=True)
    said = page(made).said
    found = re.findall(rf"\bcutover (?:{'|'.join(VERBS_OF_A_TENANT)})(?: --tenant \w+)?", said)
    assert len(found) > 8
    assert {each.partition(" --tenant ")[2] for each in found} == {"acme"}
    assert "cutover divergence list --tenant acme --groups" in said
    assert "--tenant" not in page(replace(made, several=False)).said


def test_one_command_is_said_once() -> None:
    told_ = headline(with_status(drift=drift(3)))
    assert told_.lost.command == ""
    assert told_.next.command == "cutover divergence list --groups"


# -- the sections ------------------------------------------------------------------------------------------------------


def test_the_ladder_says_where_the_tenant_is() -> None:
    read = page(facts(phases=CLOSED))
    here = [given["id"] for _, given in read.tags if given.get("aria-current") == "step"]
    assert here == ["rung-A1"]
    for phase, word in zip(Phase, ("passed", "here", "closed", "later", "later"), strict=True):
        assert f"{phase} {phase.meaning} {word}" in read.said
    assert "A2 backfill open" in page(facts()).said


def test_each_gate_shows_its_verdict_with_reason_and_next_command() -> None:
    read = page(facts(phases=CLOSED))
    assert "A2 backfill gate: closed by 1 check" in read.said
    assert "A1 shadow invariants: holds" in read.said
    assert "fail: backfill 2828 rows are left asked for: = 0 Next: cutover backfill --apply" in read.said
    assert "1 check passes" in read.said
    unfolded = [given["id"] for tag, given in read.tags if tag == "details" and "open" in given]
    assert unfolded == ["gate-A2"]


def test_unexplained_drift_shows_its_age_and_the_ledger_its_causes() -> None:
    made = replace(with_status(drift=drift(3, in_flight=7)), unexplained_since=EARLIER.isoformat())
    said = page(made).said
    assert "3 rows unexplained , for 12 min" in said
    for words in ("2,997 not copied yet", "7 on the way now", "3 unexplained", "legacy 4,000", "counted 20 s ago"):
        assert words in said


def test_the_backfill_shows_progress_rate_and_time_left() -> None:
    said = page(with_status(backfill=BACKFILL)).said
    for words in ("25 % running", "still to copy 3,000", "rate 250 rows/s", "time left 12 s", "quarantined 3"):
        assert words in said
    assert {"pause", "abort"} <= {given["data-act"] for given in acts(with_status(backfill=BACKFILL))}
    paused = with_status(backfill={**BACKFILL, "state": "paused", "paused_by": "ada", "throttled": "operator"})
    assert "25 % paused by ada" in " ".join(page(paused).said.split())
    assert "held back: paused by an operator" in page(paused).said
    assert "resume" in [given["data-act"] for given in acts(paused)]
    ended = page(with_status(backfill={**BACKFILL, "state": "finished", "remaining": 0}))
    assert "100 % finished" in ended.said
    assert "time left" not in ended.said
    idle = page(replace(facts(), state=PhaseState(Phase.A2, 3, EARLIER, 1))).said
    assert "none is under way Next: cutover backfill --apply" in idle, "what to do where there was none"
    assert "cutover backfill --apply" not in page(facts()).said, "A1 would refuse it"


def acts(made: Facts) -> list[dict[str, str | None]]:
    return [given for tag, given in page(made).tags if tag == "button" and "data-act" in given]


def test_the_sweeps_show_what_they_came_to_and_the_one_under_way_its_time_left() -> None:
    run = {"requested_by": "schedule", "started_at": EARLIER, "finished_at": EARLIER, "state": "finished"}
    made = facts(
        sweeps=(
            {**run, "kind": "count", "outcome": {"outcome": "clean", "unexplained": 0}},
            {**run, "kind": "digest", "outcome": {"outcome": "clean", "full": True, "trusted": False, "coverage": 1.0}},
            {**run, "kind": "recall", "outcome": {"outcome": "partial", "overlap": 0.985, "why": "few reads"}},
        )
    )
    said = page(made).said
    for words in (
        "count clean 12 min ago",
        "digest, full clean , not trusted , 100 % covered",
        "98.5 % alike",
        "few reads",
    ):
        assert words.replace(" ,", ",") in said.replace(" ,", ",")
    assert "digest, new changes none yet" in said
    crowded = {**run, "kind": "digest", "outcome": {"outcome": "clean", "full": False}}
    said_ = page(facts(sweeps=(crowded,) * 40)).said
    assert "digest, full none of the last 40" in said_, "it is only not among them"
    doing = {"full": True, "share": 0.25, "compared": 1000, "rate_rows_per_second": 100.0, "throttled": "others work"}
    said = page(with_status(sweeping=doing)).said
    assert "full digest sweep: 1,000 rows compared, 100 rows/s, about 30 s left" in said
    assert "waits: others work" in said


def test_unexplained_rows_of_the_last_sweeps_are_drawn() -> None:
    swept = tuple(
        {
            "kind": "count", "state": "finished", "started_at": EARLIER, "finished_at": EARLIER,
            "outcome": {"outcome": "drift", "unexplained": rows},
        }
        for rows in (4, 2, 0, 0, 0)
    )  # fmt: skip
    read = page(facts(sweeps=swept))
    labels = [given["aria-label"] for tag, given in read.tags if tag == "svg" and given.get("role") == "img"]
    assert "unexplained rows over the last 5 count sweeps, at most 4" in labels


def test_certificates_show_who_approved_who_is_missing_and_until_when() -> None:
    said = page(facts(certificates=(CERTIFICATE,))).said
    for words in ("Certificate abababababab for A2", "asked for by edsger", "ada 12 min ago", "approval missing"):
        assert words in said
    assert "good for 48 min more" in said
    (approve,) = [given for given in acts(facts(certificates=(CERTIFICATE,))) if given["data-act"] == "approve"]
    assert approve["data-certificate"] == "ab" * 32
    void = {**CERTIFICATE, "void": "it has expired"}
    said = page(facts(certificates=(void,))).said
    assert "void: it has expired" in said
    assert "approve" not in [given["data-act"] for given in acts(facts(certificates=(void,)))]
    used = {**CERTIFICATE, "used_in": 2}
    assert "Certificate" not in page(facts(certificates=(used,))).said


@pytest.mark.parametrize(
    ("phase", "failing", "offered"),
    [
        (Phase.A0, False, ["promote", "certify", "sweep"]),
        (Phase.A1, False, ["promote", "certify", "rollback", "sweep"]),
        (Phase.A1, True, ["certify", "rollback", "sweep"]),
        (Phase.A2, False, ["certify", "rollback", "sweep"]),
        (Phase.A3, False, ["certify", "rollback", "sweep"]),
        (Phase.A4, False, ["sweep"]),
    ],
    ids=str,
)
def test_only_steps_that_exist_are_offered(phase: Phase, failing: bool, offered: list[str]) -> None:
    gates = {each: told(each, bad() if failing and each.order > phase.order else good()) for each in Phase}
    made = facts(state=PhaseState(phase, 2, EARLIER, 1), phases=gates)
    assert [given["data-act"] for given in acts(made)] == offered


def test_the_last_transitions_say_who_and_why() -> None:
    said = page(facts(changes=({**CHANGE, "override": "we could not wait"},))).said
    for words in (
        "A0 → A1 12 min ago",
        "by edsger",
        "ada , grace",
        "epoch 2",
        "the shadow may begin",
        "we could not wait",
    ):
        assert words in said
    assert "the phase was never changed" in page(facts(changes=())).said


def test_an_override_and_loosened_thresholds_stay_on_top() -> None:
    made = with_status(override={"by": "ada", "why": "in a hurry"}, loosened=["soak is 0 s", "age is 3 h"])
    said = page(made).said
    assert "entered past a closed gate by ada : in a hurry" in said
    assert "2 thresholds are below the default" in said


def test_what_could_not_be_had_says_why_and_the_rest_is_there() -> None:
    said = page(facts(changes=(), missing={"changes": "the database does not answer"})).said
    assert "could not be had: changes: the database does not answer" in said
    assert "Nothing lost" in said


def test_without_its_database_the_page_says_so_once_and_claims_nothing() -> None:
    why = "the database does not answer"
    serving = told(None, bad("database", why, "cutover doctor"), bad("phase", "it could not be confirmed"))
    missing = dict.fromkeys(("status", "changes", "sweeps"), why)
    made = facts(serving=serving, status={}, changes=(), missing=missing, confirmed_seconds_ago=240.0)
    told_ = headline(made)
    assert (told_.phase.status, told_.phase.short) == (WARN, "A1 shadow")
    assert told_.phase.words == "as of 11:56 UTC: the database does not say so now"
    assert (told_.lost.short, told_.lost.words) == ("Not known", why)
    assert (told_.next.short, told_.next.command) == ("Mend this first", "cutover doctor")
    said = page(made).said
    assert f"could not be had: status, changes, sweeps: {why}" in said
    assert "none yet" not in said
    assert "was never changed" not in said


def test_several_tenants_are_listed_with_their_state() -> None:
    ill = replace(facts(serving=told(None, bad("traffic", "closed"))), tenant="beta")
    read = Read(everybody([facts(), ill]))
    assert "acme pass: A1 shadow pass: Healthy pass: Nothing lost Next Promote to A2" in read.said
    assert "beta pass: A1 shadow fail: Refusing traffic" in read.said
    links = [given["href"] for tag, given in read.tags if tag == "a"]
    assert links == ["/tenants/acme/", "/tenants/beta/"]
    nav = Read(document("acme", whole(facts()), base="/x", events="/y", names=["acme", "beta"]))
    assert [given["href"] for tag, given in nav.tags if given.get("aria-current") == "page"] == ["/tenants/acme/"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (36_000, "10 h"),
     (172_800, "2.0 d"), (864_000, "10 d")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert lasted(seconds) == words


# -- the pictures ------------------------------------------------------------------------------------------------------


def test_the_pictures_are_there() -> None:
    for name in NAMES:
        assert (IMAGES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"images/{name}.png" in (IMAGES.parent / "console.md").read_text()
