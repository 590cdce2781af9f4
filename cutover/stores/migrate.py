"""Numbered, paired migrations of schema `cutover`, one transaction each, under one advisory lock.

Two daemons that start at once are safe: the second waits for the first and finds nothing left to do. An applied
migration whose file has changed since is refused, because a schema that nobody can name cannot be trusted.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

from cutover.domain.errors import OperatorError
from cutover.stores.database import Connection, Database

_LOCK_KEY = 7304916220481577218
_NAME = re.compile(r"(\d{3})_([a-z_]+)\.up\.sql")

_BOOTSTRAP = """
create schema if not exists cutover;
create table if not exists cutover.migration (
    version integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
);
comment on table cutover.migration is 'Which migrations of this schema are applied.';
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered pair of files."""

    version: int
    name: str
    up: str
    down: str

    @property
    def checksum(self) -> str:
        """sha256 of the up file, hex."""
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration and when it was applied here (None: it was not)."""

    version: int
    name: str
    applied_at: datetime | None
    changed: bool


async def alone(connection: Connection) -> None:
    """Nobody else changes the schema until this transaction ends."""
    await connection.execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)


def available() -> tuple[Migration, ...]:
    """All migrations of the package, in order; raises when a file has no partner or a number is missing."""
    folder = resources.files("cutover.migrations")
    found = []
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if match := _NAME.fullmatch(entry.name):
            down = folder / entry.name.replace(".up.sql", ".down.sql")
            found.append(Migration(int(match[1]), match[2], entry.read_text(), down.read_text()))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise OperatorError("the packaged migrations are not numbered 1, 2, 3, …", next_step="reinstall cutover")
    return tuple(found)


async def up(database: Database) -> list[Migration]:
    """Apply what is missing, in order; gives back what was applied. Safe to call from several daemons at once."""
    applied: list[Migration] = []
    async with database.transaction(timeout=30) as connection:
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
        await connection.execute(_BOOTSTRAP)
        known = await _applied(connection)
        _refuse_changed(known)
        for migration in available():
            if migration.version not in known:
                await connection.execute(migration.up)
                await connection.execute(
                    "insert into cutover.migration (version, name, checksum) values ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
                applied.append(migration)
        if applied and await connection.fetchval("select to_regclass('cutover.legacy_stand_in')") is not None:
            await connection.execute(
                "select cutover.look_past_legacy()"
            )  # in A4 already: new functions are no exception
    return applied


async def down(database: Database, to: int = 0) -> list[Migration]:
    """Undo down to and without version `to`, newest first. 0 leaves no schema at all.

    Refused while the tenant is past A0: the schema then holds marks and the journal, and dropping it loses writes.
    """
    undone: list[Migration] = []
    async with database.transaction(timeout=30) as connection:
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK_KEY)
        if await connection.fetchval("select to_regclass('cutover.migration')") is None:
            return []
        known = await _applied(connection)
        await _refuse_past_a0(connection)
        for migration in reversed(available()):
            if migration.version > to and migration.version in known:
                await connection.execute(migration.down)
                await connection.execute("delete from cutover.migration where version = $1", migration.version)
                undone.append(migration)
        if to == 0:
            await connection.execute("drop table cutover.migration")
            await connection.execute("drop schema cutover")
    return undone


async def status(database: Database) -> list[MigrationStatus]:
    """Every packaged migration with its state in this database."""
    async with database.connection() as connection:
        known: dict[int, tuple[str, str, datetime]] = {}
        if await connection.fetchval("select to_regclass('cutover.migration')") is not None:
            known = await _applied(connection)
    return [
        MigrationStatus(m.version, m.name, known[m.version][2], known[m.version][1] != m.checksum)
        if m.version in known
        else MigrationStatus(m.version, m.name, None, changed=False)
        for m in available()
    ]


async def _applied(connection: Connection) -> dict[int, tuple[str, str, datetime]]:
    rows = await connection.fetch("select version, name, checksum, applied_at from cutover.migration")
    return {row["version"]: (row["name"], row["checksum"], row["applied_at"]) for row in rows}


def _refuse_changed(known: dict[int, tuple[str, str, datetime]]) -> None:
    packaged = {migration.version: migration for migration in available()}
    for version, (name, checksum, _) in sorted(known.items()):
        if version not in packaged:
            raise OperatorError(
                f"the database has migration {version:03d}_{name}, which this version of cutover does not know",
                next_step="run the newer version of cutover that applied it",
            )
        if packaged[version].checksum != checksum:
            raise OperatorError(
                f"migration {version:03d}_{name} was applied from a file that has changed since",
                next_step="run the version of cutover that applied it, or `cutover migrate down` in A0 and up again",
            )


async def _refuse_past_a0(connection: Connection) -> None:
    if await connection.fetchval("select to_regclass('cutover.phase_state')") is None:
        return
    phase = await connection.fetchval("select phase from cutover.phase_state")
    if phase not in (None, "A0"):
        raise OperatorError(
            f"schema cutover cannot be taken down in {phase}: it holds the marks and the journal",
            next_step="`cutover phase rollback` to A0 first",
        )
