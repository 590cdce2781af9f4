"""A whole dashboard as one HTML page without scripts: Grafana's grid of 24 columns, title, variables, panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from cutover.embedded.prometheus import Prometheus
from dashboards import answers, drawing
from dashboards.interpolate import Asked
from dashboards.values import NotDrawn, colour

WIDTH: Final = 1200
SCALE: Final = 4 / 3
"""Screen pixels per CSS pixel: pictures are 1600 wide, and letters in them large enough at a README's width."""
COLUMNS: Final = 24
_CELL, _GAP, _MARGIN, _HEAD, _TITLE, _PADDING = 25, 7, 10, 46, 25, 6

_STYLE: Final = """
* { box-sizing: border-box; margin: 0; padding: 0 }
body { background: #111217; color: #ccccdc; font: 11px/1.3 'DejaVu Sans', sans-serif; position: relative }
header { position: absolute; left: 12px; top: 0; right: 12px; height: 46px; display: flex;
  align-items: center; gap: 8px }
header h1 { font-size: 15px; font-weight: 500; margin-right: auto }
header span { background: #1f2128; border: 1px solid #2c3235; border-radius: 2px; padding: 3px 7px;
  white-space: nowrap }
header b { color: #6e9fff; font-weight: 500; padding-right: 5px }
header i { display: inline-block; width: 8px; height: 8px; border-radius: 50%; margin-right: 5px }
section { position: absolute; background: #181b1f; border: 1px solid #25272d; border-radius: 2px; overflow: hidden }
section h2 { font-size: 12px; font-weight: 600; height: 25px; line-height: 25px; padding: 0 8px; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis }
section > div { padding: 0 6px }
svg { display: block } svg text { font: 10px 'DejaVu Sans', sans-serif; fill: #8e9199 }
svg text.state { fill: #111217; font-weight: 600 }
.legend { line-height: 16px; white-space: nowrap; font-size: 10px; padding-left: 6px }
.legend i { display: inline-block; width: 12px; height: 3px; border-radius: 2px; margin: 0 5px 3px 0 }
.legend span { margin-right: 12px } .legend em { color: #8e9199 }
.none { color: #8e9199; text-align: center; padding-top: 40px; font-size: 13px }
table { border-collapse: collapse; width: 100%; table-layout: auto }
th, td { height: 25px; text-align: left; padding: 0 7px; border-bottom: 1px solid #25272d; white-space: nowrap;
  overflow: hidden; text-overflow: ellipsis }
th { color: #6e9fff; font-weight: 500; white-space: normal; line-height: 12px }
.right { text-align: right } td a { color: #6e9fff }
td.more { color: #8e9199; font-style: italic }
"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One panel of a picture. `found`: series or rows that its queries answered; 0: it says that there is no data."""

    panel: int
    title: str
    kind: str
    found: int


def visible(board: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The panels that are drawn. `NotDrawn` for a kind that the renderer does not know."""
    for panel in board["panels"]:
        if panel["type"] not in ("timeseries", "state-timeline", "table"):
            raise NotDrawn(f"panel {panel['title']!r} is of type {panel['type']!r}: add it to dashboards/page.py")
    return list(board["panels"])


def height(board: Mapping[str, Any]) -> int:
    """The page's height in CSS pixels."""
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in visible(board))
    return int(_HEAD + rows * (_CELL + _GAP) - _GAP + _MARGIN)


async def page(board: Mapping[str, Any], prometheus: Prometheus, asked: Asked, until: float) -> tuple[str, list[Drawn]]:
    """The page, and what was drawn on it. `until`: Unix seconds of its right edge; `asked`: how long it looks back."""
    notes = await answers.annotations(prometheus, board["annotations"]["list"], asked, until)
    parts, drawn = [_header(board, asked, until)], []
    for panel in visible(board):
        box = place(panel["gridPos"])
        frame = drawing.Frame(box[2] - 2 * _PADDING - 2, box[3] - _TITLE - _PADDING, until - asked.range_seconds, until)
        inside, found = await _inside(panel, prometheus, asked, frame, notes)
        left, top, width, tall = box
        parts.append(
            f'<section style="left:{left:.1f}px;top:{top:.1f}px;width:{width:.1f}px;height:{tall:.1f}px">'
            f"<h2>{escape(panel['title'])}</h2><div>{inside}</div></section>"
        )
        drawn.append(Drawn(panel["id"], panel["title"], panel["type"], found))
    body = f'<body style="width:{WIDTH}px;height:{height(board)}px">{"".join(parts)}</body>'
    return f'<!doctype html><meta charset="utf-8"><style>{_STYLE}</style>{body}', drawn


async def _inside(
    panel: Mapping[str, Any],
    prometheus: Prometheus,
    asked: Asked,
    frame: drawing.Frame,
    notes: drawing.Annotations,
) -> tuple[str, int]:
    if panel["type"] == "table":
        rows = await answers.table(prometheus, panel, asked, frame.until)
        return (drawing.table(panel, rows, frame) if rows.rows else _none(panel)), len(rows.rows)
    found = await answers.series(prometheus, panel, asked, frame.until)
    if not found:
        return _none(panel), 0
    draw = drawing.timeseries if panel["type"] == "timeseries" else drawing.state_timeline
    return draw(panel, found, frame, notes), len(found)


def _none(panel: Mapping[str, Any]) -> str:
    return drawing.no_data(panel["fieldConfig"]["defaults"])


def place(grid: Mapping[str, int]) -> tuple[float, float, float, float]:
    """Left, top, width and height of a panel, in CSS pixels."""
    column = (WIDTH - 2 * _MARGIN + _GAP) / COLUMNS
    row = _CELL + _GAP
    return (
        _MARGIN + grid["x"] * column,
        _HEAD + grid["y"] * row,
        grid["w"] * column - _GAP,
        grid["h"] * row - _GAP,
    )


def _header(board: Mapping[str, Any], asked: Asked, until: float) -> str:
    said = []
    for variable in board["templating"]["list"]:
        value = "Prometheus" if variable["type"] == "datasource" else "All"
        said.append(f"<span><b>{escape(variable.get('label') or variable['name'])}</b>{value}</span>")
    for each in board["annotations"]["list"]:
        if each.get("enable") and "expr" in each:
            ink = colour(each["iconColor"])
            said.append(f'<span><i style="background:{ink}"></i>{escape(each["name"])}</span>')
    began, ended = (datetime.fromtimestamp(at, UTC) for at in (until - asked.range_seconds, until))
    said.append(f"<span>{began:%Y-%m-%d %H:%M:%S} to {ended:%H:%M:%S} UTC</span>")
    return f"<header><h1>{escape(board['title'])}</h1>{''.join(said)}</header>"
