"""The soak clock's row, the sweeps it has yet to take in, and its events: `cutover.soak…` (migration 013)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from cutover.domain.soak_clock import COUNT, DIGEST, Observation, Run, SoakState, verdict_of
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

_WITNESS = {"sweep.count": COUNT, "sweep.digest": DIGEST}


@dataclass(frozen=True, slots=True)
class Told:
    """What one round of moving the clock came to. `now` is the database's clock. `state` None: not in A3."""

    now: datetime
    state: SoakState | None
    taken: int


class SoakStore:
    """One tenant's soak clock. Raises the errors of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self) -> Told:
        """The clock as it is; in A3, but before the first sweep, it stands at zero."""
        async with self._database.transaction() as connection:
            return await self._read(connection)

    async def take_in(self, advance: Callable[[SoakState, Observation], SoakState]) -> Told:
        """Move the clock by every sweep that it has not heard of. Two daemons that try at once wait for each other, and
        the second finds nothing left."""
        async with self._database.transaction() as connection:
            await connection.execute(query("soak_begin"))
            told = await self._read(connection, lock=True)
            fed = sorted(await connection.fetch(query("soak_take")), key=lambda row: row["seq"])
            if told.state is None or not fed:
                return told
            state = told.state
            for row in fed:
                if row["epoch"] == state.epoch:
                    before, state = state, advance(state, _observation(row))
                    if state.resets > before.resets:
                        await connection.execute(
                            query("soak_reset"), state.epoch, before.green_seconds, state.last_reset_why, row["run_id"]
                        )
            await connection.execute(query("soak_move"), *_columns(state))
            return Told(told.now, state, len(fed))

    async def _read(self, connection: Connection, *, lock: bool = False) -> Told:
        row = await connection.fetchrow(query("soak_read") + (" FOR UPDATE OF s" if lock else ""))
        if row is None:  # not begun
            now, epoch = await connection.fetchrow(  # type: ignore[misc]
                "select clock_timestamp(), (select epoch from cutover.phase_state where phase = 'A3')"
            )
            return Told(now, None if epoch is None else SoakState(epoch), 0)
        return Told(row["now"], _state(row), 0)

    async def resets(self, limit: int) -> list[dict[str, Any]]:
        """The last resets, newest first, of whatever stay."""
        rows = await self._database.fetch(query("soak_resets"), limit)
        return [
            {"at": row["at"].isoformat(), "epoch": row["epoch"], "lost_seconds": row["green_seconds"],
             "why": row["why"], "run": str(row["run_id"]) if row["run_id"] else None}
            for row in rows
        ]  # fmt: skip


def _observation(row: asyncpg.Record) -> Observation:
    outcome: dict[str, Any] = json.loads(row["outcome"])
    witness, said = _WITNESS[row["kind"]], str(outcome.get("outcome", "failed"))
    verdict = verdict_of(
        witness, said, trusted=bool(outcome.get("trusted")), coverage=float(outcome.get("coverage") or 0.0)
    )
    return Observation(
        witness,
        verdict,
        row["ended_at"],
        float(outcome.get("seconds") or 0.0),
        full=bool(outcome.get("full")),
        why=_why(row["run_id"], witness, said, outcome),
    )


def _why(run: UUID, witness: str, said: str, outcome: dict[str, Any]) -> str:
    """In one sentence, what a red sweep found; no content."""
    if said == "drift":
        found = f"{outcome.get('unexplained')} rows of unexplained drift"
    elif said == "divergent":
        found = ", ".join(f"{count} {what}" for what, count in sorted(dict(outcome.get("confirmed") or {}).items()))
        found = f"confirmed differences: {found}"
    elif said == "untrusted":
        found = "it missed faults that were planted for it"
    else:
        found = said
    return f"{witness} sweep {run}: {found}"


def _state(row: asyncpg.Record) -> SoakState:
    return SoakState(
        row["epoch"],
        row["green_seconds"],
        row["credited_to"],
        Run(row["count_since"], row["count_until"]),
        Run(row["digest_since"], row["digest_until"]),
        Run(row["full_since"], row["full_until"]),
        row["resets"],
        row["last_reset_at"],
        row["last_reset_why"],
    )


def _columns(state: SoakState) -> tuple[object, ...]:
    return (
        state.epoch, state.green_seconds, state.credited_to, state.count.since, state.count.until, state.digest.since,
        state.digest.until, state.full.since, state.full.until, state.resets, state.last_reset_at,
        state.last_reset_why,
    )  # fmt: skip
