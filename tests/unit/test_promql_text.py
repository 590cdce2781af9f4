"""Reading selectors out of PromQL: what the rules for dashboards stand on."""

import pytest

from tests.promql_text import Selector, base_name, selectors


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("up", [Selector("up", {}, None, "")]),
        ('up{a="b,}", c=~"$d"}', [Selector("up", {"a": ("=", "b,}"), "c": ("=~", "$d")}, None, "")]),
        (
            'sum by (le, tenant) (rate(x_bucket{a!="b"}[$__rate_interval]))',
            [Selector("x_bucket", {"a": ("!=", "b")}, "$__rate_interval", "rate")],
        ),
        ("max by (a) ((time() - b) * (b > bool 0))", [Selector("b", {}, None, ""), Selector("b", {}, None, "")]),
        ("a and on (b) c unless d", [Selector(name, {}, None, "") for name in "acd"]),
        ("a * on (b, c) group_left (d) e", [Selector(name, {}, None, "") for name in "ae"]),
        ("max_over_time(a[5m]) == 0", [Selector("a", {}, "5m", "max_over_time")]),
        ('label_replace(vector(0), "a", "none", "", "")', []),
        ("a offset 5m", [Selector("a", {}, None, "")]),
    ],
)
def test_selectors_are_found(expression: str, wanted: list[Selector]) -> None:
    assert list(selectors(expression)) == wanted


def test_series_of_a_histogram_belong_to_its_family() -> None:
    known = frozenset({"a_seconds", "b_count"})
    assert [base_name(each, known) for each in ("a_seconds_bucket", "a_seconds_sum", "a_seconds_count", "b_count")] == [
        *["a_seconds"] * 3,
        "b_count",
    ]
