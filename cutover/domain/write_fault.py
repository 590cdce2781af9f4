"""Which writes count when the gate of A2 asks for the share that failed."""

from enum import Enum

from cutover.domain.errors import InvalidRequest, PluginRejected, Refused

_BY_DESIGN = frozenset({"draining", "held", "namespace_closed", "busy"})
"""Refusals that are the protocol at work: a restart, a phase change, a namespace that is being deleted, two requests
for one memory. Every other reason is a fault of the service."""


class Counted(Enum):
    """What one write is to the count."""

    WRITE = "a write that went well"
    ERROR = "a write that failed, and not by its caller's fault"
    NOTHING = "no write of ours: wrong input, a refusal by design, a caller who went away"


def counted(error: BaseException | None) -> Counted:
    """What a write that ended with `error` (None: it was answered) counts as."""
    if error is None:
        return Counted.WRITE
    if isinstance(error, InvalidRequest | PluginRejected):
        return Counted.NOTHING
    if isinstance(error, Refused):
        return Counted.NOTHING if error.reason in _BY_DESIGN else Counted.ERROR
    # Whatever else our own code or a store raises; a cancelled request is neither.
    return Counted.ERROR if isinstance(error, Exception) else Counted.NOTHING
