"""An archive, back into a database: first into a schema of its own, as it was, then into the tables themselves.

The stage is compared with the manifest before anything is brought in, so nothing that differs is ever seen. Both steps
go part by part, each in a transaction with its record, so a restore that was killed goes on where it was.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg

from cutover.domain.archive import JOURNAL, MEMORIES, TOMBSTONES, ArchivedTable, Column, Manifest, Part
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
                f'create table "{self._name}".part (file text primary key, brought_in bigint, left_out bigint)'
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
                here = await connection.fetchval("select to_regclass('cutover.tombstone') is not null")
                done = await connection.execute(
                    f'insert into "{schema}"."agent_memories" ({columns}) select {columns}'
                    f" from {self._relation(MEMORIES)} x"
                    f" where x.id <= '{UUID(part.last)}' {_past(part)} and not {self._deleted(tombstones_here=here)}"
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

    def _deleted(self, *, tombstones_here: bool) -> str:
        """Whether a row was deleted, in the archive's own record or here since; a later upsert takes a delete back."""
        said = f"exists (select from {self._relation(TOMBSTONES)} t where t.memory_id = x.id)"
        last = _last_word(self._relation(JOURNAL))
        found = f"({said} and {last})"
        if tombstones_here:
            since = f"t.deleted_at > '{self._manifest.snapshot_at}'::timestamptz"
            here = f"exists (select from cutover.tombstone t where t.memory_id = x.id and {since})"
            found = f"({found} or ({here} and {_last_word('cutover.journal')}))"
        return found

    def _relation(self, table: str) -> str:
        return f'"{self._name}"."{table}"'


def _last_word(journal: str) -> str:
    return (
        f"coalesce((select j.op from {journal} j where j.memory_id = x.id and j.state in ('intent', 'applied')"
        " order by j.seq desc limit 1), 'forget') = 'forget'"
    )


def _past(part: Part) -> str:
    return "" if part.after is None else f"and x.id > '{UUID(part.after)}'"


async def _type_here(connection: Connection, column: Column) -> str:
    """A type that this database does not have (vector, where pgvector is missing) is held as the text it is."""
    known = await connection.fetchval("select to_regtype($1) is not null", column.type.split("(")[0])
    return column.type if known else "text"


async def _create(connection: Connection, schema: str, table: ArchivedTable) -> list[str]:
    """The table as the manifest describes it; what cannot be had here is left, and said."""
    notes: list[str] = []
    await connection.execute(f'create schema if not exists "{schema}"')
    lines = []
    for column in table.columns:
        if await _type_here(connection, column) != column.type:
            notes.append(f"column {column.name} was not made: this database has no type {column.type}")
            continue
        line = f'"{column.name}" {column.type}{" not null" if column.not_null else ""}'
        if column.default is not None:
            line += (
                f" generated always as ({column.default}) stored" if column.generated else f" default {column.default}"
            )
        lines.append(line)
    await connection.execute(f'create table "{schema}"."agent_memories" ({", ".join(lines)})')
    moved = table.relation.replace('"', "")
    statements = [
        *(
            (name, f'alter table "{schema}"."agent_memories" add constraint "{name}" {definition}')
            for name, definition in table.constraints
        ),
        *(
            (statement.split(" ")[2], statement.replace(f" ON {moved} ", f' ON "{schema}"."agent_memories" '))
            for statement in table.indexes
        ),
    ]
    for name, statement in statements:
        try:
            async with connection.transaction():
                await connection.execute(statement)
        except asyncpg.PostgresError as error:
            notes.append(f"{name} was not made: {type(error).__name__}")
    return notes


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    for block in unpacked(path):
        yield block
