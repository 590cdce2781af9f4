"""Findings on the ops face: `/api/v1/divergence` and `/api/v1/quarantine` (architecture §4)."""

from collections.abc import Iterator
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from pydantic import BeforeValidator, Field

from cutover.domain.divergence import DivergenceClass, DivergenceState
from cutover.domain.errors import InvalidRequest, NotFound
from cutover.domain.findings import FindingFilter, QuarantineFilter, QuarantineReason
from cutover.http.admins import Admins
from cutover.http.health_cache import HealthCache
from cutover.http.ops_control import (
    NO_STORE,
    BodyUUID,
    ControlBody,
    Query,
    Served,
    authorised,
    parse_query,
    path_uuid,
    split,
)
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call
from cutover.http.wire import json_response

MOST_IDS = 1000
NamespaceKind = Literal["workspace", "team", "org", "custom", "none"]
FindingSource = Literal["memory", "native", "kv"]
GroupId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Ids = Annotated[tuple[BodyUUID, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class FindingsQuery(Query):
    """The filters of `GET divergence` and `GET divergence/groups`. Without `state`: what waits to be settled."""

    state: Annotated[tuple[DivergenceState, ...], BeforeValidator(split)] = ()
    classes: Annotated[tuple[DivergenceClass, ...], BeforeValidator(split)] = Field(default=(), alias="class")
    source: FindingSource | None = None
    namespace_kind: NamespaceKind | None = None
    workspace: UUID | None = None
    group: GroupId | None = None
    closed: bool = False
    """Those that went away, too."""
    limit: int = Field(default=50, ge=1, le=1000)
    after: str | None = Field(default=None, max_length=80)

    @property
    def filter(self) -> FindingFilter:
        """As the store takes it."""
        return FindingFilter(
            states=self.state,
            classes=self.classes,
            source=self.source,
            namespace_kind=self.namespace_kind,
            workspace_id=self.workspace,
            group=self.group,
            closed=self.closed,
        )


class ChosenBody(ControlBody):
    """Which findings a control call is about: exactly one of the fields below."""

    ids: Ids = Field(default=(), max_length=MOST_IDS)
    group: GroupId | None = None
    class_: DivergenceClass | None = Field(default=None, alias="class")

    @property
    def given(self) -> dict[str, bool]:
        """The ways of saying which, and whether each was used."""
        return {"ids": bool(self.ids), "group": self.group is not None, "class": self.class_ is not None}

    @property
    def filter(self) -> FindingFilter:
        """As the store takes it. Raises `InvalidRequest` unless it is exactly one."""
        if sum(self.given.values()) != 1:
            ways = ", ".join(self.given)
            raise InvalidRequest(f"say which: exactly one of {ways}", next_step="cutover divergence list --groups")
        classes = () if self.class_ is None else (self.class_,)
        return FindingFilter(ids=self.ids, group=self.group, classes=classes)


class AcceptBody(ChosenBody):
    """`POST divergence/accept`."""

    why: str = Field(min_length=1, max_length=1000)


class RepairBody(ChosenBody):
    """`POST divergence/repair`. `limit`: at most so many memories now."""

    all: bool = False
    limit: int | None = Field(default=None, ge=1)

    @property
    def given(self) -> dict[str, bool]:
        """Here `all` is one, too: a delivery is always right, an acceptance is not."""
        return {**super().given, "all": self.all}


class QuarantineQuery(Query):
    """`GET quarantine`. Without `acknowledged`: those that block the cutover."""

    reason: QuarantineReason | None = None
    acknowledged: Literal["no", "yes", "all"] = "no"
    workspace: UUID | None = None
    limit: int = Field(default=50, ge=1, le=1000)
    after: UUID | None = None


class RetryBody(ControlBody):
    """`POST quarantine/retry`: one of `ids`, `reason` and `all`."""

    ids: Ids = Field(default=(), max_length=MOST_IDS)
    reason: QuarantineReason | None = None
    all: bool = False
    limit: int | None = Field(default=None, ge=1)

    @property
    def filter(self) -> QuarantineFilter:
        """As the store takes it."""
        if sum((bool(self.ids), self.reason is not None, self.all)) != 1:
            raise InvalidRequest("say which: exactly one of ids, reason and all", next_step="cutover quarantine list")
        return QuarantineFilter(ids=self.ids, reason=self.reason, acknowledged=None)


class AcknowledgeBody(ControlBody):
    """`POST quarantine/acknowledge`: one memory at a time, on purpose."""

    id: BodyUUID
    why: str = Field(min_length=1, max_length=1000)


class OpsFindings:
    """The routes of `divergence` and `quarantine`."""

    def __init__(self, admins: Admins, cache: HealthCache) -> None:
        self._admins = admins
        self._cache = cache

    def served(self) -> Iterator[Served]:
        """Method, path below `/api/v1`, handler."""
        yield "GET", "divergence", self.list
        yield "GET", "divergence/groups", self.groups
        yield "GET", "divergence/{id}", self.show
        yield "POST", "divergence/accept", self.accept
        yield "POST", "divergence/repair", self.repair
        yield "GET", "quarantine", self.quarantined
        yield "GET", "quarantine/{id}", self.show_quarantined
        yield "POST", "quarantine/retry", self.retry
        yield "POST", "quarantine/acknowledge", self.acknowledge

    async def list(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET divergence?state=&class=&source=&namespace_kind=&workspace=&group=&closed=&limit=&after=`."""
        asked = parse_query(FindingsQuery, call)
        told = await call.tenant.findings.divergences(asked.filter, limit=asked.limit, after=asked.after)
        return json_response(200, told, NO_STORE)

    async def groups(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET divergence/groups?…`: the same filters; one entry per likely cause, largest first, and the counts."""
        asked = parse_query(FindingsQuery, call)
        return json_response(200, await call.tenant.findings.groups(asked.filter, limit=asked.limit), NO_STORE)

    async def show(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET divergence/{id}`: all classes of one memory, open or not, and what else is known of it."""
        told = await call.tenant.findings.divergence(path_uuid(call, "id"))
        if told is None:
            raise NotFound("nothing was ever found of this memory", next_step="cutover divergence list")
        return json_response(200, told, NO_STORE)

    async def accept(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST divergence/accept` `{ids | group | class | all, why}`: somebody answers for confirmed findings."""
        who, body = await authorised(self._admins, call, AcceptBody)
        told = await call.tenant.findings.accept(body.filter, actor=who, why=body.why)
        self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)

    async def repair(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST divergence/repair` `{ids | group | class | all, limit?}`: have the memories delivered once more."""
        who, body = await authorised(self._admins, call, RepairBody)
        told = await call.tenant.findings.repair(body.filter, actor=who, limit=body.limit)
        self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)

    async def quarantined(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET quarantine?reason=&acknowledged=&workspace=&limit=&after=`."""
        asked = parse_query(QuarantineQuery, call)
        chosen = QuarantineFilter(
            reason=asked.reason,
            acknowledged=None if asked.acknowledged == "all" else asked.acknowledged == "yes",
            workspace_id=asked.workspace,
        )
        told = await call.tenant.findings.quarantined(chosen, limit=asked.limit, after=asked.after)
        return json_response(200, told, NO_STORE)

    async def show_quarantined(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`GET quarantine/{id}`."""
        told = await call.tenant.findings.quarantined_one(path_uuid(call, "id"))
        if told is None:
            raise NotFound("this memory is not in quarantine", next_step="cutover quarantine list")
        return json_response(200, told, NO_STORE)

    async def retry(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST quarantine/retry` `{ids | reason | all, limit?}`: deliver them once more."""
        who, body = await authorised(self._admins, call, RetryBody)
        told = await call.tenant.findings.retry(body.filter, actor=who, limit=body.limit)
        self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)

    async def acknowledge(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """`POST quarantine/acknowledge` `{id, why}`: somebody answers for one memory that stays behind."""
        who, body = await authorised(self._admins, call, AcknowledgeBody)
        told = await call.tenant.findings.acknowledge(body.id, actor=who, why=body.why)
        self._cache.forget(call.tenant.name)
        return json_response(200, told, NO_STORE)
