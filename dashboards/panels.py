"""Panels: one function per kind, each with the same look everywhere.

What every panel must have (an id that stays, title, description, unit, place) is an argument without a default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dashboards.sdk import (
    common,
    common_models,
    dashboard,
    models,
    prometheus,
    prometheus_models,
    statetimeline,
    table,
    timeseries,
)

SOURCE: Final = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS: Final = "https://github.com/cutover/cutover/blob/main/docs/runbooks"
_REFS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

GREEN, YELLOW, ORANGE, RED, BLUE, GREY, PURPLE = "green", "yellow", "orange", "red", "blue", "#8e8e8e", "purple"

Steps = Sequence[tuple[float | None, str]]
"""Thresholds: from a value on (None: from the start) a colour."""
Words = Mapping[float, tuple[str, str]]
"""What a value is called, and its colour."""

PHASES: Final[Words] = {
    0: ("A0 stand up", GREY),
    1: ("A1 shadow", BLUE),
    2: ("A2 backfill", PURPLE),
    3: ("A3 cutover", ORANGE),
    4: ("A4 drop", GREEN),
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a panel stands on the grid of 24 columns."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Query:
    """One query and how its series are called. `exemplars`: with a link from a slow request to its trace."""

    expr: str
    legend: str = "{{tenant}}"
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class About:
    """What a reader is told: the runbooks to open (names of alerts) and the dashboard with the details (its uid)."""

    description: str
    runbooks: Sequence[str] = ()
    details: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table that holds one row per tenant: its query (labels: tenant alone) and how values are shown."""

    title: str
    expr: str
    unit: str = "none"
    steps: Steps = ((None, "text"),)
    words: Words = field(default_factory=dict)
    width: int | None = None
    link: tuple[str, str] | None = None
    """Title and URL."""


def _links(about: About) -> list[Any]:
    links = [
        dashboard.DashboardLink(f"Runbook: {name}")
        .type(models.DashboardLinkType.LINK)
        .url(f"{RUNBOOKS}/{name}.md")
        .target_blank(True)
        for name in about.runbooks
    ]
    if about.details:
        links.append(
            dashboard.DashboardLink(f"Details: {about.details}")
            .type(models.DashboardLinkType.LINK)
            .url(f"/d/{about.details}?${{__url_time_range}}&${{__all_variables}}")
        )
    return links


def _targets(queries: Sequence[Query], *, instant: bool = False) -> list[Any]:
    made = []
    for ref, query in zip(_REFS, queries, strict=False):
        target = (
            prometheus.Dataquery()
            .datasource(SOURCE)
            .expr(query.expr)
            .ref_id(ref)
            .editor_mode(prometheus_models.QueryEditorMode.CODE)
        )
        if instant:
            made.append(target.instant().format(prometheus_models.PromQueryFormat.TABLE))
            continue
        target = target.range().legend_format(query.legend).format(prometheus_models.PromQueryFormat.TIME_SERIES)
        made.append(target.exemplar(True) if query.exemplars else target)
    return made


def _thresholds(steps: Steps) -> Any:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value, colour) for value, colour in steps])
    )


def _mapping(words: Words) -> list[models.ValueMapping]:
    options = {
        f"{value:g}": models.ValueMappingResult(text=text, color=colour, index=number)
        for number, (value, (text, colour)) in enumerate(words.items())
    }
    return [models.ValueMap(options)] if options else []


def _standing(panel: Any, number: int, title: str, about: About, place: Place, unit: str) -> Any:
    """What every panel has."""
    return (
        panel.id(number)
        .title(title)
        .description(about.description)
        .datasource(SOURCE)
        .grid_pos(models.GridPos(h=place.h, w=place.w, x=place.x, y=place.y))
        .links(_links(about))
        .unit(unit)
    )


def _fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _legend(*, beside: bool = False) -> Any:
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.RIGHT if beside else common_models.LegendPlacement.BOTTOM)
        .calcs([])
    )


def lines(
    number: int,
    title: str,
    about: About,
    place: Place,
    unit: str,
    queries: Sequence[Query],
    *,
    stacked: bool = False,
    steps: Steps = (),
    colours: Mapping[str, str] | None = None,
    dashed: str = "",
    top: float | None = None,
    zero: bool = True,
) -> Any:
    """Values over time. `steps` are drawn as dashed lines; `colours` by series name (a regular expression that names
    the whole series); `dashed` names the series that are a bound and no measurement; `top`: the axis goes this far at
    least; `zero`: it begins at 0 at the latest."""
    panel = _standing(timeseries.Panel(), number, title, about, place, unit)
    panel = (
        panel.targets(_targets(queries))
        .line_width(1)
        .fill_opacity(40 if stacked else 8 if [query.legend for query in queries] == ["{{tenant}}"] else 0)
        .line_interpolation(
            common_models.LineInterpolation.STEP_AFTER if stacked else common_models.LineInterpolation.LINEAR
        )
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .no_value("no data")
    )
    if zero:
        panel = panel.axis_soft_min(0)
    if top is not None:
        panel = panel.axis_soft_max(top)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if steps:
        panel = panel.thresholds(_thresholds(((None, "transparent"), *steps))).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    for name, colour in {**(colours or {}), r"(.* )?none( .*)?": GREY}.items():
        panel = panel.override_by_regexp(f"/^{name}$/", [_fixed(colour)])
    if dashed:
        style = {"fill": "dash", "dash": [8, 8]}
        panel = panel.override_by_regexp(
            f"/{dashed}/",
            [
                models.DynamicConfigValue("custom.lineStyle", style),
                models.DynamicConfigValue("custom.fillOpacity", 0),
                _fixed(GREY),
            ],
        )
    return panel


def states(
    number: int, title: str, about: About, place: Place, queries: Sequence[Query], words: Words, *, unit: str = "none"
) -> Any:
    """Which state held when: one bar per series."""
    panel = _standing(statetimeline.Panel(), number, title, about, place, unit)
    return (
        panel.targets(_targets(queries))
        .mappings(_mapping(words))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(_thresholds(((None, GREY),)))
        .show_value(common_models.VisibilityMode.AUTO)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(70)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.SINGLE))
        .no_value("no data")
    )


def _column_properties(column: Column) -> list[models.DynamicConfigValue]:
    made = [models.DynamicConfigValue("unit", column.unit)]
    coloured = column.words or len(column.steps) > 1
    made.append(
        models.DynamicConfigValue(
            "thresholds",
            {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in column.steps]},
        )
    )
    if column.words:
        options = {
            f"{value:g}": {"text": text, "color": colour, "index": number}
            for number, (value, (text, colour)) in enumerate(column.words.items())
        }
        made.append(models.DynamicConfigValue("mappings", [{"type": "value", "options": options}]))
    if coloured:
        made.append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    if column.width is not None:
        made.append(models.DynamicConfigValue("custom.width", column.width))
    if column.link is not None:
        title, url = column.link
        made.append(models.DynamicConfigValue("links", [{"title": title, "url": url, "targetBlank": True}]))
    return made


def by_tenant(
    number: int, title: str, about: About, place: Place, columns: Sequence[Column], *, key: Sequence[str] = ("tenant",)
) -> Any:
    """A table with one row per tenant (or per `key`), now: each column is a query, put together by their labels."""
    panel = _standing(table.Panel(), number, title, about, place, "none")
    names = {label: label.capitalize() for label in key}
    names |= {f"Value #{ref}": column.title for ref, column in zip(_REFS, columns, strict=False)}
    order = {name: number for number, name in enumerate(names)}
    panel = (
        panel.targets(_targets([Query(column.expr) for column in columns], instant=True))
        .transformations(
            [
                models.DataTransformerConfig("merge", options={}),
                models.DataTransformerConfig(
                    "organize",
                    options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
                ),
            ]
        )
        .cell_height(common_models.TableCellHeight.SM)
        .show_header(True)
        .no_value("–")
    )
    for column in columns:
        panel = panel.override_by_name(column.title, _column_properties(column))
    return panel


def listing(
    number: int,
    title: str,
    about: About,
    place: Place,
    expr: str,
    labels: Mapping[str, str],
    value: Column | None = None,
    *,
    links: Mapping[str, tuple[str, str]] | None = None,
    colours: Mapping[str, Mapping[str, str]] | None = None,
) -> Any:
    """A table of the series that are there now: their labels (with the columns' titles), then the value, if it says
    anything. By a column's title, `links`: a link's title and URL; `colours`: the colour of each of its words."""
    panel = _standing(table.Panel(), number, title, about, place, "none")
    hidden = {"Time": True} if value is not None else {"Time": True, "Value": True}
    shown = {**labels, "Value": value.title} if value is not None else dict(labels)
    order = {name: number for number, name in enumerate(shown)}
    organized = models.DataTransformerConfig(
        "organize", options={"excludeByName": hidden, "indexByName": order, "renameByName": shown}
    )
    panel = (
        panel.targets(_targets([Query(expr)], instant=True))
        .transformations([organized])
        .cell_height(common_models.TableCellHeight.SM)
        .show_header(True)
        .no_value("–")
    )
    for name, (link_title, url) in (links or {}).items():
        link = [{"title": link_title, "url": url, "targetBlank": True}]
        panel = panel.override_by_name(name, [models.DynamicConfigValue("links", link)])
    for name, words in (colours or {}).items():
        options = {word: {"color": colour, "index": at} for at, (word, colour) in enumerate(words.items())}
        panel = panel.override_by_name(
            name,
            [
                models.DynamicConfigValue("mappings", [{"type": "value", "options": options}]),
                models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
            ],
        )
    return panel if value is None else panel.override_by_name(value.title, _column_properties(value))
