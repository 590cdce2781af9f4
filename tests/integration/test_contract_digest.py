"""Digest sweeps of a plugin that can only be asked through its contract: exact below 100, sampled above."""

import asyncio
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from cutover.domain.divergence import Held
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.engine.contract_reader import ContractReader, as_held
from cutover.stores.digest import DigestReader, Limits
from cutover.stores.plugin import PluginClient
from tests.integration.digest_scene import INSERT, confirmed, digest, ended, findings, hurt
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, SIBLING, STRANGER

UNICODE = "ключ 記憶 naïve \N{PILE OF POO} e\N{COMBINING ACUTE ACCENT} 'quoted' 100% _under_ \\back\\ <b>bold</b>"
NONE: dict[str, Any] = {"plugin_database_url": "none"}


def spread(count: int, workspace: UUID = CHILD, scope: str = "LOCAL") -> list[tuple[Any, ...]]:
    """Rows whose contents are told apart by their words."""
    return [
        (uuid4(), workspace, f"memory {_word(n)} about {_word(n * 7 + 1)} and {_word(n % 5)}", scope)
        for n in range(count)
    ]


def _word(number: int) -> str:
    return "".join(chr(ord("a") + (number // 26**place) % 26) for place in range(4)) + "word"


async def test_small_namespaces_are_listed_whole_and_equal_ones_leave_nothing_to_report(database: str) -> None:
    rows = [(uuid4(), ROOT if n % 2 else CHILD, f"{UNICODE} {n}", str(tuple(Scope)[n % 3])) for n in range(24)]
    async with scene(database, phase=Phase.A1, rows=rows, **NONE) as s:
        await s.enter(Phase.A2)
        await s.commit(f"workspace:{ROOT}", "a native summary", Kind.SUMMARY, pin=True)
        await s.create(SIBLING, "labelled", label="étiquette")
        await s.insert(STRANGER, "x" * 100_000)
        await s.quiet()
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert outcome["outcome"] == "partial"  # never clean: not everything can be seen
        assert (outcome["coverage"], outcome["bound_95"], outcome["sampled"]) == (1.0, None, 0), outcome
        assert (outcome["suspects"], outcome["not_findable"], outcome["confirmed"]) == (0, 0, {})
        assert outcome["listed"] >= 9
        assert "cannot be seen" in outcome["why"]
        assert await findings(s, open_only=False) == {}


async def test_every_class_that_can_be_seen_is_found_and_nothing_else(database: str) -> None:
    rows = [(uuid4(), CHILD if n % 2 else ROOT, f"{UNICODE} memory {n}", "LOCAL") for n in range(40)]
    ids = [row[0] for row in rows]
    async with scene(database, phase=Phase.A1, rows=rows, **NONE) as s:
        await s.enter(Phase.A2)
        deleted = await s.create(CHILD, "to be deleted")
        await s.quiet()
        await s.delete(CHILD, deleted.id)
        await s.quiet()
        extra = uuid4()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", ids[0])
        await hurt(s, "UPDATE {records} SET content = content || '.' WHERE id = $1", ids[1])
        await hurt(s, "UPDATE {records} SET namespace = $2 WHERE id = $1", ids[2], f"workspace:{CHILD}")
        await hurt(
            s,
            "UPDATE {records} SET propagation ="
            " jsonb_set(propagation, '{{cutover,created_at}}', '\"2020-01-01T00:00:00Z\"') WHERE id = $1",
            ids[4],
        )
        await hurt(s, "UPDATE {records} SET pin = true WHERE id = $1", ids[5])
        await hurt(s, INSERT, extra, f"workspace:{CHILD}", "nobody knows")
        await hurt(s, INSERT, deleted.id, f"workspace:{CHILD}", "to be deleted")
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert outcome["outcome"] == "divergent"
        assert await confirmed(s) == {
            (ids[0], "missing_in_plugin"),
            (ids[1], "content"),
            (ids[2], "namespace"),
            (ids[4], "created_at"),
            (ids[4], "provenance"),  # the time in the propagation is what v1 readers get
            (ids[5], "provenance"),
            (extra, "missing_in_legacy"),
            (deleted.id, "resurrected"),
        }
        # What is repaired is closed by the next sweep, wherever it was held.
        await hurt(s, "DELETE FROM {records} WHERE id = $1", extra)
        await hurt(s, "UPDATE {records} SET namespace = $2 WHERE id = $1", ids[2], f"workspace:{ROOT}")
        await digest(s)
        assert {key for key, state in (await findings(s)).items() if state == "confirmed"} == {
            (ids[0], "missing_in_plugin"),
            (ids[1], "content"),
            (ids[4], "created_at"),
            (ids[4], "provenance"),
            (ids[5], "provenance"),
            (deleted.id, "resurrected"),
        }


async def test_a_large_namespace_is_sampled_with_its_bound(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(250), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        run = UUID((await s.tenant.operations.start_verify(workspace_id=None, actor="test", sample=120))["run"])
        outcome = await ended(s, run)
        assert outcome["trusted"], outcome
        assert (outcome["sampled"], outcome["sampled_namespaces"], outcome["not_findable"]) == (120, 1, 0), outcome
        assert outcome["bound_95"] == pytest.approx(1 - 0.05 ** (1 / 120), abs=1e-6)
        assert 0.4 < outcome["coverage"] < 0.6
        assert (outcome["outcome"], outcome["confirmed"], outcome["mismatches"]) == ("partial", {}, 0)


async def test_faults_in_a_sample_that_holds_every_row_are_found_by_looking_them_up(database: str) -> None:
    """150 rows, all drawn: most are past the newest 100, where only a search reaches."""
    rows = spread(150)
    rows.sort(key=lambda row: row[0])
    ids = [row[0] for row in rows]
    async with scene(database, phase=Phase.A1, rows=rows, **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        hidden = [row["id"] for row in await s.plugin_database.fetch(
            "SELECT id FROM memory_plugin.memory_records WHERE namespace = $1"
            " ORDER BY pin DESC, created_at DESC, id OFFSET 100", f"workspace:{CHILD}",
        )]  # fmt: skip
        assert len(hidden) == 50
        missing, changed, moved, repinned = hidden[:4]
        await hurt(s, "DELETE FROM {records} WHERE id = $1", missing)
        await hurt(s, "UPDATE {records} SET content = content || ' and more' WHERE id = $1", changed)
        await s.insert(ROOT, "so that its namespace is there")
        await s.quiet()
        await hurt(s, "UPDATE {records} SET namespace = $2 WHERE id = $1", moved, f"workspace:{ROOT}")
        await hurt(s, "UPDATE {records} SET source = 'user' WHERE id = $1", repinned)
        extra = uuid4()
        await hurt(s, INSERT, extra, f"workspace:{CHILD}", "nobody knows of me")
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert await confirmed(s) == {
            (missing, "missing_in_plugin"),
            (changed, "content"),
            (moved, "namespace"),
            (repinned, "provenance"),
            (extra, "missing_in_legacy"),
        }
        assert outcome["outcome"] == "divergent"
        assert outcome["bound_95"] > 4 / 150
        assert set(ids) > {missing, changed, moved, repinned}


async def test_what_no_search_can_reach_is_counted_apart_and_against_the_bound(database: str) -> None:
    """Contents of one sort of character, contents that only stop words make: neither here nor missing for certain."""
    rows = [(uuid4(), CHILD, content, "LOCAL") for content in ("!!!", "it is", "--") for _ in range(45)]
    async with scene(database, phase=Phase.A1, rows=rows, **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        outcome = await digest(s)
        assert outcome["confirmed"] == {}
        assert await findings(s) == {}
        assert outcome["outcome"] == "partial"
        # 45 of each are fewer than 100 under their one character, so they are found; alike or not.
        assert outcome["not_findable"] == 0
        more = [(uuid4(), CHILD, "!!!", "LOCAL") for _ in range(80)]
        for row in more:
            await s.insert(CHILD, row[2], id=row[0])
        await s.quiet()
        outcome = await digest(s)
        assert outcome["confirmed"] == {}, outcome
        assert 0 < outcome["not_findable"] <= 125
        assert outcome["bound_95"] > outcome["not_findable"] / 300
        assert outcome["coverage"] < 1.0


async def test_a_plugin_whose_search_finds_nothing_is_not_accused_of_losing_memories(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(150), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        # Another analyser than PostgreSQL's: the words of the memories are not the words that its index knows.
        await s.plugin_database.execute(
            "ALTER TABLE memory_plugin.memory_records DROP COLUMN content_tsv CASCADE;"
            "ALTER TABLE memory_plugin.memory_records ADD COLUMN content_tsv tsvector"
            " GENERATED ALWAYS AS (to_tsvector('simple', md5(content))) STORED"
        )
        outcome = await digest(s)
        assert outcome["confirmed"] == {}, outcome
        assert await findings(s) == {}


async def test_rows_that_the_backfill_has_not_reached_may_be_missing_but_lower_the_coverage(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(60), **NONE) as s:
        made = await s.create(CHILD, "written since A1 was entered")
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'changed' WHERE id = $1", made.id)
        outcome = await digest(s)
        assert outcome["coverage"] < 0.1, outcome
        assert outcome["trusted"], outcome
        assert await confirmed(s) == {(made.id, "content")}


async def test_a_sweep_that_is_shown_no_planted_fault_is_no_evidence(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PluginClient.search

    async def blind(self: PluginClient, namespaces: Any, *arguments: Any, **named: Any) -> Any:
        found = await real(self, namespaces, *arguments, **named)
        return [memory for memory in found if not memory.content.startswith("planted extra")]

    async with scene(database, phase=Phase.A1, rows=spread(3), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        assert (await digest(s))["trusted"]
        monkeypatch.setattr(PluginClient, "search", blind)
        outcome = await digest(s)
        assert not outcome["trusted"], outcome
        assert outcome["canary"]["caught"]["extra"] == 0
        assert "no evidence" in outcome["why"]


async def test_a_sweep_that_a_crash_left_behind_begins_anew(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(5), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await s.daemons[-1].stop()
        run = await s.database.fetchval(
            "INSERT INTO cutover.task_run (kind, state, parameters)"
            " VALUES ('sweep.digest', 'running', $1) RETURNING id",
            '{"full": true}',
        )
        await s.database.execute(
            "INSERT INTO cutover.task_checkpoint (run_id, data) VALUES ($1, $2)", run, '{"compared": 4, "chunks": 2}'
        )
        await s.daemon()
        outcome = await ended(s, run)
        assert outcome["trusted"], outcome
        assert outcome["coverage"] == 1.0


async def test_live_traffic_is_no_divergence(database: str) -> None:
    rows = spread(120)
    async with scene(database, phase=Phase.A1, rows=rows, **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        stop = asyncio.Event()

        async def writer(offset: int) -> None:
            done = 0
            while not stop.is_set():
                done += 1
                made = await s.create(CHILD, f"created {_word(done)} {offset}")
                await s.edit(CHILD, rows[(offset + done) % len(rows)][0], f"edited {_word(done)} {offset}")
                await s.insert(ROOT, f"past the daemon {_word(done)}")
                if done % 2:
                    await s.delete(CHILD, made.id)
                await asyncio.sleep(0.02)

        writers = [asyncio.create_task(writer(offset)) for offset in (0, 60)]
        try:
            outcome = await digest(s)
        finally:
            stop.set()
            await asyncio.gather(*writers)
        assert outcome["confirmed"] == {}, outcome
        assert outcome["trusted"], outcome
        await s.quiet()
        outcome = await digest(s)
        assert await findings(s) == {}, outcome


async def test_an_incremental_sweep_looks_up_what_was_delivered(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(130), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await digest(s)
        made = await s.create(GRANDCHILD, "new since the last sweep")
        await s.quiet()
        await hurt(s, "UPDATE {records} SET content = 'something else' WHERE id = $1", made.id)
        outcome = await digest(s, full=False)
        assert not outcome["full"]
        assert outcome["trusted"], outcome
        assert outcome["compared"] < 10
        assert await confirmed(s) == {(made.id, "content")}


async def test_after_many_deliveries_an_incremental_sweep_draws_instead(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutover.engine.contract_digest.MANY_DELIVERED", 3)
    async with scene(database, phase=Phase.A1, rows=spread(5), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        await digest(s)
        for number in range(4):
            await s.create(CHILD, f"one of many {number}")
        await s.quiet()
        assert (await digest(s, full=False))["full"]
        assert not (await digest(s, full=False))["full"]


async def test_the_load_on_the_plugin_is_bounded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = most = 0
    real = PluginClient.search

    async def counted(self: PluginClient, *arguments: Any, **named: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return await real(self, *arguments, **named)
        finally:
            at_once -= 1

    async with scene(database, phase=Phase.A1, rows=spread(200), **NONE) as s:
        await s.enter(Phase.A2)
        await s.quiet()
        monkeypatch.setattr(PluginClient, "search", counted)
        await digest(s)
        assert 1 <= most <= 6  # four of the sweep, and the canary of the health monitor


async def test_a_memory_is_described_as_the_plugins_tables_would_describe_it(database: str) -> None:
    """The same words and hashes as `digest_held.sql`, but for what the contract does not show."""
    async with scene(database, rows=spread(3), kv=True) as s:
        await s.enter(Phase.A2)
        await s.database.execute(
            "INSERT INTO workspace_memory (workspace_id, key, value, version) VALUES ($1, 'ключ|9', '[1.50, null]', 7)",
            CHILD,
        )
        await s.commit(f"workspace:{CHILD}", "pinned", Kind.CHECKPOINT, pin=True)
        await s.create(CHILD, UNICODE, label="ein Etikett \N{PILE OF POO}")
        await s.create(CHILD, "for all of us", Scope.TEAM)
        await s.quiet()
        await s.plugin_database.execute(
            "UPDATE memory_plugin.memory_records SET expires_at = '2199-12-31 23:59:59.123456+00' WHERE pin"
        )
        salt = secrets.token_bytes(32)
        names = (f"workspace:{CHILD}", f"team:{ROOT}")
        shown = await s.tenant._client.search(names, limit=100, timeout=5)
        assert len(shown) == 7
        reader = DigestReader(s.database, s.plugin_database, leaving_out=())
        limits = Limits()
        limits.at_one_instant(await reader.situation())
        tables = await reader.held(salt, [each.id for each in shown], limits)
        for memory in shown:
            mine, theirs = as_held(memory, salt), tables[memory.id]
            assert mine.embedding is None
            assert mine == Held(
                theirs.namespace, theirs.content_hash, theirs.content_length, mine.created_at, None,
                theirs.provenance_hash,
            )  # fmt: skip
            assert mine.content_hash == hashlib.sha256(salt + memory.content.encode()).digest()


async def test_an_unreachable_plugin_fails_the_sweep(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(3), **NONE) as s:
        await s.enter(Phase.A2)
        assert isinstance(s.tenant.digests._stores.reader, ContractReader)
        await s.tenant._client.close()
        outcome = await digest(s)
        assert (outcome["outcome"], outcome["trusted"]) == ("failed", False)


async def test_kv_rows_are_looked_up_like_memories(database: str) -> None:
    async with scene(database, phase=Phase.A0, rows=spread(5), kv=True, **NONE) as s:
        await s.enter(Phase.A2)
        await s.database.execute(
            "INSERT INTO workspace_memory (workspace_id, key, value) SELECT $1, 'key ' || n,"
            " jsonb_build_object('some', 'value ' || n) FROM generate_series(1, 9) n",
            CHILD,
        )
        await s.quiet()
        outcome = await digest(s)
        assert (outcome["trusted"], outcome["confirmed"], outcome["coverage"]) == (True, {}, 1.0), outcome
        wrong, gone = [
            row["memory_id"] for row in await s.database.fetch("SELECT memory_id FROM cutover.kv ORDER BY key LIMIT 2")
        ]
        await hurt(s, "UPDATE {records} SET content = 'null' WHERE id = $1", wrong)
        await hurt(s, "DELETE FROM {records} WHERE id = $1", gone)
        await digest(s)
        assert await confirmed(s) == {(wrong, "content"), (gone, "missing_in_plugin")}


async def test_odd_contents_in_a_large_namespace_are_no_false_alarms(database: str) -> None:
    """Markup, addresses, one long word, huge ones, several scripts: found, or said not to be findable."""
    odd = [
        "<a href foo bar baz>quux</a> corge", "mail someone@example.com about https://example.com/path?x=1#y",
        "x" * 3000, "lorem " * 20_000, "ключ записка о чае",
        "記憶 は ここ に ある", "e\u0301te\u0301 na\u0131ve STRASSE straße",
        "it's the-half of snake_case and camelCase 12,345.67 v1.2.3", "\U0001f9e0\U0001f9e0", "tab\tnew\nline\rreturn",
        "'quoted' \"doubly\" (bracketed) [squarely] {curly}", "100% _ \\ & | ! : * <-> ' ''", "\u200b\u200bzero width",
    ]  # fmt: skip
    async with scene(database, phase=Phase.A1, rows=[(uuid4(), CHILD, each, "LOCAL") for each in odd], **NONE) as s:
        await s.enter(Phase.A2)
        for row in spread(110):  # newer, so that no listing shows the odd ones
            await s.insert(CHILD, row[2], id=row[0])
        await s.quiet()
        outcome = await digest(s)
        assert (outcome["trusted"], outcome["confirmed"]) == (True, {}), outcome
        assert outcome["not_findable"] <= 2, outcome


async def test_what_expires_is_gone_on_both_sides(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(3), **NONE) as s:
        await s.enter(Phase.A2)
        made = [
            await s.commit(
                f"workspace:{CHILD}",
                f"expires {seconds}",
                Kind.SUMMARY,
                expires_at=datetime.now(UTC) + timedelta(seconds=seconds),
            )
            for seconds in (4, 5, 6, 8, 10, 3600)
        ]
        await s.quiet()
        outcome = await digest(s)
        assert (outcome["trusted"], outcome["confirmed"]) == (True, {}), outcome
        await hurt(s, "DELETE FROM {records} WHERE id = $1", made[-1].id)
        await digest(s)
        assert await confirmed(s) == {(made[-1].id, "missing_in_plugin")}


async def test_in_a3_the_journal_is_what_is_expected(database: str) -> None:
    async with scene(database, phase=Phase.A1, rows=spread(20), **NONE) as s:
        await s.enter(Phase.A3)
        written = await s.create(CHILD, "written in A3")
        lost = await s.create(CHILD, "lost in A3")
        await s.quiet()
        await hurt(s, "DELETE FROM {records} WHERE id = $1", lost.id)
        await hurt(s, "UPDATE {records} SET content = 'tampered' WHERE id = $1", written.id)
        outcome = await digest(s)
        assert outcome["trusted"], outcome
        assert await confirmed(s) == {(lost.id, "missing_in_plugin"), (written.id, "content")}
