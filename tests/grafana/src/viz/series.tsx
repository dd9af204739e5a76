/** Time series and table: drawn by Grafana's own components. */
import {
  applyNullInsertThreshold,
  FieldType,
  type DataFrame,
  type FieldConfigSource,
  type TimeRange,
} from '@grafana/data';
import type { TableCellHeight, VizLegendOptions } from '@grafana/schema';
import { TimeSeries, type TableSortByFieldState } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import type { JSX } from 'react';

import type { VizProps } from '../model';

export function TimeSeriesViz({ panel, frames, width, height, timeRange, timeZone }: VizProps): JSX.Element {
  const { legend } = panel.options as unknown as { legend: VizLegendOptions };
  return (
    <TimeSeries
      {...{ width, height, timeRange, timeZone, legend }}
      frames={frames.map((frame) => graphable(frame, timeRange))}
    />
  );
}

/** Truth values are drawn as 0 and 1, and lines end where points are missing: left to itself, the component sees to
 * that for its first frame only. */
function graphable(frame: DataFrame, { from, to }: TimeRange): DataFrame {
  const fields = frame.fields.map((field) =>
    field.type === FieldType.boolean
      ? {
          ...field,
          type: FieldType.number,
          values: field.values.map((value: unknown) => (value === null ? null : Number(value))),
        }
      : field,
  );
  return applyNullInsertThreshold({
    frame: { ...frame, fields },
    refFieldPseudoMin: from.valueOf(),
    refFieldPseudoMax: to.valueOf(),
  });
}

interface TableOptions {
  showHeader: boolean;
  cellHeight: TableCellHeight;
  sortBy?: TableSortByFieldState[];
  footer?: { show?: boolean; reducer?: string[]; fields?: string[] | '' };
}

export function TableViz({ panel, frames, width, height, timeRange }: VizProps): JSX.Element {
  const options = panel.options as unknown as TableOptions;
  const [frame] = frames;
  if (frame === undefined) {
    return <></>;
  }
  return (
    <TableNG
      data={withFooter(frame, options.footer)}
      noHeader={!options.showHeader}
      initialSortBy={options.sortBy}
      cellHeight={options.cellHeight}
      fieldConfig={panel.fieldConfig as FieldConfigSource}
      enableVirtualization={false}
      {...{ width, height, timeRange }}
    />
  );
}

/** Before version 12 a table's footer was an option of the panel; now it is one of its fields. */
function withFooter(frame: DataFrame, footer: TableOptions['footer']): DataFrame {
  if (!footer?.show) {
    return frame;
  }
  const fields = frame.fields.map((field) => {
    const summed = field.type === FieldType.number && (!footer.fields?.length || footer.fields.includes(field.name));
    return summed
      ? {
          ...field,
          config: { ...field.config, custom: { ...field.config.custom, footer: { reducers: footer.reducer } } },
        }
      : field;
  });
  return { ...frame, fields };
}
