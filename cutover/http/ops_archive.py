"""Archives on the ops face: `/api/v1/archive` (architecture §7). Files are verified and restored by the CLI itself."""

from collections.abc import Iterator

from aiohttp import web
from pydantic import Field, ValidationInfo, field_validator

from cutover.domain.errors import NotFound
from cutover.domain.redaction import redact_note
from cutover.http.admins import Admins
from cutover.http.ops_control import NO_STORE, ControlBody, Served, authorised, path_uuid
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response


class ArchiveBody(ControlBody):
    """`POST archive`. `to`: a directory on the daemon's machine."""

    to: str | None = Field(default=None, min_length=2, max_length=4096, pattern=r"^/[^\x00]*$")

    @field_validator("*")
    @classmethod
    def _fit_for_the_record(cls, value: object, info: ValidationInfo) -> object:
        """As for every control body, but a long path is no secret."""
        del info
        if isinstance(value, str) and (not value.strip() or not value.isprintable() or redact_note(value) != value):
            raise ValueError("it cannot be put down: empty, not printable, or shaped like a secret")
        return value


class OpsArchive:
    """The routes of `archive`."""

    def __init__(self, admins: Admins) -> None:
        self._admins = admins

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "archive", self.list
        yield "POST", "archive", self.create
        yield "GET", "archive/{run}", self.show

    async def list(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET archive`: the last archives, newest first."""
        return json_response(200, {"archives": await call.tenant.archives.recent()}, NO_STORE)

    async def create(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST archive` `{to?}`: 202 with the run, which `GET archive/{run}` then follows."""
        who, body = await authorised(self._admins, call, ArchiveBody)
        return json_response(202, await call.tenant.archives.request(to=body.to, requested_by=who), NO_STORE)

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET archive/{run}`: progress, then what it came to."""
        told = await call.tenant.archives.status(path_uuid(call, "run"))
        if told is None:
            raise NotFound("no such archive run", next_step="cutover archive list")
        return json_response(200, told, NO_STORE)
