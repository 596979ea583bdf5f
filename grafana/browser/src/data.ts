// Replaces Grafana's Prometheus data source: interpolates the variables of a query, and returns data frames.
import { DataFrame, FieldType, Labels, toDataFrame } from '@grafana/data';
import { Dashboard, Panel } from '@grafana/schema';

export interface Task {
  dashboard: Dashboard;
  prometheus: string;
  from: number; // Unix seconds
  to: number;
  scrape: number; // seconds between two scrapes
  theme: 'light' | 'dark';
  width: number;
}

export interface Target {
  expr: string;
  refId: string;
  legendFormat?: string;
  format?: string;
  instant?: boolean;
}

interface Series {
  metric: Labels;
  value?: [number, string];
  values?: Array<[number, string]>;
}

const number = (text: string) => (text === 'NaN' ? NaN : text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : +text);

async function request(task: Task, path: string, fields: Record<string, string>): Promise<any> {
  const answer = await fetch(`${task.prometheus}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(fields) });
  const body = await answer.json();
  if (body.status !== 'success') {
    throw new Error(body.error);
  }
  return body.data;
}

function interpolate(task: Task, text: string, step: number): string {
  const names = (task.dashboard.templating?.list ?? []).filter((one) => one.type === 'query').map((one) => one.name);
  const rate = Math.max(step + task.scrape, 4 * task.scrape);
  return names
    .reduce((result, name) => result.replaceAll(`$${name}`, '.+'), text)
    .replaceAll('$__rate_interval', `${rate}s`)
    .replaceAll('$__interval', `${step}s`);
}

// Returns the values of a query variable: label_values(selector, label).
export async function variableValues(task: Task, query: string): Promise<string[]> {
  const [, selector, label] = /^label_values\((.*), (\w+)\)$/.exec(query)!;
  const fields = { 'match[]': interpolate(task, selector, 1), start: `${task.from}`, end: `${task.to}` };
  const answer = await fetch(`${task.prometheus}/api/v1/label/${label}/values?${new URLSearchParams(fields)}`);
  return (await answer.json()).data;
}

function legend(target: Target, labels: Labels): string | undefined {
  return target.legendFormat?.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '') || undefined;
}

function tableOf(target: Target, found: Series[], several: boolean): DataFrame {
  const labels = [...new Set(found.flatMap((one) => Object.keys(one.metric)))].sort();
  const text = (label: string) => ({
    name: label,
    type: FieldType.string,
    values: found.map((one) => one.metric[label] ?? ''),
  });
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: found.map((one) => one.value![0] * 1000) },
      ...labels.map(text),
      {
        name: several ? `Value #${target.refId}` : 'Value',
        type: FieldType.number,
        values: found.map((one) => number(one.value![1])),
      },
    ],
  });
}

function seriesOf(target: Target, one: Series, start: number, end: number, step: number): DataFrame {
  const points = new Map((one.values ?? [one.value!]).map(([at, value]) => [at, number(value)]));
  const times = one.values ? Array.from({ length: Math.floor((end - start) / step) + 1 }, (_, i) => start + i * step) : [one.value![0]];
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: times.map((at) => at * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels: one.metric,
        config: { displayNameFromDS: legend(target, one.metric) },
        values: times.map((at) => points.get(at) ?? null),
      },
    ],
  });
}

// Returns the data frames of a panel.  An error of any query is an error of the panel.
export async function queryFrames(task: Task, panel: Panel, points: number): Promise<DataFrame[]> {
  const targets = (panel.targets ?? []) as unknown as Target[];
  const step = Math.max(task.scrape, Math.ceil((task.to - task.from) / points));
  const start = Math.floor(task.from / step) * step;
  const end = Math.floor(task.to / step) * step;
  const found = await Promise.all(
    targets.map(async (target) => {
      const query = interpolate(task, target.expr, step);
      if (target.instant) {
        const { result } = await request(task, 'query', { query, time: `${task.to}` });
        return target.format === 'table'
          ? [tableOf(target, result, targets.length > 1)]
          : result.map((one: Series) => seriesOf(target, one, start, end, step));
      }
      const { result } = await request(task, 'query_range', { query, start: `${start}`, end: `${end}`, step: `${step}` });
      return result.map((one: Series) => seriesOf(target, one, start, end, step));
    })
  );
  return found.flat().filter((frame) => frame.length > 0);
}
