"""A rehearsal's scratch schema, the replay in it, and the comparison (migration 013, decision 0021).

What is rehearsed is the very code that will run: its functions are read out of this database and made again with the
scratch schema's name in place of the tenant's. What it is compared with is not: the expectation is written down where
the words are invented, and asked from the plugin where its database can be reached.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cutover.domain.errors import OperatorError
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

SCHEMA = "cutover_rehearsal"
_REPLAY = (
    "sane",
    "prove_own",
    "write_as",
    "legacy_embedding_type",
    "touch_mark",
    "enter",
    "replay_words",
    "replay_ahead",
    "replay_journal",
)
_FUNCTIONS = """
select pg_get_functiondef(p.oid) from pg_proc p
where p.pronamespace = 'cutover'::regnamespace and p.proname = any ($1) order by array_position($1, p.proname::text)
"""
_PAGE = 2000


@dataclass(frozen=True, slots=True)
class RehearsalBounds:
    """How much a rehearsal copies and invents, and how long one of its statements may take (seconds)."""

    rows: int = 50_000
    rows_with_embeddings: int = 10_000
    words: int = 200_000
    invented: int = 2_000
    chunk: int = 2_000
    statement_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What was set up: rows copied, whether those are all, words of the real journal, words invented."""

    rows: int
    whole: bool
    words: int
    invented: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not as expected: which columns; never what they hold."""

    memory_id: UUID
    what: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One that ended. `age_seconds` by the database's clock."""

    run_id: UUID
    ok: bool
    phase: str
    ended_at: datetime
    seconds: float
    held_seconds: float
    rows: int
    whole: bool
    words: int
    invented: int
    mismatches: int
    why: str
    age_seconds: float

    def as_json(self) -> dict[str, Any]:
        """For the ops API."""
        return {
            "run": str(self.run_id),
            "ok": self.ok,
            "phase": self.phase,
            "ended_at": self.ended_at.isoformat(),
            "age_seconds": round(self.age_seconds, 1),
            "seconds": round(self.seconds, 3),
            "held_seconds": round(self.held_seconds, 3),
            "rows": self.rows,
            "whole": self.whole,
            "words": self.words,
            "invented": self.invented,
            "mismatches": self.mismatches,
            "why": self.why,
        }


class RehearsalStore:
    """The scratch schema of one tenant. Raises the errors of `Database`; touches no table of the tenant's."""

    def __init__(self, database: Database, plugin: Database | None, bounds: RehearsalBounds) -> None:
        self._database = database
        self._plugin = plugin
        self._bounds = bounds
        self._type: str | None = None

    # -- the scratch schema -------------------------------------------------------------------------------------

    async def set_up(self) -> Scene:
        """Make the schema anew, copy, invent, and write down what is expected."""
        self._type = await self._database.fetchval("select cutover.legacy_embedding_type()")
        embedding = self._type is not None
        rows = self._bounds.rows_with_embeddings if embedding else self._bounds.rows
        async with self._bounded() as connection:
            await connection.execute(
                query("rehearsal_scene").format(
                    rows=rows, words=self._bounds.words, embedding=", embedding" if embedding else ""
                )
            )
            for (definition,) in await connection.fetch(_FUNCTIONS, list(_REPLAY)):
                await connection.execute(renamed(definition))
        async with self._bounded() as connection:
            await connection.execute(
                query("rehearsal_invent").format(invented=self._bounds.invented, fingerprint=self._fingerprint("a"))
            )
        await self._expect_real_words()
        row = await self._database.fetchrow(
            f"select (select count(*) from {SCHEMA}.agent_memories) as rows,"
            " (select count(*) from (select from public.agent_memories limit $1) a) as all_rows,"
            f" count(*) filter (where namespace <> 'rehearsal') as words,"
            f" count(*) filter (where namespace = 'rehearsal') as invented from {SCHEMA}.journal",
            rows + 1,
            timeout=self._bounds.statement_seconds,
        )
        assert row is not None  # noqa: S101 - aggregates give one row
        return Scene(row["rows"], row["all_rows"] <= rows, row["words"], row["invented"])

    async def tear_down(self) -> None:
        """Drop the schema, if it is there."""
        async with self._bounded() as connection:
            await connection.execute(f"drop schema if exists {SCHEMA} cascade")

    # -- the replay ---------------------------------------------------------------------------------------------

    async def replay_chunk(self, after: UUID | None) -> UUID | None:
        """A chunk ahead, as in A3; None when that was the last."""
        async with self._bounded() as connection:
            row = await connection.fetchrow(
                f"select * from {SCHEMA}.replay_ahead(1, $1, $2)", after, self._bounds.chunk
            )
        assert row is not None  # noqa: S101 - the function gives one row
        return row["last_id"] if row["seen"] == self._bounds.chunk else None

    async def replay_rest(self) -> None:
        """What is replayed while writes are held."""
        async with self._bounded() as connection:
            await connection.execute(f"select {SCHEMA}.replay_journal()")

    # -- the comparison -----------------------------------------------------------------------------------------

    async def differences(self, limit: int) -> tuple[int, Sequence[Difference]]:
        """How many rows are not as expected, and the first of them."""
        async with self._bounded() as connection:
            rows = await connection.fetch(query("rehearsal_compare").format(fingerprint=self._fingerprint("a")), limit)
        return (rows[0]["total"] if rows else 0), [Difference(row["id"], row["what"]) for row in rows]

    def _fingerprint(self, alias: str) -> str:
        return "null::text" if self._type is None else f"md5({alias}.embedding::text)"

    async def _expect_real_words(self) -> None:
        """Of what the real journal speaks of: as the plugin has it, where it can be asked; else by the words."""
        asked = await self._expect_as_the_plugin() if self._plugin is not None else []
        spoken = (
            "null::text"
            if self._type is None
            else f"md5(translate(s.embedding::text, '{{}}', '[]')::{self._type}::text)"
        )
        async with self._bounded() as connection:
            await connection.execute(query("rehearsal_real_words").replace("{spoken}", spoken), asked)

    async def _expect_as_the_plugin(self) -> list[UUID]:
        assert self._plugin is not None  # noqa: S101 - asked above
        known: list[UUID] = []
        upserts = (
            f"select distinct on (memory_id) memory_id from {SCHEMA}.journal where namespace <> 'rehearsal'"
            " and memory_id > $1 order by memory_id limit $2"
        )
        after = UUID(int=0)
        while ids := [row[0] for row in await self._database.fetch(upserts, after, _PAGE)]:
            after = ids[-1]
            held = await self._plugin.fetch(query("rehearsal_plugin_rows"), ids, timeout=self._bounds.statement_seconds)
            moved = {row[0] for row in await self._database.fetch(query("rehearsal_moved_on"), ids)}
            told = [row for row in held if row["id"] not in moved]
            async with self._bounded() as connection:
                await connection.executemany(
                    query("rehearsal_expect"),
                    [
                        (
                            row["id"], row["workspace_id"], row["content"], row["scope"], row["label"],
                            row["created_at"], row["updated_at"], row["embedding"] if self._type else None,
                        )
                        for row in told
                    ],
                )  # fmt: skip
            known += [row["id"] for row in told]
        return known

    def _bounded(self) -> "_Bounded":
        return _Bounded(self._database, self._bounds.statement_seconds)

    # -- the record ---------------------------------------------------------------------------------------------

    async def record(
        self, run_id: UUID, phase: str, began_at: datetime, scene: Scene | None, seconds: float, held_seconds: float,
        mismatches: int, why: str,
    ) -> None:  # fmt: skip
        """Put down what one came to; `why` empty: it went well."""
        found = scene or Scene(0, whole=False, words=0, invented=0)
        await self._database.execute(
            "insert into cutover.rehearsal (run_id, ok, phase, began_at, seconds, held_seconds, rows, whole, words,"
            " invented, mismatches, why) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, left($12, 1000))",
            run_id, not why, phase, began_at, seconds, held_seconds, found.rows, found.whole, found.words,
            found.invented, mismatches, why,
        )  # fmt: skip

    async def newest(self) -> Rehearsal | None:
        """The last that ended."""
        row = await self._database.fetchrow(query("rehearsal_newest"))
        if row is None:
            return None
        return Rehearsal(
            row["run_id"], row["ok"], row["phase"], row["ended_at"], row["seconds"], row["held_seconds"], row["rows"],
            row["whole"], row["words"], row["invented"], row["mismatches"], row["why"], row["age"],
        )  # fmt: skip

    async def now(self) -> datetime:
        """By the database's clock."""
        value: datetime = await self._database.fetchval("select clock_timestamp()")
        return value


class _Bounded:
    """A transaction in which no statement takes longer than it may, and no lock is waited for."""

    def __init__(self, database: Database, seconds: float) -> None:
        self._transaction = database.transaction()
        self._seconds = seconds

    async def __aenter__(self) -> Connection:
        connection = await self._transaction.__aenter__()
        await connection.execute(
            f"set local statement_timeout = {int(self._seconds * 1000)}; set local lock_timeout = 1000;"
            " set local synchronous_commit = off"
        )
        return connection

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._transaction.__aexit__(*error)


def renamed(definition: str) -> str:
    """A function of schema cutover as one of the scratch schema, with everything it names. Raises `OperatorError` for
    one that would reach past the scratch schema (the tree of workspaces may be read)."""
    made = re.sub(r"\bcutover\.(?=[a-z_])", f"{SCHEMA}.", definition)
    made = made.replace("public.agent_memories", f"{SCHEMA}.agent_memories")
    if left := set(re.findall(r"\bpublic\.\w+", made)) - {"public.workspaces"}:
        raise OperatorError(
            f"the replay names {', '.join(sorted(left))}, which a rehearsal cannot stand in for",
            next_step="this is a fault of this version: report it",
        )
    return made
