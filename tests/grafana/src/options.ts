/** What a panel means where its JSON is silent: the defaults of Grafana's panels, as its editor shows them. */
import type { Panel } from '@grafana/schema';

interface Defaults {
  /** Mode of colours. */
  color: string;
  options: Record<string, unknown>;
  /** `fieldConfig.defaults.custom`. */
  custom: Record<string, unknown>;
}

const LEGEND = { showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [] };
const REDUCE = { values: false, calcs: ['lastNotNull'], fields: '' };

const LINES: Defaults = {
  color: 'palette-classic',
  options: { legend: LEGEND },
  custom: {
    drawStyle: 'line',
    lineInterpolation: 'linear',
    lineWidth: 1,
    fillOpacity: 0,
    gradientMode: 'none',
    showPoints: 'auto',
    pointSize: 5,
    barAlignment: 0,
    spanNulls: false,
    stacking: { mode: 'none', group: 'A' },
    axisPlacement: 'auto',
    scaleDistribution: { type: 'linear' },
    hideFrom: { tooltip: false, viz: false, legend: false },
    thresholdsStyle: { mode: 'off' },
  },
};

const DEFAULTS: Record<string, Defaults> = {
  timeseries: LINES,
  trend: LINES,
  stat: {
    color: 'thresholds',
    options: {
      reduceOptions: REDUCE,
      orientation: 'auto',
      textMode: 'auto',
      wideLayout: true,
      colorMode: 'value',
      graphMode: 'area',
      justifyMode: 'auto',
    },
    custom: {},
  },
  bargauge: {
    color: 'thresholds',
    options: {
      reduceOptions: REDUCE,
      orientation: 'auto',
      displayMode: 'gradient',
      valueMode: 'color',
      namePlacement: 'auto',
      showUnfilled: true,
      minVizWidth: 8,
      minVizHeight: 16,
      maxVizHeight: 300,
    },
    custom: {},
  },
  table: {
    color: 'thresholds',
    options: { showHeader: true, cellHeight: 'sm' },
    custom: { align: 'auto', inspect: false, cellOptions: { type: 'auto' } },
  },
  'state-timeline': {
    color: 'continuous-GrYlRd',
    options: { showValue: 'auto', rowHeight: 0.9, mergeValues: true, alignValue: 'left', legend: LEGEND },
    custom: { lineWidth: 0, fillOpacity: 70 },
  },
  heatmap: {
    color: 'palette-classic',
    options: {
      color: {
        mode: 'scheme',
        scheme: 'Oranges',
        fill: 'dark-orange',
        scale: 'exponential',
        exponent: 0.5,
        steps: 64,
        reverse: false,
      },
      yAxis: { axisPlacement: 'left' },
      cellGap: 1,
      legend: { show: true },
      filterValues: { le: 1e-9 },
    },
    custom: {},
  },
  barchart: {
    color: 'palette-classic',
    options: {
      orientation: 'auto',
      stacking: 'none',
      showValue: 'auto',
      groupWidth: 0.7,
      barWidth: 0.97,
      legend: LEGEND,
    },
    custom: { lineWidth: 1, fillOpacity: 80 },
  },
};

/** Types of panels that can be drawn. */
export const TYPES: ReadonlySet<string> = new Set(Object.keys(DEFAULTS));

/** The panel with its type's defaults filled in. Throws for a type that cannot be drawn. */
export function complete(panel: Panel): Panel {
  const defaults = DEFAULTS[panel.type];
  if (defaults === undefined) {
    throw new Error(`panel "${panel.title}": type ${panel.type} cannot be drawn, only ${[...TYPES].join(', ')}`);
  }
  const own = panel.fieldConfig?.defaults ?? {};
  return {
    ...panel,
    options: merged(defaults.options, panel.options),
    fieldConfig: {
      defaults: {
        ...own,
        color: own.color?.mode ? own.color : { mode: defaults.color as never },
        thresholds: own.thresholds ?? {
          mode: 'absolute' as never,
          steps: [
            { value: null, color: 'green' },
            { value: 80, color: 'red' },
          ],
        },
        custom: merged(defaults.custom, own.custom),
      },
      overrides: panel.fieldConfig?.overrides ?? [],
    },
  };
}

/** `own` over `defaults`, and so for objects within; what is null in `own` counts as not said. */
function merged(defaults: Record<string, unknown>, own: Record<string, unknown> | undefined): Record<string, unknown> {
  const result = { ...defaults };
  for (const [key, value] of Object.entries(own ?? {})) {
    const before = result[key];
    if (value === null || value === undefined) {
      continue;
    }
    result[key] = isRecord(before) && isRecord(value) ? merged(before, value) : value;
  }
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
