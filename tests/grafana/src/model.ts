/** What draw.py hands to the page, and what every panel is drawn with. */
import type { DataFrame, FieldType, GrafanaTheme2, Labels, TimeRange } from '@grafana/data';
import type { Panel } from '@grafana/schema';

/** One picture: all lengths are CSS pixels, times are milliseconds since 1970. */
export interface Job {
  theme: 'light' | 'dark';
  title: string;
  /** Names and values of the dashboard's variables, as shown above the panels. */
  variables: Array<{ label: string; value: string }>;
  width: number;
  height: number;
  from: number;
  to: number;
  timeZone: string;
  items: Item[];
}

/** A row's heading or a panel with its place. */
export type Item = Place & ({ kind: 'row'; title: string } | { kind: 'panel'; panel: Panel; frames: RawFrame[] });

export interface Place {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** A data frame as the Prometheus data source would make it. */
export interface RawFrame {
  refId: string;
  name?: string;
  fields: Array<{
    name: string;
    type: FieldType;
    labels?: Labels;
    values: unknown[];
    config: Record<string, unknown>;
  }>;
}

/** What a component that draws a panel's inside gets: fields with the panel's own configuration applied. */
export interface VizProps {
  panel: Panel;
  frames: DataFrame[];
  width: number;
  height: number;
  theme: GrafanaTheme2;
  timeRange: TimeRange;
  timeZone: string;
}

/** The page's answer: titles of panels that had nothing to show. */
export interface Drawn {
  empty: string[];
}
