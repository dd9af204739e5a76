/** One panel: Grafana's frame with its title, and within it what the panel's type draws. */
import { FieldType, type DataFrame, type GrafanaTheme2, type TimeRange } from '@grafana/data';
import type { Panel } from '@grafana/schema';
import { PanelChrome } from '@grafana/ui';
import type { ComponentType, JSX } from 'react';

import type { Place, VizProps } from './model';
import { BarChartViz } from './viz/bars';
import { HeatmapViz } from './viz/heatmap';
import { TableViz, TimeSeriesViz } from './viz/series';
import { BarGaugeViz, StatViz } from './viz/single';
import { TimelineViz } from './viz/timeline';
import { TrendViz } from './viz/trend';

const VIZ: Record<string, ComponentType<VizProps>> = {
  timeseries: TimeSeriesViz,
  trend: TrendViz,
  stat: StatViz,
  bargauge: BarGaugeViz,
  table: TableViz,
  'state-timeline': TimelineViz,
  heatmap: HeatmapViz,
  barchart: BarChartViz,
};

/** Types whose content reaches the panel's edge. */
const UNPADDED = new Set(['table']);

export interface Configured {
  place: Place;
  panel: Panel;
  frames: DataFrame[];
}

export function isEmpty({ frames }: Configured): boolean {
  return !frames.some(({ fields }) => fields.some(({ type, values }) => type !== FieldType.time && values.length > 0));
}

export function PanelView(
  props: Configured & { theme: GrafanaTheme2; timeRange: TimeRange; timeZone: string },
): JSX.Element {
  const { place, panel } = props;
  const Viz = VIZ[panel.type];
  const empty = isEmpty(props);
  return (
    <PanelChrome
      width={place.width}
      height={place.height}
      title={panel.title}
      description={panel.description}
      displayMode={panel.transparent ? 'transparent' : 'default'}
      padding={UNPADDED.has(panel.type) ? 'none' : 'md'}
      hoverHeader={!panel.title}
    >
      {(width, height) =>
        empty || Viz === undefined ? (
          <div className="no-data">{panel.fieldConfig?.defaults?.noValue ?? 'No data'}</div>
        ) : (
          <Viz {...props} width={width} height={height} />
        )
      }
    </PanelChrome>
  );
}
