import { describe, expect, test } from "vitest";
import { columns, defaultStep, formatAge, formatDuration, formatTick, parseDuration, seriesName } from "./format";

test("series are written as PromQL writes them", () => {
  expect(seriesName({ __name__: "up", job: "a", q: 'x"y' })).toBe('up{job="a", q="x\\"y"}');
  expect(seriesName({ __name__: "up" })).toBe("up");
  expect(seriesName({})).toBe("{}");
});

describe("durations", () => {
  test("are read in Prometheus' units", () => {
    expect(parseDuration("1h30m")).toBe(5400);
    expect(parseDuration("500ms")).toBe(0.5);
    expect(["", "1", "0s", "h", "1x"].map(parseDuration)).toEqual(Array(5).fill(undefined));
  });
  test("are shown in two units", () => {
    expect([0, 0.0042, 1.25, 61, 3600, 90061].map(formatDuration)).toEqual(["0ms", "4ms", "1.3s", "1m 1s", "1h", "1d 1h"]);
  });
  test("ages count from now", () => {
    expect(formatAge("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:01:30Z"))).toBe("1m 30s ago");
    expect(formatAge("0001-01-01T00:00:00Z", Date.now())).toBe("never");
  });
});

test("ticks are short", () => {
  expect([0, 1234, 1.5e6, 0.25, 0.00001, 1e18].map(formatTick)).toEqual(["0", "1.234k", "1.5M", "0.25", "1.0e-5", "1.0e+18"]);
});

test("steps give about 250 points", () => {
  expect([60, 3600, 86400].map(defaultStep)).toEqual([1, 14, 345]);
});

test("columns keep gaps", () => {
  const series = [{ metric: {}, values: [[10, "1"], [30, "NaN"], [40, "4"]] as [number, string][] }];
  expect(columns(series, { start: 10, end: 40, step: 10 })).toEqual([[10, 20, 30, 40], [1, null, null, 4]]);
});
