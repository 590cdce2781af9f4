"""Verification on the ops face: `/api/v1/verify` (architecture §5)."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import Field

from cutover.domain.errors import NotFound
from cutover.http.admins import Admins
from cutover.http.ops_control import NO_STORE, BodyUUID, ControlBody, Query, Served, authorised, parse_query, path_uuid
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class VerifyBody(ControlBody):
    """`POST verify`: everything, or one workspace. `sample`: memories to look up in each namespace of more than 100,
    where the plugin can only be asked through the contract."""

    workspace: BodyUUID | None = None
    sample: int | None = Field(default=None, ge=1, le=100_000)


class MismatchQuery(Query):
    """`GET verify/{run}/mismatches`. `after`: `next` of the last page."""

    limit: int = Field(default=200, ge=1, le=5000)
    after: str | None = Field(default=None, max_length=100)


class OpsVerify:
    """The routes of `verify`."""

    def __init__(self, admins: Admins) -> None:
        self._admins = admins

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "POST", "verify", self.start
        yield "GET", "verify/{run}", self.show
        yield "GET", "verify/{run}/mismatches", self.mismatches

    async def start(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST verify` `{workspace?, sample?}`: 202 with the run, which `GET verify/{run}` then follows."""
        who, body = await authorised(self._admins, call, VerifyBody)
        told = await call.tenant.operations.start_verify(workspace_id=body.workspace, actor=who, sample=body.sample)
        return json_response(202, told, NO_STORE)

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET verify/{run}`: progress, then the outcome with a line per workspace."""
        told = await call.tenant.operations.verify_status(path_uuid(call, "run"))
        if told is None:
            raise NotFound("no such verification", next_step="cutover backfill --verify")
        return json_response(200, told, NO_STORE)

    async def mismatches(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET verify/{run}/mismatches?limit=&after=`: every mismatching id with its class, of the last run only."""
        asked = parse_query(MismatchQuery, call)
        told = await call.tenant.operations.verify_mismatches(
            path_uuid(call, "run"), after=asked.after, limit=asked.limit
        )
        return json_response(200, told, NO_STORE)
