"""Panels, each with all that it must have: a description, a unit, colours by meaning, a legend, a word for
nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
    trend,
)
from grafana_foundation_sdk.builders import (
    common as parts,
)
from grafana_foundation_sdk.builders import (
    dashboard as build,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from ixt_dashboards import look

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
"""The Prometheus that the reader chooses."""
POINTS = 400
"""Most points of a line: as many as a panel of half the width shows."""
HEATMAP = PromQueryFormat.HEATMAP
"""Shapes buckets by le into what lies between their bounds."""

Panel = Builder[dashboard.Panel]
Properties = dict[str, Any]
Columns = Mapping[str, tuple[str, Properties]]
"""Headers and properties of a table's columns, by their labels or values."""


class Query(NamedTuple):
    """A question to Prometheus, over the time shown or about now."""

    expression: str
    legend: str = ""
    shape: PromQueryFormat = PromQueryFormat.TIME_SERIES
    now: bool = False


class Style(NamedTuple):
    """How a panel shows its values."""

    unit: str = "short"
    decimals: int | None = None
    thresholds: look.Steps = look.PLAIN
    low: float | None = None
    high: float | None = None
    mappings: Sequence[dashboard.ValueMapping] = ()
    colours: Mapping[Any, str] = {}
    """Of series by their names."""
    overrides: Mapping[str, Properties] = {}
    """Properties of fields by their names."""
    empty: str = "Nothing in this time"
    """Shown where there is no data."""
    links: Sequence[tuple[str, str]] = ()
    """Title and address of what a click on a value leads to."""


AS_IT_IS = Style()


class _Panel(Protocol):
    """What the builders of all panels have in common."""

    def title(self, title: str) -> Self: ...
    def description(self, description: str) -> Self: ...
    def datasource(self, datasource: dashboard.DataSourceRef) -> Self: ...
    def targets(self, targets: list[Builder[Dataquery]]) -> Self: ...
    def max_data_points(self, max_data_points: float) -> Self: ...
    def span(self, w: int) -> Self: ...
    def height(self, h: int) -> Self: ...
    def unit(self, unit: str) -> Self: ...
    def decimals(self, decimals: float) -> Self: ...
    def min(self, min_val: float) -> Self: ...
    def max(self, max_val: float) -> Self: ...
    def mappings(self, mappings: list[dashboard.ValueMapping]) -> Self: ...
    def thresholds(self, thresholds: Builder[dashboard.ThresholdsConfig]) -> Self: ...
    def no_value(self, no_value: str) -> Self: ...
    def data_links(self, links: list[Builder[dashboard.DashboardLink]]) -> Self: ...
    def override_by_name(self, name: str, properties: list[dashboard.DynamicConfigValue]) -> Self: ...


P = TypeVar("P", bound=_Panel)


def _dressed(
    panel: P, title: str, description: str, queries: Sequence[Query], style: Style, size: tuple[int, int]
) -> P:
    panel.title(title).description(description).datasource(SOURCE).max_data_points(POINTS)
    panel.targets([_asked(query, chr(ord("A") + place)) for place, query in enumerate(queries)])
    panel.span(size[0]).height(size[1]).unit(style.unit).no_value(style.empty)
    panel.thresholds(build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(style.thresholds))
    if style.decimals is not None:
        panel.decimals(style.decimals)
    if style.low is not None:
        panel.min(style.low)
    if style.high is not None:
        panel.max(style.high)
    if style.mappings:
        panel.mappings([*style.mappings])
    if style.links:
        panel.data_links([build.DashboardLink(name).url(address) for name, address in style.links])
    for name, colour in style.colours.items():
        panel.override_by_name(str(name), [look.fixed(colour)])
    for name, properties in style.overrides.items():
        panel.override_by_name(
            name, [dashboard.DynamicConfigValue(key, value) for key, value in properties.items()]
        )
    return panel


def _asked(query: Query, reference: str) -> prometheus.Dataquery:
    built = prometheus.Dataquery().datasource(SOURCE).expr(query.expression).ref_id(reference)
    built.format(query.shape).legend_format(query.legend or "__auto")
    return built.instant() if query.now else built.range()


def now(expression: str, legend: str = "") -> Query:
    """What is now."""
    return Query(expression, legend, now=True)


def rows(expression: str) -> Query:
    """What is now, as rows of a table."""
    return Query(expression, shape=PromQueryFormat.TABLE, now=True)


def _legend() -> parts.VizLegendOptions:
    shown = parts.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    return shown.calcs([]).placement(common.LegendPlacement.BOTTOM)


def _tooltip() -> parts.VizTooltipOptions:
    return parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)


def number(
    title: str, description: str, query: Query, style: Style = AS_IT_IS, size: tuple[int, int] = (3, 4), *,
    coloured: bool = True, shows: common.BigValueTextMode = common.BigValueTextMode.VALUE,
) -> Panel:  # fmt: skip
    """One number, or one for each series, whose names show then."""
    panel = _dressed(stat.Panel(), title, description, [query], style, size)
    colour = common.BigValueColorMode.BACKGROUND_SOLID if coloured else common.BigValueColorMode.NONE
    panel.color_mode(colour).graph_mode(common.BigValueGraphMode.NONE)
    panel.text_mode(shows)
    return panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def lines(
    title: str, description: str, queries: Sequence[Query], style: Style = AS_IT_IS,
    size: tuple[int, int] = (12, 8), *, stacked: bool = False,
) -> Panel:  # fmt: skip
    """Lines over time; stacked, areas."""
    panel = _dressed(timeseries.Panel(), title, description, queries, style, size)
    panel.legend(_legend()).tooltip(_tooltip())
    panel.line_width(1).fill_opacity(40 if stacked else 0).show_points(common.VisibilityMode.NEVER)
    panel.color_scheme(_in_turn())
    if stacked:
        panel.stacking(parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if style.thresholds is not look.PLAIN:
        panel.thresholds_style(
            parts.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def curves(
    title: str, description: str, across: str, up: str, axis: tuple[str, str], style: Style = AS_IT_IS,
    size: tuple[int, int] = (12, 9),
) -> Panel:  # fmt: skip
    """One value over another, a line for each value of the label `curve`, which both queries have.

    Grafana's panels share one horizontal axis among all series; so both values are put into one table, and
    that is turned into a column for each curve. `axis` is the label and unit of the horizontal one.
    """
    name = "Value #A"
    queries = [Query(expression, shape=PromQueryFormat.TABLE) for expression in (across, up)]
    panel = _dressed(trend.Panel(), title, description, queries, style, size)
    matrix = {"columnField": "curve", "rowField": name, "valueField": "Value #B", "emptyValue": "null"}
    field = f"{name}\\curve"
    for kind, options in (
        ("merge", {}),
        ("groupingToMatrix", matrix),
        (
            "convertFieldType",
            {"conversions": [{"targetField": field, "destinationType": "number"}], "fields": {}},
        ),
        ("sortBy", {"fields": {}, "sort": [{"field": field}]}),
    ):
        panel.with_transformation(dashboard.DataTransformerConfig(id_val=kind, options=options))
    panel.x_field(field).legend(_legend()).tooltip(_tooltip()).color_scheme(_in_turn())
    panel.line_width(1).fill_opacity(0).show_points(common.VisibilityMode.NEVER).span_nulls(True)
    label, unit = axis
    # What the other axis is given holds for this one too, unless it is taken back.
    unset = dict.fromkeys(("min", "max", "decimals"))
    properties = {**unset, "unit": unit, "displayName": label, "custom.axisLabel": label}
    values = [dashboard.DynamicConfigValue(key, value) for key, value in properties.items()]
    return panel.override_by_name(field, values)


def timeline(
    title: str, description: str, queries: Sequence[Query], style: Style, size: tuple[int, int] = (24, 9)
) -> Panel:
    """What state each thing was in, over time."""
    panel = _dressed(statetimeline.Panel(), title, description, queries, style, size)
    panel.merge_values(True).show_value(common.VisibilityMode.NEVER).row_height(0.8).fill_opacity(
        80
    ).line_width(0)
    panel.legend(_legend()).tooltip(parts.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
    return panel.color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))


def bars(
    title: str, description: str, queries: Sequence[Query], style: Style = AS_IT_IS,
    size: tuple[int, int] = (12, 8), *, upright: bool = False,
) -> Panel:  # fmt: skip
    """One bar for each series of now, from 0; upright without their numbers, for a histogram."""
    panel = _dressed(bargauge.Panel(), title, description, queries, style, size)
    panel.orientation(common.VizOrientation.VERTICAL if upright else common.VizOrientation.HORIZONTAL)
    panel.value_mode(common.BarGaugeValueMode.HIDDEN if upright else common.BarGaugeValueMode.TEXT)
    panel.display_mode(common.BarGaugeDisplayMode.BASIC).show_unfilled(False).min(0)
    # Grafana sizes a name that stands beside its bar only where nobody else does.
    text = parts.VizTextDisplayOptions()
    panel.text(text.title_size(11) if upright else text.value_size(16))
    # Few bars would grow until their names have no room.
    panel.sizing(common.BarGaugeSizing.MANUAL).min_viz_width(8).min_viz_height(16).max_viz_height(56)
    panel.legend(parts.VizLegendOptions().show_legend(False).calcs([]))
    return panel.reduce_options(parts.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def stacks(
    title: str, description: str, expression: str, row: str, column: str, style: Style = AS_IT_IS,
    size: tuple[int, int] = (12, 8),
) -> Panel:  # fmt: skip
    """A bar for each value of the label `row`, made of one piece for each value of the label `column`."""
    panel = _dressed(barchart.Panel(), title, description, [rows(expression)], style, size)
    options = {"columnField": column, "rowField": row, "valueField": "Value", "emptyValue": "null"}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="groupingToMatrix", options=options))
    panel.orientation(common.VizOrientation.HORIZONTAL).stacking(common.StackingMode.NORMAL)
    panel.x_field(f"{row}\\{column}").show_value(common.VisibilityMode.NEVER).fill_opacity(80).line_width(0)
    return panel.legend(_legend()).tooltip(_tooltip()).color_scheme(_in_turn())


def heat(
    title: str, description: str, expression: str, style: Style = AS_IT_IS, size: tuple[int, int] = (12, 8)
) -> Panel:
    """A histogram over time: `expression` gives its buckets by le, whose unit the style says."""
    query = Query(expression, "{{le}}", PromQueryFormat.HEATMAP)
    panel = _dressed(heatmap.Panel(), title, description, [query], style, size)
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32)
    panel.max_data_points(100).calculate(False).color(
        colours.scale(HeatmapColorScale.EXPONENTIAL).exponent(0.5)
    )
    panel.y_axis(heatmap.YAxisConfig().unit(style.unit).axis_placement(common.AxisPlacement.LEFT))
    panel.unit("short")
    return panel.cell_gap(1).show_legend().mode(common.TooltipDisplayMode.SINGLE)


def listing(
    title: str, description: str, queries: Mapping[str, str], columns: Columns,
    style: Style = AS_IT_IS, size: tuple[int, int] = (24, 9), *, sort: str = "", falling: bool = True,
) -> Panel:  # fmt: skip
    """A table of now: `queries` by the header of the column that their value makes, joined by the labels that
    they share; the value of one without a header does not show. `columns` are all that show,
    in their order: a
    label or a value's header, with the header that shows and properties."""
    panel = _dressed(
        table.Panel(), title, description, [rows(query) for query in queries.values()], style, size
    )
    fields = {header: _value_field(place, len(queries)) for place, header in enumerate(queries)}
    order = {fields.get(name, name): header for name, (header, _) in columns.items()}
    if len(queries) > 1:
        panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    hidden = ["Time", *(field for header, field in fields.items() if not header)]
    organize = {
        "excludeByName": dict.fromkeys(hidden, True),
        "indexByName": {name: place for place, name in enumerate(order)},
        "renameByName": order,
    }
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=organize))
    for header, properties in columns.values():
        named = {"noValue": "–", **properties}
        panel.override_by_name(
            header, [dashboard.DynamicConfigValue(key, value) for key, value in named.items()]
        )
    if sort:
        panel.sort_by([parts.TableSortByFieldState().display_name(sort).desc(falling)])
    return panel.cell_height(common.TableCellHeight.SM)


def _value_field(place: int, of: int) -> str:
    return "Value" if of == 1 else f"Value #{chr(ord('A') + place)}"


def _in_turn() -> build.FieldColor:
    """A colour for each series in turn: colours that are made of names are alike too often. Prometheus sorts
    series by their labels, so that a lane has the same colour in all panels that show the same lanes."""
    return build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC)


# What cells of tables may be.
WRAPPED: Properties = {
    "custom.wrapText": True, "custom.cellOptions": {"type": "auto", "wrapText": True},
}  # fmt: skip
"""Text over several lines, in the words of Grafana's versions before and since 12.1."""
COLOURED: Properties = {"custom.cellOptions": {"type": "color-background", "mode": "basic"}}
PROGRESS: Properties = {
    "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
    **{"unit": "percentunit", "min": 0, "max": 1, "decimals": 0},
}


def cells(words: look.Colours, *, coded: bool = False, width: int = 110) -> Properties:
    """A column of words in their colours; coded, of the numbers that `look.codes` gives them."""
    mappings = look.numbered(words) if coded else look.worded(words)
    return {"mappings": mappings, "custom.width": width, "custom.align": "left", **COLOURED}


def linked(title: str, address: str, **more: Any) -> Properties:
    """A column whose cells lead somewhere."""
    return {"links": [{"title": title, "url": address}], **more}
