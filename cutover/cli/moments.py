"""Times as a person reads them: the daemon tells RFC 3339, a table has little room."""

from datetime import UTC, datetime


def moment(told: str | None, *, seconds: bool = True) -> str | None:
    """`2026-05-01 12:00:00`, in UTC as everywhere; None stays None."""
    if told is None:
        return None
    return _parsed(told).strftime("%Y-%m-%d %H:%M:%S" if seconds else "%m-%d %H:%M")


def interval(after: str | None, before: str) -> str:
    """When something began, as far as that is known: `05-01 11:49 to 12:00`, or `by 05-01 12:00`."""
    end = moment(before, seconds=False) or ""
    if after is None:
        return f"by {end}"
    start = moment(after, seconds=False) or ""
    return f"{start} to {end.removeprefix(start[:6])}"


def age(seconds: float | None) -> str | None:
    """`45 s`, `12 min`, `3.4 h`, `2.1 d`."""
    if seconds is None:
        return None
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size * (2 if unit == "min" else 1):
            return f"{seconds / size:.0f} {unit}" if unit == "min" else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _parsed(told: str) -> datetime:
    return datetime.fromisoformat(told).astimezone(UTC)
