"""How hard a sweep may lean on a tenant's database: how much per statement, and how long to rest after it.

Decisions only: the engine measures and waits.
"""

from dataclasses import dataclass

_LARGEST = 50_000
"""Rows. The upper bound also bounds what a sweep holds in memory when a whole chunk has to be compared id by id."""


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """`chunk_seconds`: what one statement should take. `share`: of the time, how much may be spent in statements (1.0:
    no rest). `max_active`: with more sessions of others at work the sweep waits; so it does while more than
    `max_waiting` of them wait for a lock."""

    chunk_seconds: float = 0.25
    share: float = 0.5
    max_active: int = 16
    max_waiting: int = 2
    first: int = 10_000
    """Rows of the first chunk."""
    smallest: int = 200
    longest_statement: float = 5.0
    """Seconds after which a statement is cut off: many times its target, because a slow disk is no reason to fail, and
    few enough not to be in anybody's way."""

    longest_of_all: float = 60.0
    """What a statement over the smallest chunk may take in the end."""

    def statement_timeout(self) -> float:
        """Seconds that a statement may take."""
        return max(self.longest_statement, 4 * self.chunk_seconds)

    def next_size(self, rows: int, seconds: float) -> int:
        """Rows for the next chunk, after one of `rows` took `seconds`. Grows and shrinks by at most a factor of two."""
        factor = 2.0 if seconds <= 0 else min(2.0, max(0.5, self.chunk_seconds / seconds))
        return int(min(_LARGEST, max(self.smallest, rows * factor)))

    def after_timeout(self, rows: int) -> int | None:
        """Rows for another try after a statement was cut off; None when it cannot be made smaller."""
        return None if rows <= self.smallest else max(self.smallest, rows // 4)

    def rest(self, worked: float) -> float:
        """Seconds to rest after `worked` seconds in statements."""
        return worked * (1.0 - self.share) / self.share

    def why_wait(self, active: int, waiting: int) -> str:
        """Why not to go on now, or an empty string."""
        if active > self.max_active:
            return f"database busy: {active} sessions at work, at most {self.max_active}"
        if waiting > self.max_waiting:
            return f"database busy: {waiting} sessions wait for a lock"
        return ""


DEFAULT_LOAD = LoadPolicy()
