"""Sweeps on the ops face: `/api/v1/sweeps` (architecture §4)."""

from collections.abc import Iterator
from typing import Literal
from uuid import UUID

from aiohttp import web
from pydantic import Field

from cutover.domain.errors import NotFound
from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_control import (
    NO_STORE,
    ControlBody,
    Query,
    Served,
    authorised,
    parse_query,
    path_uuid,
)
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response

SweepKind = Literal["count", "digest", "recall"]


class SweepBody(ControlBody):
    """`POST sweeps`. `full` is for digests: every row, not only what changed since the last one."""

    kind: SweepKind = "count"
    full: bool = False


class SweepsQuery(Query):
    """`GET sweeps`. `after`: the id of the last one that was shown."""

    kind: SweepKind | None = None
    limit: int = Field(default=20, ge=1, le=200)
    after: UUID | None = None


class OpsSweeps:
    """The routes of `sweeps`."""

    def __init__(self, admins: Admins, cache: HealthCache) -> None:
        self._admins = admins
        self._cache = cache

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "sweeps", self.list
        yield "GET", "sweeps/{run}", self.show
        yield "POST", "sweeps", self.run

    async def list(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET sweeps?kind=&limit=&after=`: newest first; `next` is what to give as `after`, or null."""
        asked = parse_query(SweepsQuery, call)
        told = await call.tenant.findings.sweeps(asked.kind, limit=asked.limit, after=asked.after)
        return json_response(200, told, NO_STORE)

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET sweeps/{run}`: outcome, buckets, findings by class, and the progress of one that runs."""
        told = await call.tenant.findings.sweep(path_uuid(call, "run"))
        if told is None:
            raise NotFound("no such sweep", next_step="cutover sweep list")
        return json_response(200, told, NO_STORE)

    async def run(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST sweeps` `{kind, full?}`: a count or a recall sweep is answered with what it found (200), a digest with
        the id of its run (202), which `GET sweeps/{run}` then follows."""
        who, body = await authorised(self._admins, call, SweepBody)
        operations = call.tenant.operations
        if body.kind == "digest":
            return json_response(202, await operations.start_digest_sweep(full=body.full, actor=who), NO_STORE)
        found = await (operations.run_recall_sweep(who) if body.kind == "recall" else operations.run_count_sweep())
        self._cache.forget(call.tenant.name)
        return json_response(200, found, NO_STORE)
