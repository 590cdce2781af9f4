"""What all dashboards share: variables, annotations, the links to each other."""

from collections.abc import Sequence
from typing import Any, Final

from dashboards.panels import SOURCE
from dashboards.sdk import dashboard, models

TAG: Final = "cutover"
_ALL: Final = models.VariableOption(selected=True, text=["All"], value=["$__all"])
_ANY_DAEMON: Final = 'cutover_build_info{job=~"$job", instance=~"$instance"}'


def _source() -> Any:
    return (
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes cutover's ops face.")
        .type("prometheus")
        .current(models.VariableOption(text="default", value="default"))
    )


def _several(name: str, label: str, description: str, query: str) -> Any:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(SOURCE)
        .query(query)
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(_ALL)
    )


def _annotation(name: str, colour: str, expr: str, title: str, text: str) -> Any:
    """Marks at the times that the series' values say (in ms), so a mark is where it happened and not where it was
    scraped."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(True)
        .hide(False)
        .icon_color(colour)
        .expr(expr)
        .use_value_for_time(True)
        .title_format(title)
        .text_format(text)
        .tag_keys("tenant")
        .step("60s")
    )


def framed(uid: str, title: str, description: str, panels: Sequence[Any], *, since: str) -> models.Dashboard:
    """A dashboard: not editable, since changes belong into these files. `since`: the time range it opens with."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh("30s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("cutover")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(_source())
        .with_variable(
            _several("job", "Job", "The scrape job of cutover's daemons.", "label_values(cutover_build_info, job)")
        )
        .with_variable(
            _several("instance", "Instance", "Daemons.", 'label_values(cutover_build_info{job=~"$job"}, instance)')
        )
        .with_variable(
            _several(
                "tenant",
                "Tenant",
                "Tenants of these daemons.",
                'label_values(cutover_phase_index{job=~"$job", instance=~"$instance"}, tenant)',
            )
        )
        .annotation(
            _annotation(
                "Phase changes",
                "purple",
                "1000 * max by (tenant, phase) (cutover_phase_entered_timestamp_seconds"
                '{job=~"$job", instance=~"$instance", tenant=~"$tenant"} * on (job, instance, tenant) group_right ()'
                ' (cutover_phase{job=~"$job", instance=~"$instance", tenant=~"$tenant"} == 1))',
                "{{tenant}} entered {{phase}}",
                "by the database's clock",
            )
        )
        .annotation(
            _annotation(
                "Daemon starts",
                "blue",
                '1000 * max by (instance, version) (process_start_time_seconds{job=~"$job", instance=~"$instance"}'
                f" * on (job, instance) group_left (version) {_ANY_DAEMON})",
                "{{instance}} started",
                "version {{version}}",
            )
        )
    )
    for panel in panels:
        made = made.with_panel(panel)
    return made.build()
