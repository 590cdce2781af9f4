"""The tenant that is measured on: a few workspaces with tokens, on a PostgreSQL that really flushes (fsync on)."""

import hashlib
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from cutover.embedded.postgres import EmbeddedPostgres

SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "30min"}
"""A server of ordinary size whose checkpoints do not fall into a round by chance; durability as it comes."""

_WORDS = (
    "the customer prefers invoices by mail on the first day of every month and wants them in French",
    "deploys of the billing service go through the staging cluster and need a second pair of eyes",
    "the nightly export failed twice because the disk of the reporting host was full",
    "retry the webhook with the signature of the new key and not with the old one",
)


@dataclass(frozen=True, slots=True)
class Seat:
    """One workspace and the bearer token that acts for it."""

    workspace_id: UUID
    token: str


async def add_workspaces(database_url: str, count: int) -> list[Seat]:
    """Root workspaces with one live token each."""
    seats = [Seat(uuid4(), f"bench-token-{uuid4().hex}") for _ in range(count)]
    connection = await asyncpg.connect(database_url)
    try:
        await connection.executemany(
            "INSERT INTO workspaces (id, name, status) VALUES ($1, $2, 'online')",
            [(seat.workspace_id, f"bench {n}") for n, seat in enumerate(seats)],
        )
        await connection.executemany(
            "INSERT INTO workspace_auth_tokens (workspace_id, token_hash, prefix) VALUES ($1, $2, $3)",
            [(seat.workspace_id, hashlib.sha256(seat.token.encode()).digest(), seat.token[:8]) for seat in seats],
        )
    finally:
        await connection.close()
    return seats


def content(number: int) -> str:
    """About 200 characters of prose, no two alike."""
    return f"{_WORDS[number % 4]}; noted as item {number}, and {_WORDS[(number // 4) % 4]}"


async def add_memories(database_url: str, seats: list[Seat], count: int) -> None:
    """`count` LOCAL memories spread over the workspaces, by direct SQL."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.copy_records_to_table(
            "agent_memories",
            records=[(uuid4(), seats[n % len(seats)].workspace_id, content(n), "LOCAL") for n in range(count)],
            columns=["id", "workspace_id", "content", "scope"],
        )
        await connection.execute("ANALYZE agent_memories")
    finally:
        await connection.close()


def socket_directory(postgres: EmbeddedPostgres) -> str:
    """The `host` of libpq for pgbench."""
    return postgres.url().rpartition("host=")[2]
