"""Namespace operations (architecture §3): forwarded and remembered from A1 on, our own table in A0.

The plugin's bulk delete is never sent while legacy is the authority: a delete becomes one mark per memory, so that a
live write always wins over it. In A3 and A4 the namespace is closed to writes, drained, and then deleted.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from cutover.domain.errors import (
    InvalidRequest,
    NotFound,
    PluginError,
    PluginRejected,
    Refused,
)
from cutover.domain.memory import Namespace
from cutover.domain.namespace import is_valid_name, legacy_place
from cutover.domain.phase import Phase, PhaseState
from cutover.domain.requests import Caller, PatchNamespace, PutNamespace
from cutover.engine.delivery import Deliverer
from cutover.stores.namespace_deletion import NamespaceDeletion
from cutover.stores.namespaces import NamespaceStore
from cutover.stores.plugin import PluginClient

T = TypeVar("T")
_DRAIN_POLL = 0.02
_ANSWER_WITHIN = 1.5
"""Seconds after arrival by which a delete in A3 has drained, or is refused for now (callers give up at 2 s)."""


class NamespaceOperations:
    """PUT, PATCH and DELETE of namespaces for one tenant."""

    def __init__(
        self,
        client: PluginClient,
        store: NamespaceStore,
        deletion: NamespaceDeletion,
        deliverer: Deliverer,
        *,
        timeout: float,
        quarantine: float,
    ) -> None:
        self._client = client
        self._store = store
        self._deletion = deletion
        self._deliverer = deliverer
        self._timeout = timeout
        self._quarantine = quarantine

    async def put(self, phase: Phase, request: PutNamespace, caller: Caller) -> Namespace:
        """Create or replace a definition."""
        _check(request.name)
        if phase is Phase.A0:
            return await self._store.put(request)
        if phase.plugin_is_authority and await self._deletion.is_closed(request.name):
            raise Refused("namespace_closed", "the namespace is being deleted", retry_after=self._quarantine)
        # Never null: a nil JSON column once made every upsert fail (domain §4.5).
        metadata = request.metadata if request.metadata is not None else {}
        answer = await _told(
            self._client.put_namespace(
                request.name,
                request.kind,
                request.expires_at,
                metadata,
                timeout=self._left(caller),
                headers=_headers(caller),
            )
        )
        await self._store.put(request, answer.created_at)
        return answer

    async def patch(self, phase: Phase, request: PatchNamespace, caller: Caller) -> Namespace:
        """Change expiry or metadata; `NotFound` when nobody put it."""
        _check(request.name)
        if phase is Phase.A0:
            changed = await self._store.patch(request)
            if changed is None:
                raise NotFound("namespace not found")
            return changed
        if await self._store.get(request.name) is not None:
            # Put in A0, perhaps, and never needed since: the plugin may not know it yet.
            await _told(
                self._client.ensure_namespace(
                    request.name, lambda: self._deliverer.definition(request.name), timeout=self._left(caller)
                )
            )
        answer = await _told(
            self._client.patch_namespace(
                request.name,
                expires_at=request.expires_at,
                metadata=request.metadata,
                timeout=self._left(caller),
                headers=_headers(caller),
            )
        )
        await self._store.put(
            PutNamespace(answer.name, answer.kind, answer.expires_at, dict(answer.metadata or {})), answer.created_at
        )
        return answer

    async def delete(self, state: PhaseState, name: str, caller: Caller) -> None:
        """Delete a namespace and all its memories; `NotFound` when there is nothing under that name."""
        _check(name)
        place = legacy_place(name)
        if not state.phase.plugin_is_authority:
            removed = await self._deletion.delete_held(
                state.epoch, name, place.workspace_id if place else None, place.scope if place else None
            )
            if not removed:
                raise NotFound("namespace not found")
            return
        await self._delete_at_plugin(state, name, caller)

    async def _delete_at_plugin(self, state: PhaseState, name: str, caller: Caller) -> None:
        by = caller.arrived + _ANSWER_WITHIN
        known = await self._deletion.close_and_forget(state.epoch, name, self._quarantine)
        if known == "unresolved":
            raise self._unresolved()
        while await self._deletion.undelivered(name):
            if time.monotonic() >= by:
                raise Refused(
                    "namespace_closed",
                    "the namespace is closed and being emptied; ask again to finish deleting it",
                    retry_after=1,
                )
            await asyncio.sleep(_DRAIN_POLL)
        if await self._deletion.holds_kv(name):
            # The memories of K/V rows stay, as their rows do (decision 0014); all others are gone one by one by now.
            await self._deletion.ended(name, done=True)
            return
        left = max(0.05, by - time.monotonic())
        if not await self._deletion.sending(name, left + self._quarantine):
            raise self._unresolved()
        try:
            await self._client.delete_namespace(name, timeout=left)
        except PluginRejected as error:
            if error.http_status != 404 or known == "unknown":
                await self._deletion.ended(name, done=error.http_status == 404)
                raise
        except PluginError as error:
            if not error.ambiguous:
                await self._deletion.ended(name, done=False)
            # An unclear outcome keeps it closed until T_z: a late bulk delete must not meet new memories.
            raise self._unresolved() from error
        await self._deletion.ended(name, done=True)

    def _unresolved(self) -> Refused:
        return Refused(
            "unresolved",
            "the plugin has not confirmed the deletion of this namespace; it stays closed until that is certain",
            retry_after=self._quarantine,
            next_step="ask again later",
        )

    def _left(self, caller: Caller) -> float:
        return max(0.05, min(self._timeout, caller.arrived + _ANSWER_WITHIN - time.monotonic()))


def _check(name: str) -> None:
    if not is_valid_name(name):
        raise InvalidRequest("invalid namespace name")


async def _told(call: Awaitable[T]) -> T:
    """The plugin's answer; its own refusals pass, the rest is a 503: a namespace put twice is the same namespace."""
    try:
        return await call
    except PluginRejected as error:
        if error.http_status == 404:
            raise NotFound("namespace not found") from error
        raise
    except PluginError as error:
        raise Refused("plugin_unhealthy", f"the plugin did not do it: {error.message}", retry_after=1) from error


def _headers(caller: Caller) -> dict[str, str] | None:
    return {"traceparent": caller.traceparent} if caller.traceparent else None
