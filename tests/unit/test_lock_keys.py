"""Advisory locks are told apart by their keys alone, and all of them share one number space per database."""

import re
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "cutover"
_KEY = re.compile(r"\b73049162204815772\d\d\b")


def test_every_advisory_lock_has_a_key_of_its_own() -> None:
    texts = [path.read_text() for path in PACKAGE.rglob("*") if path.suffix in (".py", ".sql")]
    keys = Counter(key for text in texts for key in _KEY.findall(text))
    assert len(keys) >= 5
    assert {key: times for key, times in keys.items() if times > 1} == {}
