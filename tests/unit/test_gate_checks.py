"""Every check of every gate, both ways: what closes it, where its boundary lies, what it says and what to run."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cutover.domain.check import Check, Status
from cutover.domain.evidence import CaptureEvidence, DigestEvidence, DropEvidence, Evidence, VectorEvidence
from cutover.domain.gate import check_ids, every_check
from cutover.domain.phase import Phase
from cutover.domain.thresholds import DEFAULTS, THRESHOLDS, GateThresholds
from tests.gate_scene import ACCESS, ARCHIVE, DAY, DIGEST, FREEZE, GOOD, REHEARSAL, SHADOW, SOAK, TABLES

PASS, WARN, FAIL = Status.PASS, Status.WARN, Status.FAIL
_ABSENT = VectorEvidence(None, available=True, resolves=False)
_NO_PACKAGE = VectorEvidence(None, available=False, resolves=False)
_HIDDEN = VectorEvidence("extensions", available=True, resolves=False)
_PUBLIC = VectorEvidence("public", available=True, resolves=True)
_STRAYS = {"public.memory_records": 4, "public.memory_namespaces": 1}

# id, what differs from evidence on which everything passes, the verdict, words of the reason
CASES: tuple[tuple[str, dict[str, Any], Status, str], ...] = (
    ("database", {"database_reachable": False, "database_why": "refused"}, FAIL, "does not answer: refused"),
    ("schema", {"schema_version": 2}, FAIL, "at migration 2, this version needs 3"),
    ("schema", {"schema_version": 4}, FAIL, "at migration 4"),
    ("schema", {"schema_version": None}, FAIL, "at migration unknown"),
    ("phase", {"phase": None}, FAIL, "could not be confirmed"),
    ("traffic", {"refusing": "breaker open"}, FAIL, "refused: breaker open"),
    ("draining", {"draining": True}, FAIL, "shutting down"),
    ("thresholds", {"thresholds": GateThresholds(soak=5.0)}, WARN, "soak is 5 s, loosened from 30 d"),
    ("thresholds", {"thresholds": GateThresholds(soak=DEFAULTS.soak + 1)}, PASS, "no threshold asks for less"),
    ("plugin", {"plugin_up": False, "plugin_why": "connection refused"}, FAIL, "not healthy: connection refused"),
    ("plugin", {"plugin_up": False, "plugin_why": ""}, FAIL, "no probe yet"),
    ("plugin_healthy", {"plugin_healthy_seconds": 599.9}, FAIL, "healthy for 10 min"),
    ("plugin_healthy", {"plugin_healthy_seconds": None}, FAIL, "not healthy now"),
    ("plugin_healthy", {"plugin_healthy_seconds": 3.0, "plugin_watched_seconds": 4.0}, FAIL, "for 4 s, since"),
    ("plugin_version", {"plugin_version": "2.0.0"}, FAIL, "version 2.0.0"),
    ("plugin_version", {"plugin_version": "10.1"}, FAIL, "version 10.1"),
    ("plugin_version", {"plugin_version": "1"}, PASS, "version 1"),
    ("plugin_version", {"plugin_version": None}, FAIL, "never reached"),
    ("plugin_capabilities", {"plugin_capabilities": frozenset({"ttl"})}, FAIL, "lacks: fts"),
    ("pgvector", {"tables": replace(TABLES, vector=_ABSENT)}, FAIL, "not installed (it can be)"),
    ("pgvector", {"tables": replace(TABLES, vector=_NO_PACKAGE)}, FAIL, "the server does not have it"),
    ("pgvector", {"tables": replace(TABLES, vector=_HIDDEN)}, FAIL, "the type vector is not found"),
    ("pgvector", {"tables": replace(TABLES, vector=_PUBLIC)}, PASS, "in schema public"),
    ("pgvector", {"tables": None, "unknown": {"tables": "cut off"}}, FAIL, "not known: cut off"),
    ("pgvector", {"contract_only": True, "tables": None}, WARN, "in the tenant's own database: pgvector is in schema"),
    ("pgvector", {"contract_only": True, "tables": None, "tenant_vector": None}, WARN, "database: not known"),
    ("plugin_schema", {"tables": replace(TABLES, schema_known=False, schema_why="no table")}, FAIL, "no table"),
    ("plugin_schema", {"tables": None}, FAIL, "not known: the plugin's database was not looked at"),
    ("plugin_schema", {"contract_only": True, "tables": None}, WARN, "cannot be looked at"),
    ("search_path", {"tables": replace(TABLES, search_path=("public", "memory_plugin"))}, FAIL, "public, memory_"),
    ("search_path", {"tables": replace(TABLES, search_path=("public",))}, FAIL, "looks in: public"),
    ("search_path", {"tables": replace(TABLES, search_path=())}, FAIL, "no schema at all"),
    ("search_path", {"tables": replace(TABLES, search_path=("memory_plugin",))}, PASS, "looks in: memory_plugin"),
    ("search_path", {"tables": replace(TABLES, search_path=("own", "memory_plugin", "public"))}, PASS, "own, memory_p"),
    ("search_path", {"tables": None}, FAIL, "not known"),
    ("search_path", {"contract_only": True, "tables": None}, WARN, "cannot be looked at"),
    ("plugin_home", {"tables": replace(TABLES, canary_here=False)}, FAIL, "took the canary, but"),
    ("plugin_home", {"tables": replace(TABLES, canary_here=False), "canary_ok": None}, FAIL, "no canary has been"),
    ("plugin_home", {"tables": replace(TABLES, canary_here=None)}, FAIL, "no namespaces that can be read"),
    ("plugin_home", {"tables": None}, FAIL, "not known"),
    ("plugin_home", {"contract_only": True, "tables": None}, WARN, "nobody knows where it writes"),
    ("strays", {"tables": replace(TABLES, strays=_STRAYS)}, FAIL, "1 in public.memory_namespaces, 4 in public."),
    ("strays", {"tables": None}, FAIL, "not known"),
    ("strays", {"contract_only": True, "tables": None}, WARN, "cannot be looked at"),
    ("canary", {"canary_ok": False, "canary_why": "not found after the write"}, FAIL, "failed: not found after"),
    ("canary", {"canary_ok": None}, FAIL, "no canary was sent yet"),
    ("canary", {"canary_age_seconds": 60.0}, PASS, "forgotten 60 s ago"),
    ("canary", {"canary_age_seconds": 60.1}, FAIL, "sent 60.1 s ago"),
    ("canary", {"canary_age_seconds": None}, FAIL, "nobody knows when"),
    ("shadow_clean", {"shadow": replace(SHADOW, clean_seconds=DAY - 0.1)}, FAIL, "by 1440 sweeps in a row"),
    ("shadow_clean", {"shadow": replace(SHADOW, clean_seconds=60.0, dirty_seconds_ago=90.0)}, FAIL, "90 s ago"),
    ("shadow_clean", {"shadow": replace(SHADOW, clean_seconds=0.0, missing_seconds=7200.0)}, FAIL, "2 h without"),
    ("shadow_clean", {"shadow": None, "unknown": {"shadow": "only in A1"}}, FAIL, "not known: only in A1"),
    ("unexplained_drift", {"unexplained": -2}, FAIL, "-2 rows"),
    ("unexplained_drift", {"unexplained": 1}, FAIL, "1 rows"),
    ("unexplained_drift", {"unexplained": None}, FAIL, "no count sweep has finished"),
    ("unexplained_drift", {"unexplained": None, "contract_only": True}, WARN, "the contract cannot count"),
    ("sweep_fresh", {"sweep_age_seconds": 180.0}, PASS, "180 s ago"),
    ("sweep_fresh", {"sweep_age_seconds": 180.1}, FAIL, "180 s ago"),
    ("sweep_fresh", {"sweep_age_seconds": None}, FAIL, "no count sweep has finished"),
    ("findings", {"open_findings": 1}, FAIL, "1 findings are open"),
    ("findings", {"open_findings": None}, FAIL, "not known: nobody looked"),
    ("marks", {"marks": 5, "oldest_mark_seconds": 30.0}, FAIL, "5 marks wait"),
    ("marks", {"marks": 40, "oldest_mark_seconds": 29.9}, PASS, "40 marks wait"),
    ("marks", {"marks": 1, "oldest_mark_seconds": 90.0, "marks_drained_below": 1}, PASS, "1 marks wait"),
    ("marks", {"marks": None}, FAIL, "an unknown number"),
    ("write_errors", {"shadow": replace(SHADOW, writes=1000, write_errors=2)}, FAIL, "2 of 1000 writes"),
    ("write_errors", {"shadow": replace(SHADOW, writes=0, write_errors=0)}, WARN, "nobody has written"),
    ("write_errors", {"shadow": replace(SHADOW, writes=0, write_errors=1)}, FAIL, "1 of 0 writes"),
    ("write_errors", {"shadow": None}, FAIL, "not known: writes since A1 were not counted"),
    ("backfill", {"backfill_complete": False, "backfill_remaining": 12}, FAIL, "12 rows are still to be copied"),
    ("backfill", {"backfill_complete": False, "backfill_remaining": 0}, FAIL, "not complete"),
    ("backfill", {"backfill_complete": False, "backfill_remaining": None}, FAIL, "no backfill has been run"),
    ("quarantine", {"quarantined": 3, "quarantine_acknowledged": 2}, FAIL, "1 memories"),
    ("quarantine", {"quarantined": 3, "quarantine_acknowledged": 3}, PASS, "0 memories"),
    ("quarantine", {"quarantined": None}, FAIL, "an unknown number"),
    ("digest", {"digest": None}, FAIL, "no full digest sweep has come to an end"),
    ("digest", {"digest": None, "unknown": {"digest": "no answer within 1.5 s"}}, FAIL, "no answer within 1.5 s"),
    ("digest", {"digest": replace(DIGEST, trusted=False)}, FAIL, "missed planted faults"),
    ("digest", {"digest": replace(DIGEST, coverage=0.999)}, FAIL, "99.9%"),
    ("digest", {"digest": replace(DIGEST, coverage=0.4), "contract_only": True}, FAIL, "an override with both"),
    ("digest", {"digest": replace(DIGEST, age_seconds=129_600.0)}, PASS, "2160 min ago"),
    ("digest", {"digest": replace(DIGEST, age_seconds=129_601.0)}, FAIL, "36.0 h ago"),
    ("digest", {"digest": replace(DIGEST, outcome="partial")}, FAIL, "was partial"),
    ("digest", {"digest": DigestEvidence("untrusted", False, 1.0, 60.0)}, FAIL, "missed planted faults"),
    ("digest", {"digest": replace(DIGEST, open_findings=1)}, FAIL, "1 findings are open"),
    ("digest", {"digest": replace(DIGEST, outcome="divergent")}, FAIL, "was divergent"),
    ("recall", {"recall_overlap": 0.999}, PASS, "overlap@10 0.9990"),
    ("recall", {"recall_overlap": 0.9989}, FAIL, "overlap@10 0.9989"),
    ("recall", {"recall_overlap": None}, FAIL, "no recall sweep"),
    ("recall", {"recall_visibility": 1}, FAIL, "visibility differs for 1"),
    ("recall", {"recall_visibility": None}, FAIL, "no recall sweep"),
    ("recall", {"recall_age_seconds": 2701.0}, FAIL, "ended 2701 s ago"),
    ("recall", {"recall_age_seconds": None}, FAIL, "no recall sweep"),
    ("recall", {"recall_age_seconds": -3.0}, FAIL, "clock was put back"),
    ("recall", {"recall_coverage": 0.9}, PASS, "overlap@10 0.9995"),
    ("recall", {"recall_coverage": 0.89}, FAIL, "could compare 89.0% of its reads"),
    ("recall", {"recall_coverage": 0.005, "recall_compared": 1}, FAIL, "0.5% of its reads (1)"),
    ("recall", {"recall_compared": 0}, FAIL, "(0)"),
    ("recall", {"recall_overlap": None, "unknown": {"recall": "the last recall sweep failed: x"}}, FAIL, "failed: x"),
    ("sweep_fresh", {"sweep_age_seconds": -1.0}, FAIL, "clock was put back"),
    ("sweep_fresh", {"sweep_age_seconds": None, "unknown": {"sweeps": "cut off"}}, FAIL, "cut off"),
    ("digest", {"digest": replace(DIGEST, age_seconds=-1.0)}, FAIL, "clock was put back"),
    ("digest", {"digest": replace(DIGEST, newer_bad="one missed planted faults")}, FAIL, "no more"),
    ("recall", {"recall_live": 0}, WARN, "no live queries were sampled"),
    ("freeze", {"freeze": replace(FREEZE, intact=False, why="the trigger is disabled")}, FAIL, "trigger is disabled"),
    ("freeze", {"freeze": replace(FREEZE, attempts=3)}, PASS, "3 statements were refused"),
    ("freeze", {"freeze": replace(FREEZE, wanted=False)}, PASS, "is not frozen"),
    ("capture", {"capture": CaptureEvidence(("cutover_capture_row",))}, FAIL, "not ours: cutover_capture_row"),
    ("capture", {"capture": None}, FAIL, "not known: nobody looked"),
    ("freeze", {"freeze": None}, FAIL, "not known: nobody looked"),
    (
        "bypass_writers",
        {"access": replace(ACCESS, writes=7, writes_clean_seconds=DAY - 0.1, writers=("psql/ops",))},
        FAIL,
        "written agent_memories 7 times (seen: psql/ops)",
    ),
    ("bypass_writers", {"access": replace(ACCESS, writes=7, writes_clean_seconds=DAY)}, PASS, "the last time 24 h ago"),
    ("bypass_writers", {"access": replace(ACCESS, watched_seconds=9.0, writes_clean_seconds=9.0)}, FAIL, "in the 9 s"),
    ("bypass_writers", {"access": None, "unknown": {"access": "no rights"}}, FAIL, "not known: no rights"),
    ("rehearsal", {"rehearsal": replace(REHEARSAL, ok=False, why="2 rows differ")}, FAIL, "failed: 2 rows differ"),
    ("rehearsal", {"rehearsal": replace(REHEARSAL, age_seconds=7 * DAY + 0.1)}, FAIL, "7 d ago"),
    ("rehearsal", {"rehearsal": replace(REHEARSAL, whole=False)}, WARN, "made on a part of the rows"),
    ("rehearsal", {"rehearsal": replace(REHEARSAL, ok=False, whole=False, why="lost")}, FAIL, "failed: lost"),
    ("rehearsal", {"rehearsal": replace(REHEARSAL, age_seconds=-1.0)}, FAIL, "rehearsal of the way back"),
    ("rehearsal", {"rehearsal": None}, FAIL, "the way back was never rehearsed"),
    ("rehearsal", {"rehearsal": None, "unknown": {"rehearsal": "cut off"}}, FAIL, "not known: cut off"),
    (
        "soak",
        {"soak": replace(SOAK, green_seconds=12 * DAY, running=False, waits_for="a full digest sweep")},
        FAIL,
        "12 d of 30 d are green; it stands still and waits for a full digest sweep; full on 2026-11-20 00:00 UTC",
    ),
    ("soak", {"soak": replace(SOAK, green_seconds=30 * DAY - 0.1, last_reset_why="drift")}, FAIL, "last reset: drift"),
    ("soak", {"soak": replace(SOAK, required_seconds=31 * DAY)}, FAIL, "30 d of 31 d"),
    ("soak", {"soak": replace(SOAK, required_seconds=1.0, green_seconds=DAY)}, FAIL, "24 h of 30 d"),
    ("soak", {"soak": None}, FAIL, "there is no soak clock"),
    (
        "foreign_access",
        {"access": replace(ACCESS, reads=2, reads_clean_seconds=7 * DAY - 0.1, readers=("grafana/ro",))},
        FAIL,
        "read agent_memories 2 times (seen: grafana/ro)",
    ),
    ("foreign_access", {"access": replace(ACCESS, writes=1, writes_clean_seconds=60.0)}, FAIL, "written agent_mem"),
    ("foreign_access", {"access": replace(ACCESS, reads=2, reads_clean_seconds=7 * DAY)}, PASS, "last time 7 d ago"),
    ("foreign_access", {"access": None}, FAIL, "not known: nobody looked"),
    ("dependants", {"drop": DropEvidence(("view reports", "function f()"))}, FAIL, "view reports, function f()"),
    ("dependants", {"drop": None}, FAIL, "not known: nobody looked"),
    ("drop", {"drop": None}, WARN, "not known: nobody looked"),
    ("drop", {"drop": DropEvidence((), "held", 7200.0)}, WARN, "is held: 2 h of its hold are left, then it is dropped"),
    ("drop", {"drop": DropEvidence((), "held", 60.0, "no archive", "x")}, WARN, "60 s of its hold are left, but"),
    ("drop", {"drop": DropEvidence((), "blocked", 0.0, "no archive", "x")}, WARN, "but it is not dropped: no archive"),
    ("drop", {"drop": DropEvidence((), "cancelled")}, WARN, "called off: agent_memories has its name"),
    ("drop", {"drop": DropEvidence((), "dropped")}, PASS, "has been dropped"),
    ("archive", {"archive": replace(ARCHIVE, restore_tested=False, why="no trial")}, FAIL, "not restored on trial: no"),
    ("archive", {"archive": replace(ARCHIVE, covers=False)}, FAIL, "does not hold every row: rows came later"),
    ("archive", {"archive": None}, FAIL, "no archive has been written"),
    ("archive", {"archive": None, "unknown": {"archive": "cut off"}}, FAIL, "not known: cut off"),
)  # fmt: skip
IDS = [f"{number:03}-{case[0]}" for number, case in enumerate(CASES)]


def made(check_id: str, evidence: Evidence) -> Check:
    return every_check(evidence)[check_id]


@pytest.mark.parametrize("check_id", every_check(GOOD))
def test_each_check_passes_on_good_evidence_with_what_it_saw_and_what_it_asks_for(check_id: str) -> None:
    check = made(check_id, GOOD)
    assert check.status is PASS
    assert check.next == ""
    assert check.output
    assert check.observed_unit
    assert check.threshold
    assert check.observed_value is not None


@pytest.mark.parametrize(("check_id", "changes", "status", "words"), CASES, ids=IDS)
def test_each_check_judges_its_own_evidence(check_id: str, changes: dict[str, Any], status: Status, words: str) -> None:
    check = made(check_id, replace(GOOD, **changes))
    assert check.status is status
    assert words in check.output
    assert check.observed_unit
    assert check.threshold
    if status is FAIL and check_id != "draining":
        assert check.next
    if status is PASS:
        assert check.next == ""


@pytest.mark.parametrize("check_id", sorted(set(every_check(GOOD)) - {"thresholds", "drop"}))
def test_each_check_has_a_case_in_which_it_fails(check_id: str) -> None:
    assert any(case[0] == check_id and case[2] is FAIL for case in CASES)


@pytest.mark.parametrize("target", list(Phase))
def test_nothing_known_passes_nothing_but_what_needs_no_knowledge(target: Phase) -> None:
    known = every_check(Evidence())
    assert {each for each in check_ids(target) if known[each].status is not FAIL} <= {"thresholds"}


@pytest.mark.parametrize("target", [Phase.A1, Phase.A2, Phase.A3, Phase.A4])
def test_every_check_of_a_gate_has_a_remedy_when_nothing_is_known(target: Phase) -> None:
    known = every_check(Evidence())
    for check_id in set(check_ids(target)) - {"thresholds"}:
        assert known[check_id].next, check_id
        assert known[check_id].output, check_id


THRESHOLD_OF = {
    "plugin_healthy": "plugin_healthy",
    "shadow_clean": "shadow_clean",
    "write_errors": "write_errors",
    "recall_overlap": "recall",
    "bypass_window": "bypass_writers",
    "rehearsal_age": "rehearsal",
    "soak": "soak",
    "foreign_window": "foreign_access",
    "sweep_age": "sweep_fresh",
    "digest_age": "digest",
    "recall_age": "recall",
    "count_gap": "soak",
    "digest_gap": "soak",
}
NOT_OF_A_GATE = {"certificate_validity", "drop_hold"}


def test_every_threshold_is_a_check_s_or_none_of_the_gates_business() -> None:
    assert set(THRESHOLD_OF) | NOT_OF_A_GATE == set(THRESHOLDS)


@pytest.mark.parametrize("name", sorted(THRESHOLD_OF))
def test_a_loosened_threshold_is_marked_where_it_is_used_and_in_a_check_of_its_own(name: str) -> None:
    plain = made(THRESHOLD_OF[name], GOOD).threshold
    assert "loosened" not in plain
    default = getattr(DEFAULTS, name)
    looser = default * 10 if DEFAULTS.shown(name).startswith("<=") else default / 10
    evidence = replace(GOOD, thresholds=replace(DEFAULTS, **{name: looser}))
    check = made(THRESHOLD_OF[name], evidence)
    assert "(loosened from " in check.threshold
    assert check.status is PASS
    assert made("thresholds", evidence).status is WARN
    assert f"{name} is " in made("thresholds", evidence).output


@pytest.mark.parametrize("name", sorted(THRESHOLD_OF))
def test_a_stricter_threshold_is_shown_and_is_not_called_loosened(name: str) -> None:
    default = getattr(DEFAULTS, name)
    plain = made(THRESHOLD_OF[name], GOOD).threshold
    upper = DEFAULTS.shown(name).startswith("<=")
    stricter = default / 1.1 if upper else min(default * 10, 1.0) if default < 1 else default * 10
    evidence = replace(GOOD, thresholds=replace(DEFAULTS, **{name: stricter}))
    assert "loosened" not in made(THRESHOLD_OF[name], evidence).threshold
    assert made(THRESHOLD_OF[name], evidence).threshold != plain
    assert made("thresholds", evidence).status is PASS


def test_a_loosened_threshold_opens_what_the_default_keeps_closed() -> None:
    young = replace(GOOD, plugin_healthy_seconds=5.0)
    assert made("plugin_healthy", young).status is FAIL
    loosened = replace(young, thresholds=GateThresholds(plugin_healthy=5.0))
    assert made("plugin_healthy", loosened).status is PASS
    assert made("plugin_healthy", loosened).threshold == ">= 5 s (loosened from 10 min)"


def test_the_earliest_date_of_the_soak_is_shown_only_while_it_is_ahead() -> None:
    ahead = replace(SOAK, green_seconds=1.0, earliest=datetime(2027, 1, 2, 3, 4, tzinfo=UTC))
    assert "full on 2027-01-02 03:04 UTC" in made("soak", replace(GOOD, soak=ahead)).output
    assert "full on" not in made("soak", GOOD).output
