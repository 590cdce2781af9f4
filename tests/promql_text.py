"""The selectors of a PromQL expression, with what stands around each. Not a parser: whether an expression is one at all
is for Prometheus to say (`dashboard_rules.promql`); this reads what Prometheus has accepted."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)|(?P<range>\[[^\]]*\])|(?P<braces>\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\})"""
    r"""|(?P<number>[0-9][0-9a-z.]*)|(?P<other>\S)""",
    re.VERBOSE,
)
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*')
_GROUPING = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "Inf", "NaN", "start", "end"})


@dataclass(frozen=True, slots=True)
class Selector:
    """One selector. `matchers`: operator and value by label; `range`: what stands in brackets, or None; `call`: the
    function (or aggregation) whose argument it is by itself, or ""."""

    metric: str
    matchers: Mapping[str, tuple[str, str]]
    range: str | None
    call: str


def selectors(expression: str) -> Iterator[Selector]:
    """All of them, in order."""
    tokens = [(each.lastgroup, each[0]) for each in _TOKEN.finditer(expression)] + [("end", "")] * 3
    calls: list[str] = []
    number = 0
    while number < len(tokens) - 3:
        kind, text = tokens[number]
        if text == "(":
            before = tokens[number - 1] if number else ("", "")
            calls.append(before[1] if before[0] == "name" and before[1] not in _WORDS else "")
        elif text == ")":
            calls.pop()
        elif kind == "name" and text in _GROUPING:
            # `by (tenant, le)`: names of labels
            while tokens[number + 1][1] == "(" and tokens[number][1] != ")":
                number = next(at for at in range(number, len(tokens)) if tokens[at][1] == ")")
        elif kind == "name" and text not in _WORDS and tokens[number + 1][1] != "(" and not _aggregates(tokens, number):
            braces = tokens[number + 1][0] == "braces"
            if braces:
                number += 1
            matchers = {m[1]: (m[2], m[3]) for m in _MATCHER.finditer(tokens[number][1])} if braces else {}
            ranged = tokens[number + 1][0] == "range"
            yield Selector(text, matchers, tokens[number + 1][1][1:-1] if ranged else None, calls[-1] if calls else "")
        number += 1


def _aggregates(tokens: list[tuple[str | None, str]], number: int) -> bool:
    """`max by (…) (…)`: the name is an aggregation's."""
    return tokens[number + 1][1] in ("by", "without")


def base_name(metric: str, known: frozenset[str]) -> str:
    """The family's name of a histogram's series."""
    for suffix in ("_bucket", "_sum", "_count"):
        if metric.removesuffix(suffix) in known:
            return metric.removesuffix(suffix)
    return metric
