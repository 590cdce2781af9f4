"""The sample tenant as a database with people in it: rows, seats that act, and what the history starts from."""

from collections.abc import Set
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from cutover.embedded import sample_data
from cutover.embedded.callers import Seat
from cutover.embedded.history import History
from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.sample_data import SampleTenant, SampleWorkspace
from cutover.embedded.stack import prepare_database
from cutover.embedded.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Resident:
    """A memory that was there before."""

    memory_id: UUID
    seat: Seat | None
    """Whose it is; None for rows without a workspace that acts."""
    scope: str
    content: str
    placeable: bool
    """Whether it has a place in the plugin: it belongs to a workspace and is not empty."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The database, who acts in it, and what it held at first."""

    url: str
    tenant: SampleTenant
    seats: list[Seat]
    residents: list[Resident]

    def introduce(self, traffic: Traffic, history: History, *, leaving_out: Set[UUID] = frozenset()) -> None:
        """Tell the history what was there, and the callers what they may edit and delete."""
        for each in self.residents:
            if each.placeable and each.memory_id not in leaving_out:
                history.found(each.memory_id, each.content)
                if each.seat is not None:
                    traffic.know(each.memory_id, each.seat, each.scope)


def _seats(workspaces: tuple[SampleWorkspace, ...]) -> list[Seat]:
    by_id = {each.id: each for each in workspaces}

    def root(each: SampleWorkspace) -> UUID:
        while each.parent_id is not None:
            each = by_id[each.parent_id]
        return each.id

    return [Seat(each.id, each.token, each.parent_id, root(each)) for each in workspaces if not each.removed]


async def sample_database(postgres: EmbeddedPostgres, name: str, *, memories: int = 5_000) -> Sample:
    """Make the database `name` with the sample tenant in it."""
    url = await prepare_database(postgres, name)
    connection = await asyncpg.connect(url)
    try:
        tenant = await sample_data.seed(connection, memories=memories)
        rows = await connection.fetch("SELECT id, workspace_id, scope, content FROM agent_memories ORDER BY id")
    finally:
        await connection.close()
    seats = _seats(tenant.workspaces)
    by_workspace = {seat.workspace_id: seat for seat in seats}
    residents = [
        Resident(
            row["id"],
            by_workspace.get(row["workspace_id"]),
            row["scope"],
            row["content"],
            placeable=row["workspace_id"] is not None and bool(row["content"].strip()),
        )
        for row in rows
    ]
    return Sample(url, tenant, seats, residents)
