"""The end: our triggers on the tenant's tables and schema `cutover` go, in one transaction (architecture §7)."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.domain.archive import Supplement
from cutover.domain.errors import BootRefused, OperatorError
from cutover.stores import migrate
from cutover.stores.archive_files import add_supplement, read_manifest
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is to remove, and what is in the way of that. Each of `open` is a sentence."""

    phase: str
    triggers: tuple[str, ...]
    tables: tuple[str, ...]
    archives: tuple[str, ...]
    open: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the CLI."""
        return {
            "phase": self.phase,
            "triggers": list(self.triggers),
            "tables": list(self.tables),
            "archives": list(self.archives),
            "in_the_way": list(self.open),
        }


async def survey(database: Database, gone: frozenset[str] = frozenset()) -> Survey:
    """Look; raises `OperatorError` where there is no schema `cutover`. `gone`: paths of archives that nobody has any
    more."""
    async with database.connection() as connection:
        return await _survey(connection, gone)


async def retire(database: Database, gone: frozenset[str] = frozenset()) -> Survey:
    """Remove it all; gives what was removed. Raises `OperatorError` when anything is in the way: nothing is removed.

    With schema cutover goes what says which memories were deleted. So that is first written beside every archive: a
    deleted memory does not come back with one."""
    async with database.transaction(timeout=30) as connection:
        await connection.execute("set local lock_timeout = '2s'")
        await migrate.alone(connection)  # a daemon that starts now waits, and then finds that there is nothing
        found = await _survey(connection, gone)
        if found.open:
            raise OperatorError(
                f"the tenant cannot be retired: {'; '.join(found.open)}", next_step="cutover retire --dry-run lists it"
            )
        await _supplement(connection, [Path(path) for path in found.archives])
        for trigger in found.triggers:
            name, _, table = trigger.partition(" on ")
            await connection.execute(f"drop trigger if exists {name} on {table}")
        await connection.execute("drop schema cutover cascade", timeout=60.0)
        return found


async def _supplement(connection: Connection, archives: list[Path]) -> None:
    row = await connection.fetchrow(query("retire_supplement"), timeout=60.0)
    assert row is not None  # noqa: S101 - aggregates give one row
    for path in archives:
        _, sealed = await asyncio.to_thread(read_manifest, path)
        withdrawn = tuple(zip(row["withdrawn_seqs"], map(str, row["withdrawn_ids"]), strict=True))
        said = Supplement(sealed, row["made_at"], tuple(map(str, row["deleted"])), withdrawn)
        await asyncio.to_thread(add_supplement, path, said)


async def _unfit(connection: Connection, gone: frozenset[str]) -> tuple[list[str], list[str]]:
    """The archives that were made, but for those that are gone; and what keeps some from being added to."""
    seals: dict[str, set[str]] = {}
    for row in await connection.fetch(
        "select r.outcome ->> 'path' as path, r.outcome ->> 'sealed' as sealed from cutover.task_run r"
        " where r.kind = 'archive' and r.state = 'finished' order by r.started_at desc"
    ):
        if row["path"] not in gone:
            seals.setdefault(row["path"], set()).add(row["sealed"])
    wrong = []
    for path, known in seals.items():
        try:
            _, sealed = await asyncio.to_thread(read_manifest, Path(path))
            why = "" if sealed in known else "it is another one than was written"
        except OperatorError as error:
            why = error.message
        if why:
            wrong.append(
                f"what was deleted since cannot be written beside the archive {path}: {why}"
                " (put it back, or say --gone for one that nobody has any more)"
            )
    return list(seals), wrong


async def _survey(connection: Connection, gone: frozenset[str]) -> Survey:
    if await connection.fetchval("select to_regclass('cutover.drop_state')") is None:
        raise OperatorError(
            "there is no schema cutover in this database: nothing to retire", next_step="cutover doctor"
        )
    row = await connection.fetchrow(query("retire_survey"))
    assert row is not None  # noqa: S101 - aggregates give one row
    counts = {
        "marks wait for delivery": row["marks"],
        "intents are not settled": row["intents"],
        "namespace deletes may still land": row["namespaces"],
        "connections of a cutover daemon are open (stop it first)": row["daemons"],
    }
    found = [f"{count} {what}" for what, count in counts.items() if count]
    if row["phase"] != "A4" or row["state"] != "dropped":
        done = "agent_memories is not dropped yet" if row["phase"] == "A4" else "retiring comes after the drop in A4"
        found.insert(0, f"the tenant is in {row['phase']}: {done}")
    archives, wrong = await _unfit(connection, gone)
    found += wrong
    return Survey(row["phase"], tuple(row["triggers"]), tuple(row["tables"]), tuple(archives), tuple(found))


async def refuse_retired(tenant: str, database: Database) -> None:
    """Without agent_memories there is nothing to move: a daemon that began at A0 would answer with errors only."""
    if await database.fetchval(
        "select to_regclass('cutover.phase_state') is null and to_regclass('public.agent_memories') is null"
    ):
        raise BootRefused(
            f"the database of tenant {tenant} has no agent_memories: it was retired, or it is not a tenant's database",
            next_step="MEMORY_PLUGIN_URL of workspace-server names the plugin; back: `cutover archive restore`",
        )
