"""How much one client may ask of a face: sizes, deadlines, connections. All times in seconds."""

import resource
from dataclasses import dataclass

RESERVED_FILES = 256
"""Descriptors kept back from clients for database and plugin connections, logs and timers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one face."""

    body_bytes: int = 4 * 1024 * 1024
    """Larger bodies get 413. A memory of 100 KB with an embedding of 1536 floats takes about 150 KB."""
    head_bytes: int = 16 * 1024
    """Longest request line and longest header line; longer ones get 400."""
    head_seconds: float = 5.0
    """From the first byte of a request's head to its last; then 408."""
    body_seconds: float = 10.0
    """From the end of the head to the end of the body; then 408."""
    answer_seconds: float = 1.8
    """The plugin face answers within this, counted from the end of the head: its caller gives up at 2 s (domain §2)."""
    stalled_write_seconds: float = 30.0
    """How long a client may leave an answer unread before its connection is cut."""
    idle_seconds: float = 120.0
    """Keep-alive. Above the 90 s after which the platform's Go clients drop an idle connection themselves."""
    connections: int | None = None
    """Most connections at a time; above it the longest idle one makes room. None: what the open-files limit allows."""


def raise_open_files() -> int:
    """Lift the soft limit on open files to the hard one; gives back the limit that is then in force.

    Every connection is a descriptor, and the usual soft limit of 1024 would stop a face long before memory does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):  # an infinite hard limit that the kernel caps lower: keep what there is
            return soft
    return hard


def connections_allowed(limits: Limits) -> int:
    """The number of connections a face takes: as configured, else what the open-files limit leaves."""
    if limits.connections is not None:
        return limits.connections
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1_000_000
    return max(64, soft - RESERVED_FILES)
