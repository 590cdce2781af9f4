"""`cutover.divergence` as operators read and settle it (architecture §4). Hashes and lengths; never content.

The rules of a repair are in `cutover.mark_for_repair`: it only marks, so the memory's present state is delivered under
the same leases as any live change, and a later sweep says whether that helped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from cutover.domain.divergence import REPAIRED_BY_MARK, DivergenceClass, DivergenceState
from cutover.domain.findings import FindingFilter, onset
from cutover.stores.database import Database
from cutover.stores.sql import query

_UNREPAIRABLE = sorted(set(DivergenceClass) - REPAIRED_BY_MARK)
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class OpenFindings:
    """What is open: rows by class and state, and the first sight of the oldest confirmed one."""

    rows: dict[tuple[DivergenceClass, DivergenceState], int]
    oldest_confirmed: datetime | None

    def in_state(self, state: DivergenceState) -> dict[str, int]:
        """Rows by class in one state, only those there are."""
        return {cls.value: rows for (cls, each), rows in sorted(self.rows.items()) if each is state}

    def as_json(self) -> dict[str, Any]:
        """For the ops API: `{state: {class: rows}}` and the age's beginning."""
        return {
            **{state.value: self.in_state(state) for state in DivergenceState},
            "oldest_confirmed": self.oldest_confirmed,
        }


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair came to: memories marked, findings by class, and how many memories it left for another call."""

    marked: int
    findings: dict[str, int]
    remaining: int


class FindingStore:
    """One tenant's divergences."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, chosen: FindingFilter, *, limit: int, after: tuple[UUID, str] | None = None
    ) -> list[dict[str, Any]]:
        """Findings by memory and class, from behind `after` on."""
        memory, cls = after if after is not None else (None, None)
        rows = await self._database.fetch(
            query("findings_list"), *_arguments(chosen), memory, cls, limit, timeout=_SECONDS
        )
        return [_finding(row) for row in rows]

    async def groups(self, chosen: FindingFilter, *, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The largest groups of findings that likely have one cause, and how many groups there are."""
        rows = await self._database.fetch(query("findings_groups"), *_arguments(chosen), limit, timeout=_SECONDS)
        return [_group(row) for row in rows], rows[0]["groups"] if rows else 0

    async def open(self) -> OpenFindings:
        """Counts of what is open."""
        rows = await self._database.fetch(query("findings_counts"), timeout=_SECONDS)
        found = {(DivergenceClass(row["class"]), DivergenceState(row["state"])): row["rows"] for row in rows}
        firsts = [row["first_seen"] for row in rows if row["state"] == DivergenceState.CONFIRMED]
        return OpenFindings(found, min(firsts, default=None))

    async def of_run(self, run: UUID) -> list[dict[str, Any]]:
        """What a sweep found, by class and present state; `new` says how much of it first."""
        return [dict(row) for row in await self._database.fetch(query("findings_of_run"), run, timeout=_SECONDS)]

    async def about(self, memory_id: UUID) -> dict[str, Any]:
        """What else is known of a memory: mark, tombstone, quarantine."""
        row = await self._database.fetchrow(query("findings_about"), memory_id)
        assert row is not None  # noqa: S101 - a select without from gives one row
        return {
            "mark": _json(row["mark"]),
            "deleted_at": row["deleted_at"],
            "quarantine": _json(row["quarantine"]),
        }

    async def accept(self, chosen: FindingFilter, *, who: str, why: str) -> list[tuple[UUID, str]]:
        """Accept what is confirmed and open among them; gives memory and class of each."""
        rows = await self._database.fetch(query("findings_accept"), *_arguments(chosen), who, why, timeout=_SECONDS)
        return [(row["memory_id"], row["class"]) for row in rows]

    async def repair(self, chosen: FindingFilter, *, epoch: int, who: str, limit: int) -> Repaired:
        """Mark at most `limit` memories for delivery, and note by whom. Raises `StaleEpoch` outside A1–A3."""
        arguments = (*_arguments(chosen), _UNREPAIRABLE)
        # A memory may have a finding per class; cut at a memory, and not within one.
        rows = await self._database.fetch(
            query("findings_repairable"), *arguments, limit * len(DivergenceClass), timeout=_SECONDS
        )
        memories = list(dict.fromkeys(row["memory_id"] for row in rows))[:limit]
        if not memories:
            return Repaired(0, {}, 0)
        taken = set(memories)
        places = [(row["memory_id"], row["namespace"]) for row in rows if row["memory_id"] in taken]
        async with self._database.transaction() as connection:
            marked = await connection.fetchval(
                "select cutover.mark_for_repair($1, $2::uuid[], $3::text[])",
                epoch,
                [memory for memory, _ in places],
                [namespace for _, namespace in places],
                timeout=_SECONDS,
            )
            noted = await connection.fetch(query("findings_repaired"), memories, who, _UNREPAIRABLE, timeout=_SECONDS)
        # What was marked matches no more, unless it was named.
        left = 0
        if not chosen.ids:
            left = await self._database.fetchval(query("findings_repairable_count"), *arguments, timeout=_SECONDS)
        elif len(memories) == limit:
            left = len({row["memory_id"] for row in rows}) - limit
        by_class: dict[str, int] = {}
        for row in noted:
            by_class[row["class"]] = by_class.get(row["class"], 0) + 1
        return Repaired(marked, by_class, left)

    async def unrepairable(self, chosen: FindingFilter) -> int:
        """How many of them no delivery sets right."""
        total = 0
        classes = {cls.value for cls in chosen.classes} or set(_UNREPAIRABLE)
        if wanted := sorted(classes & set(_UNREPAIRABLE)):
            ids, states, _, *rest = _arguments(chosen)
            total = await self._database.fetchval(
                "select count(*) from cutover.findings($1::uuid[], $2::text[], $3::text[], $4, $5, $6::uuid, $7, $8)",
                ids,
                states,
                wanted,
                *rest,
                timeout=_SECONDS,
            )
        return total


def _arguments(chosen: FindingFilter) -> tuple[object, ...]:
    """The arguments of `cutover.findings`."""
    return (
        list(chosen.ids) or None,
        [state.value for state in chosen.wanted_states] or None,
        [cls.value for cls in chosen.classes] or None,
        chosen.source,
        chosen.namespace_kind,
        chosen.workspace_id,
        chosen.group,
        chosen.closed,
    )


def _finding(row: asyncpg.Record) -> dict[str, Any]:
    told = {name: row[name] for name in _SHOWN}
    told["expected_hash"] = row["expected_hash"].hex() if row["expected_hash"] is not None else None
    told["plugin_hash"] = row["plugin_hash"].hex() if row["plugin_hash"] is not None else None
    return told


_SHOWN: Sequence[str] = (
    *("memory_id", "class", "state", "source", "namespace", "namespace_kind", "workspace_id", "writer", "group_id"),
    *("first_seen", "last_seen", "looked_at", "confirmed_at", "onset_after", "onset_before", "first_run", "last_run"),
    *("expected_hash", "plugin_hash", "expected_length", "plugin_length"),
    *("accepted_by", "accepted_at", "why", "repair_by", "repair_at", "closed_at", "closed_by"),
)


def _group(row: asyncpg.Record) -> dict[str, Any]:
    after, before = onset(row["latest_after"], row["earliest_before"], row["latest_before"])
    states = {state.value: row[state.value] for state in DivergenceState}
    return {
        "group": row["group_id"],
        "class": row["class"],
        "namespace_kind": row["namespace_kind"],
        "writer": row["writer"],
        "onset_after": after,
        "onset_before": before,
        "rows": row["rows"],
        "states": {state: rows for state, rows in states.items() if rows},
        "first_seen": row["first_seen"],
        "last_seen": row["last_seen"],
        "sources": row["sources"],
        "workspaces": row["workspaces"],
        "examples": row["examples"],
    }


def _json(value: str | None) -> Any:
    return None if value is None else json.loads(value)
