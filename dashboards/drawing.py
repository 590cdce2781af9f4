"""Panels as SVG and HTML: series over time, states over time, tables. Sizes are CSS pixels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from typing import Any, Final

from dashboards.answers import Rows, Series
from dashboards.values import TEXT, NotDrawn, colour, mapped, merged, series_colours, shown, steps_of, worded

LEGEND_ROW: Final = 16
TABLE_ROW: Final = 25
_LEGEND_SHARE: Final = 0.35
_CHARACTER: Final = 6.1
"""The width of a letter at 10 px, on the safe side."""
_GRID, _FAINT = "#2c3235", "#8e9199"
_TIME_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)

Annotations = Sequence[tuple[float, str, str]]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a panel's data goes: its size, and the time that it shows (Unix seconds)."""

    width: float
    height: float
    began: float
    until: float

    def x(self, at: float, left: float, right: float) -> float:
        """The place of a moment between two edges."""
        return left + (at - self.began) / (self.until - self.began) * (right - left)


def no_data(config: Mapping[str, Any]) -> str:
    """What stands in a panel whose queries answer nothing."""
    return f'<div class="none">{escape(str(config.get("noValue", "No data")))}</div>'


# -- series ----------------------------------------------------------------------------------------------------------


def timeseries(panel: Mapping[str, Any], found: Sequence[Series], frame: Frame, notes: Annotations) -> str:
    """Lines over time with axes, thresholds, annotations and a legend."""
    config = merged(panel["fieldConfig"], "")
    names = [each.name for each in found]
    colours = series_colours(names, panel["fieldConfig"])
    fields = [merged(panel["fieldConfig"], name) for name in names]
    legend = _legend(panel, names, colours, frame)
    height = frame.height - legend.count("<br>") * LEGEND_ROW - (LEGEND_ROW + 4 if legend else 0)
    drawn = _stacked(found, config)
    low, high = _range(drawn, config)
    ticks = _ticks(low, high, config.get("unit", "none"), max(2, int(height / 34)))
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    labels = [shown(tick, config.get("unit", "none")) for tick in ticks]
    left, right = 8 + _CHARACTER * max(len(label) for label in labels), frame.width - 8
    top, bottom = 6.0, height - 18

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    parts = [_axes(ticks, labels, frame, left, right, top, bottom, y)]
    parts += _threshold_lines(config, left, right, low, high, y)
    for number in reversed(range(len(found))):
        under = drawn[number].under
        parts.append(_line(drawn[number], colours[number], fields[number]["custom"], frame, left, right, y, under, low))
    parts += [_note(at, name, frame, left, right, top, bottom) for at, _, name in notes]
    svg = f'<svg width="{frame.width:g}" height="{height:g}">{"".join(parts)}</svg>'
    return f'{svg}<div class="legend">{legend}</div>' if legend else svg


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The points of a line as they are drawn, and those it stands on where lines are stacked."""

    points: Sequence[tuple[float, float]]
    under: Sequence[tuple[float, float]] | None = None


def _stacked(found: Sequence[Series], config: Mapping[str, Any]) -> list[_Drawn]:
    mode = config["custom"].get("stacking", {}).get("mode", "none")
    if mode == "none":
        return [_Drawn(each.points) for each in found]
    if mode != "normal":
        raise NotDrawn(f"stacking {mode!r}")
    above: dict[float, float] = {}
    below: dict[float, float] = {}
    made = []
    for each in found:
        points, under = [], []
        for at, value in each.points:
            base = above if value >= 0 else below
            under.append((at, base.get(at, 0.0)))
            base[at] = base.get(at, 0.0) + value
            points.append((at, base[at]))
        made.append(_Drawn(points, under))
    return made


def _range(drawn: Sequence[_Drawn], config: Mapping[str, Any]) -> tuple[float, float]:
    values = [value for each in drawn for _, value in each.points if math.isfinite(value)]
    custom = config["custom"]
    low = min([*values, custom.get("axisSoftMin", math.inf)], default=0.0)
    high = max([*values, custom.get("axisSoftMax", -math.inf)], default=1.0)
    low, high = config.get("min", low), config.get("max", high)
    low, high = (0.0 if math.isinf(low) else low), (1.0 if math.isinf(high) else high)
    return (low, high) if high > low else (low, low + 1)


def _ticks(low: float, high: float, unit: str, most: int) -> list[float]:
    """Round values that span a range: in the unit's own steps (minutes, KiB)."""
    span = high - low
    base = 1.0
    if unit == "s" and span > 120:
        base = next(size for size in (604_800, 86_400, 3_600, 60) if span > 2 * size)
    elif unit == "bytes":
        base = 1024.0 ** max(0, math.floor(math.log(max(span, 1), 1024)))
    wanted = span / base / most
    size = 10.0 ** math.floor(math.log10(wanted))
    step = base * next(size * each for each in (1, 2, 5, 10) if size * each >= wanted * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _axes(
    ticks: Sequence[float],
    labels: Sequence[str],
    frame: Frame,
    left: float,
    right: float,
    top: float,
    bottom: float,
    y: Any,
) -> str:
    parts = []
    for tick, label in zip(ticks, labels, strict=True):
        parts.append(f'<path d="M{left:.1f} {y(tick):.1f}H{right:.1f}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{left - 5:.1f}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{escape(label)}</text>')
    parts.append(time_axis(frame, left, right, top, bottom))
    return "".join(parts)


def time_axis(frame: Frame, left: float, right: float, top: float, bottom: float) -> str:
    """Vertical lines at round moments with the time (UTC) below."""
    most = max(2, int((right - left) / 60))
    step = next((each for each in _TIME_STEPS if (frame.until - frame.began) / each <= most), _TIME_STEPS[-1])
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%m-%d"
    parts = []
    for number in range(math.ceil(frame.began / step), math.floor(frame.until / step) + 1):
        at = frame.x(number * step, left, right)
        text = datetime.fromtimestamp(number * step, UTC).strftime(form)
        parts.append(f'<path d="M{at:.1f} {top:.1f}V{bottom:.1f}" stroke="{_GRID}"/>')
        if left + 14 < at < right - 14:
            parts.append(f'<text x="{at:.1f}" y="{bottom + 14:.1f}" text-anchor="middle">{text}</text>')
    return "".join(parts)


def _threshold_lines(
    config: Mapping[str, Any], left: float, right: float, low: float, high: float, y: Any
) -> list[str]:
    style = config["custom"].get("thresholdsStyle", {}).get("mode", "off")
    if style == "off":
        return []
    if style not in ("dashed", "line"):
        raise NotDrawn(f"thresholds drawn as {style!r}")
    dash = ' stroke-dasharray="8 5"' if style == "dashed" else ""
    return [
        f'<path d="M{left:.1f} {y(at):.1f}H{right:.1f}" stroke="{colour(name)}" stroke-width="1.5" opacity=".8"{dash}/>'
        for at, name in steps_of(config)
        if low <= at <= high and name != "transparent"
    ]


def _line(
    drawn: _Drawn,
    ink: str,
    custom: Mapping[str, Any],
    frame: Frame,
    left: float,
    right: float,
    y: Any,
    under: Sequence[tuple[float, float]] | None,
    floor: float,
) -> str:
    stepped = custom.get("lineInterpolation") == "stepAfter"
    dash = custom.get("lineStyle") or {}
    dashes = " ".join(str(each) for each in dash.get("dash", [6, 4])) if dash.get("fill") == "dash" else ""
    made = []
    for piece in _pieces(drawn.points):
        along = [(frame.x(at, left, right), y(value)) for at, value in piece]
        path = _path(along, stepped=stepped)
        if fill := custom.get("fillOpacity", 0):
            times = {at for at, _ in piece}
            back = [(frame.x(at, left, right), y(value)) for at, value in under or [] if at in times]
            ground = y(max(floor, 0.0))
            base = (
                _path(back[::-1], stepped=False, first="L")
                if back
                else f"L{along[-1][0]:.1f} {ground:.1f}L{along[0][0]:.1f} {ground:.1f}"
            )
            made.append(f'<path d="{path}{base}Z" fill="{ink}" opacity="{fill / 100:g}" stroke="none"/>')
        width = custom.get("lineWidth", 1) + 0.4
        made.append(
            f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="{width:g}" stroke-dasharray="{dashes}"/>'
        )
        if len(piece) == 1:
            made.append(f'<circle cx="{along[0][0]:.1f}" cy="{along[0][1]:.1f}" r="2" fill="{ink}"/>')
    return "".join(made)


def _pieces(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Where points are missing or no number, a line has a gap."""
    steps = sorted(after - before for (before, _), (after, _) in pairwise(points))
    usual = steps[0] if steps else 0.0
    made: list[list[tuple[float, float]]] = []
    last: float | None = None
    for at, value in points:
        if not math.isfinite(value):
            last = None
            continue
        if last is None or at - last > usual * 1.5:
            made.append([])
        made[-1].append((at, value))
        last = at
    return made


def _path(points: Sequence[tuple[float, float]], *, stepped: bool, first: str = "M") -> str:
    made = [f"{first}{points[0][0]:.1f} {points[0][1]:.1f}"]
    for x, y in points[1:]:
        made.append(f"H{x:.1f}V{y:.1f}" if stepped else f"L{x:.1f} {y:.1f}")
    return "".join(made)


def _note(at: float, name: str, frame: Frame, left: float, right: float, top: float, bottom: float) -> str:
    x, ink = frame.x(at, left, right), colour(name)
    return (
        f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" stroke="{ink}" stroke-dasharray="3 3" opacity=".9"/>'
        f'<path d="M{x - 4:.1f} {bottom + 6:.1f}h8l-4 -6z" fill="{ink}"/>'
    )


def _legend(panel: Mapping[str, Any], names: Sequence[str], colours: Sequence[str], frame: Frame) -> str:
    """The names below a plot, in rows that fit; `<br>` between them, so that the plot knows how much room is left.

    As in Grafana, a legend takes a third of its panel at most. Grafana scrolls there; here the others are counted.
    """
    told = panel.get("options", {}).get("legend", {})
    if not told.get("showLegend", True):
        return ""
    if (told.get("displayMode"), told.get("placement")) != ("list", "bottom"):
        raise NotDrawn(f"a legend as {told.get('displayMode')!r} at the {told.get('placement')!r}")
    rows: list[list[str]] = [[]]
    filled = 0.0
    for name, ink in zip(names, colours, strict=True):
        needed = 30 + _CHARACTER * len(name)
        if filled + needed > frame.width - 10 and rows[-1]:
            rows.append([])
            filled = 0.0
        filled += needed
        rows[-1].append(f'<span><i style="background:{ink}"></i>{escape(name)}</span>')
    room = max(1, int(frame.height * _LEGEND_SHARE // LEGEND_ROW))
    if len(rows) > room:
        hidden = len(names) - sum(len(row) for row in rows[:room]) + 1
        rows[room:] = []
        rows[-1][-1] = f"<em>and {hidden} more</em>"
    return "<br>".join("".join(row) for row in rows)


# -- states ----------------------------------------------------------------------------------------------------------


def state_timeline(panel: Mapping[str, Any], found: Sequence[Series], frame: Frame, notes: Annotations) -> str:
    """A bar per series, in the colours and words of its values."""
    config = merged(panel["fieldConfig"], "")
    left = 10 + _CHARACTER * max(len(each.name) for each in found)
    right, top, bottom = frame.width - 8, 6.0, frame.height - 18
    row = (bottom - top) / len(found)
    bar = row * panel["options"].get("rowHeight", 0.9)
    parts = [time_axis(frame, left, right, top, bottom)]
    for number, each in enumerate(found):
        y = top + row * number + (row - bar) / 2
        parts.append(
            f'<text x="{left - 6:.1f}" y="{y + bar / 2 + 3.5:.1f}" text-anchor="end">{escape(each.name)}</text>'
        )
        parts += _bars(each, config, frame, left, right, y, bar)
    parts += [_note(at, name, frame, left, right, top, bottom) for at, _, name in notes]
    return f'<svg width="{frame.width:g}" height="{frame.height:g}">{"".join(parts)}</svg>'


def _bars(
    one: Series, config: Mapping[str, Any], frame: Frame, left: float, right: float, y: float, height: float
) -> list[str]:
    made = []
    for at, end, value in _spells(one.points):
        words, ink = worded(value, config)
        x, to = frame.x(at, left, right), frame.x(end, left, right)
        opacity = config["custom"].get("fillOpacity", 70) / 100
        made.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(1.0, to - x):.1f}" height="{height:.1f}"'
            f' fill="{ink}" opacity="{opacity:g}"/>'
        )
        if to - x > _CHARACTER * len(words) + 8:
            made.append(f'<text x="{x + 5:.1f}" y="{y + height / 2 + 3.5:.1f}" class="state">{escape(words)}</text>')
    return made


def _spells(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, float]]:
    """(from, to, value) for each time that a value stayed the same; a gap ends it."""
    made = []
    for piece in _pieces(points):
        starts = [number for number, (_, value) in enumerate(piece) if not number or value != piece[number - 1][1]]
        for first, after in pairwise([*starts, len(piece)]):
            made.append((piece[first][0], piece[min(after, len(piece) - 1)][0], piece[first][1]))
    return made


# -- tables ----------------------------------------------------------------------------------------------------------


def table(panel: Mapping[str, Any], found: Rows, frame: Frame) -> str:
    """Rows with a title per column; those that do not fit are counted, as Grafana would let a reader scroll."""
    fields = [merged(panel["fieldConfig"], title) for title in found.titles]
    columns = "".join(_column(field["custom"].get("width")) for field in fields)
    head = "".join(f"<th{_side(place, found)}>{escape(title)}</th>" for place, title in enumerate(found.titles))
    room = int((frame.height - TABLE_ROW) // TABLE_ROW)
    fits = found.rows if len(found.rows) <= room else found.rows[: room - 1]
    body = "".join(
        "<tr>" + "".join(_cell(cell, fields[place], _side(place, found)) for place, cell in enumerate(row)) + "</tr>"
        for row in fits
    )
    if len(fits) < len(found.rows):
        body += f'<tr><td class="more" colspan="{len(fields)}">{len(found.rows) - len(fits)} more below</td></tr>'
    return f"<table><colgroup>{columns}</colgroup><tr>{head}</tr>{body}</table>"


def _column(width: int | None) -> str:
    return "<col>" if width is None else f'<col style="width:{width * 0.8:g}px">'


def _side(place: int, found: Rows) -> str:
    """Numbers stand right, as in Grafana, words left."""
    numbers = any(isinstance(row[place], float) for row in found.rows)
    return ' class="right"' if numbers else ""


def _cell(cell: str | float | None, field: Mapping[str, Any], side: str) -> str:
    if cell is None:
        return f"<td{side}>{escape(str(field.get('noValue', '')))}</td>"
    if isinstance(cell, str) and field.get("links"):
        return f"<td{side}><a>{escape(cell)}</a></td>"
    words, ink = (mapped(cell, field) or (cell, TEXT)) if isinstance(cell, str) else worded(cell, field)
    kind = (field["custom"].get("cellOptions") or {}).get("type", "auto")
    if kind == "auto":
        ink = TEXT
    elif kind == "color-background":
        return f'<td{side} style="background:{ink};color:#111217">{escape(words)}</td>'
    elif kind != "color-text":
        raise NotDrawn(f"cells of type {kind!r}")
    return f'<td{side} style="color:{ink}">{escape(words)}</td>'
