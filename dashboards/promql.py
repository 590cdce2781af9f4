"""Words of PromQL that every query is put together from.

Every selector is narrowed by the dashboards' variables. Label matchers are keywords: `cause="unexplained"`; a value
that begins with `~` is a regular expression. Two daemons may serve one tenant: what describes the database is told by
both, and is therefore never added up over instances (`worst`, `least`); what a process did itself is (`rate`).
"""

from itertools import starmap

RATE = "[$__rate_interval]"
_PROCESS = ('job=~"$job"', 'instance=~"$instance"')


def of(metric: str, **labels: str) -> str:
    """A selector of one of a tenant's series."""
    return _selector(metric, *_PROCESS, 'tenant=~"$tenant"', *starmap(_matcher, labels.items()))


def process(metric: str) -> str:
    """A selector of a series of the process, which has no tenant."""
    return _selector(metric, *_PROCESS)


def _selector(metric: str, *matchers: str) -> str:
    return f"{metric}{{{', '.join(matchers)}}}"


def _matcher(label: str, value: str) -> str:
    return f'{label}=~"{value[1:]}"' if value.startswith("~") else f'{label}="{value}"'


def worst(metric: str, *, by: str = "tenant", **labels: str) -> str:
    """The highest value that any daemon tells, by labels."""
    return f"max by ({by}) ({of(metric, **labels)})"


def least(metric: str, *, by: str = "tenant", **labels: str) -> str:
    """The lowest value that any daemon tells, by labels."""
    return f"min by ({by}) ({of(metric, **labels)})"


def farthest(metric: str, *, by: str = "tenant", **labels: str) -> str:
    """The value farthest from 0 that any daemon tells, with its sign, by labels."""
    most, fewest = worst(metric, by=by, **labels), least(metric, by=by, **labels)
    return f"({most} >= -1 * {fewest}) or {fewest}"


def summed(metric: str, *, by: str, once_by: str, **labels: str) -> str:
    """Added up by `by`, after every `once_by` has been taken once, however many daemons tell it."""
    return f"sum by ({by}) ({worst(metric, by=once_by, **labels)})"


def rate(metric: str, *, by: str = "tenant", **labels: str) -> str:
    """Per second, of all daemons together, by labels."""
    return f"sum by ({by}) (rate({of(metric, **labels)}{RATE}))"


def quantile(q: float, metric: str, *, by: str = "tenant", **labels: str) -> str:
    """A quantile of a histogram (named without `_bucket`), by labels; NaN, which is drawn as a gap, without events."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', by=f'{by}, le', **labels)})"


def age(metric: str, *, by: str = "tenant", **labels: str) -> str:
    """Seconds since a timestamp; 0 where the timestamp is 0 ("none")."""
    at = of(metric, **labels)
    return f"max by ({by}) ((time() - {at}) * ({at} > bool 0))"


def next_phase(label: str = "phase") -> str:
    """One series per tenant that is not in A4, with the phase that comes next in `label`."""
    after = f"1 + {worst('cutover_phase_index')}"
    return f'label_replace(count_values by (tenant) ("n", {after}), "{label}", "A$1", "n", "([1-4])")'


def seen_rate(metric: str, *, by: str, **labels: str) -> str:
    """`rate`, without the series that have not moved in the whole time range: a legend of zeros hides what counts.
    "none" in the first label where nothing moved at all."""
    return _seen(rate(metric, by=by, **labels), _moved(metric, by, **labels), by)


def seen_rates(*parts: tuple[str, str, str]) -> str:
    """`seen_rate` of several counters in one: metric, label (or ""), and what its series are called, with `$1` for the
    label's value. All of it in the label `series`; one "none" where none of them moved."""
    shown, quiet = [], f'label_replace(0 * sum({rate(parts[0][0], by="tenant")}), "series", "none", "", "")'
    for metric, by, name in parts:
        moved = _moved(metric, by)
        each = f"{rate(metric, by=by)} and on ({by}) ({moved})"
        shown.append(f'label_replace({each}, "series", "{name}", "{by}", "(.*)")')
        quiet = f"({quiet}) unless on () ({moved})"
    return otherwise(" or ".join(shown), quiet, on="")


def _moved(metric: str, by: str, **labels: str) -> str:
    """What has moved in the whole time range, seen from each of its moments."""
    return f"sum by ({by}) (increase({of(metric, **labels)}[$__range] @ end())) > 0"


def seen(metric: str, *, by: str, once_by: str) -> str:
    """`summed`, without the series that were 0 in the whole time range, as `seen_rate`."""
    above = f"sum by ({by}) (max_over_time({of(metric)}[$__range] @ end())) > 0"
    return _seen(summed(metric, by=by, once_by=once_by), above, by)


def _seen(expression: str, busy: str, by: str) -> str:
    first = by.partition(",")[0]
    quiet = f'label_replace(0 * sum({expression}), "{first}", "none", "", "") unless on () ({busy})'
    return otherwise(f"{expression} and on ({by}) ({busy})", quiet, on="")


def otherwise(expression: str, instead: str, on: str = "tenant") -> str:
    """`expression`, and `instead` for those (by the labels `on`) that it says nothing about."""
    return f"({expression}) or on ({on}) ({instead})"
