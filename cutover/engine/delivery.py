"""One delivery to the plugin: the state of one memory, sent once, with an outcome that is definite or is not.

Whoever calls holds the memory's lease (see `write.py`, `reconciler.py`). What may follow an outcome:

    delivered    the plugin has this state                    → clear the mark, if nothing changed meanwhile
    failed       the plugin certainly does not act on it      → give the lease back, try again after a pause
    ambiguous    it may have acted, or may yet                → nobody sends for this memory until T_z has passed
    rejected     it will never take this (4xx)                → quarantine with the reason
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cutover.domain.errors import (
    CutoverError,
    PluginError,
    PluginFault,
    PluginMisspoke,
    PluginRejected,
    PluginTimeout,
    PluginUnreachable,
)
from cutover.domain.events import Observer, StoreCalled, StoreWritten
from cutover.domain.kv import carried
from cutover.domain.memory import Kind, PluginCommit, Source
from cutover.domain.namespace import kind_of
from cutover.domain.propagation import Provenance, pack
from cutover.domain.requests import PutNamespace
from cutover.engine.health import PluginHealthMonitor
from cutover.engine.plugin_gate import PluginGate
from cutover.engine.trace import TRACE
from cutover.stores.ledger import WriteResult
from cutover.stores.namespaces import NamespaceStore
from cutover.stores.plugin import PluginClient

_REFUSALS = frozenset({400, 409, 413, 422})
"""4xx that speak of the memory itself; any other speaks of the way to the plugin (a proxy's 403, say) and may pass."""


Call = Callable[[float], Awaitable[None]]
"""One exchange with the plugin, given the seconds that are left for it."""


class Outcome(StrEnum):
    """How a delivery ended (see the module)."""

    DELIVERED = "delivered"
    FAILED = "failed"
    AMBIGUOUS = "ambiguous"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The end of one delivery. `error` is None when delivered; `absent`: the plugin did not hold what was forgotten."""

    outcome: Outcome
    error: CutoverError | None = None
    absent: bool = False


_DELIVERED = Delivery(Outcome.DELIVERED)
_NOT_SENT = Delivery(Outcome.FAILED, PluginUnreachable("no slot towards the plugin was free in time"))
_ANSWERED = (Outcome.DELIVERED, Outcome.REJECTED)


class Deliverer:
    """Sends states to one tenant's plugin, through the gate, telling the health monitor what it saw."""

    def __init__(
        self,
        tenant: str,
        client: PluginClient,
        gate: PluginGate,
        health: PluginHealthMonitor,
        namespaces: NamespaceStore,
        observer: Observer,
        on_upsert: Callable[[UUID, datetime], None] = lambda _id, _at: None,
    ) -> None:
        self._on_upsert = on_upsert
        self._tenant = tenant
        self._client = client
        self._gate = gate
        self._health = health
        self._namespaces = namespaces
        self._observer = observer

    async def upsert(
        self, state: WriteResult, deadline: float, *, background: bool = False, headers: dict[str, str] | None = None
    ) -> Delivery:
        """Send the whole state of one memory. `deadline` is `time.monotonic()` seconds; past it nothing is sent."""
        assert state.namespace is not None, "a state without a namespace cannot be delivered"  # noqa: S101
        commit = PluginCommit(
            state.memory_id,
            state.namespace,
            state.content,
            Kind(state.kind),
            Source(state.source),
            state.expires_at,
            pack(
                Provenance(state.workspace_id, state.scope, state.label, state.created_at, state.updated_at),
                state.propagation,
                carried(state.kv, state.content) if state.kv is not None else None,
            ),
            state.pin,
            state.embedding,
        )
        delivery = await self._send("commit", deadline, background, lambda left: self._commit(commit, left, headers))
        if delivery.outcome is Outcome.DELIVERED and state.created_at is not None:
            self._on_upsert(state.memory_id, state.created_at)
        return delivery

    async def forget(
        self, state: WriteResult, deadline: float, *, background: bool = False, headers: dict[str, str] | None = None
    ) -> Delivery:
        """Have the plugin forget one memory, wherever it may hold it."""
        places = tuple(dict.fromkeys((*state.held_in, *((state.namespace,) if state.namespace else ()))))
        absent = True
        for place in places:
            ended = await self._send(
                "forget",
                deadline,
                background,
                lambda left, place=place: self._client.forget(  # type: ignore[misc]
                    state.memory_id, place, timeout=left, headers=headers
                ),
            )
            if ended.outcome is Outcome.REJECTED:
                continue  # not in that namespace
            if ended.outcome is not Outcome.DELIVERED:
                return ended
            absent = False
        return Delivery(Outcome.DELIVERED, absent=absent)

    async def _commit(self, commit: PluginCommit, left: float, headers: dict[str, str] | None) -> None:
        await self._client.commit_ensuring_namespace(
            commit, lambda: self.definition(commit.namespace), timeout=left, headers=headers
        )

    async def definition(self, name: str) -> PutNamespace:
        """What to PUT for a namespace: what a client once put, or what its name says. Metadata is never null."""
        known = await self._namespaces.get(name)
        if known is None:
            return PutNamespace(name, kind_of(name).value, None, {})
        return PutNamespace(name, known.kind, known.expires_at, dict(known.metadata or {}))

    async def _send(self, operation: str, deadline: float, background: bool, call: Call) -> Delivery:
        try:
            await self._gate.enter(deadline, background=background)
        except TimeoutError:
            return _NOT_SENT
        try:
            started, generation = time.monotonic(), self._health.generation
            under_way = self._gate.in_flight
            # Checked again here: a process that was stopped in between must not send under a lease that is over.
            if started >= deadline:
                return _NOT_SENT
            delivery = await self._call(call, deadline - started, forgetting=operation == "forget")
            seconds = time.monotonic() - started
        finally:
            self._gate.leave()
        self._gate.record(seconds, ok=delivery.outcome in _ANSWERED, in_flight=under_way)
        self._tell(operation, delivery, seconds, generation)
        return delivery

    @staticmethod
    async def _call(call: Call, left: float, *, forgetting: bool) -> Delivery:
        try:
            await call(left)
        except PluginRejected as error:
            # Only a commit can be refused for what it holds. A forget that is refused is tried again until it is done;
            # "not there" is an answer to it, if it is the contract's and not some proxy's.
            final = _is_absent(error) if forgetting else error.http_status in _REFUSALS
            return Delivery(Outcome.REJECTED if final else Outcome.FAILED, error)
        except PluginError as error:
            return Delivery(Outcome.AMBIGUOUS if error.ambiguous else Outcome.FAILED, error)
        except CutoverError as error:
            return Delivery(Outcome.FAILED, error)  # the namespace's definition could not be read: nothing was sent
        return _DELIVERED

    def _tell(self, operation: str, delivery: Delivery, seconds: float, generation: int) -> None:
        if delivery.outcome in _ANSWERED:
            self._health.succeeded(generation)
        elif isinstance(delivery.error, PluginError):
            self._health.failed(generation)
        word = {
            Outcome.DELIVERED: "ok",
            Outcome.REJECTED: "rejected",
            Outcome.FAILED: "failed",
            Outcome.AMBIGUOUS: "ambiguous",
        }[delivery.outcome]
        self._observer(StoreCalled(self._tenant, "plugin", operation, word, seconds, TRACE.get()))
        self._observer(StoreWritten(self._tenant, "plugin", word))


def _is_absent(error: PluginRejected) -> bool:
    """Whether this is the contract's word that the memory is not in the namespace (domain §3)."""
    return error.http_status == 404 and error.plugin_code == "not_found"


def refusal_note(error: CutoverError | None) -> str:
    """Why a memory is quarantined, without the plugin's own words: those may quote the content."""
    if isinstance(error, PluginRejected):
        return f"refused_by_plugin:HTTP {error.http_status} {error.plugin_code}"
    return "refused_by_plugin:unknown"


def failure_note(error: CutoverError | None) -> str:
    """A short, content-free account of a failure, for the mark."""
    if isinstance(error, PluginFault):
        return f"HTTP {error.http_status} {error.plugin_code}"
    if isinstance(error, PluginTimeout | PluginUnreachable | PluginMisspoke):
        return type(error).__name__
    return type(error).__name__ if error is not None else ""


def settlement_of(delivery: Delivery) -> tuple[str, str]:
    """The word and the note for `cutover.settle`."""
    match delivery.outcome:
        case Outcome.DELIVERED:
            return "delivered", ""
        case Outcome.REJECTED:
            return "quarantined", refusal_note(delivery.error)
        case Outcome.FAILED:
            return "failed", failure_note(delivery.error)
        case Outcome.AMBIGUOUS:
            return "ambiguous", failure_note(delivery.error)
