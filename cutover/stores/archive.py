"""The database's side of archives: tables out in key order, with digests that the database makes itself, and in again.

All reading of one archive is in one snapshot. Text is what a digest is made of, so it is the same on every version of
PostgreSQL and whatever the order of a table's columns; the settings that could change a text are fixed first.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from cutover.domain.archive import JOURNAL, KV, MEMORIES, TOMBSTONES, ArchivedTable, Column
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

_SECONDS = 600.0
_TEXTS = """
set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local intervalstyle = 'iso_8601';
set local extra_float_digits = 1; set local bytea_output = 'hex'; set local search_path = pg_catalog
"""
"""With nothing on the search path every name comes with its schema."""


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    relation: str
    key: str
    where: str = "true"


_SOURCES = (
    _Source("natives", "cutover.native", "memory_id"),
    _Source("extras", "cutover.extra", "memory_id"),
    _Source(KV, "public.workspace_memory", "id"),
    # What it took over of agent_memories is in the archive already.
    _Source(JOURNAL, "cutover.journal", "seq", "not x.adopted"),
    _Source(TOMBSTONES, "cutover.tombstone", "memory_id"),
)


@dataclass(frozen=True, slots=True)
class Situation:
    """The tenant at the moment of the snapshot."""

    database: str
    phase: str
    epoch: int
    legacy_changes: int
    snapshot_at: str
    server: str
    encoding: str


class Snapshot:
    """One look at all tables."""

    def __init__(self, connection: Connection, tables: tuple[ArchivedTable, ...], situation: Situation) -> None:
        self._connection = connection
        self.tables = tables
        self.situation = situation

    async def edge(self, table: ArchivedTable, after: str | None, rows: int) -> str | None:
        """The key of the last of the next `rows` rows; None when there is none any more."""
        last = await self._connection.fetchval(
            f"select d.k::text from (select x.{table.key} as k {_from(table, after, None)} order by k limit $1) d"
            " order by d.k desc limit 1",
            rows,
            timeout=_SECONDS,
        )
        return last if last is None else str(last)

    async def digest(self, table: ArchivedTable, after: str | None, last: str) -> tuple[int, str]:
        """How many rows a range has, and their digest."""
        return await digest(self._connection, table, table.relation, after, last)

    async def copy(
        self, table: ArchivedTable, after: str | None, last: str, take: Callable[[bytes], Coroutine[Any, Any, None]]
    ) -> None:
        """A range as COPY text."""
        columns = ", ".join(f'x."{name}"' for name in table.copied)
        await self._connection.copy_from_query(
            f"select {columns} {_from(table, after, last)} order by x.{table.key}",
            output=take, format="text", encoding="UTF8", timeout=_SECONDS,
        )  # fmt: skip


class ArchiveStore:
    """One tenant's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Look at everything as it is now. After the drop there is no table of legacy's among it."""
        async with self._database.transaction(isolation="repeatable_read") as connection:
            await connection.execute(_TEXTS)
            row = await connection.fetchrow(query("archive_situation"))
            assert row is not None  # noqa: S101 - one row always
            legacy = await connection.fetchval("select cutover.legacy_relation()")
            sources = [*([] if legacy is None else [_Source(MEMORIES, legacy, "id")]), *_SOURCES]
            tables = [await describe(connection, source.name, source.relation, source.key) for source in sources]
            yield Snapshot(connection, tuple(table for table in tables if table is not None), Situation(**dict(row)))

    async def rows_and_digests(
        self, table: ArchivedTable, ranges: list[tuple[str | None, str]]
    ) -> list[tuple[int, str]]:
        """As they are now, one for each range."""
        async with self._database.transaction(isolation="repeatable_read") as connection:
            await connection.execute(_TEXTS)
            return [await digest(connection, table, table.relation, after, last) for after, last in ranges]


async def digest(
    connection: Connection, table: ArchivedTable, relation: str, after: str | None, last: str
) -> tuple[int, str]:
    """Rows of a range and their digest: sha256 over the sha256 of every row's text, in key order."""
    columns = ", ".join(f'x."{name}"' for name in sorted(table.copied))
    row = await connection.fetchrow(
        "select count(*) as rows, encode(sha256(coalesce(string_agg("
        f"sha256(convert_to(row({columns})::text, 'UTF8')), ''::bytea order by x.{table.key}), ''::bytea)), 'hex')"
        f" as digest {_from(table, after, last, relation)}",
        timeout=_SECONDS,
    )
    assert row is not None  # noqa: S101 - aggregates give one row
    return row["rows"], row["digest"]


async def texts(connection: Connection) -> None:
    """Fix, for this transaction, the settings that the text of a value depends on."""
    await connection.execute(_TEXTS)


async def describe(connection: Connection, name: str, relation: str, key: str) -> ArchivedTable | None:
    """A table as PostgreSQL knows it; None when there is none."""
    rows = await connection.fetch(query("archive_columns"), relation)
    if not rows:
        return None
    columns = tuple(
        Column(row["name"], row["type"], row["not_null"], row["expression"], row["generated"]) for row in rows
    )
    constraints = await connection.fetch(query("archive_constraints"), relation)
    indexes = await connection.fetch(query("archive_indexes"), relation)
    return ArchivedTable(
        name,
        relation,
        key,
        next(column.type for column in columns if column.name == key),
        columns,
        tuple((row["name"], row["definition"]) for row in constraints),
        tuple(row["definition"] for row in indexes),
    )


def _from(table: ArchivedTable, after: str | None, last: str | None, relation: str | None = None) -> str:
    """The rows of a range. Keys are uuids and numbers, as PostgreSQL printed them; anything else is refused."""
    where = [next((source.where for source in _SOURCES if source.name == table.name), "true")]
    if relation is not None and relation != table.relation:
        where = ["true"]
    where += [f"x.{table.key} {sign} '{_plain(key)}'::{table.key_type}" for sign, key in _ends(after, last)]
    return f"from {relation or table.relation} x where {' and '.join(where)}"


def _ends(after: str | None, last: str | None) -> Iterator[tuple[str, str]]:
    if after is not None:
        yield ">", after
    if last is not None:
        yield "<=", last


def _plain(key: Any) -> str:
    text = str(key)
    if not text.replace("-", "").isalnum():
        raise ValueError(f"not a key: {text!r}")
    return text
