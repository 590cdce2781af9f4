"""K/V: what a row of `workspace_memory` looks like as a memory (decision 0014).

The content is the value as PostgreSQL writes `jsonb`: one text for equal values, with keys in one order. It is exact.
Beside it `propagation.cutover.kv` carries key, version and the value itself for readers who want no second parser.
There the value passes through the JSON of whoever forwards it, and most of those round numbers or stop at some depth;
so it is carried only where nothing can be lost on the way, and left out otherwise.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

MAX_DEPTH = 32
"""Nested arrays and objects: far below where any reader of JSON gives up."""
MAX_BYTES = 1_000_000
"""Of a row's content, in UTF-8. A plugin indexes a larger one for so long that no request is answered in time, and the
row would be tried for ever; it is quarantined instead."""
_EXACT_INTEGERS = 2**53


class _Lossy(Exception):
    """This value would not arrive as it is."""


def carried(kv: Mapping[str, Any], value: str) -> dict[str, Any]:
    """`propagation.cutover.kv` for the row with this `key` and `version` and the JSON text of its value."""
    try:
        parsed = json.loads(value, parse_int=_integer, parse_float=_fraction)
        _check_depth(parsed, MAX_DEPTH)
    except (_Lossy, RecursionError):
        return dict(kv)
    return {**kv, "value": parsed}


def _integer(text: str) -> int:
    if len(text) > len(str(-_EXACT_INTEGERS)) or abs(int(text)) > _EXACT_INTEGERS:
        raise _Lossy
    return int(text)


def _fraction(text: str) -> float:
    number = float(text)
    if Decimal(repr(number)) != Decimal(text):
        raise _Lossy
    return number


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if left == 0:
        raise _Lossy
    for inner in value.values() if isinstance(value, dict) else value:
        _check_depth(inner, left - 1)
