"""Times as a person reads them: the daemon tells RFC 3339, a table has little room."""

from datetime import UTC, datetime


def moment(told: str | None) -> str | None:
    """`2026-05-01 12:00:00`, in UTC as everywhere; None stays None."""
    return None if told is None else f"{_parsed(told):%Y-%m-%d %H:%M:%S}"


def short(told: str | None) -> str | None:
    """`05-01 12:00`, for lists."""
    return None if told is None else f"{_parsed(told):%m-%d %H:%M}"


def interval(after: str | None, before: str) -> str:
    """When something began, as far as that is known: `05-01 11:49 to 12:00`, or `by 05-01 12:00`.

    Seconds only where both lie in one minute.
    """
    end = _parsed(before)
    if after is None:
        return f"by {end:%m-%d %H:%M}"
    start = _parsed(after)
    clock = "%H:%M:%S" if f"{start:%m-%d %H:%M}" == f"{end:%m-%d %H:%M}" else "%H:%M"
    day = "" if start.date() == end.date() else f"{end:%m-%d} "
    return f"{start:%m-%d} {start.strftime(clock)} to {day}{end.strftime(clock)}"


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
