"""The status and control API for the CLI and the console: `/api/v1/…` (architecture §2).

Every route exists three times: for the default tenant (`/api/v1/status`), under the prefix that all faces have
(`/tenants/{name}/api/v1/status`), and the way an API reader expects it (`/api/v1/tenants/{name}/status`).
"""

from collections.abc import Iterable
from typing import Literal

from aiohttp import web
from pydantic import Field

from cutover.domain.backfill import RowSource, Via
from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_access import OpsAccess
from cutover.http.ops_archive import OpsArchive
from cutover.http.ops_control import NO_STORE, BodyUUID, ControlBody, Served, authorised
from cutover.http.ops_drop import OpsDrop
from cutover.http.ops_findings import OpsFindings
from cutover.http.ops_freeze import OpsFreeze
from cutover.http.ops_phase import OpsPhase, phase_json
from cutover.http.ops_record import OpsRecord
from cutover.http.ops_rollback import OpsRollback
from cutover.http.ops_sweeps import OpsSweeps
from cutover.http.ops_tenant import OpsTenant, OpsTenants
from cutover.http.ops_verify import OpsVerify
from cutover.http.ops_whoami import OpsWhoami
from cutover.http.server import Call, Route
from cutover.http.wire import json_response


class BackfillBody(ControlBody):
    """`POST backfill`. `rate` rows per second (0: none); `pause_file` on the daemon's machine. What is not given is
    the settings'."""

    mode: Literal["apply", "dry-run"]
    workspace: BodyUUID | None = None
    limit: int | None = Field(default=None, ge=1)
    via: Literal["auto", "contract", "database"] | None = None
    rate: float | None = Field(default=None, ge=0, le=1_000_000, allow_inf_nan=False)
    pause_file: str | None = Field(default=None, min_length=1, max_length=4096, pattern=r"^/[^\x00]*$")
    source: RowSource = RowSource.MEMORIES


class OpsApi:
    """The routes of `/api/v1`."""

    def __init__(self, tenants: OpsTenants, admins: Admins, cache: HealthCache) -> None:
        self._tenants = tenants
        self._admins = admins
        self._sweeps = OpsSweeps(admins, cache)
        self._findings = OpsFindings(admins, cache)
        self._freeze = OpsFreeze(admins, cache)
        self._verify = OpsVerify(admins)
        self._archive = OpsArchive(admins)
        self._drop = OpsDrop(admins)
        self._record = OpsRecord()
        self._access = OpsAccess()
        self._phase = OpsPhase(admins, cache)
        self._rollback = OpsRollback(admins, cache)
        self._whoami = OpsWhoami(admins)

    def routes(self) -> Iterable[Route[OpsTenant]]:
        """All of them; see the module for the three places of each."""
        yield Route("GET", "/api/v1/tenants", "tenants", self.tenants, scope="daemon", quiet=True)
        yield Route("GET", "/api/v1/tenants/{tenant}", "tenant", self._phase.show, quiet=True)
        served: tuple[Served, ...] = (
            ("GET", "status", self.status),
            *self._phase.served(),
            ("GET", "backfill", self.backfill),
            ("POST", "backfill", self.start_backfill),
            ("POST", "backfill/pause", self.pause_backfill),
            ("POST", "backfill/resume", self.resume_backfill),
            ("POST", "backfill/abort", self.abort_backfill),
            *self._sweeps.served(),
            *self._findings.served(),
            *self._freeze.served(),
            *self._verify.served(),
            *self._archive.served(),
            *self._drop.served(),
            *self._record.served(),
            *self._access.served(),
            *self._rollback.served(),
            *self._whoami.served(),
        )
        for method, path, handler in served:
            operation = path.replace("/", "_").replace("{", "").replace("}", "")
            yield Route(method, f"/api/v1/{path}", operation, handler, quiet=True)
            yield Route(method, f"/api/v1/tenants/{{tenant}}/{path}", operation, handler, quiet=True)

    # -- reading ---------------------------------------------------------------------------------------------------

    async def tenants(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET tenants`: names and phases."""
        default = self._tenants.default
        listed = [
            {
                "name": each.name,
                "default": default is not None and each.name == default.name,
                **phase_json(each.phase.state),
            }
            for each in self._tenants
        ]
        return json_response(200, {"tenants": listed}, NO_STORE)

    async def status(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET status`: all that is known about the tenant."""
        return json_response(200, await call.tenant.status(), NO_STORE)

    async def backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET backfill`: progress, rate, throttling."""
        return json_response(200, await call.tenant.operations.backfill_status(), NO_STORE)

    # -- changing --------------------------------------------------------------------------------------------------

    async def start_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill` `{mode, source?, workspace?, limit?, via?, rate?, pause_file?}`: `apply` starts one
        (202), `dry-run` only counts (200)."""
        who, body = await authorised(self._admins, call, BackfillBody)
        started = await call.tenant.operations.start_backfill(
            apply=body.mode == "apply",
            workspace_id=body.workspace,
            limit=body.limit,
            via=Via(body.via) if body.via is not None else None,
            rate=body.rate,
            pause_file=body.pause_file,
            source=body.source,
            actor=who,
        )
        return json_response(202 if body.mode == "apply" else 200, started, NO_STORE)

    async def pause_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill/pause`."""
        return await self._pause(call, paused=True)

    async def resume_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill/resume`."""
        return await self._pause(call, paused=False)

    async def abort_backfill(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST backfill/abort`: the cursor stays, the next start goes on from there."""
        who, _ = await authorised(self._admins, call, ControlBody)
        return json_response(200, await call.tenant.operations.abort_backfill(actor=who), NO_STORE)

    async def _pause(self, call: Call[OpsTenant], *, paused: bool) -> web.StreamResponse:
        who, _ = await authorised(self._admins, call, ControlBody)
        return json_response(200, await call.tenant.operations.pause_backfill(paused=paused, actor=who), NO_STORE)
