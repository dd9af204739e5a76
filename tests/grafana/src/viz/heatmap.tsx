/** Heat map of a histogram's buckets: one column for each time, one row for each bucket. */
import {
  FieldType,
  formattedValueToString,
  getFieldDisplayName,
  getValueFormat,
  outerJoinDataFrames,
} from '@grafana/data';
import { measureText, VizLayout } from '@grafana/ui';
import * as chromatic from 'd3-scale-chromatic';
import type { JSX } from 'react';

import type { VizProps } from '../model';
import { Plot, type Paint } from './plot';

interface Options {
  calculate?: boolean;
  color: {
    mode: 'scheme' | 'opacity';
    scheme: string;
    fill: string;
    scale: 'linear' | 'exponential';
    exponent: number;
    steps: number;
    reverse: boolean;
    min?: number;
    max?: number;
  };
  yAxis: { unit?: string; decimals?: number; axisLabel?: string };
  cellGap: number;
  legend: { show: boolean };
  filterValues: { le?: number };
}

/** Schemes that Grafana turns round so that little is near the background: on dark for most, on light for some. */
const FROM_DARK = new Set([
  'Turbo',
  'Viridis',
  'Magma',
  'Inferno',
  'Plasma',
  'Cividis',
  'Warm',
  'Cool',
  'CubehelixDefault',
]);

export function HeatmapViz(props: VizProps): JSX.Element {
  const { panel, frames, theme, timeRange, timeZone } = props;
  const options = panel.options as unknown as Options;
  const frame = frames.length > 1 ? outerJoinDataFrames({ frames }) : frames[0];
  const time = frame?.fields.find(({ type }) => type === FieldType.time);
  if (frame === undefined || time === undefined || options.calculate) {
    throw new Error(`panel "${panel.title}": a heat map needs buckets: a query of format heatmap, and calculate off`);
  }
  const rows = frame.fields.filter(({ type }) => type === FieldType.number);
  const format = (value: number) =>
    formattedValueToString(getValueFormat(options.yAxis.unit ?? 'short')(value, options.yAxis.decimals));
  const names = rows.map((field) => {
    const name = getFieldDisplayName(field, frame, frames);
    return Number.isFinite(Number(name)) ? format(Number(name)) : name;
  });
  const empty = options.filterValues.le ?? 0;
  const display = (count: number) =>
    rows[0]?.display ? formattedValueToString(rows[0].display(count)) : String(count);
  const counts = rows
    .flatMap(({ values }) => values as Array<number | null>)
    .filter((count) => count !== null && count > empty) as number[];
  const low = options.color.min ?? Math.min(...counts);
  const high = options.color.max ?? Math.max(...counts);
  const color = palette(options, theme.isDark, theme.visualization.getColorByName(options.color.fill));
  const shade = (count: number) => color(high > low ? (count - low) / (high - low) : 1);
  const step = time.config.interval ?? 15_000;

  const paint = (on: Paint) => {
    const gap = options.cellGap * on.ratio;
    rows.forEach((field, row) => {
      const top = on.y(row + 1);
      const height = on.y(row) - top;
      time.values.forEach((at: number, column) => {
        const count = field.values[column] as number | null;
        if (count === null || count <= empty) {
          return;
        }
        const left = on.x(at - step);
        const width = on.x(at) - left;
        on.context.fillStyle = shade(count);
        on.context.fillRect(left, top, width - (width > 4 * gap ? gap : 0), Math.max(1, height - gap));
      });
    });
  };
  const every = Math.ceil((rows.length * 22) / Math.max(props.height - 70, 22));
  const ticks = names.map((text, row) => ({ at: row + 1, text })).filter(({ at }) => (rows.length - at) % every === 0);
  const size = Math.max(...names.map((name) => measureText(name, 12).width)) + 16;
  const scale =
    options.legend.show && counts.length > 0 ? (
      <VizLayout.Legend placement="bottom" maxHeight="20%">
        <Scale shade={color} low={display(low)} high={display(high)} text={theme.colors.text.secondary} />
      </VizLayout.Legend>
    ) : null;
  return (
    <VizLayout width={props.width} height={props.height} legend={scale}>
      {(width, height) => (
        <Plot
          {...{ width, height, theme, timeZone, paint }}
          x={{ min: timeRange.from.valueOf(), max: timeRange.to.valueOf(), isTime: true }}
          y={{ min: 0, max: rows.length, ticks, size, label: options.yAxis.axisLabel }}
        />
      )}
    </VizLayout>
  );
}

/** Colour of a share of the largest count, in as many steps as asked for. */
function palette({ color }: Options, dark: boolean, fill: string): (share: number) => string {
  const bend = color.scale === 'exponential' || color.mode === 'scheme' ? color.exponent : 1;
  const known = (chromatic as unknown as Record<string, (at: number) => string>)[`interpolate${color.scheme}`];
  const reverse = color.reverse !== (FROM_DARK.has(color.scheme) ? !dark : dark);
  const stepped = (share: number) =>
    Math.round(Math.min(1, Math.max(0, share)) * (color.steps - 1)) / Math.max(1, color.steps - 1);
  if (color.mode === 'opacity' || known === undefined) {
    return (share) => `color-mix(in srgb, ${fill} ${100 * stepped(share) ** color.exponent}%, transparent)`;
  }
  return (share) => {
    const at = color.mode === 'scheme' && color.scale !== 'exponential' ? stepped(share) : stepped(share ** bend);
    return known(reverse ? 1 - at : at);
  };
}

function Scale({
  shade,
  low,
  high,
  text,
}: {
  shade: (share: number) => string;
  low: string;
  high: string;
  text: string;
}): JSX.Element {
  const stops = Array.from({ length: 33 }, (_, index) => shade(index / 32)).join(', ');
  return (
    <div style={{ width: 260, paddingTop: 8, fontSize: 12, color: text }}>
      <div style={{ height: 8, borderRadius: 2, background: `linear-gradient(to right, ${stops})` }} />
      <div style={{ display: 'flex', justifyContent: 'space-between' }}>
        <span>{low}</span>
        <span>{high}</span>
      </div>
    </div>
  );
}
