"""What a caller is told of a write: the ledger's and the plugin's outcomes as receipts and errors."""

from cutover.domain.errors import (
    Conflict,
    CutoverError,
    DatabaseFault,
    Forbidden,
    KeyReused,
    NotFound,
    PluginRejected,
    Refused,
)
from cutover.domain.requests import Receipt, Shadow
from cutover.engine.delivery import Delivery, Outcome
from cutover.stores.ledger import WriteResult


def no_from_plugin(delivery: Delivery, quarantine: float) -> CutoverError:
    """What a caller in A3 is told when the plugin did not take the write."""
    if isinstance(delivery.error, PluginRejected) and delivery.outcome is Outcome.REJECTED:
        return delivery.error
    if delivery.outcome is Outcome.AMBIGUOUS:
        return Refused(
            "unresolved",
            "the plugin did not answer in time; the write does not count and will be undone if it arrived",
            retry_after=min(quarantine, 5.0),
            next_step="try again later",
        )
    return Refused("plugin_unhealthy", "the plugin did not take the write; nothing was changed", retry_after=1)


def expect(result: WriteResult) -> WriteResult:
    """The result itself when it is a success, else the error its status stands for."""
    match result.status:
        case "ok" | "native" | "unchanged" | "replay" | "unknown":
            return result
        case "missing":
            raise NotFound("memory not found or not owned by this workspace")
        case "no_workspace":
            raise NotFound("workspace not found")
        case "not_root":
            raise Forbidden("only root workspaces can write GLOBAL memories")
        case "conflict" | "exists":
            raise Conflict("this id belongs to another workspace's memory", next_step="use another id")
        case "kv":
            raise Conflict(
                "this id belongs to a key/value row, whose memory only follows it",
                next_step="change or delete the key instead, or use another id",
            )
        case "busy":
            raise Refused("busy", "an earlier write of this memory is not resolved yet", retry_after=5)
        case "closed":
            raise Refused("namespace_closed", "the namespace is being deleted", retry_after=5)
    raise DatabaseFault(f"the ledger answered {result.status!r}, which is not known here")


def check_replay(result: WriteResult, fingerprint: bytes) -> None:
    """Raise when an idempotency key came back with another body."""
    if result.fingerprint != fingerprint:
        raise KeyReused("this Idempotency-Key was used with another body", next_step="use a new key for a new request")


def receipt(result: WriteResult, shadow: Shadow | None, *, changed: bool = True) -> Receipt:
    """What the caller is told of a successful write."""
    return Receipt(result.memory_id, result.namespace or "", result.scope, result.label, shadow, changed)
