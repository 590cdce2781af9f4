"""An archive, back into a database: first into a schema of its own, as it was, then into the tables themselves.

The stage is compared with the manifest before anything is brought in, so nothing that differs is ever seen. Both steps
go part by part, each in a transaction with its record, so a restore that was killed goes on where it was.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg

from cutover.domain.archive import (
    JOURNAL,
    MEMORIES,
    TOMBSTONES,
    ArchivedTable,
    Column,
    Manifest,
    Part,
    Supplement,
    unusual,
)
from cutover.domain.errors import DatabaseFault, OperatorError
from cutover.stores.archive import digest, texts
from cutover.stores.archive_files import unpacked
from cutover.stores.database import Connection, Database

_SECONDS = 600.0


class Stage:
    """A scratch schema that holds an archive as it was. `name`: the schema; `sealed`: the manifest's sha256."""

    def __init__(self, database: Database, manifest: Manifest, sealed: str, directory: Path, name: str) -> None:
        self._database = database
        self._manifest = manifest
        self._sealed = sealed
        self._directory = directory
        self._name = name

    async def prepare(self) -> int:
        """Make the schema, or find that of the same restore; gives how many parts are loaded. Raises `OperatorError`
        where the schema is somebody else's."""
        async with self._database.transaction() as connection:
            await texts(connection)
            if await connection.fetchval("select to_regnamespace($1)", self._name) is not None:
                return await self._resumed(connection)
            await connection.execute(f'create schema "{self._name}"')
            await connection.execute(
                f'create table "{self._name}".archive (sealed text not null);'
                f'create table "{self._name}".part (file text primary key, brought_in bigint, left_out bigint);'
                f'create table "{self._name}".deleted_since (memory_id uuid primary key);'
                f'create table "{self._name}".withdrawn (seq bigint primary key, memory_id uuid not null)'
            )
            await connection.execute(f'insert into "{self._name}".archive values ($1)', self._sealed)
            for table in self._manifest.tables:
                types = [await _type_here(connection, column) for column in table.columns if not column.generated]
                columns = ", ".join(f'"{name}" {kind}' for name, kind in zip(table.copied, types, strict=True))
                await connection.execute(
                    f'create unlogged table "{self._name}"."{table.name}" ({columns}, primary key ({table.key}))'
                )
            return 0

    async def _resumed(self, connection: Connection) -> int:
        try:
            sealed = await connection.fetchval(f'select sealed from "{self._name}".archive')
        except asyncpg.UndefinedTableError:
            sealed = None
        if sealed != self._sealed:
            raise OperatorError(
                f"schema {self._name} is there already and belongs to something else",
                next_step=f"if it is left over: drop schema {self._name} cascade",
            )
        return int(await connection.fetchval(f'select count(*) from "{self._name}".part'))

    async def load(self, part: Part) -> None:
        """One part, unless it is there already."""
        table = self._manifest.table(part.table)
        async with self._database.transaction() as connection:
            await texts(connection)
            taken = await connection.fetchval(
                f'insert into "{self._name}".part (file) values ($1) on conflict do nothing returning file', part.file
            )
            if taken is not None:
                await connection.copy_to_table(
                    table.name, schema_name=self._name, columns=list(table.copied), format="text", encoding="UTF8",
                    source=_blocks(self._directory / part.file), timeout=_SECONDS,
                )  # fmt: skip

    async def differing(self) -> list[str]:
        """The parts whose rows in the stage are not those of the manifest; and tables with more rows than it says."""
        wrong: list[str] = []
        async with self._database.transaction(isolation="repeatable_read") as connection:
            await texts(connection)
            for table in self._manifest.tables:
                relation = self._relation(table.name)
                for part in self._manifest.of(table.name):
                    found = await digest(connection, table, relation, part.after, part.last)
                    if found != (part.rows, part.digest):
                        wrong.append(part.file)
                rows = await connection.fetchval(f"select count(*) from {relation}", timeout=_SECONDS)
                if rows != self._manifest.rows(table.name):
                    wrong.append(table.name)
        return wrong

    async def drop(self) -> None:
        """The stage has done its work."""
        await self._database.execute(f'drop schema if exists "{self._name}" cascade', timeout=_SECONDS)

    # -- into the table itself -----------------------------------------------------------------------------------------

    async def make_target(self, schema: str) -> tuple[bool, list[str]]:
        """See that `schema`.agent_memories is there and may be filled: (whether it was made, notes). Raises
        `OperatorError` where it holds rows that this restore did not bring in, or lacks a column that is needed."""
        table = self._manifest.table(MEMORIES)
        async with self._database.transaction() as connection:
            await texts(connection)
            target = f'"{schema}"."agent_memories"'
            if await connection.fetchval("select to_regclass($1)", target) is None:
                return True, await _create(connection, schema, table)
            begun = await connection.fetchval(f'select count(*) from "{self._name}".part where brought_in is not null')
            if not begun and await connection.fetchval(f"select exists (select from {target})"):
                raise OperatorError(
                    f"{schema}.agent_memories is not empty",
                    next_step="restore into an empty database, or into another schema with --schema",
                )
            return False, []

    async def lacking(self, schema: str) -> list[tuple[str, int]]:
        """Columns of the archive that the target does not have, each with how many rows say something in it."""
        async with self._database.connection() as connection:
            has = {
                row["attname"]
                for row in await connection.fetch(
                    "select attname::text from pg_attribute where attrelid = to_regclass($1) and attnum > 0"
                    " and not attisdropped",
                    f'"{schema}"."agent_memories"',
                )
            }
            found = []
            for name in self._manifest.table(MEMORIES).copied:
                if name not in has:
                    rows = await connection.fetchval(
                        f'select count(*) from {self._relation(MEMORIES)} where "{name}" is not null', timeout=_SECONDS
                    )
                    found.append((name, int(rows)))
            return found

    async def tell(self, supplement: Supplement | None) -> bool:
        """What is known of the time after the archive, from its supplement and from a schema cutover that is here.
        False: nothing is."""
        async with self._database.transaction() as connection:
            here = bool(await connection.fetchval("select to_regclass('cutover.tombstone') is not null"))
            deleted, withdrawn = f'"{self._name}".deleted_since', f'"{self._name}".withdrawn'
            await connection.execute(f"truncate {deleted}, {withdrawn}")
            if here:
                await connection.execute(
                    f"insert into {deleted} select x.memory_id from cutover.tombstone x"
                    f" where {_last_word('cutover.journal', 'x.memory_id')} = 'forget';"
                    f"insert into {withdrawn} select j.seq, j.memory_id from cutover.journal j"
                    " where j.op = 'forget' and j.state = 'withdrawn'",
                    timeout=_SECONDS,
                )
            if supplement is not None:
                await connection.execute(
                    f"insert into {deleted} select unnest($1::uuid[]) on conflict do nothing",
                    supplement.deleted, timeout=_SECONDS,
                )  # fmt: skip
                await connection.execute(
                    f"insert into {withdrawn} select * from unnest($1::bigint[], $2::uuid[]) on conflict do nothing",
                    [seq for seq, _ in supplement.withdrawn], [each for _, each in supplement.withdrawn],
                    timeout=_SECONDS,
                )  # fmt: skip
            return here or supplement is not None

    async def said_later(self) -> tuple[int, int]:
        """What the archived journal says beyond the frozen table: memories of it with other words, and new ones."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                "select count(*) filter (where m.id is not null) as edited, count(*) filter (where m.id is null) as new"
                f" from (select distinct on (j.memory_id) j.memory_id, j.op, j.native from {self._relation(JOURNAL)} j"
                "       where j.state in ('intent', 'applied') order by j.memory_id, j.seq desc) w"
                f" left join {self._relation(MEMORIES)} m on m.id = w.memory_id"
                " where w.op = 'upsert' and not w.native",
                timeout=_SECONDS,
            )
            assert row is not None  # noqa: S101 - aggregates give one row
            return row["edited"], row["new"]

    async def bring_in(self, part: Part, schema: str, without: frozenset[str]) -> tuple[int, int]:
        """The rows of one part, but for those that were deleted after: (brought in, left out)."""
        table = self._manifest.table(MEMORIES)
        columns = ", ".join(f'"{name}"' for name in table.copied if name not in without)
        try:
            async with self._database.transaction() as connection:
                known = await connection.fetchrow(
                    f'select brought_in, left_out from "{self._name}".part where file = $1 for update', part.file
                )
                assert known is not None, "parts are brought in once they are loaded"  # noqa: S101
                if known["brought_in"] is not None:
                    return known["brought_in"], known["left_out"]
                done = await connection.execute(
                    f'insert into "{schema}"."agent_memories" ({columns}) select {columns}'
                    f" from {self._relation(MEMORIES)} x"
                    f" where x.id <= '{UUID(part.last)}' {_past(part)} and not {self._deleted()}"
                    " order by x.id",
                    timeout=_SECONDS,
                )
                brought_in = int(done.rsplit(" ", 1)[1])
                await connection.execute(
                    f'update "{self._name}".part set brought_in = $2, left_out = $3 where file = $1',
                    part.file, brought_in, part.rows - brought_in,
                )  # fmt: skip
                return brought_in, part.rows - brought_in
        except DatabaseFault as fault:
            if fault.sqlstate == "23503":
                raise OperatorError(
                    f"{part.file} holds memories of workspaces that this database does not have",
                    next_step="restore the table workspaces first, or restore with --schema into a schema of its own",
                ) from fault
            raise

    def _deleted(self) -> str:
        """Whether a row was deleted, in the archive's own record or since; a later upsert takes a delete back, and one
        that was under way when the archive was made and withdrawn later never was."""
        withdrawn = f'"{self._name}".withdrawn'
        said = f"exists (select from {self._relation(TOMBSTONES)} t where t.memory_id = x.id)"
        stands = f"not exists (select from {withdrawn} w where w.seq = j.seq and w.memory_id = j.memory_id)"
        # No word of the journal's is left: the tombstone was that of the delete which never was, or older than all.
        otherwise = f"case when exists (select from {withdrawn} w where w.memory_id = x.id) then '' else 'forget' end"
        last = _last_word(self._relation(JOURNAL), "x.id", stands, otherwise)
        since = f'exists (select from "{self._name}".deleted_since d where d.memory_id = x.id)'
        return f"({since} or ({said} and {last} = 'forget'))"

    def _relation(self, table: str) -> str:
        return f'"{self._name}"."{table}"'


def _last_word(journal: str, memory: str, stands: str = "true", otherwise: str = "'forget'") -> str:
    """What was said last of a memory, as SQL; `otherwise` where nothing was."""
    return (
        f"coalesce((select j.op from {journal} j where j.memory_id = {memory} and j.state in ('intent', 'applied')"
        f" and {stands} order by j.seq desc limit 1), {otherwise})"
    )


def _past(part: Part) -> str:
    return "" if part.after is None else f"and x.id > '{UUID(part.after)}'"


async def _type_here(connection: Connection, column: Column) -> str:
    """A type that this database does not have (vector, where pgvector is missing) is held as the text it is."""
    known = await connection.fetchval("select to_regtype($1) is not null", column.type.split("(")[0])
    return column.type if known else "text"


async def _create(connection: Connection, schema: str, table: ArchivedTable) -> list[str]:
    """The table as the manifest describes it; what cannot be had here, or is not v1's, is left, and said.

    The manifest is whatever somebody put there: the seal has no key. So each statement is prepared, which cannot hold a
    second one, and an expression that calls what v1 does not call is never run.
    """
    notes: list[str] = []
    await connection.execute(f'create schema if not exists "{schema}"')
    lines = []
    for column in table.columns:
        if await _type_here(connection, column) != column.type:
            notes.append(f"column {column.name} was not made: this database has no type {column.type}")
            continue
        line = f'"{column.name}" {column.type}{" not null" if column.not_null else ""}'
        if column.default is not None and (odd := unusual(column.default)):
            notes.append(f"the expression of column {column.name} was left out: it has {odd}, which v1 does not")
        elif column.default is not None:
            line += (
                f" generated always as ({column.default}) stored" if column.generated else f" default {column.default}"
            )
        lines.append(line)
    await _one(connection, f'create table "{schema}"."agent_memories" ({", ".join(lines)})')
    moved = table.relation.replace('"', "")
    target = f'"{schema}"."agent_memories"'
    statements = [
        *((name, what, f'alter table {target} add constraint "{name}" {what}') for name, what in table.constraints),
        *(
            (_index_name(what), what.split(" USING ", 1)[-1], what.replace(f" ON {moved} ", f" ON {target} ", 1))
            for what in table.indexes
        ),
    ]
    for name, what, statement in statements:
        if odd := unusual(what):
            notes.append(f"{name} was not made: it has {odd}, which v1 does not")
            continue
        if statement.startswith("alter "):
            fits = what.startswith(("PRIMARY KEY ", "UNIQUE ", "CHECK ", "FOREIGN KEY "))
        else:
            fits = (
                statement.startswith(("CREATE INDEX ", "CREATE UNIQUE INDEX ")) and f" ON {target} USING " in statement
            )
        if not fits:
            notes.append(f"{name} was not made: it is no constraint and no index of the table")
            continue
        try:
            async with connection.transaction():
                await _one(connection, statement)
        except asyncpg.PostgresError as error:
            notes.append(f"{name} was not made: {type(error).__name__}")
    return notes


def _index_name(statement: str) -> str:
    return statement.split(" ON ", 1)[0].rsplit(" ", 1)[-1]


async def _one(connection: Connection, statement: str) -> None:
    """Run one statement. PostgreSQL refuses to prepare two."""
    await (await connection.prepare(statement)).fetch()


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    for block in unpacked(path):
        yield block
