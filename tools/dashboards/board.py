"""A dashboard from rows of panels: their places, the variables, the links and the annotations that all have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard as model

from tools.dashboards.panels import SOURCE, uid
from tools.dashboards.query import SCOPE, own

TAG = "celery-vitals"
WIDTH = 24
PLAIN: dict[str, None] = {"auto": None, "auto_min": None, "auto_count": None}
"""Fields of interval variables, which the SDK gives to all."""


@dataclass(frozen=True)
class Row:
    """Panels beside each other, with their widths (24 to a line: they wrap), and a heading where there is a title."""

    title: str
    height: int
    panels: Sequence[tuple[model.Panel, int]]


@dataclass(frozen=True)
class Pick:
    """A variable: the values of a label of a metric, several at a time."""

    name: str
    metric: str


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    picks: Sequence[Pick] = ()

    def build(self) -> model.Dashboard:
        """As Grafana imports it."""
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
            panels=_placed(self.rows),
            templating=model.DashboardDashboardTemplating(list_val=_variables(self.picks)),
            annotations=model.AnnotationContainer(list_val=_annotations()),
            links=[_link()],
        )


def _placed(rows: Sequence[Row]) -> list[model.Panel | model.RowPanel]:
    """Every panel and heading with its place and number."""
    found: list[model.Panel | model.RowPanel] = []
    top = 0
    for row in rows:
        if row.title:
            place = model.GridPos(h=1, w=WIDTH, x=0, y=top)
            found.append(model.RowPanel(title=row.title, grid_pos=place, id_val=len(found) + 1))
            top += 1
        left = 0
        for panel, width in row.panels:
            if left + width > WIDTH:
                left, top = 0, top + row.height
            panel.grid_pos = model.GridPos(h=row.height, w=width, x=left, y=top)
            panel.id_val = len(found) + 1
            found.append(panel)
            left += width
        top += row.height
    return found


def _variables(picks: Sequence[Pick]) -> list[model.VariableModel]:
    source = model.VariableModel(
        type_val=model.VariableType.DATASOURCE,
        name="datasource",
        label="Prometheus",
        query="prometheus",
        refresh=model.VariableRefresh.ON_DASHBOARD_LOAD,
        current=model.VariableOption(),
        **PLAIN,
    )
    job = _variable("job", "label_values(celery_exporter_build_info, job)")
    instance = _variable("instance", 'label_values(celery_exporter_build_info{job=~"$job"}, instance)')
    ours = [_variable(pick.name, f"label_values({pick.metric}{{{SCOPE}}}, {pick.name})") for pick in picks]
    return [source, job, instance, *ours]


def _variable(name: str, query: str) -> model.VariableModel:
    """All of them at first.  `.+` for all: a list of every value may be too long for a query."""
    return model.VariableModel(
        type_val=model.VariableType.QUERY,
        name=name,
        label=name.capitalize(),
        datasource=SOURCE,
        query={"query": query, "refId": f"variable-{name}"},
        refresh=model.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=model.VariableSort.ALPHABETICAL_ASC,
        multi=True,
        include_all=True,
        all_value=".+",
        current=model.VariableOption(selected=True, text=["All"], value=["$__all"]),
        **PLAIN,
    )


def _annotations() -> list[model.AnnotationQuery]:
    """Restarts and firing alerts.  A window of its own: annotations know no rate interval."""
    restarts = (
        f"sum by (worker) (max without (instance, pod) (increase(celery_worker_restarts_total{{{SCOPE}}}[3m]))) > 0"
    )
    exporter = f"{own(f'changes(process_start_time_seconds{{{SCOPE}}}[3m])')} > 0"
    alerts = 'ALERTS{alertname=~"Celery.*", alertstate="firing"}'
    return [
        _annotation("Worker restarts", "purple", restarts),
        _annotation("Exporter restarts", "blue", exporter),
        _annotation("Firing alerts", "red", alerts),
    ]


def _annotation(name: str, colour: str, expr: str) -> model.AnnotationQuery:
    return model.AnnotationQuery(name=name, datasource=SOURCE, icon_color=colour, expr=expr, enable=True)


def _link() -> model.DashboardLink:
    """To the other dashboards, with the same choice and time."""
    return model.DashboardLink(
        title="Celery",
        type_val=model.DashboardLinkType.DASHBOARDS,
        tags=[TAG],
        include_vars=True,
        keep_time=True,
        icon="external link",
    )
