// Applies a panel's transformations and field options to its data frames.
import {
  applyFieldOverrides,
  DataFrame,
  FieldConfigOptionsRegistry,
  FieldConfigPropertyItem,
  FieldConfigSource,
  GrafanaTheme2,
  identityOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { Panel } from '@grafana/schema';
import { firstValueFrom } from 'rxjs';

// Some transformers have two names in this table.
const transformers = new Map(Object.values(standardTransformers).map((one: any) => [one.id, one]));
standardTransformersRegistry.setInit(
  () => [...transformers.values()].map((one) => ({ ...one, transformation: () => Promise.resolve(one), imageDark: '', imageLight: '' })) as any
);

const STANDARD = ['unit', 'decimals', 'min', 'max', 'noValue', 'thresholds', 'mappings', 'color', 'links', 'displayName'];
const CUSTOM = ['width', 'minWidth', 'align', 'cellOptions', 'drawStyle', 'lineWidth', 'fillOpacity', 'showPoints', 'pointSize',
  'stacking', 'thresholdsStyle', 'spanNulls', 'axisSoftMax'];

const registry = new FieldConfigOptionsRegistry(() =>
  [...STANDARD.map((path) => ({ path, isCustom: false })), ...CUSTOM.map((path) => ({ path, isCustom: true }))].map(
    ({ path, isCustom }) =>
      ({
        id: isCustom ? `custom.${path}` : path,
        path,
        isCustom,
        name: path,
        override: () => null,
        editor: () => null,
        process: identityOverrideProcessor,
        shouldApply: () => true,
      }) as unknown as FieldConfigPropertyItem
  )
);

export async function applyFieldConfig(panel: Panel, raw: DataFrame[], theme: GrafanaTheme2): Promise<DataFrame[]> {
  const transformed = panel.transformations?.length
    ? await firstValueFrom(transformDataFrame(panel.transformations as any, raw))
    : raw;
  return applyFieldOverrides({
    data: transformed,
    fieldConfig: panel.fieldConfig as unknown as FieldConfigSource,
    fieldConfigRegistry: registry,
    replaceVariables: (text: string) => text,
    theme,
    timeZone: 'utc',
  });
}
