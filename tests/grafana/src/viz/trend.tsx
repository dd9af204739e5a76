/** Curves over a field of numbers: Grafana's time series, handed a frame whose first field is that one. */
import {
  FieldType,
  getDisplayProcessor,
  getFieldDisplayName,
  type DataFrame,
  type Field,
  type GrafanaTheme2,
} from '@grafana/data';
import { ScaleDistribution, type ScaleDistributionConfig, type VizLegendOptions } from '@grafana/schema';
import { TimeSeries, type UPlotConfigBuilder } from '@grafana/ui';
import type { JSX } from 'react';

import type { VizProps } from '../model';

export function TrendViz({ panel, frames, width, height, theme, timeRange, timeZone }: VizProps): JSX.Element {
  const { legend, xField } = panel.options as unknown as { legend: VizLegendOptions; xField?: string };
  const [frame, ...more] = frames;
  const x = frame && across(frame, xField);
  if (frame === undefined || more.length > 0 || x === undefined) {
    throw new Error(`panel "${panel.title}": a trend needs one table, with ${xField ?? 'a field of numbers'} in it`);
  }
  if (x.values.some((value, index) => value === null || value < x.values[index - 1]!)) {
    throw new Error(`panel "${panel.title}": a trend needs rows in the order of ${x.name}`);
  }
  const places = [...frame.fields.keys()].filter((place) => drawn(frame.fields[place]!, x));
  const curves = places.map((place, index) => curve(frame.fields[place]!, place, index, theme));
  const fields = frame.fields.map((field, place) => curves[places.indexOf(place)] ?? field);
  return (
    <TimeSeries
      {...{ width, height, timeRange, timeZone, legend }}
      frames={[{ ...frame, fields }]}
      preparePlotFrame={() => ({ ...frame, fields: [x, ...curves] })}
      renderers={[{ fieldMap: {}, indicesOnly: [], init: (builder) => distribute(builder, x) }]}
    />
  );
}

function across(frame: DataFrame, name: string | undefined): Field<number | null> | undefined {
  return frame.fields.find(
    (field) =>
      field.type === FieldType.number &&
      (name === undefined || [field.name, getFieldDisplayName(field, frame)].includes(name)),
  );
}

function drawn(field: Field, x: Field): boolean {
  return field !== x && field.type === FieldType.number;
}

/** A field with its place among the panel's, where the legend looks its name up, and its own place in the palette:
 * what it is drawn over has none. */
function curve(field: Field, fieldIndex: number, seriesIndex: number, theme: GrafanaTheme2): Field {
  const state = { ...field.state, seriesIndex, origin: { frameIndex: 0, fieldIndex } };
  const placed = { ...field, state };
  return { ...placed, display: getDisplayProcessor({ field: placed, theme }) };
}

/** The component's own horizontal scale is linear whatever the field says. */
function distribute(builder: UPlotConfigBuilder, x: Field): void {
  const { scaleDistribution } = x.config.custom as { scaleDistribution: ScaleDistributionConfig };
  const { type, log, linearThreshold } = scaleDistribution;
  if (type !== ScaleDistribution.Linear) {
    const scale = builder.scales.find(({ props }) => props.scaleKey === 'x');
    Object.assign(scale!.props, { distribution: type, log, linearThreshold });
    Object.assign(builder['axes']['x']!.props, { distr: type });
  }
}
