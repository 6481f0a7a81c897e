// Texts and numbers as people read them. Pure functions, no page.

import type { LabelSet, Series } from "./api";

/** `name{a="x", b="y"}`, as PromQL writes a series. */
export function seriesName(labels: LabelSet): string {
  const { __name__: name = "", ...rest } = labels;
  const pairs = Object.entries(rest).map(([label, value]) => `${label}=${JSON.stringify(value)}`);
  return pairs.length === 0 && name !== "" ? name : `${name}{${pairs.join(", ")}}`;
}

const units: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };

/** Seconds of a duration such as `1h30m`, or `undefined` if it is none. */
export function parseDuration(text: string): number | undefined {
  if (!/^(\d+(ms|[smhdwy]))+$/.test(text)) return undefined;
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[smhdwy])/g)) seconds += Number(count) * units[unit!]!;
  return seconds > 0 ? seconds : undefined;
}

/** A duration in the largest units that fit, at most two of them. */
export function formatDuration(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  if (seconds < 10 && !Number.isInteger(seconds)) return `${seconds.toFixed(1)}s`;
  const parts: string[] = [];
  let rest = Math.round(seconds);
  for (const unit of ["d", "h", "m", "s"]) {
    const count = Math.floor(rest / units[unit]!);
    rest -= count * units[unit]!;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.slice(0, 2).join(" ") || "0s";
}

/** How long ago `time` (RFC 3339) was at `now` (ms). */
export function formatAge(time: string, now: number): string {
  const then = Date.parse(time);
  return Number.isNaN(then) || then <= 0 ? "never" : `${formatDuration(Math.max(0, (now - then) / 1000))} ago`;
}

/** A number short enough for an axis: `1.2k`, `3.4M`, `0.005`. */
export function formatTick(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e15 || size < 1e-3)) return value.toExponential(1);
  for (const [limit, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (size >= limit) return `${Number((value / limit).toPrecision(4))}${suffix}`;
  }
  return String(Number(value.toPrecision(4)));
}

/** The step in seconds that gives about 250 points over `range` seconds, never under one second. */
export function defaultStep(range: number): number {
  return Math.max(1, Math.floor(range / 250));
}

/** Series as columns over one axis of times in steps; a missing point is `null`. */
export function columns(
  series: Series[],
  range: { start: number; end: number; step: number },
): [times: number[], ...values: (number | null)[][]] {
  const n = Math.floor((range.end - range.start) / range.step) + 1;
  const times = Array.from({ length: n }, (_, i) => range.start + i * range.step);
  const values = series.map(({ values }) => {
    const column = new Array<number | null>(n).fill(null);
    for (const [time, text] of values) {
      const value = Number(text.replace("Inf", "Infinity"));
      const i = Math.round((time - range.start) / range.step);
      if (i >= 0 && i < n && Number.isFinite(value)) column[i] = value;
    }
    return column;
  });
  return [times, ...values];
}
