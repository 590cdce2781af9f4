"""HTML that is escaped by construction: whatever is not `Html` already is text, and becomes text.

element("p", "<b>", element("b", "x"), class_="quiet")  →  <p class="quiet">&lt;b&gt;<b>x</b></p>
"""

from html import escape
from typing import Final

VOID: Final = frozenset({"link", "meta", "input", "br", "hr", "img"})


class Html(str):
    """Markup that `element` made, or that is written out in our own source. Never built from anything else."""

    __slots__ = ()


NOTHING: Final = Html("")
Child = str | int | float | None
"""What an element holds: `Html` as it is, anything else as text; None is left out."""


def text(value: Child) -> Html:
    """As it stands between tags. What no browser could show (a lone surrogate) is shown as �."""
    if isinstance(value, Html):
        return value
    if value is None:
        return NOTHING
    shown = str(value).encode("utf-8", "replace").decode()
    return Html(escape(shown.replace("\0", "\N{REPLACEMENT CHARACTER}"), quote=True))


def join(*children: Child) -> Html:
    """One after the other."""
    return Html("".join(text(child) for child in children))


def element(tag: str, /, *children: Child, **attributes: Child | bool) -> Html:
    """`<tag …>children</tag>`. In attributes a trailing `_` is dropped and `_` is written `-`; True is an attribute
    without a value, None and False are none."""
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    opening = f"<{tag}{given}>"
    return Html(opening) if tag in VOID else Html(f"{opening}{join(*children)}</{tag}>")


def _attribute(key: str, value: Child | bool) -> str:
    if value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'
