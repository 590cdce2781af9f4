"""The record on the ops face: `/api/v1/procedures`, `/api/v1/audit`, `/api/v1/phase/history` (architecture §8)."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import Field

from cutover.http.ops_control import NO_STORE, Query, Served, parse_query
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class ProcedureQuery(Query):
    """`GET procedures/{name}`. `version`: another than the one in force."""

    version: int | None = Field(default=None, ge=1, le=2**31 - 1)


class AuditQuery(Query):
    """`GET audit`. `head`: the hash of an event that must still be there, 64 hexadecimal digits."""

    head: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class ChangesQuery(Query):
    """`GET phase/history`."""

    limit: int = Field(default=20, ge=1, le=200)


class OpsRecord:
    """The routes of the record. All of them only read."""

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "procedures", self.procedures
        yield "GET", "procedures/{procedure}", self.procedure
        yield "GET", "audit", self.audit
        yield "GET", "phase/history", self.changes

    async def procedures(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET procedures`: every runbook with the version in force."""
        return json_response(200, {"procedures": await call.tenant.record.procedures()}, NO_STORE)

    async def procedure(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET procedures/{procedure}?version=`: its text, its versions, and what happened to it."""
        asked = parse_query(ProcedureQuery, call)
        told = await call.tenant.record.procedure(call.request.match_info["procedure"], asked.version)
        return json_response(200, told, NO_STORE)

    async def audit(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET audit?head=`: whether the chain of phase changes is whole."""
        asked = parse_query(AuditQuery, call)
        return json_response(200, await call.tenant.record.audit(asked.head), NO_STORE)

    async def changes(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET phase/history?limit=`: the last changes of phase, newest first, with who and why."""
        asked = parse_query(ChangesQuery, call)
        told = await call.tenant.record.changes(asked.limit)
        return json_response(200, {"tenant": call.tenant.name, "changes": told}, NO_STORE)
