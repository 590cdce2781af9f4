"""The trace of the request that is being worked on: what its own task calls knows it, and nothing else does.

A batch, the reconciler and the probes work for many requests or for none, in tasks of their own: there it is None, and
their calls carry no trace that would be another's.
"""

from contextvars import ContextVar

TRACE: ContextVar[str | None] = ContextVar("trace", default=None)
"""32 hex digits of the caller's `traceparent`; set by the face for every request anew."""
