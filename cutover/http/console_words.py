"""Numbers and times as people read them."""

from datetime import datetime

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))


def lasted(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 d`: two digits that mean something."""
    seconds = max(0.0, seconds)
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            whole = seconds / size
            return f"{whole:.0f} {unit}" if whole >= 10 or unit == "min" else f"{whole:.1f} {unit}"
    return f"{seconds:.0f} s"


def count(number: int, noun: str) -> str:
    """`1 row`, `12,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(given: str | datetime | None) -> datetime | None:
    """An RFC 3339 text or a time; None where it is none."""
    if given is None or isinstance(given, datetime):
        return given
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        return None


def seconds_since(given: str | datetime | None, now: datetime) -> float | None:
    """How long ago that was, by the daemon's clock; None where it is not known."""
    then = moment(given)
    return None if then is None else max(0.0, (now - then).total_seconds())


def seconds_until(given: str, now: datetime) -> float:
    """How long until then; 0 for a time that is past, or for none."""
    then = moment(given)
    return 0.0 if then is None else max(0.0, (then - now).total_seconds())
