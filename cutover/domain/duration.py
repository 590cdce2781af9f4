"""How lengths of time are written for people."""

_UNITS = ((172_800.0, 86_400.0, "d"), (7200.0, 3600.0, "h"), (120.0, 60.0, "min"))


def spoken(seconds: float) -> str:
    """A length in its natural unit, to three digits: `90 s`, `10 min`, `24 h`, `30 d`."""
    for least, unit, name in _UNITS:
        if abs(seconds) >= least:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"
