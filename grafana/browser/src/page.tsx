// Draws one dashboard with Grafana's components.  Data attributes expose the state of each panel to the checks.
import {
  createTheme,
  DataFrame,
  dateTime,
  FieldType,
  getDisplayProcessor,
  getFieldDisplayName,
  getValueFormat,
  formattedValueToString,
  GrafanaTheme2,
  ThemeContext,
} from '@grafana/data';
import { Panel } from '@grafana/schema';
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueTextMode, GlobalStyles, PanelChrome, PortalContainer, Table, TimeSeries } from '@grafana/ui';
import React, { useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { queryFrames, Task, variableValues } from './data';
import { applyFieldConfig } from './fields';
import { Heatmap, StateTimeline } from './standins';

declare global {
  interface Window {
    TASK: Task;
    READY: boolean;
  }
}

const task = window.TASK;
const GAP = 8;
const UNIT = 30;
const column = (task.width - 2 * GAP + GAP) / 24;
const theme: GrafanaTheme2 = createTheme({ colors: { mode: task.theme } });
const range = { from: dateTime(task.from * 1000), to: dateTime(task.to * 1000) };
const timeRange = { ...range, raw: range };

type Shown = { state: 'data' | 'empty' | 'error'; text: string; frames: DataFrame[] };

function stats(panel: Panel, frames: DataFrame[]) {
  return frames.map((frame) => {
    const field = frame.fields.find((one) => one.type === FieldType.number)!;
    const display = field.display ?? getDisplayProcessor({ field, theme });
    return { ...display(field.values[field.values.length - 1]), title: getFieldDisplayName(field, frame, frames) };
  });
}

function Body({ panel, shown, width, height }: { panel: Panel; shown: Shown; width: number; height: number }) {
  const options = (panel.options ?? {}) as Record<string, any>;
  const { frames } = shown;
  if (shown.state !== 'data') {
    return (
      <div style={{ display: 'flex', width, height, alignItems: 'center', justifyContent: 'center', textAlign: 'center', color: theme.colors.text.secondary }}>
        {shown.text}
      </div>
    );
  }
  switch (panel.type) {
    case 'stat': {
      const found = stats(panel, frames);
      const each = width / found.length;
      return (
        <div style={{ display: 'flex' }}>
          {found.map((value, place) => (
            <BigValue
              key={place}
              value={value}
              width={each}
              height={height}
              theme={theme}
              colorMode={options.colorMode as BigValueColorMode}
              graphMode={BigValueGraphMode.None}
              textMode={options.textMode as BigValueTextMode}
            />
          ))}
        </div>
      );
    }
    case 'timeseries':
      return <TimeSeries frames={frames} width={width} height={height} timeRange={timeRange} timeZone="utc" legend={options.legend} />;
    case 'table':
      return <Table data={frames[0]} width={width} height={height} columnMinWidth={(panel.fieldConfig?.defaults.custom as any)?.minWidth} initialSortBy={options.sortBy} cellHeight={options.cellHeight} />;
    case 'state-timeline':
      return <StateTimeline frames={frames} width={width} height={height} theme={theme} />;
    case 'heatmap': {
      const format = getValueFormat(options.yAxis?.unit);
      const unit = (value: number) => formattedValueToString(format(value));
      return <Heatmap frames={frames} width={width} height={height} theme={theme} unit={unit} hideBelow={options.filterValues?.le} />;
    }
    default:
      throw new Error(`unsupported panel type ${panel.type}`);
  }
}

async function load(panel: Panel, width: number): Promise<Shown> {
  try {
    const raw = await queryFrames(task, panel, width / 3);
    const nonEmpty = raw.filter((frame) =>
      frame.fields.some((field) => field.type === FieldType.number && field.values.some((value: number | null) => value != null && !Number.isNaN(value)))
    );
    const frames = await applyFieldConfig(panel, panel.type === 'table' ? raw : nonEmpty, theme);
    if (!nonEmpty.length || !frames.length) {
      return { state: 'empty', text: panel.fieldConfig?.defaults?.noValue ?? 'No data', frames: [] };
    }
    return { state: 'data', text: '', frames };
  } catch (error) {
    return { state: 'error', text: `${error}`, frames: [] };
  }
}

function PanelView({ panel, onDone }: { panel: Panel; onDone: () => void }) {
  const place = panel.gridPos!;
  const width = place.w * column - GAP;
  const height = place.h * (UNIT + GAP) - GAP;
  const [shown, setShown] = useState<Shown>();
  useEffect(() => {
    load(panel, width).then((found) => {
      setShown(found);
      onDone();
    });
  }, []);
  return (
    <section
      data-panel={panel.id}
      data-type={panel.type}
      data-title={panel.title}
      data-state={shown?.state}
      data-frames={shown?.frames.length}
      data-message={shown?.text}
      style={{ position: 'absolute', left: GAP + place.x * column, top: place.y * (UNIT + GAP), width, height }}
    >
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height} padding={panel.type === 'table' ? 'none' : 'md'}>
        {(innerWidth, innerHeight) => (shown ? <Body panel={panel} shown={shown} width={innerWidth} height={innerHeight} /> : null)}
      </PanelChrome>
    </section>
  );
}

function Variables() {
  const [values, setValues] = useState<Record<string, string[]>>({});
  const list = (task.dashboard.templating?.list ?? []).filter((one) => one.type === 'query');
  useEffect(() => {
    list.forEach(async (one) => {
      const found = await variableValues(task, (one.query as any).query);
      setValues((before) => ({ ...before, [one.name]: found }));
    });
  }, []);
  const box = { padding: '5px 10px', background: theme.colors.background.secondary, border: `1px solid ${theme.colors.border.medium}` };
  return (
    <div style={{ display: 'flex', gap: 16, padding: GAP, alignItems: 'center', color: theme.colors.text.primary, height: 48 }}>
      <strong style={{ fontSize: 18, marginRight: 16 }}>{task.dashboard.title}</strong>
      {list.map((one) => (
        <span key={one.name} data-variable={one.name} data-values={JSON.stringify(values[one.name] ?? null)} style={box}>
          {one.label}: All
        </span>
      ))}
    </div>
  );
}

function Page() {
  const panels = (task.dashboard.panels ?? []) as Array<Panel>;
  const [, setDone] = useState(0);
  const shown = panels.filter((one) => (one.type as string) !== 'row');
  const bottom = Math.max(...panels.map((one) => one.gridPos!.y + one.gridPos!.h)) * (UNIT + GAP);
  const done = () =>
    setDone((before) => {
      if (before + 1 === shown.length) {
        setTimeout(() => (window.READY = true), 1500);
      }
      return before + 1;
    });
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <Variables />
      <div style={{ position: 'relative', height: bottom }}>
        {panels.map((panel) =>
          (panel.type as string) === 'row' ? (
            <h3 key={panel.id} style={{ position: 'absolute', margin: 0, left: GAP + 4, fontSize: 16, top: panel.gridPos!.y * (UNIT + GAP) + 6, color: theme.colors.text.primary }}>
              {panel.title}
            </h3>
          ) : (
            <PanelView key={panel.id} panel={panel} onDone={done} />
          )
        )}
      </div>
    </ThemeContext.Provider>
  );
}

document.body.style.margin = '0';
document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById('page')!).render(<Page />);
