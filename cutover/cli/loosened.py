"""Loosened thresholds as a person reads them: the daemon tells a sentence each, and there may be seven of them."""

import re
from collections.abc import Sequence

_SENTENCE = re.compile(r"(\w+) is (.+), loosened from (.+)")


def loosened(sentences: Sequence[str] | None) -> str | None:
    """`soak 4 s (not 30 d); drop_hold 60 s (not 24 h)`; None where nothing is loosened."""
    return "; ".join(_SENTENCE.sub(r"\1 \2 (not \3)", each) for each in sentences or ()) or None
