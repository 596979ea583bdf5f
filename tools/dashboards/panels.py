"""The kinds of panels that the dashboards are made of, each with its unit, its words and its way onward."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.models import common, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import Dataquery, PromQueryFormat

from tools.dashboards.look import CORES, COUNTED, PLAIN, SHARE, Steps, thresholds
from tools.dashboards.words import Needs, Quiet, Words, said

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
CARRY = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&${__url_time_range}"
"""What a link to another dashboard takes along."""
BOTTOM = common.VizLegendOptions(
    display_mode=common.LegendDisplayMode.LIST, placement=common.LegendPlacement.BOTTOM, show_legend=True, calcs=[]
)


def uid(name: str) -> str:
    """The fixed uid of one of our dashboards."""
    return f"celery-vitals-{name}"


@dataclass(frozen=True)
class Column:
    """How one column of a table is shown."""

    unit: str = "none"
    steps: Steps = ()
    mappings: Sequence[model.ValueMapping] = ()
    link: str = ""
    width: int = 0
    decimals: int | None = None


@dataclass(frozen=True)
class Ask:
    """A query and the name of its series; in a table, the name of its column and how that is shown."""

    expr: str
    name: str = ""
    column: Column = field(default_factory=Column)


@dataclass(frozen=True)
class About:
    """What every panel has."""

    title: str
    unit: str
    words: Words
    empty: Needs | Quiet
    leads_to: str = ""
    """The dashboard that answers the next question, by its short name."""
    decimals: int | None = None


def stat_panel(
    about: About, *asks: Ask, steps: Steps = PLAIN, mappings: Sequence[model.ValueMapping] = ()
) -> model.Panel:
    """One number now.  An instant query: the last value of what has ended would be a lie."""
    several = len(asks) > 1 or "{{" in asks[0].name
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.VALUE if steps == PLAIN else common.BigValueColorMode.BACKGROUND,
        text_mode=common.BigValueTextMode.VALUE_AND_NAME if several else common.BigValueTextMode.VALUE,
        reduce_options=common.ReduceDataOptions(values=False, calcs=["lastNotNull"], fields=""),
        orientation=common.VizOrientation.AUTO,
    )
    defaults = _defaults(about, steps, mappings)
    return _panel("stat", about, _targets(asks, instant=True), options, model.FieldConfigSource(defaults=defaults))


def series_panel(
    about: About,
    *asks: Ask,
    stacked: bool = False,
    limit: Steps = (),
    fixed: Mapping[str, str] | None = None,
    top: float | None = None,
) -> model.Panel:
    """Lines over time.  `fixed` gives series their colours by name; `limit` is drawn across."""
    custom = timeseries.FieldConfig(
        draw_style=common.GraphDrawStyle.LINE,
        line_width=1 if stacked else 2,
        fill_opacity=35 if stacked else 8,
        show_points=common.VisibilityMode.AUTO,
        point_size=4,
        stacking=common.StackingConfig(mode=common.StackingMode.NORMAL, group="A") if stacked else None,
        thresholds_style=common.GraphThresholdsStyleConfig(mode=common.GraphThresholdsStyleMode.DASHED)
        if limit
        else None,
        span_nulls=False,
        # A flat line at 0 needs no scale up to 100; of a core, a hundredth is much.
        axis_soft_max=1 if about.unit == SHARE or (about.unit.startswith(COUNTED) and about.unit != CORES) else None,
    )
    defaults = _defaults(about, limit)
    defaults.min_val, defaults.max_val, defaults.custom = 0, top, custom
    defaults.color = model.FieldColor(mode=model.FieldColorModeId.PALETTE_CLASSIC)
    overrides = [
        _override(name, color={"mode": "fixed", "fixedColor": colour}) for name, colour in (fixed or {}).items()
    ]
    tooltip = common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING)
    options = timeseries.Options(legend=BOTTOM, tooltip=tooltip)
    return _panel("timeseries", about, _targets(asks), options, model.FieldConfigSource(defaults, overrides))


def heat_panel(about: About, ask: Ask) -> model.Panel:
    """How observations spread over the buckets of a histogram, over time."""
    options = heatmap.Options(
        calculate=False,
        y_axis=heatmap.YAxisConfig(unit=about.unit),
        # Extrapolation leaves crumbs between buckets: less than half an observation is none.
        filter_values=heatmap.FilterValueRange(le=0.4),
    )
    targets = _targets((ask,), format_=PromQueryFormat.HEATMAP)
    defaults = _defaults(about, ())
    defaults.custom = {}
    return _panel("heatmap", about, targets, options, model.FieldConfigSource(defaults))


def timeline_panel(about: About, *asks: Ask, mappings: Sequence[model.ValueMapping]) -> model.Panel:
    """States over time, one line for each series."""
    options = statetimeline.Options(
        show_value=common.VisibilityMode.NEVER, row_height=0.8, merge_values=True, legend=BOTTOM
    )
    defaults = _defaults(about, PLAIN, mappings)
    defaults.custom = statetimeline.FieldConfig(line_width=0, fill_opacity=80)
    return _panel("state-timeline", about, _targets(asks), options, model.FieldConfigSource(defaults))


def table_panel(
    about: About, keys: Mapping[str, str | tuple[str, Column]], *asks: Ask, sort: str = "", falling: bool = True
) -> model.Panel:
    """A table of what is now: a row for each set of the labels in `keys` (label: title), a column for each query.

    A query without a name only gives rows.  `sort` is the title of the column that the rows are sorted by.
    """
    targets = _targets(asks, instant=True, format_=PromQueryFormat.TABLE)
    one = len(asks) == 1
    titles: dict[str, tuple[str, Column]] = {
        label: shown if isinstance(shown, tuple) else (shown, Column()) for label, shown in keys.items()
    }
    for target, ask in zip(targets, asks, strict=True):
        if ask.name:
            titles["Value" if one else f"Value #{target.ref_id}"] = (ask.name, ask.column)
    steps = [] if one else [model.DataTransformerConfig(id_val="merge", options={})]
    steps.append(model.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(titles)}}))
    names = {name: title for name, (title, _) in titles.items()}
    order = {name: place for place, name in enumerate(titles)}
    organized = {"excludeByName": {}, "indexByName": order, "renameByName": names}
    steps.append(model.DataTransformerConfig(id_val="organize", options=organized))
    defaults = _defaults(about, ())
    defaults.custom = {"align": "auto", "filterable": False, "inspect": False, "minWidth": 70}
    overrides = [_override(title, **_properties(column)) for title, column in titles.values()]
    sorting = [common.TableSortByFieldState(display_name=sort, desc=falling)] if sort else []
    options = table.Options(show_header=True, cell_height=common.TableCellHeight.SM, sort_by=sorting)
    panel = _panel("table", about, targets, options, model.FieldConfigSource(defaults, overrides))
    panel.transformations = steps
    return panel


def _properties(column: Column) -> dict[str, object]:
    """The override of one column.  A cell without a value says nothing: its row has one in another column."""
    properties: dict[str, object] = {"noValue": "\u2013", "unit": column.unit}
    if column.steps:
        properties["thresholds"] = thresholds(column.steps)
    if column.mappings:
        properties["mappings"] = list(column.mappings)
    if column.steps or column.mappings:
        properties["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    if column.link:
        properties["links"] = [{"title": "Look closer", "url": column.link, "targetBlank": False}]
    if column.width:
        properties["custom.width"] = column.width
    if column.decimals is not None:
        properties["decimals"] = column.decimals
    return properties


def _override(name: str, **properties: object) -> model.DashboardFieldConfigSourceOverrides:
    values = [model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]
    return model.DashboardFieldConfigSourceOverrides(model.MatcherConfig(id_val="byName", options=name), values)


def _defaults(about: About, steps: Steps, mappings: Sequence[model.ValueMapping] = ()) -> model.FieldConfig:
    return model.FieldConfig(
        unit=about.unit,
        decimals=about.decimals,
        no_value=said(about.empty),
        mappings=list(mappings),
        thresholds=thresholds(steps or PLAIN),
        color=model.FieldColor(mode=model.FieldColorModeId.THRESHOLDS),
    )


def _targets(
    asks: Sequence[Ask], *, instant: bool = False, format_: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> list[Dataquery]:
    return [
        Dataquery(
            expr=ask.expr,
            instant=instant,
            range_val=not instant,
            format_val=format_,
            legend_format=ask.name if format_ is PromQueryFormat.TIME_SERIES else None,
            ref_id=letter,
            datasource=SOURCE,
        )
        for letter, ask in zip(string.ascii_uppercase, asks, strict=False)
    ]


def _panel(
    kind: str, about: About, targets: Sequence[Dataquery], options: Any, fields: model.FieldConfigSource
) -> model.Panel:
    panel = model.Panel(
        type_val=kind,
        title=about.title,
        description=about.words.text(about.empty),
        datasource=SOURCE,
        targets=list(targets),
        options=options,
        field_config=fields,
    )
    if about.leads_to:
        link = model.DashboardLink(
            title=f"Look closer: {about.leads_to}", url=f"/d/{uid(about.leads_to)}?{CARRY}", icon="external link"
        )
        link.type_val = model.DashboardLinkType.LINK
        panel.links = [link]
    return panel
