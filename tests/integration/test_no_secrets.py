"""No column of schema cutover holds a secret: refused by constraint, taken out before (architecture §8)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutover.domain.phase import Phase
from cutover.domain.redaction import LABELS, redact_note, redact_record
from cutover.stores import migrate
from cutover.stores.database import Database
from cutover.stores.ledger import Ledger, Settlement
from cutover.stores.runs import CheckpointKind, Runs
from tests.conftest import MakeDatabase

A20 = "a1B2c3D4e5F6g7H8i9J0"
PEM = "-----BEGIN {0}PRIVATE KEY-----\nMIIEpAIBAAKC\nshort==\n-----END {0}PRIVATE KEY-----"
SECRETS = {
    "API_KEY": "use OPENAI_API_KEY=abc123 now",
    "TOKEN": "export Gh_Token='abc' # no",
    "SECRET": 'A_SECRET="words"',
    "BEARER_TOKEN": "Authorization: Bearer ab.c-d_e~f",
    "OPENSSH_PRIVATE_KEY": PEM.format("OPENSSH "),
    "PRIVATE_KEY": PEM.format("RSA "),
    "DB_URL_WITH_CREDENTIALS": "postgresql://someone:pa55@host:5432/db",
    "GITHUB_PAT": f"ghp_{A20}",
    "GITHUB_OAUTH": f"gho_{A20}",
    "GITHUB_APP_SERVER_TOKEN": f"ghs_{A20}",
    "GITHUB_USER_TOKEN": f"ghu_{A20}",
    "GITHUB_REFRESH_TOKEN": f"ghr_{A20}",
    "GITHUB_FINEGRAINED_PAT": f"github_pat_{A20}",
    "VERCEL_TOKEN": f"vc_{A20}",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "PERPLEXITY_API_KEY": f"pplx-{A20}",
    "SK_TOKEN": f"key:sk-ant-{A20}",
    "CTX7_TOKEN": "ctx7_x",
    "BASE64_BLOB": "blob " + A20 * 3 + "==",
}
HARMLESS = [
    "",
    "promoted after the review of 14:00",
    "sha256:" + "0f" * 32,
    "/var/lib/cutover/archives/tenant7/agentmemories20261120/part0001",
    "postgresql://host/db",
    "OPENAI_API_KEY is missing",
    "the token was wrong; bearer of bad news",
    "A_TOKEN=[REDACTED:TOKEN] and 'B_SECRET=[REDACTED:SECRET]'",
    "0190b4a8-5ad2-7c6e-8a87-0d1f3d0c9f11",
]
PIECES = [
    *SECRETS.values(), *HARMLESS, *(f"[REDACTED:{label}]" for label in LABELS[:4]),
    "X_TOKEN=", "x_secret", "=", '"', "'", "\n", " ", "\t", "Bearer ", "bearer ",
    "sk-", "ghp_", "a", "B", "9", "/", "+",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "redis://", ":", "@",
    "\x01", "é", "\u2028", "\u00a0", "[", "]",
    "[REDACTED:", "AKIA", "A1b" * 14, "ſ", "K",
]  # fmt: skip


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        yield database
    finally:
        await database.close()


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15."""
    return plain_database


def test_every_label_of_redaction_has_its_secret_here() -> None:
    assert set(SECRETS) == set(LABELS)


async def test_a_secret_of_every_label_is_seen_and_what_only_looks_a_little_like_one_is_not(database: str) -> None:
    async with migrated(database) as db:
        for label, text in SECRETS.items():
            for shown in (text, f"before {text} after", f"(“{text}”)"):
                assert await db.fetchval("SELECT cutover.looks_secret($1)", shown), label
                wrapped = json.dumps({"a": [{"b": shown}]})
                assert await db.fetchval("SELECT cutover.json_looks_secret($1)", wrapped), label
                assert await db.fetchval("SELECT cutover.json_looks_secret($1)", json.dumps({shown: 1})), label
        for text in HARMLESS:
            assert not await db.fetchval("SELECT cutover.looks_secret($1)", text), text
            assert redact_note(text) == text
        assert not await db.fetchval("SELECT cutover.json_looks_secret($1)", '{"x_token=": ", ", "n": [1, null, true]}')


class Asked:
    """Which of some texts the database calls secret; synchronous, as Hypothesis is."""

    def __init__(self, make_database: MakeDatabase) -> None:
        self._runner = asyncio.Runner()
        self._connection = self._runner.run(self._open(make_database))

    @staticmethod
    async def _open(make_database: MakeDatabase) -> "asyncpg.Connection[asyncpg.Record]":
        url = await make_database(embedding=False)
        async with migrated(url):
            return await asyncpg.connect(url)

    def secret(self, texts: Sequence[str]) -> list[str]:
        sql = "SELECT t FROM unnest($1::text[]) t WHERE cutover.looks_secret(t)"
        return [row["t"] for row in self._runner.run(self._connection.fetch(sql, list(texts)))]

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()


@pytest.fixture
def asked(make_on_either: MakeDatabase) -> Iterator[Asked]:
    made = Asked(make_on_either)
    yield made
    made.close()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=40, max_size=40))
def test_what_was_redacted_is_never_refused(asked: Asked, texts: list[str]) -> None:
    told = [redact_note(text) for text in texts]
    assert [redact_note(text) for text in told] == told
    assert asked.secret(told) == []
    # Whatever the database refuses, redaction takes out: of any text, one that was cut short included.
    cut = [text[: len(text) // 2] for text in told]
    assert [text for text in asked.secret([*texts, *cut]) if redact_note(text) == text] == []


async def test_looking_takes_time_in_proportion_to_the_length(database: str) -> None:
    async with migrated(database) as db:

        async def seconds(text: str) -> float:
            await db.fetchval("SELECT cutover.looks_secret($1)", text)
            started = time.perf_counter()
            await db.fetchval("SELECT cutover.looks_secret($1)", text, timeout=60)
            return time.perf_counter() - started

        for piece in ("x_token", "x_token=", "Bearer \t", "-----BEGIN A PRIVATE KEY-----", "postgres://a:",
                      "sk-a", "ghp_aa",
                      "aB3" * 13 + " ", "A" * 50 + " ", "[REDACTED:"):  # fmt: skip
            short, long = piece * (20_000 // len(piece)), piece * (200_000 // len(piece))
            # Ten times the length; a quadratic one takes a hundred times as long, and far more than this.
            assert await seconds(long) < 40 * max(await seconds(short), 0.01), piece


async def test_a_secret_is_refused_wherever_free_text_is_kept(database: str) -> None:
    secret = "GITHUB_TOKEN=abcdef"
    inside = json.dumps({"why": [secret]})
    quarantined = (
        "INSERT INTO cutover.quarantine (memory_id, reason, detail, rev)"
        " VALUES (gen_random_uuid(), 'empty_content', $1, 1)"
    )
    async with migrated(database) as db:
        run = await Runs(db).begin("verify", "test", {})
        for sql, value in (
            ("SELECT cutover.set_phase(1, 'A1', $1, 'why')", secret),
            ("SELECT cutover.set_phase(1, 'A1', 'who', $1)", secret),
            ("INSERT INTO cutover.task_run (kind, state, requested_by) VALUES ('verify', 'running', $1)", secret),
            ("INSERT INTO cutover.task_run (kind, state, parameters) VALUES ('verify', 'running', $1::jsonb)", inside),
            ("UPDATE cutover.task_run SET outcome = $1::jsonb", inside),
            (f"INSERT INTO cutover.task_checkpoint (run_id, data) VALUES ('{run}', $1::jsonb)", inside),
            (quarantined, secret),
            ("INSERT INTO cutover.memory_procedure (name, title) VALUES ('x', $1)", secret),
        ):
            with pytest.raises(Exception, match=r"23514.*(no_secret|check)"):
                await db.execute(sql, value)


async def test_what_looks_like_a_secret_is_taken_out_and_the_write_goes_on(database: str) -> None:
    """A plugin's words, a foreign writer's name, an operator's reason: none may keep a record from being made."""
    secret = "x sk-abcdefghijklmnop"
    async with migrated(database) as db:
        runs = Runs(db)
        run = await runs.begin("sweep.digest", secret, {"why": secret, secret: [secret]})
        await runs.checkpoint(run, {"why": {"plugin": secret}}, CheckpointKind.STEP)
        await runs.finish(run, "failed", {"why": secret})
        kept = await runs.get(run)
        assert kept is not None
        shown = "x [REDACTED:SK_TOKEN]"
        assert (kept.requested_by, kept.parameters) == (shown, {"why": shown, shown: [shown]})
        assert kept.outcome == {"why": shown}
        assert await runs.last_checkpoint(run) == {"why": {"plugin": shown}}
        assert await runs.last_checkpoint(run, CheckpointKind.STEP) == {"why": {"plugin": shown}}
        assert await runs.last_checkpoint(run, CheckpointKind.DONE) is None
        async with db.transaction() as connection:
            assert await Ledger.set_phase(connection, 1, Phase.A1, secret, secret) == 2
        row = await db.fetchrow("SELECT actor, reason FROM cutover.phase_event")
        assert row is not None
        assert tuple(row) == (shown, shown)


async def test_a_refusal_whose_code_looks_like_a_secret_is_quarantined_all_the_same(database: str) -> None:
    async with migrated(database) as db:
        ledger = Ledger(db, uuid4())
        memory = uuid4()
        sql = (
            "INSERT INTO cutover.mark (memory_id, rev, origin, lease_id, lease_owner, ambiguous)"
            " VALUES ($1, 1, 'write', 7, $2, true)"
        )
        await db.execute(sql, memory, ledger.owner)
        note = "refused_by_plugin:HTTP 400 sk-abcdefghijklmnop"
        assert await ledger.settle([Settlement(memory, 1, 7, None, "quarantined", 0.0, note)]) == {memory: True}
        detail = await db.fetchval("SELECT detail FROM cutover.quarantine WHERE memory_id = $1", memory)
        assert detail == "HTTP 400 [REDACTED:SK_TOKEN]"


def test_a_record_is_redacted_whole_and_only_its_text() -> None:
    value = {"a": ("ctx7_x", 1, None, True, 2.5), "ctx7_y": {"b": ["fine"]}}
    marker = "[REDACTED:CTX7_TOKEN]"
    assert redact_record(value) == {"a": [marker, 1, None, True, 2.5], marker: {"b": ["fine"]}}
