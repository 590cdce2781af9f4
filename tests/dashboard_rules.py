"""The 17 rules of grafana/dashboard-linter, checked by ourselves: its program is not packaged.

Each rule is a function from a dashboard (as JSON) to what it finds wrong. Where the linter looks at some kinds of
panels only, these look at all; what is left out is in `dashboards/.lint`, in the linter's own form, with a reason.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from dashboards.interpolate import Asked, interpolated
from tests.promql_text import selectors

Board = dict[str, Any]
_ROOT: Final = Path(__file__).parents[1]
EXCLUSIONS: Final = _ROOT / "dashboards" / ".lint"
BOARDS: Final[dict[str, Board]] = {
    each.stem: json.loads(each.read_text()) for each in sorted((_ROOT / "dashboards").glob("*.json"))
}
ASKED: Final = Asked(3600, 15)
_SOURCES: Final = ("$datasource", "${datasource}")
_UNITS: Final = frozenset(
    {"none", "short", "percentunit", "s", "reqps", "rps", "wps", "cpm", "ops", "bytes", "bool", "dateTimeFromNow"}
)
"""Those of Grafana's units that these dashboards need; the linter knows all."""
_VARIABLE_QUERY: Final = re.compile(r"(label_values|label_names|metrics|query_result)\((.*)\)")


@dataclass(frozen=True, slots=True)
class Wrong:
    """One violation. `panel`: its title; `target`: its number there."""

    what: str
    panel: str = ""
    target: int | None = None


Rule = Callable[[Board], Iterator[Wrong]]


def panels(board: Board) -> list[dict[str, Any]]:
    """Every panel but rows, also those inside of collapsed rows."""
    found = []
    for each in board.get("panels", ()):
        found += [each, *each.get("panels", ())]
    return [each for each in found if each["type"] != "row"]


def targets(board: Board) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Panel's title, number, target."""
    for panel in panels(board):
        for number, target in enumerate(panel.get("targets") or ()):
            yield panel.get("title", ""), number, target


def variables(board: Board, kind: str) -> list[dict[str, Any]]:
    """The template variables of a kind."""
    return [each for each in board["templating"]["list"] if each["type"] == kind]


def query_of(variable: dict[str, Any]) -> str:
    """A query variable's query."""
    query = variable.get("query", "")
    return str(query["query"] if isinstance(query, dict) else query)


def asked(board: Board) -> Iterator[str]:
    """Every expression of a dashboard: of panels, annotations, and variables."""
    yield from (target["expr"] for _, _, target in targets(board))
    yield from (each["expr"] for each in board["annotations"]["list"])
    yield from (query_of(each).partition("(")[2].rpartition(",")[0] for each in variables(board, "query"))


def rules_of_alerts() -> list[dict[str, Any]]:
    """Every rule of `alerts/*.yml`, alerts and recordings."""
    files = [yaml.safe_load(each.read_text()) for each in sorted((_ROOT / "alerts").glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def _source(holder: dict[str, Any]) -> tuple[str, str]:
    """Kind and uid of a data source reference."""
    held = holder.get("datasource")
    return (held.get("type", ""), held.get("uid", "")) if isinstance(held, dict) else ("", str(held or ""))


# -- the dashboard


def template_datasource(board: Board) -> Iterator[Wrong]:
    found = variables(board, "datasource")
    if [(each["name"], each.get("label"), each["query"]) for each in found] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield Wrong("there must be one data source variable: datasource, labelled 'Data source', of Prometheus")


def _template(board: Board, name: str) -> Iterator[Wrong]:
    found = [each for each in board["templating"]["list"] if each["name"] == name]
    if len(found) != 1:
        yield Wrong(f"there must be one variable {name}")
        return
    made = found[0]
    if made["type"] != "query" or _source(made)[1] not in _SOURCES:
        yield Wrong(f"{name} must be a query to $datasource")
    if made.get("label") != name.capitalize():
        yield Wrong(f"{name} must be labelled {name.capitalize()}")
    if not made.get("multi") or made.get("allValue") != ".+":
        yield Wrong(f"{name} must allow several, and its value for all must be .+")


def template_job(board: Board) -> Iterator[Wrong]:
    yield from _template(board, "job")


def template_instance(board: Board) -> Iterator[Wrong]:
    yield from _template(board, "instance")


def template_label_promql(board: Board) -> Iterator[Wrong]:
    for each in variables(board, "query"):
        found = _VARIABLE_QUERY.fullmatch(query_of(each))
        if found is None:
            yield Wrong(f"the query of {each['name']} is none of Grafana's: {query_of(each)}")
        elif why := refused([found[2].rpartition(",")[0] or found[2]]):
            yield Wrong(f"the query of {each['name']}: {why}")


def template_on_time_change_reload(board: Board) -> Iterator[Wrong]:
    for each in variables(board, "query"):
        if each.get("refresh") != 2:
            yield Wrong(f"{each['name']} must be read again when the time range changes")


def uneditable(board: Board) -> Iterator[Wrong]:
    if board.get("editable") is not False:
        yield Wrong("the dashboard can be edited, and edits would be lost")


# -- panels


def panel_datasource(board: Board) -> Iterator[Wrong]:
    for panel in panels(board):
        for holder in (panel, *(panel.get("targets") or ())):
            if _source(holder)[1] not in _SOURCES:
                yield Wrong(f"the data source is {_source(holder)[1]!r} and not $datasource", panel.get("title", ""))


def panel_title_description(board: Board) -> Iterator[Wrong]:
    for panel in panels(board):
        if not panel.get("title") or not panel.get("description"):
            yield Wrong(f"panel {panel.get('id')} lacks a title or a description", panel.get("title", ""))


def panel_units(board: Board) -> Iterator[Wrong]:
    for panel in panels(board):
        config = panel["fieldConfig"]
        units = [config["defaults"].get("unit", "")]
        units += [
            each["value"] for made in config.get("overrides", ()) for each in made["properties"] if each["id"] == "unit"
        ]
        if unknown := [unit for unit in units if unit not in _UNITS]:
            yield Wrong(f"no unit, or one that Grafana does not know: {unknown}", panel["title"])


def panel_no_targets(board: Board) -> Iterator[Wrong]:
    for panel in panels(board):
        if not panel.get("targets"):
            yield Wrong("asks nothing", panel["title"])


# -- queries


def target_promql(board: Board) -> Iterator[Wrong]:
    asked = [(panel, number, target.get("expr", "")) for panel, number, target in targets(board)]
    if refused([interpolated(expr, ASKED) for _, _, expr in asked]):
        for panel, number, expr in asked:
            if why := refused([interpolated(expr, ASKED)]):
                yield Wrong(why, panel, number)


def refused(expressions: list[str]) -> str:
    """What Prometheus itself has against them, or nothing."""
    rules = [{"record": f"some:expression:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    with TemporaryDirectory() as directory:
        file = Path(directory) / "rules.yml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
        told = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    return "" if told.returncode == 0 else (told.stderr or told.stdout).strip()


def target_rate_interval(board: Board) -> Iterator[Wrong]:
    for panel, number, target in targets(board):
        for each in selectors(target["expr"]):
            if each.call in ("rate", "irate") and each.range != "$__rate_interval":
                yield Wrong(f"{each.call}({each.metric}[{each.range}]) and not [$__rate_interval]", panel, number)


def _narrowed(board: Board, label: str) -> Iterator[Wrong]:
    for panel, number, target in targets(board):
        for each in selectors(target["expr"]):
            if each.matchers.get(label) != ("=~", f"${label}"):
                yield Wrong(f'{each.metric} without {label}=~"${label}"', panel, number)


def target_job(board: Board) -> Iterator[Wrong]:
    yield from _narrowed(board, "job")


def target_instance(board: Board) -> Iterator[Wrong]:
    yield from _narrowed(board, "instance")


def target_counter_agg(board: Board) -> Iterator[Wrong]:
    for panel, number, target in targets(board):
        for each in selectors(target["expr"]):
            counts = re.search(r"_(total|bucket|sum|count)$", each.metric)
            if counts and (each.call not in ("rate", "irate", "increase") or each.range is None):
                yield Wrong(f"the counter {each.metric} is used as it stands", panel, number)


def target_logql(board: Board) -> Iterator[Wrong]:
    for panel, number, target in targets(board):
        if _source(target)[0] == "loki":
            yield Wrong("asks Loki, which no test here can check", panel, number)


def target_logql_auto(board: Board) -> Iterator[Wrong]:
    for panel, number, target in targets(board):
        ranges = re.findall(r"\[([^\]]*)\]", target["expr"]) if _source(target)[0] == "loki" else []
        if any(each != "$__auto" for each in ranges):
            yield Wrong("asks Loki for a fixed range and not for $__auto", panel, number)


RULES: Final[dict[str, Rule]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template_job,
    "template-instance-rule": template_instance,
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-logql-rule": target_logql,
    "target-logql-auto-rule": target_logql_auto,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_job,
    "target-instance-rule": target_instance,
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable,
}


def exclusions() -> dict[str, Any]:
    """By rule: reason and entries."""
    return dict(yaml.safe_load(EXCLUSIONS.read_text())["exclusions"])


def excluded(rule: str, board: Board, wrong: Wrong) -> bool:
    """Whether `dashboards/.lint` leaves this one out."""
    return any(
        entry["dashboard"] == board["title"] and entry["panel"] == wrong.panel
        for entry in exclusions().get(rule, {}).get("entries", ())
    )
