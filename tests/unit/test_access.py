"""Others at agent_memories, as the gates see them."""

from datetime import UTC, datetime, timedelta

import pytest

from cutover.domain.access import (
    BLIND_SECONDS,
    CASCADE,
    REFUSED,
    UNNAMED,
    Access,
    Reader,
    Writer,
    reader_remedy,
    writer_remedy,
)
from cutover.domain.check import Status
from cutover.domain.checks.leaving import bypass_writers, foreign_access
from cutover.domain.evidence import Evidence
from cutover.domain.phase import Phase

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def writer(operation: str, last: float, name: str = "psql/me", writes: int = 1) -> Writer:
    return Writer(name, operation, writes, ago(last + 1), ago(last))


def reader(name: str, last: float, scans: int = 1) -> Reader:
    return Reader(name, scans, 1, ago(last + 1), ago(last))


@pytest.mark.parametrize("phase", list(Phase))
def test_what_is_not_watched_is_never_clean(phase: Phase) -> None:
    evidence = Access(NOW, phase, None, None).evidence()
    assert (evidence.watched_seconds, evidence.writes_clean_seconds, evidence.reads_clean_seconds) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("phase", "watched"), [(Phase.A2, 900.0), (Phase.A3, 100.0), (Phase.A4, 100.0)])
def test_watched_is_what_the_next_gate_asks_about(phase: Phase, watched: float) -> None:
    evidence = Access(NOW, phase, ago(900), ago(100)).evidence()
    assert evidence.watched_seconds == watched
    assert (evidence.writes_clean_seconds, evidence.reads_clean_seconds) == (900.0, 100.0)


def test_clean_since_the_last_write_and_the_last_read() -> None:
    evidence = Access(
        NOW, Phase.A3, ago(900), ago(500),
        writers=(writer("INSERT", 60, writes=3), writer("DELETE", 300, "seed/me")),
        readers=(reader("console/me", 40, 7), reader(UNNAMED, 90, 2)),
    ).evidence()  # fmt: skip
    assert (evidence.writes, evidence.writes_clean_seconds, evidence.writers) == (4, 60.0, ("psql/me", "seed/me"))
    assert (evidence.reads, evidence.reads_clean_seconds, evidence.readers) == (9, 40.0, ("console/me", UNNAMED))


def test_a_foreign_key_is_no_writer() -> None:
    access = Access(NOW, Phase.A2, ago(900), None, writers=(writer(CASCADE, 5, writes=40),))
    evidence = access.evidence()
    assert (evidence.writes, evidence.writes_clean_seconds, evidence.writers) == (0, 900.0, ())
    assert access.as_json()["writes"]["by"][0]["next"].startswith("nothing")


def test_what_was_seen_before_watching_began_counts_no_more() -> None:
    evidence = Access(
        NOW, Phase.A3, ago(100), ago(50), writers=(writer("UPDATE", 101),), readers=(reader("psql/me", 51),)
    ).evidence()
    assert (evidence.writes, evidence.writers, evidence.writes_clean_seconds) == (0, (), 100.0)
    assert (evidence.reads, evidence.readers, evidence.reads_clean_seconds) == (0, (), 50.0)


@pytest.mark.parametrize(
    ("ago_seconds", "blind"),
    [(0, False), (BLIND_SECONDS, False), (BLIND_SECONDS + 1, True), (9 * 86_400, True), (-5, True)],
)
def test_readers_are_not_known_once_nobody_has_looked_for_a_while(ago_seconds: float, blind: bool) -> None:
    access = Access(NOW, Phase.A3, ago(40 * 86_400), ago(10 * 86_400), looked_at=ago(ago_seconds))
    evidence = access.evidence()
    assert bool(evidence.reads_unknown) is blind
    assert access.as_json()["reads"]["unknown"] == evidence.reads_unknown
    check = foreign_access(Evidence(phase=Phase.A3, access=evidence))
    assert check.status is (Status.FAIL if blind else Status.PASS)
    assert ("readers were last looked for at" in check.output) is blind
    # Who writes is told by the writers themselves, without a look.
    assert bypass_writers(Evidence(phase=Phase.A2, access=evidence)).status is Status.PASS


def test_a_refused_writer_is_still_a_writer() -> None:
    evidence = Access(NOW, Phase.A3, ago(900), ago(500), writers=(writer(REFUSED, 7, writes=2),)).evidence()
    assert (evidence.writes, evidence.writes_clean_seconds, evidence.writers) == (2, 7.0, ("psql/me",))


def test_everyone_comes_with_a_remedy() -> None:
    assert "fails already" in writer_remedy(writer(REFUSED, 1))
    assert "psql/me" in writer_remedy(writer("INSERT", 1))
    assert "console/me" in reader_remedy(reader("console/me", 1))
    assert "agent_memories" in reader_remedy(reader(UNNAMED, 1))
