/** Bar chart. */
import {
  colorManipulator,
  FieldType,
  formattedValueToString,
  getFieldDisplayName,
  outerJoinDataFrames,
  type DataFrame,
  type Field,
} from '@grafana/data';
import { measureText } from '@grafana/ui';
import type { JSX } from 'react';

import type { VizProps } from '../model';
import { colorOf, font, legendItem, Plot, WithLegend, type Axis, type Legend, type Paint } from './plot';

interface Look {
  fillOpacity: number;
  lineWidth: number;
}

function look(field: Field): Look {
  return { fillOpacity: 80, lineWidth: 1, ...(field.config.custom as Partial<Look>) };
}

function text(field: Field | undefined, value: unknown): string {
  return field?.display ? formattedValueToString(field.display(value)) : String(value);
}

function rectangle(
  { context, ratio }: Paint,
  color: string,
  { fillOpacity, lineWidth }: Look,
  box: [number, number, number, number],
): void {
  context.fillStyle = colorManipulator.alpha(color, fillOpacity / 100);
  context.fillRect(...box);
  if (lineWidth > 0) {
    context.strokeStyle = color;
    context.lineWidth = lineWidth * ratio;
    context.strokeRect(...box);
  }
}

/** The top of an axis: above the largest value by a share of it. */
function top(values: number[], share: number, field?: Field): number {
  return field?.config.max ?? (Math.max(...values, 0) * (1 + share) || 1);
}

interface BarOptions {
  orientation: 'auto' | 'horizontal' | 'vertical';
  stacking: 'none' | 'normal' | 'percent';
  showValue: 'auto' | 'always' | 'never';
  groupWidth: number;
  barWidth: number;
  xField?: string;
  xTickLabelRotation?: number;
  legend: Legend;
}

export function BarChartViz(props: VizProps): JSX.Element {
  const { panel, theme, timeZone } = props;
  const options = panel.options as unknown as BarOptions;
  const frame = props.frames.length > 1 ? outerJoinDataFrames({ frames: props.frames }) : props.frames[0];
  const names = frame && category(frame, options.xField);
  if (frame === undefined || names === undefined) {
    throw new Error(`panel "${panel.title}": a bar chart needs a field of strings or times, and one of numbers`);
  }
  const fields = frame.fields.filter(({ type }) => type === FieldType.number) as Array<Field<number | null>>;
  const bars = placed(fields, names.values.length, options);
  const flat = options.orientation === 'horizontal';
  const values: Axis = {
    min: Math.min(0, ...bars.map(({ to }) => to)),
    max: top(
      bars.map(({ to }) => to),
      options.showValue === 'never' ? 0.05 : 0.12,
      fields[0],
    ),
    format: (value) => text(fields[0], value),
  };
  const labels = names.values.map((name: unknown) => text(names, name));
  const longest = Math.max(...labels.map((label) => measureText(label, 12).width));
  const rotation = ((options.xTickLabelRotation ?? 0) * Math.PI) / 180;
  const count = labels.length;
  // Labels that lie flat would run into each other.
  const every = flat || rotation !== 0 ? 1 : Math.ceil(((longest + 8) * count) / props.width);
  // The first category stands at the left, or at the top.
  const along = (at: number) => (flat ? count - at : at);
  const groups: Axis = {
    min: 0,
    max: count,
    grid: false,
    rotation: flat ? 0 : options.xTickLabelRotation,
    ticks: labels.map((label, index) => ({ at: along(index + 0.5), text: index % every === 0 ? label : '' })),
    size: flat ? Math.min(props.width / 3, longest + 16) : Math.abs(Math.sin(rotation)) * longest + 28,
  };
  const paint = (on: Paint) => {
    for (const { field, row, start, end, from, to } of bars) {
      const [a, b] = [along(start), along(end)].sort((one, other) => one - other) as [number, number];
      const [x0, x1] = flat ? [on.x(from), on.x(to)] : [on.x(a), on.x(b)];
      const [y0, y1] = flat ? [on.y(b), on.y(a)] : [on.y(to), on.y(from)];
      rectangle(on, colorOf(field, field.values[row], theme), look(field), [x0, y0, x1 - x0, y1 - y0]);
      label(on, text(field, field.values[row]), [x0, y0, x1, y1], flat, options);
    }
  };
  return (
    <WithLegend
      {...props}
      legend={options.legend}
      items={fields.map((field) => legendItem(field, frame, [frame], theme))}
    >
      {(width, height) => (
        <Plot {...{ width, height, theme, timeZone, paint }} x={flat ? values : groups} y={flat ? groups : values} />
      )}
    </WithLegend>
  );
}

function category(frame: DataFrame, name: string | undefined): Field | undefined {
  const named = frame.fields.find(
    (field) => name !== undefined && [field.name, getFieldDisplayName(field, frame)].includes(name),
  );
  return (
    named ??
    frame.fields.find(({ type }) => type === FieldType.string) ??
    frame.fields.find(({ type }) => type === FieldType.time)
  );
}

interface PlacedBar {
  field: Field<number | null>;
  row: number;
  /** Along the categories, each one long. */
  start: number;
  end: number;
  from: number;
  to: number;
}

function placed(
  fields: Array<Field<number | null>>,
  rows: number,
  { stacking, groupWidth, barWidth }: BarOptions,
): PlacedBar[] {
  const bars: PlacedBar[] = [];
  for (let row = 0; row < rows; row++) {
    const total = fields.reduce((sum, { values }) => sum + (values[row] ?? 0), 0);
    let below = 0;
    fields.forEach((field, index) => {
      const value = (field.values[row] ?? 0) / (stacking === 'percent' ? total || 1 : 1);
      const stacked = stacking !== 'none';
      const wide = groupWidth / (stacked ? 1 : fields.length);
      const start = row + (1 - groupWidth) / 2 + (stacked ? 0 : index * wide) + (wide * (1 - barWidth)) / 2;
      bars.push({ field, row, start, end: start + wide * barWidth, from: below, to: below + value });
      below += stacked ? value : 0;
    });
  }
  return bars;
}

/** The value beside its bar, where there is room for it. */
function label(
  on: Paint,
  value: string,
  [x0, y0, x1, y1]: [number, number, number, number],
  flat: boolean,
  { showValue, stacking }: BarOptions,
): void {
  on.context.font = font(on, 12);
  const wide = on.context.measureText(value).width;
  const room = flat ? y1 - y0 > 14 * on.ratio && (stacking === 'none' || wide < x1 - x0) : wide < x1 - x0;
  if (showValue === 'never' || (showValue === 'auto' && !room)) {
    return;
  }
  on.context.fillStyle = on.theme.colors.text.primary;
  on.context.textAlign = flat ? 'left' : 'center';
  on.context.textBaseline = flat || stacking !== 'none' ? 'middle' : 'bottom';
  const inside = stacking === 'none' ? 0 : 1;
  const x = flat ? (inside ? (x0 + x1 - wide) / 2 : x1 + 4 * on.ratio) : (x0 + x1) / 2;
  const y = flat || inside ? (y0 + y1) / 2 : y0 - 2 * on.ratio;
  on.context.fillText(value, x, y);
}
