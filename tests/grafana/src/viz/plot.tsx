/** A chart of our own painting within Grafana's axes: what the server's own tree draws so (state timelines, heat maps,
 * bars) is not published, its UPlotChart and UPlotConfigBuilder are. */
import {
  getFieldDisplayName,
  getFieldSeriesColor,
  type DataFrame,
  type Field,
  type GrafanaTheme2,
} from '@grafana/data';
import {
  AxisPlacement,
  LegendDisplayMode,
  ScaleDirection,
  ScaleOrientation,
  type LegendPlacement,
} from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder, VizLayout, VizLegend, type VizLegendItem } from '@grafana/ui';
import { useMemo, type JSX } from 'react';
import type uPlot from 'uplot';

export interface Axis {
  min: number;
  max: number;
  isTime?: boolean;
  /** Where labels stand, and which; else uPlot chooses, and `format` writes. */
  ticks?: Array<{ at: number; text: string }>;
  format?: (value: number) => string;
  /** Room for the labels, in pixels. */
  size?: number;
  grid?: boolean;
  hidden?: boolean;
  rotation?: number;
  label?: string;
}

export interface Paint {
  context: CanvasRenderingContext2D;
  /** Position on the canvas, in its own pixels. */
  x: (value: number) => number;
  y: (value: number) => number;
  /** CSS pixels to the canvas's. */
  ratio: number;
  theme: GrafanaTheme2;
}

interface PlotProps {
  width: number;
  height: number;
  theme: GrafanaTheme2;
  timeZone: string;
  x: Axis;
  y: Axis;
  paint: (on: Paint) => void;
}

export function Plot({ width, height, theme, timeZone, x, y, paint }: PlotProps): JSX.Element {
  const config = useMemo(() => {
    const builder = new UPlotConfigBuilder(timeZone);
    for (const [key, axis] of [
      ['x', x],
      ['y', y],
    ] as const) {
      const across = key === 'x';
      builder.addScale({
        scaleKey: key,
        isTime: axis.isTime ?? false,
        orientation: across ? ScaleOrientation.Horizontal : ScaleOrientation.Vertical,
        direction: across ? ScaleDirection.Right : ScaleDirection.Up,
        range: [axis.min, axis.max],
      });
      builder.addAxis({
        scaleKey: key,
        isTime: axis.isTime ?? false,
        timeZone,
        theme,
        show: !axis.hidden,
        placement: across ? AxisPlacement.Bottom : AxisPlacement.Left,
        grid: { show: axis.grid ?? true },
        tickLabelRotation: axis.rotation,
        label: axis.label,
        ...(axis.size === undefined ? {} : { size: axis.size }),
        ...(axis.format === undefined ? {} : { formatValue: axis.format }),
        ...(axis.ticks === undefined
          ? {}
          : {
              splits: () => axis.ticks!.map(({ at }) => at),
              values: () => axis.ticks!.map(({ text }) => text),
              ticks: { show: false },
            }),
      });
    }
    builder.addSeries({ scaleKey: 'y', theme, pathBuilder: () => null, pointsBuilder: () => false });
    builder.setCursor({ show: false });
    builder.addHook('draw', (plot: uPlot) => {
      const context = plot.ctx;
      context.save();
      context.beginPath();
      context.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
      context.clip();
      paint({
        context,
        theme,
        ratio: devicePixelRatio,
        x: (value) => plot.valToPos(value, 'x', true),
        y: (value) => plot.valToPos(value, 'y', true),
      });
      context.restore();
    });
    return builder;
    // A page draws once: nothing changes but the size.
  }, [width, height]);
  return (
    <UPlotChart
      config={config}
      width={width}
      height={height}
      data={[
        [x.min, x.max],
        [y.min, y.max],
      ]}
    />
  );
}

export interface Legend {
  showLegend: boolean;
  displayMode: LegendDisplayMode;
  placement: LegendPlacement;
}

/** A chart with Grafana's legend beside or below it. */
export function WithLegend(props: {
  width: number;
  height: number;
  legend: Legend;
  items: VizLegendItem[];
  children: (width: number, height: number) => JSX.Element;
}): JSX.Element {
  const { width, height, legend, items, children } = props;
  const shown = legend.showLegend && legend.displayMode !== LegendDisplayMode.Hidden && items.length > 0;
  const element = shown ? (
    <VizLayout.Legend placement={legend.placement}>
      <VizLegend items={items} placement={legend.placement} displayMode={legend.displayMode} readonly />
    </VizLayout.Legend>
  ) : null;
  return (
    <VizLayout {...{ width, height }} legend={element}>
      {children}
    </VizLayout>
  );
}

/** The colour of a value: its mapping's, else its threshold's or gradient's where they colour, else its field's. */
export function colorOf(field: Field, value: unknown, theme: GrafanaTheme2): string {
  return field.display?.(value).color ?? getFieldSeriesColor(field, theme).color;
}

export function legendItem(field: Field, frame: DataFrame, frames: DataFrame[], theme: GrafanaTheme2): VizLegendItem {
  return { label: getFieldDisplayName(field, frame, frames), color: getFieldSeriesColor(field, theme).color, yAxis: 1 };
}

export function font(on: Paint, size: number): string {
  return `${size * on.ratio}px ${on.theme.typography.fontFamily}`;
}
