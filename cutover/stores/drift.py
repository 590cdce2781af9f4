"""The two sides of the drift ledger, counted (architecture §4, count sweep).

Where the plugin's tables are in the tenant's own database, both sides are counted in one snapshot: the expected side
exports it and the plugin's connection imports it, so a write between the two counts cannot look like drift. Where
they are in another database there is no common instant; the sweep then looks twice, the second time with the writers
held back for the moment in which the two snapshots are taken.
"""

import json
from dataclasses import dataclass

import asyncpg

from cutover.domain.drift import DriftLedger
from cutover.domain.errors import DatabaseFault, LockTimeout
from cutover.domain.phase import Phase
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

_COUNT_SECONDS = 120.0
_PAUSE_MS = 300
_PAUSES = 5
_KV_ROWS = "select w.workspace_id, w.key, w.expires_at from public.workspace_memory w"
# The table need not exist where K/V is off.
_NO_KV_ROWS = "select null::uuid as workspace_id, null::text as key, null::timestamptz as expires_at limit 0"
_KIND_OF_SCOPE = {"LOCAL": "workspace", "TEAM": "team", "GLOBAL": "org"}


@dataclass(frozen=True, slots=True)
class Look:
    """One count of both sides. `one_snapshot`: at the same instant, so no second look is needed."""

    phase: Phase
    ledger: DriftLedger
    one_snapshot: bool


class DriftCounter:
    """Counts one tenant's stores. `leaving_out`: namespaces that hold no memories, such as the canary's."""

    def __init__(self, tenant: Database, plugin: Database, *, leaving_out: tuple[str, ...]) -> None:
        self._tenant = tenant
        self._plugin = plugin
        self._leaving_out = leaving_out

    async def look(self, *, still: bool = False) -> Look:
        """Count both sides now; in one snapshot where they share a database.

        `still`: where they do not, hold the daemons' writes back while the two snapshots are taken (milliseconds).
        Every memory that is under way then carries a mark in the first, so writes cannot look like drift. Raises
        `LockTimeout` when the writers could not be stopped.
        """
        try:
            return await self._look(one_snapshot=True)
        except DatabaseFault as fault:
            # 22023, 0A000: the exported snapshot belongs to another database or server.
            if fault.sqlstate not in ("22023", "0A000", "58P01"):
                raise
        return await self._look(one_snapshot=False, still=still)

    async def _look(self, *, one_snapshot: bool, still: bool = False) -> Look:
        async with self._tenant.transaction(isolation="repeatable_read") as here:
            async with self._plugin.transaction(isolation="repeatable_read") as there:
                if one_snapshot:
                    snapshot = await here.fetchval("select pg_export_snapshot()")
                    # Not a value that could be a parameter; PostgreSQL made it, and it is checked all the same.
                    await there.execute(f"set transaction snapshot '{_checked(snapshot)}'")
                elif still:
                    await self._stand_still(here, there)
                return await self._count(here, there, one_snapshot=one_snapshot)

    async def _stand_still(self, here: Connection, there: Connection) -> None:
        """Fix both snapshots (a transaction's first query does) while no daemon writes."""
        for attempt in range(_PAUSES):
            try:
                async with self._tenant.transaction() as pause:
                    await pause.execute(f"set local lock_timeout = {_PAUSE_MS}")
                    await pause.execute("select pg_advisory_xact_lock(cutover.phase_lock_key())")
                    await here.fetchval("select 1")
                    await there.fetchval("select 1")
            except LockTimeout:
                if attempt == _PAUSES - 1:
                    raise
            else:
                return

    async def _count(self, here: Connection, there: Connection, *, one_snapshot: bool) -> Look:
        captured = await here.fetchval("select captured from cutover.kv_capture")
        sql = query("drift_expected").replace("{kv_rows}", _KV_ROWS if captured else _NO_KV_ROWS)
        expected = await here.fetchrow(sql, timeout=_COUNT_SECONDS)
        assert expected is not None  # noqa: S101 - phase_state has its one row
        held = await there.fetchrow(
            query("drift_plugin"),
            expected["marked"],
            expected["marked_natives"],
            expected["last_id"],
            expected["everything"],
            list(self._leaving_out),
            expected["kv_under_way"],
            expected["at"],
            expected["accepted"],
            timeout=_COUNT_SECONDS,
        )
        assert held is not None  # noqa: S101 - aggregates give one row
        return Look(Phase(expected["phase"]), _ledger(expected, held), one_snapshot)


def _ledger(expected: asyncpg.Record, held: asyncpg.Record) -> DriftLedger:
    in_flight = expected["marked_expected"] - held["marked"]
    native = expected["natives"] + held["marked_natives"]
    kv = expected["kv"] + held["kv_under_way"]
    accepted = expected["accepted_expected"] - held["accepted"]
    if expected["phase"] == "A0":
        # Nothing captures changes in A0, so whatever the plugin lacks or has too much is simply not copied yet.
        explained = in_flight + expected["quarantined"] + accepted - native - kv
        not_backfilled = expected["expected"] - held["held"] - explained
    else:
        copied_beyond = held["unreached"] - expected["natives_unreached"]
        not_backfilled = max(0, expected["unreached"] - copied_beyond)
    rows = {("legacy", kind): 0 for kind in ("workspace", "team", "org", "custom")}
    rows |= {("plugin", kind): 0 for kind in ("workspace", "team", "org", "custom")}
    for scope, count in json.loads(expected["by_scope"]).items():
        rows["legacy", _KIND_OF_SCOPE[scope]] += count
    for kind, count in json.loads(held["by_kind"]).items():
        rows["plugin", kind] += count
    return DriftLedger(
        legacy=expected["expected"],
        plugin=held["held"],
        in_flight=in_flight,
        not_backfilled=not_backfilled,
        quarantined=expected["quarantined"],
        native=native,
        rows=rows,
        kv=kv,
        accepted=accepted,
    )


def _checked(snapshot: str) -> str:
    if not all(character in "0123456789ABCDEFabcdef-" for character in snapshot):
        raise DatabaseFault("PostgreSQL named a snapshot in a way that is not known here")
    return snapshot
