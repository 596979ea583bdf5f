"""Builders of the panel types that the dashboards use."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.models import common, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat

from tools.dashboards.text import Description, NoData, Requirement, no_value_text
from tools.dashboards.thresholds import NO_THRESHOLDS, Thresholds, thresholds_config
from tools.dashboards.units import CORES, COUNT_PREFIX, NONE, RATIO

DATA_SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
LINK_PARAMETERS = (
    "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"
)
"""The variables and the time range that a link to another dashboard keeps."""
LEGEND = common.VizLegendOptions(
    display_mode=common.LegendDisplayMode.LIST,
    placement=common.LegendPlacement.BOTTOM,
    show_legend=True,
    calcs=[],
)


def uid(name: str) -> str:
    """Return the fixed uid of a dashboard."""
    return f"celery-vitals-{name}"


@dataclass(frozen=True)
class Column:
    """Field options of a table column."""

    unit: str = NONE
    thresholds: Thresholds = ()
    mappings: Sequence[model.ValueMapping] = ()
    link: str = ""
    width: int = 0
    decimals: int | None = None


@dataclass(frozen=True)
class Target:
    """A query and its legend; in a table, the title and the options of its column."""

    expr: str
    legend: str = ""
    column: Column = field(default_factory=Column)


@dataclass(frozen=True)
class PanelOptions:
    """Options that every panel has."""

    title: str
    unit: str
    description: Description
    no_value: Requirement | NoData
    links_to: str = ""
    """Name of the dashboard with the details."""
    decimals: int | None = None


def stat_panel(
    panel: PanelOptions,
    *targets: Target,
    thresholds: Thresholds = NO_THRESHOLDS,
    mappings: Sequence[model.ValueMapping] = (),
) -> model.Panel:
    """Show one current number.

    The query is instant: a range query would show the last value of a series that has ended.
    """
    several = len(targets) > 1 or "{{" in targets[0].legend
    color_mode = common.BigValueColorMode
    text_mode = common.BigValueTextMode
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=color_mode.VALUE if thresholds == NO_THRESHOLDS else color_mode.BACKGROUND,
        text_mode=text_mode.VALUE_AND_NAME if several else text_mode.VALUE,
        reduce_options=common.ReduceDataOptions(values=False, calcs=["lastNotNull"], fields=""),
        orientation=common.VizOrientation.AUTO,
    )
    fields = model.FieldConfigSource(defaults=_defaults(panel, thresholds, mappings))
    return _panel("stat", panel, _queries(targets, instant=True), options, fields)


def timeseries_panel(
    panel: PanelOptions,
    *targets: Target,
    stacked: bool = False,
    thresholds: Thresholds = (),
    colors: Mapping[str, str] | None = None,
    minimum: float | None = 0,
    maximum: float | None = None,
) -> model.Panel:
    """Draw lines over time.

    `thresholds` are drawn as dashed lines; `colors` sets fixed colours by legend; `minimum` and
    `maximum` limit the axis.
    """
    counted = panel.unit.startswith(COUNT_PREFIX) and panel.unit != CORES
    custom = timeseries.FieldConfig(
        draw_style=common.GraphDrawStyle.LINE,
        line_width=1 if stacked else 2,
        fill_opacity=35 if stacked else 8,
        show_points=common.VisibilityMode.AUTO,
        point_size=4,
        stacking=common.StackingConfig(mode=common.StackingMode.NORMAL, group="A")
        if stacked
        else None,
        thresholds_style=common.GraphThresholdsStyleConfig(
            mode=common.GraphThresholdsStyleMode.DASHED
        )
        if thresholds
        else None,
        span_nulls=False,
        # Without a soft maximum, the axis of a flat line at 0 ends at 100.  Small CPU values keep
        # their own scale.
        axis_soft_max=1 if panel.unit == RATIO or counted else None,
    )
    defaults = _defaults(panel, thresholds)
    defaults.min_val, defaults.max_val, defaults.custom = minimum, maximum, custom
    defaults.color = model.FieldColor(mode=model.FieldColorModeId.PALETTE_CLASSIC)
    overrides = [
        _override(legend, color={"mode": "fixed", "fixedColor": color})
        for legend, color in (colors or {}).items()
    ]
    tooltip = common.VizTooltipOptions(
        mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
    )
    options = timeseries.Options(legend=LEGEND, tooltip=tooltip)
    fields = model.FieldConfigSource(defaults, overrides)
    return _panel("timeseries", panel, _queries(targets), options, fields)


def heatmap_panel(panel: PanelOptions, target: Target) -> model.Panel:
    """Draw the distribution of a histogram over its buckets and over time."""
    options = heatmap.Options(
        calculate=False,
        y_axis=heatmap.YAxisConfig(unit=panel.unit),
        # Extrapolation by `increase` leaves fractions in empty buckets.
        filter_values=heatmap.FilterValueRange(le=0.4),
    )
    queries = _queries((target,), format_=PromQueryFormat.HEATMAP)
    defaults = _defaults(panel, ())
    defaults.custom = {}
    return _panel("heatmap", panel, queries, options, model.FieldConfigSource(defaults))


def state_timeline_panel(
    panel: PanelOptions, *targets: Target, mappings: Sequence[model.ValueMapping]
) -> model.Panel:
    """Draw states over time, one line for each series."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.NEVER, row_height=0.8, merge_values=True, legend=LEGEND
    )
    defaults = _defaults(panel, NO_THRESHOLDS, mappings)
    defaults.custom = statetimeline.FieldConfig(line_width=0, fill_opacity=80)
    fields = model.FieldConfigSource(defaults)
    return _panel("state-timeline", panel, _queries(targets), options, fields)


def table_panel(
    panel: PanelOptions,
    labels: Mapping[str, str | tuple[str, Column]],
    *targets: Target,
    sort: str = "",
    descending: bool = True,
) -> model.Panel:
    """List current values: a row for each set of `labels`, a column for each target.

    `labels` maps label names to column titles.  A target without a legend adds rows but no column.
    `sort` is the title of the column to sort by.
    """
    queries = _queries(targets, instant=True, format_=PromQueryFormat.TABLE)
    single = len(targets) == 1
    columns: dict[str, tuple[str, Column]] = {
        label: title if isinstance(title, tuple) else (title, Column())
        for label, title in labels.items()
    }
    for query, target in zip(queries, targets, strict=True):
        if target.legend:
            name = "Value" if single else f"Value #{query.ref_id}"
            columns[name] = (target.legend, target.column)
    defaults = _defaults(panel, ())
    defaults.custom = {"align": "auto", "filterable": False, "inspect": False, "minWidth": 70}
    overrides = [_override(title, **_column_options(column)) for title, column in columns.values()]
    sort_by = [common.TableSortByFieldState(display_name=sort, desc=descending)] if sort else []
    options = table.Options(
        show_header=True, cell_height=common.TableCellHeight.SM, sort_by=sort_by
    )
    fields = model.FieldConfigSource(defaults, overrides)
    built = _panel("table", panel, queries, options, fields)
    built.transformations = _transformations(columns, merge=not single)
    return built


def _transformations(
    columns: Mapping[str, tuple[str, Column]], *, merge: bool
) -> list[model.DataTransformerConfig]:
    """Merge the frames of several queries, then select, order and rename their fields."""
    steps = [model.DataTransformerConfig(id_val="merge", options={})] if merge else []
    include = {"include": {"names": list(columns)}}
    steps.append(model.DataTransformerConfig(id_val="filterFieldsByName", options=include))
    organize = {
        "excludeByName": {},
        "indexByName": {name: index for index, name in enumerate(columns)},
        "renameByName": {name: title for name, (title, _) in columns.items()},
    }
    steps.append(model.DataTransformerConfig(id_val="organize", options=organize))
    return steps


def _column_options(column: Column) -> dict[str, object]:
    """Return the override of one column.

    An empty cell shows a dash, not the panel's text: its row has a value in another column.
    """
    options: dict[str, object] = {"noValue": "\u2013", "unit": column.unit}
    if column.thresholds:
        options["thresholds"] = thresholds_config(column.thresholds)
    if column.mappings:
        options["mappings"] = list(column.mappings)
    if column.thresholds or column.mappings:
        options["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    if column.link:
        options["links"] = [{"title": "Show details", "url": column.link, "targetBlank": False}]
    if column.width:
        options["custom.width"] = column.width
    if column.decimals is not None:
        options["decimals"] = column.decimals
    return options


def _override(name: str, **properties: object) -> model.DashboardFieldConfigSourceOverrides:
    values = [
        model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()
    ]
    matcher = model.MatcherConfig(id_val="byName", options=name)
    return model.DashboardFieldConfigSourceOverrides(matcher, values)


def _defaults(
    panel: PanelOptions, thresholds: Thresholds, mappings: Sequence[model.ValueMapping] = ()
) -> model.FieldConfig:
    return model.FieldConfig(
        unit=panel.unit,
        decimals=panel.decimals,
        no_value=no_value_text(panel.no_value),
        mappings=list(mappings),
        thresholds=thresholds_config(thresholds or NO_THRESHOLDS),
        color=model.FieldColor(mode=model.FieldColorModeId.THRESHOLDS),
    )


def _queries(
    targets: Sequence[Target],
    *,
    instant: bool = False,
    format_: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> list[Dataquery]:
    return [
        Dataquery(
            expr=target.expr,
            instant=instant,
            range_val=not instant,
            format_val=format_,
            legend_format=target.legend if format_ is PromQueryFormat.TIME_SERIES else None,
            ref_id=letter,
            datasource=DATA_SOURCE,
        )
        for letter, target in zip(string.ascii_uppercase, targets, strict=False)
    ]


def _panel(
    kind: str,
    panel: PanelOptions,
    queries: Sequence[Dataquery],
    options: Any,
    fields: model.FieldConfigSource,
) -> model.Panel:
    built = model.Panel(
        type_val=kind,
        title=panel.title,
        description=panel.description.markdown(panel.no_value),
        datasource=DATA_SOURCE,
        targets=list(queries),
        options=options,
        field_config=fields,
    )
    if panel.links_to:
        link = model.DashboardLink(
            title=f"Open the {panel.links_to} dashboard",
            url=f"/d/{uid(panel.links_to)}?{LINK_PARAMETERS}",
            icon="external link",
        )
        link.type_val = model.DashboardLinkType.LINK
        built.links = [link]
    return built
