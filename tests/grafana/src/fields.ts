/** From a panel's raw frames to what is drawn: its transformations, then its field configuration and overrides,
 * both run by @grafana/data. The registries that the server fills are filled here. */
import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  createDataFrame,
  dataLinksOverrideProcessor,
  displayNameOverrideProcessor,
  FieldConfigOptionsRegistry,
  FieldType,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardFieldConfigEditorRegistry,
  standardTransformers,
  standardTransformersRegistry,
  thresholdsOverrideProcessor,
  transformDataFrame,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
  type DataFrame,
  type Field,
  type FieldConfigPropertyItem,
  type FieldConfigSource,
  type GrafanaTheme2,
  type InterpolateFunction,
} from '@grafana/data';
import type { Panel } from '@grafana/schema';
import { firstValueFrom } from 'rxjs';

import type { RawFrame } from './model';

type Process = FieldConfigPropertyItem['process'];

const STANDARD: Record<string, Process> = {
  unit: unitOverrideProcessor,
  min: numberOverrideProcessor,
  max: numberOverrideProcessor,
  fieldMinMax: identityOverrideProcessor,
  decimals: numberOverrideProcessor,
  displayName: displayNameOverrideProcessor,
  noValue: identityOverrideProcessor,
  thresholds: thresholdsOverrideProcessor,
  mappings: valueMappingsOverrideProcessor,
  links: dataLinksOverrideProcessor,
  color: identityOverrideProcessor,
  filterable: identityOverrideProcessor,
};

function nothing(): null {
  return null;
}

function property(id: string, process: Process, isCustom = false): FieldConfigPropertyItem {
  const path = isCustom ? id.slice('custom.'.length) : id;
  const settings = { expandTemplateVars: true };
  return {
    id,
    path,
    name: id,
    isCustom,
    process,
    settings,
    shouldApply: () => true,
    editor: nothing,
    override: nothing,
  };
}

const standard = Object.entries(STANDARD).map(([id, process]) => property(id, process));

export function fillRegistries(): void {
  standardFieldConfigEditorRegistry.setInit(() => standard);
  standardTransformersRegistry.setInit(() =>
    // One is listed twice, by its present and by its former name.
    [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()].map((transformation) => ({
      id: transformation.id,
      aliasIds: transformation.aliasIds,
      name: transformation.name,
      transformation,
      editor: nothing,
      imageDark: '',
      imageLight: '',
    })),
  );
}

/** Options of one panel type's own, known by the panel that uses them. */
function registry(source: FieldConfigSource<Record<string, unknown>>): FieldConfigOptionsRegistry {
  const ids = new Set(Object.keys(source.defaults.custom ?? {}).map((name) => `custom.${name}`));
  for (const rule of source.overrides) {
    rule.properties.filter(({ id }) => id.startsWith('custom.')).forEach(({ id }) => ids.add(id));
  }
  return new FieldConfigOptionsRegistry(() => [
    ...standard,
    ...[...ids].map((id) => property(id, identityOverrideProcessor, true)),
  ]);
}

/** The panel's frames, transformed and configured. */
export async function configured(
  panel: Panel,
  raw: RawFrame[],
  theme: GrafanaTheme2,
  timeZone: string,
): Promise<DataFrame[]> {
  const steps = (panel.transformations ?? []).filter(({ disabled }) => disabled !== true);
  for (const { id } of steps) {
    if (standardTransformersRegistry.getIfExists(id) === undefined) {
      throw new Error(`panel "${panel.title}": @grafana/data has no transformation ${id}`);
    }
  }
  const frames = await firstValueFrom(
    transformDataFrame(
      steps.map((step) => ({ ...step, topic: undefined, filter: step.filter ?? undefined })),
      raw.map((frame) => createDataFrame({ refId: frame.refId, name: frame.name, fields: frame.fields.map(numeric) })),
      { interpolate: replaceVariables },
    ),
  );
  const fieldConfig = withInfinity(panel.fieldConfig as FieldConfigSource<Record<string, unknown>>);
  const done = applyFieldOverrides({
    data: frames,
    fieldConfig,
    fieldConfigRegistry: registry(fieldConfig),
    replaceVariables,
    theme,
    timeZone,
  });
  cacheFieldDisplayNames(done);
  return done;
}

/** Infinities are words in JSON. */
function numeric(field: RawFrame['fields'][number]): RawFrame['fields'][number] {
  const values =
    field.type === FieldType.number
      ? field.values.map((value) => (value === null ? null : Number(value)))
      : field.values;
  return { ...field, values };
}

/** The first threshold's value, minus infinity, is null in JSON. */
function withInfinity<T>(config: T): T {
  return JSON.parse(JSON.stringify(config), (key, value: unknown) => {
    if (key !== 'steps' || !Array.isArray(value)) {
      return value;
    }
    return value.map((step: { value: number | null }) => ({ ...step, value: step.value ?? -Infinity }));
  }) as T;
}

/** Fills in what depends on a field: `${__field.labels.name}`, `${__series.name}`, `${__cell_0}`. Variables of the
 * dashboard were filled in by draw.py. */
export const replaceVariables: InterpolateFunction = (text, scoped) => {
  const context = scoped?.['__dataContext']?.value as { field?: Field; frame?: DataFrame } | undefined;
  const known: Record<string, unknown> = {
    __field: context?.field && { name: context.field.name, labels: context.field.labels },
    __series: context?.frame && { name: context.frame.name },
    ...Object.fromEntries(Object.entries(scoped ?? {}).map(([name, variable]) => [name, variable?.value as unknown])),
  };
  return text.replace(/\$\{([^}:]+)(?::\w+)?\}|\$(__\w+)/g, (whole, braced?: string, plain?: string) => {
    const path = (braced ?? plain ?? '').replace(/\["?([^"\]]+)"?\]/g, '.$1').split('.');
    let value: unknown = known;
    for (const part of path) {
      value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[part] : undefined;
    }
    if (value === undefined || value === null) {
      return whole;
    }
    return typeof value === 'object'
      ? Object.entries(value)
          .map(([key, inner]) => `${key}="${String(inner)}"`)
          .join(', ')
      : String(value);
  });
};
