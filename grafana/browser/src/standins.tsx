// Grafana does not publish its state timeline and heatmap panels: these components draw the same data.
import { DataFrame, Field, FieldType, getFieldDisplayName, GrafanaTheme2 } from '@grafana/data';
import React from 'react';

interface Props {
  frames: DataFrame[];
  width: number;
  height: number;
  theme: GrafanaTheme2;
  unit?: (value: number) => string;
  hideBelow?: number;
}

const LEFT = 120;
const RIGHT = 34;
const BOTTOM = 34;

function TimeAxis({ times, width, height, theme }: { times: number[]; width: number; height: number; theme: GrafanaTheme2 }) {
  const marks = [0, 0.25, 0.5, 0.75, 1];
  return marks.map((share) => {
    const at = new Date(times[0] + share * (times[times.length - 1] - times[0])).toISOString().slice(11, 19);
    const place = LEFT + share * (width - LEFT - RIGHT);
    return (
      <text key={share} x={place} y={height} fontSize={12} textAnchor="middle" fill={theme.colors.text.secondary}>
        {at}
      </text>
    );
  });
}

const valueField = (frame: DataFrame): Field => frame.fields.find((field) => field.type === FieldType.number)!;

export function StateTimeline({ frames, width, height, theme }: Props) {
  const times = frames[0].fields[0].values as number[];
  const row = (height - BOTTOM - 10) / frames.length;
  const cell = (width - LEFT - RIGHT) / times.length;
  const legend = new Map<string, string>();
  const rows = frames.map((frame, place) => {
    const field = valueField(frame);
    return (
      <g key={place} transform={`translate(0, ${place * row})`}>
        <text x={LEFT - 8} y={row / 2 + 4} fontSize={12} textAnchor="end" fill={theme.colors.text.primary}>
          {getFieldDisplayName(field, frame, frames)}
        </text>
        {(field.values as Array<number | null>).map((value, index) => {
          if (value == null) {
            return null;
          }
          const shown = field.display!(value);
          legend.set(shown.text, shown.color!);
          return <rect key={index} shapeRendering="crispEdges" x={LEFT + index * cell} width={cell + 0.5} y={row * 0.1} height={row * 0.8} fill={shown.color} />;
        })}
      </g>
    );
  });
  return (
    <svg width={width} height={height}>
      {rows}
      <TimeAxis times={times} width={width} height={height - BOTTOM + 6} theme={theme} />
      {[...legend].map(([text, colour], place) => (
        <g key={text} transform={`translate(${8 + place * 130}, ${height - 14})`}>
          <rect width={14} height={4} y={4} fill={colour} rx={2} />
          <text x={20} y={10} fontSize={12} fill={theme.colors.text.primary}>
            {text}
          </text>
        </g>
      ))}
    </svg>
  );
}

// Converts cumulative buckets (`le`) to counts per bucket, as Grafana does.
export function Heatmap({ frames, width, height, theme, unit, hideBelow = 0 }: Props) {
  const bound = (frame: DataFrame) => Number((valueField(frame).labels?.le ?? '').replace('+Inf', 'Infinity'));
  const sorted = [...frames].sort((a, b) => bound(a) - bound(b));
  const times = sorted[0].fields[0].values as number[];
  const counts = sorted.map((frame, place) =>
    (valueField(frame).values as number[]).map((value, index) =>
      Math.max(0, value - (place ? (valueField(sorted[place - 1]).values[index] as number) : 0))
    )
  );
  const most = Math.max(...counts.flat().filter(Number.isFinite), 1e-9);
  const row = (height - BOTTOM) / sorted.length;
  const cell = (width - LEFT - RIGHT) / times.length;
  return (
    <svg width={width} height={height}>
      {sorted.map((frame, place) => (
        <g key={place} transform={`translate(0, ${height - BOTTOM - (place + 1) * row})`}>
          <text x={LEFT - 8} y={row / 2 + 4} fontSize={11} textAnchor="end" fill={theme.colors.text.secondary}>
            {Number.isFinite(bound(frame)) ? unit!(bound(frame)) : 'more'}
          </text>
          {counts[place].map((count, index) =>
            count > hideBelow ? (
              <rect
                key={index}
                x={LEFT + index * cell}
                width={cell - 0.5}
                height={row - 1}
                fill={theme.visualization.getColorByName('orange')}
                opacity={0.15 + 0.85 * Math.sqrt(count / most)}
              />
            ) : null
          )}
        </g>
      ))}
      <TimeAxis times={times} width={width} height={height - BOTTOM + 16} theme={theme} />
    </svg>
  );
}
