/** State timeline: a lane for each field, a bar for as long as its value stays. */
import {
  colorManipulator,
  FieldColorModeId,
  FieldType,
  formattedValueToString,
  getFieldDisplayName,
  type Field,
} from '@grafana/data';
import { measureText, type VizLegendItem } from '@grafana/ui';
import type { JSX } from 'react';

import type { VizProps } from '../model';
import { colorOf, font, Plot, WithLegend, type Legend, type Paint } from './plot';

interface Bar {
  from: number;
  to: number;
  value: unknown;
}

interface Lane {
  name: string;
  field: Field;
  bars: Bar[];
}

interface Options {
  showValue: 'auto' | 'always' | 'never';
  rowHeight: number;
  mergeValues: boolean;
  alignValue: 'left' | 'center' | 'right';
  legend: Legend;
}

const PAD = 4;

export function TimelineViz(props: VizProps): JSX.Element {
  const { panel, frames, theme, timeRange, timeZone } = props;
  const options = panel.options as unknown as Options;
  const lanes = frames.flatMap((frame) => {
    const time = frame.fields.find(({ type }) => type === FieldType.time);
    return time === undefined
      ? []
      : frame.fields
          .filter((field) => field !== time)
          .map((field) => ({
            name: getFieldDisplayName(field, frame, frames),
            field,
            bars: bars(time, field, options.mergeValues),
          }));
  });
  const size = Math.min(props.width / 3, Math.max(...lanes.map(({ name }) => measureText(name, 12).width)) + 16);
  const paint = (on: Paint) => lanes.forEach((lane, index) => drawLane(on, lane, lanes.length - 1 - index, options));
  return (
    <WithLegend {...props} legend={options.legend} items={legendItems(lanes, props)}>
      {(width, height) => (
        <Plot
          {...{ width, height, theme, timeZone, paint }}
          x={{ min: timeRange.from.valueOf(), max: timeRange.to.valueOf(), isTime: true }}
          y={{
            min: 0,
            max: lanes.length,
            size,
            grid: false,
            ticks: lanes.map(({ name }, index) => ({ at: lanes.length - index - 0.5, text: name })),
          }}
        />
      )}
    </WithLegend>
  );
}

/** A value holds until the next; where more than one interval has none, it ends after one. */
function bars(time: Field<number>, field: Field, merge: boolean): Bar[] {
  const step = time.config.interval ?? Infinity;
  const found: Bar[] = [];
  time.values.forEach((from, index) => {
    const value: unknown = field.values[index];
    if (value === null || value === undefined) {
      return;
    }
    const next = time.values[index + 1] ?? Infinity;
    const to = next - from > step * 1.5 ? from + step : next;
    const last = found.at(-1);
    if (merge && last?.value === value && last.to === from) {
      last.to = to;
    } else {
      found.push({ from, to, value });
    }
  });
  return found;
}

function drawLane(on: Paint, { field, bars: ofLane }: Lane, index: number, options: Options): void {
  const { context, theme, ratio } = on;
  const custom = field.config.custom as { fillOpacity: number; lineWidth: number };
  const top = on.y(index + 0.5 + options.rowHeight / 2);
  const height = on.y(index + 0.5 - options.rowHeight / 2) - top;
  for (const bar of ofLane) {
    const right = Math.min(on.x(bar.to), context.canvas.width);
    const left = Math.max(on.x(bar.from), 0);
    const color = colorOf(field, bar.value, theme);
    const fill = colorManipulator.alpha(color, custom.fillOpacity / 100);
    context.fillStyle = fill;
    context.fillRect(left, top, right - left, height);
    if (custom.lineWidth > 0) {
      context.strokeStyle = color;
      context.lineWidth = custom.lineWidth * ratio;
      context.strokeRect(left, top, right - left, height);
    }
    const text = field.display ? formattedValueToString(field.display(bar.value)) : String(bar.value);
    context.font = font(on, 12);
    const fits = context.measureText(text).width + 2 * PAD * ratio <= right - left;
    if (options.showValue === 'never' || (options.showValue === 'auto' && !fits)) {
      continue;
    }
    const solid = custom.fillOpacity > 50 ? color : theme.colors.background.primary;
    context.fillStyle = theme.colors.getContrastText(solid);
    context.textBaseline = 'middle';
    context.textAlign = options.alignValue;
    const at = { left: left + PAD * ratio, center: (left + right) / 2, right: right - PAD * ratio };
    context.fillText(text, at[options.alignValue], top + height / 2);
  }
}

/** Thresholds where they colour, none where a gradient does, else each state that is seen, as it is named. */
function legendItems(lanes: Lane[], { theme }: VizProps): VizLegendItem[] {
  const { color, thresholds } = lanes[0]?.field.config ?? {};
  if (color?.mode.startsWith('continuous')) {
    return [];
  }
  if (color?.mode === FieldColorModeId.Thresholds && thresholds !== undefined && thresholds.steps.length > 1) {
    return thresholds.steps.map((step, index) => ({
      label: index === 0 ? `< ${thresholds.steps[1]?.value}` : `${step.value}+`,
      color: theme.visualization.getColorByName(step.color),
      yAxis: 1,
    }));
  }
  const items = new Map<string, VizLegendItem>();
  for (const { field, bars: ofLane } of lanes) {
    for (const { value } of ofLane) {
      const label = field.display ? formattedValueToString(field.display(value)) : String(value);
      items.set(label, { label, color: colorOf(field, value, theme), yAxis: 1 });
    }
  }
  return [...items.values()];
}
