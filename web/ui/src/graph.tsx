// One graph: uPlot inside a component. Knows series and times, nothing of queries.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Series } from "./api";
import { columns, formatTick, seriesName } from "./format";

/** More lines than this are not drawn: nobody can tell them apart, and the page must stay quick. */
export const LINES_MAX = 200;

const hues = [210, 25, 130, 0, 275, 50, 180, 320, 95, 240];
const color = (i: number) => `hsl(${hues[i % hues.length]} 65% ${i >= hues.length ? 38 : 52}%)`;

interface Props {
  series: Series[];
  range: { start: number; end: number; step: number };
}

export function Graph({ series, range }: Props) {
  const holder = useRef<HTMLDivElement>(null);
  const shown = series.slice(0, LINES_MAX);

  useEffect(() => {
    const element = holder.current!;
    const style = getComputedStyle(element);
    const axis = { stroke: style.color, grid: { stroke: style.getPropertyValue("--line"), width: 1 } };
    const plot = new uPlot(
      {
        width: element.clientWidth,
        height: 360,
        legend: { show: false },
        cursor: { focus: { prox: 24 } },
        focus: { alpha: 0.3 },
        scales: { x: { range: [range.start, range.end] } },
        axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(formatTick) }],
        series: [{}, ...shown.map((_, i) => ({ stroke: color(i), width: 1.5, spanGaps: false }))],
      },
      columns(shown, range) as uPlot.AlignedData,
      element,
    );
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 360 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [series, range.start, range.end, range.step]);

  return (
    <figure>
      <div class="graph" ref={holder} />
      {series.length > shown.length && <p class="note">{`${LINES_MAX} of ${series.length} series are drawn`}</p>}
      <ul class="legend">
        {shown.map(({ metric }, i) => (
          <li key={seriesName(metric)}>
            <i style={{ background: color(i) }} />
            <code>{seriesName(metric)}</code>
          </li>
        ))}
      </ul>
    </figure>
  );
}
