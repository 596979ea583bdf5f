"""A dashboard of rows of panels, with the layout, variables, links and annotations of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as model

from tools.dashboards.panels import DATA_SOURCE, uid
from tools.dashboards.query import SCOPE, exporters_only

TAG = "celery-vitals"
WIDTH = 24
UNSET_AUTO: dict[str, None] = {"auto": None, "auto_min": None, "auto_count": None}
"""Fields of interval variables, for which the SDK sets defaults on every kind of variable."""


@dataclass(frozen=True)
class Row:
    """Panels and their widths (24 to a line, then they wrap), with a heading if titled."""

    title: str
    height: int
    panels: Sequence[tuple[model.Panel, int]]


@dataclass(frozen=True)
class Variable:
    """A multi-value variable: the values of a label of a metric."""

    label: str
    metric: str


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = ()

    def build(self) -> model.Dashboard:
        """Return the dashboard as Grafana imports it."""
        return model.Dashboard(
            uid=uid(self.name),
            title=f"Celery / {self.title}",
            description=self.description,
            tags=[TAG],
            editable=False,
            graph_tooltip=model.DashboardCursorSync.CROSSHAIR,
            time=model.DashboardDashboardTime(from_val="now-1h", to="now"),
            timezone="browser",
            refresh="30s",
            schema_version=38,
            version=1,
            panels=_layout(self.rows),
            templating=model.DashboardDashboardTemplating(list_val=_variables(self.variables)),
            annotations=model.AnnotationContainer(list_val=_annotations()),
            links=[_link()],
        )


def _layout(rows: Sequence[Row]) -> list[model.Panel | model.RowPanel]:
    """Assign a position and an id to every panel and heading."""
    placed: list[model.Panel | model.RowPanel] = []
    top = 0
    for row in rows:
        if row.title:
            position = model.GridPos(h=1, w=WIDTH, x=0, y=top)
            placed.append(
                model.RowPanel(title=row.title, grid_pos=position, id_val=len(placed) + 1)
            )
            top += 1
        left = 0
        for panel, width in row.panels:
            if left + width > WIDTH:
                left, top = 0, top + row.height
            panel.grid_pos = model.GridPos(h=row.height, w=width, x=left, y=top)
            panel.id_val = len(placed) + 1
            placed.append(panel)
            left += width
        top += row.height
    return placed


def _variables(variables: Sequence[Variable]) -> list[model.VariableModel]:
    data_source = model.VariableModel(
        type_val=model.VariableType.DATASOURCE,
        name="datasource",
        label="Prometheus",
        query="prometheus",
        refresh=model.VariableRefresh.ON_DASHBOARD_LOAD,
        current=model.VariableOption(),
        **UNSET_AUTO,
    )
    job = _query_variable("job", "label_values(celery_exporter_build_info, job)")
    instance = _query_variable(
        "instance", 'label_values(celery_exporter_build_info{job=~"$job"}, instance)'
    )
    own = [
        _query_variable(one.label, f"label_values({one.metric}{{{SCOPE}}}, {one.label})")
        for one in variables
    ]
    return [data_source, job, instance, *own]


def _query_variable(name: str, query: str) -> model.VariableModel:
    """Select all values by default, as `.+`: a list of every value may be too long for a query."""
    return model.VariableModel(
        type_val=model.VariableType.QUERY,
        name=name,
        label=name.capitalize(),
        datasource=DATA_SOURCE,
        query={"query": query, "refId": f"variable-{name}"},
        refresh=model.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=model.VariableSort.ALPHABETICAL_ASC,
        multi=True,
        include_all=True,
        all_value=".+",
        current=model.VariableOption(selected=True, text=["All"], value=["$__all"]),
        **UNSET_AUTO,
    )


def _annotations() -> list[model.AnnotationQuery]:
    """Mark restarts and firing alerts.  Annotations do not support `$__rate_interval`."""
    worker_restarts = f"increase(celery_worker_restarts_total{{{SCOPE}}}[3m])"
    workers = f"sum by (worker) (max without (instance, pod) ({worker_restarts})) > 0"
    exporter_restarts = f"changes(process_start_time_seconds{{{SCOPE}}}[3m])"
    return [
        _annotation("Worker restarts", "purple", workers),
        _annotation("Exporter restarts", "blue", f"{exporters_only(exporter_restarts)} > 0"),
        _annotation("Firing alerts", "red", 'ALERTS{alertname=~"Celery.*", alertstate="firing"}'),
    ]


def _annotation(name: str, colour: str, expr: str) -> model.AnnotationQuery:
    return model.AnnotationQuery(
        name=name, datasource=DATA_SOURCE, icon_color=colour, expr=expr, enable=True
    )


def _link() -> model.DashboardLink:
    """Link to the other dashboards with the same variables and time range."""
    return model.DashboardLink(
        title="Celery",
        type_val=model.DashboardLinkType.DASHBOARDS,
        tags=[TAG],
        include_vars=True,
        keep_time=True,
        icon="external link",
    )
