"""Small pieces that the console's sections are made of: marks, commands, times, bars, buttons."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from cutover.domain.check import Check, Status
from cutover.domain.commands import for_tenant
from cutover.http.console_words import lasted, moment
from cutover.http.markup import NOTHING, Child, Html, element, join

WORD: Final = {Status.PASS: "pass", Status.WARN: "warning", Status.FAIL: "fail"}
_SHAPES: Final = {
    "pass": Html('<circle cx="8" cy="8" r="7"/><path d="M4.8 8.2l2.2 2.2 4.2-4.6"/>'),
    "warn": Html('<path d="M8 1.6 15 14.2H1z"/><path d="M8 6v4M8 12v.4"/>'),
    "fail": Html('<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z"/><path d="M5.6 5.6l4.8 4.8m0-4.8-4.8 4.8"/>'),
    "todo": Html('<circle cx="8" cy="8" r="6.4"/>'),
    "here": Html('<circle cx="8" cy="8" r="7"/><circle cx="8" cy="8" r="2.6"/>'),
}
"""Each verdict has a shape of its own: colour is never all there is."""


def mark(kind: str, words: str = "") -> Html:
    """The sign of a verdict; `words` are for those who do not see it."""
    drawn = element("svg", _SHAPES[kind], class_=f"mark {kind}", viewBox="0 0 16 16", aria_hidden="true")
    return join(drawn, element("span", words, class_="unseen") if words else NOTHING)


def command(line: str, tenant: str, label: str = "Next") -> Html:
    """What to type. `tenant`: which one it must name (`Facts.named`); empty where there is but one."""
    if not line:
        return NOTHING
    if tenant:
        line = for_tenant(line, tenant)
    if not line.startswith("cutover "):
        return element("p", element("span", "Do: ", class_="label"), line, class_="next")
    typed, _, remark = line.partition(" (")
    # Lines break between words only: half an option is none.
    words = [join(" " if index else "", element("span", word)) for index, word in enumerate(typed.split(" "))]
    after = element("small", f" ({remark}") if remark else NOTHING
    return element("p", element("span", f"{label}: ", class_="label"), element("code", *words), after, class_="next")


def ago(given: str | datetime | None, now: datetime) -> Html:
    """How long ago, with the whole time for those who point at it."""
    return _time(moment(given), now, " ago")


def period(since: datetime, now: datetime) -> Html:
    """For how long, with the time of its beginning."""
    return _time(since, now, "")


def _time(then: datetime | None, now: datetime, after: str) -> Html:
    if then is None:
        return join("not known")
    stamp = then.isoformat(timespec="seconds")
    return element("time", f"{lasted((now - then).total_seconds())}{after}", datetime=stamp, title=stamp)


def said(words: Child, class_: str | None = None) -> Html:
    """Words of somebody's: set apart, so that their direction and length do nothing to ours."""
    return element("bdi", words, class_=class_)


def button(action: str, label: str, kind: str = "", **data: Child) -> Html:
    """A button that the page's script gives its meaning to; without the script it is not shown."""
    given = {f"data_{name}": value for name, value in data.items()}
    return element("button", label, type="button", class_=f"act {kind}".strip(), data_act=action, **given)


def buttons(*made: Html) -> Html:
    """A row of them."""
    shown = join(*made)
    return element("div", shown, class_="acts") if shown else NOTHING


def checked(check: Check, tenant: str) -> Html:
    """One check: the verdict, why, and what to type (see `command`)."""
    kind = check.status.value
    name, why = check.id.replace("_", " "), check.output
    if why.lower().startswith(name):  # not to say it twice
        name, why = why[: len(name)], why[len(name) :].lstrip(" :")
    return element(
        "li",
        mark(kind, f"{WORD[check.status]}: "),
        element(
            "div",
            element("p", element("strong", name), " ", said(why)),
            element("p", "asked for: ", said(check.threshold), class_="quiet") if kind != "pass" else NOTHING,
            command(check.next, tenant) if kind != "pass" else NOTHING,
        ),
        class_=f"check {kind}",
    )


def bar(share: float, label: str) -> Html:
    """How much of something is done, 0 to 1."""
    percent = max(0.0, min(100.0, 100 * share))
    return element("progress", f"{percent:.0f} %", value=f"{percent:.1f}", max="100", aria_label=label)


def stacked(parts: Mapping[str, int], label: str) -> Html:
    """One bar of several parts, each a class of its own; what is 0 is left out."""
    total = sum(abs(value) for value in parts.values())
    if not total:
        return NOTHING
    pieces, at = [], 0.0
    for name, value in parts.items():
        width = 100 * abs(value) / total
        if width:
            # A single row among a million must still be seen.
            shown = max(width, 1.5)
            pieces.append(
                element("rect", x=f"{min(at, 98.5):.2f}", y="0", width=f"{shown:.2f}", height="8", class_=f"c-{name}")
            )
            at += width
    drawing = {"viewBox": "0 0 100 8", "preserveAspectRatio": "none", "role": "img", "aria_label": label}
    return element("svg", *pieces, class_="stack", **drawing)


def spark(values: list[float], label: str) -> Html:
    """A line of what a number was, oldest first; it touches the top at the largest."""
    if len(values) < 2:
        return NOTHING
    top = max(max(values), 1.0)
    points = " ".join(
        f"{100 * index / (len(values) - 1):.1f},{22 - 20 * value / top:.1f}" for index, value in enumerate(values)
    )
    drawing = {"viewBox": "0 0 100 24", "preserveAspectRatio": "none", "role": "img", "aria_label": label}
    return element("svg", element("polyline", points=points), class_="spark", **drawing)


def pairs(rows: Sequence[tuple[Child, Child]]) -> Html:
    """Names and values."""
    made = [element("div", element("dt", name), element("dd", value)) for name, value in rows]
    return element("dl", *made, class_="pairs")


def section(id_: str, title: str, *body: Child) -> Html:
    """A part of the page with a heading that can be jumped to."""
    heading = element("h2", title, id=f"{id_}-title")
    return element("section", heading, *body, id=id_, class_="panel", aria_labelledby=f"{id_}-title")
