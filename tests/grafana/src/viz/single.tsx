/** Stat and bar gauge: one drawing for each value, by Grafana's own components. */
import {
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  type DisplayValue,
  type DisplayValueAlignmentFactors,
  type FieldConfigSource,
  type FieldDisplay,
  type ReduceDataOptions,
} from '@grafana/data';
import type { BarGaugeValueMode, VizOrientation } from '@grafana/schema';
import { BarGauge, BigValue, VizRepeater, type VizRepeaterRenderValueProps } from '@grafana/ui';
import type { ComponentProps, JSX } from 'react';

import { replaceVariables } from '../fields';
import type { VizProps } from '../model';

type Value = VizRepeaterRenderValueProps<FieldDisplay, DisplayValueAlignmentFactors>;

/** What the options of both say; the rest of them are properties of their components. */
interface Options {
  reduceOptions: ReduceDataOptions;
  orientation: VizOrientation;
  minVizWidth?: number;
  minVizHeight?: number;
  maxVizHeight?: number;
}

interface StatOptions extends Options, Pick<ComponentProps<typeof BigValue>, 'colorMode' | 'graphMode'> {
  wideLayout: boolean;
  showPercentChange?: boolean;
}

interface BarGaugeOptions
  extends Options, Pick<ComponentProps<typeof BarGauge>, 'displayMode' | 'namePlacement' | 'showUnfilled' | 'text'> {
  valueMode: BarGaugeValueMode;
}

function values(
  props: VizProps,
  reduceOptions: ReduceDataOptions,
  extra: { sparkline?: boolean; percentChange?: boolean } = {},
): FieldDisplay[] {
  const { panel, frames: data, theme, timeZone, timeRange } = props;
  const fieldConfig = panel.fieldConfig as FieldConfigSource;
  const found = getFieldDisplayValues({
    data,
    fieldConfig,
    reduceOptions,
    replaceVariables,
    theme,
    timeZone,
    ...extra,
  });
  return found.map((value) => ({ ...value, sparkline: value.sparkline && { ...value.sparkline, timeRange } }));
}

/** A value that stands alone has its panel's title, and a name only when someone gave it one. */
function named({ panel }: VizProps, { value, count }: Value): DisplayValue {
  return count === 1 && !panel.fieldConfig?.defaults?.displayName
    ? { ...value.display, title: undefined }
    : value.display;
}

function Repeated(props: {
  of: VizProps;
  source: FieldDisplay[];
  options: Options;
  autoGrid?: boolean;
  itemSpacing?: number;
  render: (value: Value) => JSX.Element;
}): JSX.Element {
  const { of, source, options, autoGrid, itemSpacing = 8, render } = props;
  const { orientation, minVizWidth, minVizHeight, maxVizHeight } = options;
  return (
    <VizRepeater<FieldDisplay, DisplayValueAlignmentFactors>
      getValues={() => source}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={render}
      renderCounter={0}
      width={of.width}
      height={of.height}
      {...{ source, orientation, autoGrid, itemSpacing, minVizWidth, minVizHeight, maxVizHeight }}
    />
  );
}

export function StatViz(props: VizProps): JSX.Element {
  const options = props.panel.options as unknown as StatOptions;
  const source = values(props, options.reduceOptions, {
    sparkline: options.graphMode !== 'none',
    percentChange: options.showPercentChange,
  });
  const render = ({ value, orientation: _, ...place }: Value) => (
    <BigValue
      {...options}
      {...place}
      theme={props.theme}
      value={value.display}
      sparkline={value.sparkline}
      disableWideLayout={!options.wideLayout}
    />
  );
  return <Repeated of={props} autoGrid {...{ source, options, render }} />;
}

export function BarGaugeViz(props: VizProps): JSX.Element {
  const options = props.panel.options as unknown as BarGaugeOptions;
  const lcd = options.displayMode === 'lcd';
  const itemSpacing = lcd ? 2 : 10;
  const render = (value: Value) => {
    const { width, height, orientation, count, alignmentFactors } = value;
    return (
      <BarGauge
        {...options}
        {...{ width, height, orientation, itemSpacing }}
        theme={props.theme}
        value={named(props, value)}
        field={value.value.field}
        display={value.value.view?.getFieldDisplayProcessor(value.value.colIndex ?? 0)}
        alignmentFactors={count > 1 ? alignmentFactors : undefined}
        valueDisplayMode={options.valueMode}
        lcdCellWidth={lcd ? 12 : undefined}
        isOverflow={false}
      />
    );
  };
  return <Repeated of={props} source={values(props, options.reduceOptions)} {...{ options, itemSpacing, render }} />;
}
