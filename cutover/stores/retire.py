"""The end: our triggers on the tenant's tables and schema `cutover` go, in one transaction (architecture §7)."""

from dataclasses import dataclass
from typing import Any

from cutover.domain.errors import BootRefused, OperatorError
from cutover.stores import migrate
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


async def survey(database: Database) -> Survey:
    """Look; raises `OperatorError` where there is no schema `cutover`."""
    async with database.connection() as connection:
        return await _survey(connection)


async def retire(database: Database) -> Survey:
    """Remove it all; gives what was removed. Raises `OperatorError` when anything is in the way: nothing is removed."""
    async with database.transaction(timeout=30) as connection:
        await connection.execute("set local lock_timeout = '2s'")
        await migrate.alone(connection)  # a daemon that starts now waits, and then finds that there is nothing
        found = await _survey(connection)
        if found.open:
            raise OperatorError(
                f"the tenant cannot be retired: {'; '.join(found.open)}", next_step="cutover retire --dry-run lists it"
            )
        for trigger in found.triggers:
            name, _, table = trigger.partition(" on ")
            await connection.execute(f"drop trigger if exists {name} on {table}")
        await connection.execute("drop schema cutover cascade", timeout=60.0)
        return found


async def _survey(connection: Connection) -> Survey:
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
    return Survey(row["phase"], tuple(row["triggers"]), tuple(row["tables"]), tuple(row["archives"]), tuple(found))


async def refuse_retired(tenant: str, database: Database) -> None:
    """Without agent_memories there is nothing to move: a daemon that began at A0 would answer with errors only."""
    if await database.fetchval(
        "select to_regclass('cutover.phase_state') is null and to_regclass('public.agent_memories') is null"
    ):
        raise BootRefused(
            f"the database of tenant {tenant} has no agent_memories: it was retired, or it is not a tenant's database",
            next_step="MEMORY_PLUGIN_URL of workspace-server names the plugin; back: `cutover archive restore`",
        )
