// Grafana's server half as far as it concerns a server of Prometheus' API, written from what is known of its
// behaviour: the requests it makes, and a reader of answers that refuses whatever would show as an error or a notice.

import assert from "node:assert/strict";

import { Answer, type Ask, ask, form, withParameters } from "./http";

export type Sample = [number, string];
export type Bucket = [number, string, string, string];
export type HistogramSample = [number, { count: string; sum: string; buckets?: Bucket[] }];

export interface Series {
  metric: Record<string, string>;
  value?: Sample;
  values?: Sample[];
  histogram?: HistogramSample;
  histograms?: HistogramSample[];
}

export interface Result {
  type: "scalar" | "string" | "vector" | "matrix";
  series: Series[];
  stats: unknown;
  notices: string[];
}

export class QueryError extends Error {
  constructor(
    readonly status: number,
    readonly errorType: string,
    message: string,
  ) {
    super(message);
  }
}

// === reading ===

const NUMBER = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

export function number(text: string): number {
  switch (text) {
    case "NaN":
      return NaN;
    case "+Inf":
      return Infinity;
    case "-Inf":
      return -Infinity;
  }
  assert.match(text, NUMBER);
  return Number(text);
}

function sample(value: unknown): asserts value is Sample {
  assert.ok(Array.isArray(value) && value.length === 2, `no sample: ${JSON.stringify(value)}`);
  const [time, text] = value as unknown[];
  assert.equal(typeof time, "number", "the time of a sample is a number");
  assert.equal(Math.round((time as number) * 1000) / 1000, time, "times are milliseconds at the most");
  assert.equal(typeof text, "string", "the value of a sample is a string");
  number(text as string);
}

function histogramSample(value: unknown): asserts value is HistogramSample {
  assert.ok(Array.isArray(value) && value.length === 2, `no sample: ${JSON.stringify(value)}`);
  const [time, histogram] = value as HistogramSample;
  assert.equal(typeof time, "number");
  number(histogram.count);
  number(histogram.sum);
  for (const bucket of histogram.buckets ?? []) {
    assert.equal(bucket.length, 4, "a bucket has four parts");
    assert.ok(Number.isInteger(bucket[0]) && bucket[0] >= -128 && bucket[0] <= 127, "the first is a small integer");
    for (const part of bucket.slice(1)) {
      assert.equal(typeof part, "string", "the others are strings");
      number(part as string);
    }
  }
}

function labels(value: unknown): asserts value is Record<string, string> {
  assert.ok(typeof value === "object" && value !== null && !Array.isArray(value), "labels are an object");
  for (const [name, text] of Object.entries(value)) assert.equal(typeof text, "string", `the label ${name} is a string`);
}

function texts(value: unknown): string[] {
  if (value === undefined) return [];
  assert.ok(Array.isArray(value) && value.every((text) => typeof text === "string"), "notices are strings");
  return value as string[];
}

/** The answer to a query, or the error that it tells. */
export function read(answer: Answer): Result {
  assert.ok(
    [200, 400, 422, 503].includes(answer.status),
    `unexpected response ${answer.status} from ${answer.url}: ${answer.text.slice(0, 1024)}`,
  );
  assert.match(answer.headers["content-type"] ?? "", /^application\/json/);
  const length = answer.headers["content-length"];
  if (length !== undefined) assert.equal(Number(length), answer.bytes.length, "the length is that of the body");
  const body = answer.json;
  if (body.status === "error") {
    assert.equal(typeof body.errorType, "string");
    assert.equal(typeof body.error, "string");
    assert.notEqual(answer.status, 200);
    return { type: "vector", series: [], stats: undefined, notices: [new QueryError(answer.status, body.errorType, body.error).message] };
  }
  assert.equal(body.status, "success");
  assert.equal(answer.status, 200);
  const keys = Object.keys(body.data);
  const [type, result, stats] = ["resultType", "result", "stats"].map((key) => keys.indexOf(key)) as [number, number, number];
  assert.ok(type >= 0 && result > type, "the type of the result comes before it");
  assert.ok(stats === -1 || stats > result, "statistics come after the result");
  const notices = [...texts(body.warnings), ...texts(body.infos)];
  const kind = body.data.resultType;
  const all = body.data.result;
  switch (kind) {
    case "scalar":
    case "string":
      if (kind === "scalar") sample(all);
      assert.equal(typeof all[1], "string");
      return { type: kind, series: [{ metric: {}, value: all }], stats: body.data.stats, notices };
    case "vector":
      for (const one of all) {
        labels(one.metric);
        assert.ok((one.value === undefined) !== (one.histogram === undefined), "a value or a histogram");
        if (one.value !== undefined) sample(one.value);
        else histogramSample(one.histogram);
      }
      break;
    case "matrix":
      for (const one of all) {
        labels(one.metric);
        assert.ok(one.values !== undefined || one.histograms !== undefined, "values or histograms");
        for (const value of one.values ?? []) sample(value);
        for (const value of one.histograms ?? []) histogramSample(value);
        for (const list of [one.values ?? [], one.histograms ?? []]) {
          for (let i = 1; i < list.length; i++) assert.ok(list[i][0] > list[i - 1][0], "samples are in order");
        }
      }
      break;
    default:
      assert.fail(`unknown type of result ${kind}`);
  }
  return { type: kind, series: all, stats: body.data.stats, notices };
}

export interface ExemplarSeries {
  seriesLabels: Record<string, string>;
  exemplars: { labels: Record<string, string>; value: string; timestamp: number }[];
}

export function exemplars(answer: Answer): ExemplarSeries[] {
  assert.equal(answer.status, 200);
  const body = answer.json;
  assert.equal(body.status, "success");
  for (const series of body.data) {
    assert.deepEqual(Object.keys(series), ["seriesLabels", "exemplars"]);
    labels(series.seriesLabels);
    for (const exemplar of series.exemplars) {
      for (const key of Object.keys(exemplar)) assert.ok(["labels", "value", "timestamp"].includes(key), `an exemplar has ${key}`);
      labels(exemplar.labels);
      assert.equal(typeof exemplar.value, "string");
      number(exemplar.value);
      assert.equal(typeof exemplar.timestamp, "number");
    }
  }
  return body.data;
}

// === frames ===

export interface Field {
  name: string;
  type: string;
  labels?: Record<string, string>;
  config?: Record<string, unknown>;
}

export interface Frame {
  schema: { refId: string; name?: string; meta: Record<string, unknown>; fields: Field[] };
  data: { values: unknown[][]; entities?: (Record<string, number[]> | null)[] };
}

/** How a series is called where no legend is given. */
function verbose(metric: Record<string, string>): string {
  const { __name__: name = "", ...others } = metric;
  const parts = Object.entries(others).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return parts.length === 0 ? name || "{}" : `${name}{${parts.join(", ")}}`;
}

function legend(format: string | undefined, metric: Record<string, string>, query: string): string {
  if (format === undefined || format === "") return verbose(metric);
  if (format === "__auto") return Object.keys(metric).length === 0 ? query : verbose(metric);
  return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name: string) => metric[name] ?? "");
}

function floats(refId: string, metric: Record<string, string>, samples: Sample[], meta: Record<string, unknown>, name: string): Frame {
  const entity: Record<string, number[]> = {};
  const values = samples.map(([, text], i) => {
    const value = number(text);
    if (Number.isFinite(value)) return value;
    const kind = Number.isNaN(value) ? "NaN" : value > 0 ? "Inf" : "NegInf";
    (entity[kind] ??= []).push(i);
    return null;
  });
  return {
    schema: {
      refId,
      name,
      meta,
      fields: [
        { name: "Time", type: "time" },
        { name: "Value", type: "number", labels: metric, config: { displayNameFromDS: name } },
      ],
    },
    data: { values: [samples.map(([time]) => time * 1000), values], entities: [null, entity] },
  };
}

function cells(refId: string, samples: HistogramSample[], meta: Record<string, unknown>): Frame {
  const columns: unknown[][] = [[], [], [], [], []];
  for (const [time, histogram] of samples) {
    for (const [layout, low, high, count] of histogram.buckets ?? []) {
      [time * 1000, number(low), number(high), number(count), layout].forEach((value, i) => columns[i]!.push(value));
    }
  }
  const types = ["time", "number", "number", "number", "number"];
  const fields = ["xMax", "yMin", "yMax", "count", "yLayout"].map((name, i) => ({ name, type: types[i]! }));
  return { schema: { refId, meta: { ...meta, type: "heatmap-cells" }, fields }, data: { values: columns } };
}

export function frames(result: Result, refId: string, query = "", legendFormat?: string): Frame[] {
  const meta = (type: string) => ({ type, custom: { resultType: result.type }, executedQueryString: `Expr: ${query}` });
  if (result.type === "string") return [];
  const out: Frame[] = [];
  for (const series of result.series) {
    const samples = series.values ?? (series.value === undefined ? [] : [series.value]);
    const histograms = series.histograms ?? (series.histogram === undefined ? [] : [series.histogram]);
    const type = result.type === "matrix" ? "timeseries-multi" : "numeric-multi";
    if (samples.length > 0) out.push(floats(refId, series.metric, samples, meta(type), legend(legendFormat, series.metric, query)));
    if (histograms.length > 0) out.push(cells(refId, histograms, meta(type)));
  }
  if (out.length > 0 && result.stats !== undefined) {
    (out[0]!.schema.meta.custom as Record<string, unknown>).stats = result.stats;
  }
  return out;
}

/** What a cache makes of two answers, where the later one counts. */
export function merge(before: Result, after: Result): Result {
  const key = (series: Series) => JSON.stringify(Object.entries(series.metric).sort());
  const later = new Map(after.series.map((series) => [key(series), series]));
  const series = before.series.map((one) => {
    const fresh = later.get(key(one))?.values ?? [];
    later.delete(key(one));
    const kept = (one.values ?? []).filter(([time]) => fresh.length === 0 || time < fresh[0]![0]);
    return { ...one, values: [...kept, ...fresh] };
  });
  return { ...before, series: [...series, ...later.values()] };
}

// === asking ===

export interface Source {
  url: string;
  /** The method of queries. */
  method: "GET" | "POST";
  headers?: Record<string, string>;
  /** What the settings of the data source add to each URL. */
  custom?: Record<string, string>;
  /** Called with every answer. */
  seen?: (answer: Answer) => void;
}

export interface Query {
  refId: string;
  expr: string;
  instant?: boolean;
  range?: boolean;
  exemplar?: boolean;
  format?: string;
  legendFormat?: string;
  intervalMs?: number;
  interval?: string;
  maxDataPoints?: number;
  utcOffsetSec?: number;
}

async function send(source: Source, method: string, path: string, parameters: Record<string, string>, how: Ask = {}): Promise<Answer> {
  // A path of the source is kept, and slashes are made one.
  const url = source.url.replace(/\/+$/, "") + path;
  const answer =
    method === "POST"
      ? await ask(withParameters(url, source.custom), {
          method,
          body: form(parameters),
          headers: { "Content-Type": "application/x-www-form-urlencoded", ...source.headers },
        })
      : await ask(withParameters(url, { ...parameters, ...source.custom }), { ...how, headers: { ...source.headers, ...how.headers } });
  source.seen?.(answer);
  return answer;
}

function seconds(text: string | undefined): number {
  const found = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text ?? "");
  if (found === null) return 0;
  return Number(found[1]) * { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 }[found[2] as "s"]!;
}

function duration(value: number): string {
  if (value < 1) return `${Math.round(value * 1000)}ms`;
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60]] as const) {
    if (value >= length && value % length === 0) return `${value / length}${unit}`;
  }
  return `${Math.floor(value)}s`;
}

/** Seconds between two points: never so small that there are more than 11,000 of them. */
export function step(query: Query, from: number, to: number, scrape: number): number {
  const wanted = Math.max((query.intervalMs ?? 0) / 1000, seconds(query.interval), scrape);
  const floor = Math.ceil((to - from) / 11_000);
  return Math.max(wanted, floor);
}

function interpolate(expr: string, every: number, from: number, to: number, scrape: number): string {
  const rate = Math.max(every + scrape, 4 * scrape);
  const values: Record<string, string> = {
    __interval_ms: String(every * 1000),
    __interval: duration(every),
    __rate_interval_ms: String(rate * 1000),
    __rate_interval: duration(rate),
    __range_ms: String(Math.round((to - from) * 1000)),
    __range_s: String(Math.round(to - from)),
    __range: `${Math.round(to - from)}s`,
  };
  return expr.replace(/\$(\w+)|\$\{(\w+)\}/g, (whole, bare?: string, braced?: string) => values[bare ?? braced ?? ""] ?? whole);
}

/** What a panel gets for one of its queries. */
export async function run(source: Source, query: Query, from: number, to: number, scrape = 15): Promise<Frame[]> {
  const every = step(query, from, to, scrape);
  const expr = interpolate(query.expr, every, from, to, scrape);
  const offset = query.utcOffsetSec ?? 0;
  const align = (time: number) => Math.floor((time + offset) / every) * every - offset;
  const [start, end] = [String(align(from)), String(align(to))];
  const ranged = query.range ?? !query.instant;
  const check = (answer: Answer): Result => {
    const result = read(answer);
    if (answer.status !== 200) throw new QueryError(answer.status, answer.json.errorType, answer.json.error);
    return result;
  };
  const [range, instant, exemplar] = await Promise.all([
    ranged ? send(source, source.method, "/api/v1/query_range", { query: expr, start, end, step: String(every) }) : undefined,
    query.instant ? send(source, source.method, "/api/v1/query", { query: expr, time: String(to) }) : undefined,
    query.exemplar ? send(source, source.method, "/api/v1/query_exemplars", { query: expr, start, end }) : undefined,
  ]);
  const out: Frame[] = [];
  if (range !== undefined) out.push(...frames(check(range), query.refId, expr, query.legendFormat));
  if (instant !== undefined) out.push(...frames(check(instant), query.refId, expr, query.legendFormat));
  if (exemplar !== undefined) {
    const rows = exemplars(exemplar).flatMap((series) => series.exemplars.map((one) => ({ ...series.seriesLabels, ...one.labels, one })));
    if (rows.length > 0) {
      const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => name !== "one");
      const text = (row: unknown, name: string) => (row as Record<string, string>)[name] ?? "";
      out.push({
        schema: {
          refId: query.refId,
          name: "exemplar",
          meta: { custom: { resultType: "exemplar" } },
          fields: [{ name: "Time", type: "time" }, { name: "Value", type: "number" }, ...names.map((name) => ({ name, type: "string" }))],
        },
        data: {
          values: [rows.map((row) => row.one.timestamp * 1000), rows.map((row) => number(row.one.value)), ...names.map((name) => rows.map((row) => text(row, name)))],
        },
      });
    }
  }
  return out;
}

export interface Health {
  status: "OK" | "ERROR";
  message: string;
}

/** Save & test: a query, then what is running there. */
export async function health(source: Source): Promise<Health & { version?: string }> {
  const query = await send(source, source.method, "/api/v1/query", { query: "1+1", time: "4" });
  if (query.status !== 200) return { status: "ERROR", message: `${query.status} - There was an error returned querying the Prometheus API.` };
  const result = read(query);
  assert.equal(result.type, "scalar");
  const build = await send(source, "GET", "/api/v1/status/buildinfo", {});
  const data = build.status === 200 ? build.json.data : {};
  const { features } = data;
  assert.ok(features === undefined || Object.keys(features).length === 0, "whoever has features is taken for Mimir");
  for (const [name, value] of Object.entries(data)) assert.equal(typeof value, "string", `${name} is a string`);
  return { status: "OK", message: "Successfully queried the Prometheus API.", version: data.version };
}

/** A request that the browser makes through Grafana: the body and the status are passed on as they are. */
export async function resource(source: Source, method: string, path: string, query: string, body: unknown): Promise<Answer> {
  const url = `/${path.replace(/^\/+/, "")}${query === "" ? "" : `?${query}`}`;
  const pairs: Record<string, string> = {};
  if (path.replace(/^\/+/, "") === "suggestions") return suggestions(source, body as Suggestions);
  if (typeof body === "string") for (const [name, value] of new URLSearchParams(body)) pairs[name] = value;
  else if (body !== null && typeof body === "object") {
    const flat = Object.entries(body).flatMap(([name, value]): [string, string][] =>
      Array.isArray(value) ? value.map((one) => [name, String(one)]) : [[name, String(value)]],
    );
    return answerOf(await forwarded(source, method, url, flat));
  }
  return answerOf(await forwarded(source, method, url, Object.entries(pairs)));
}

async function forwarded(source: Source, method: string, url: string, pairs: [string, string][]): Promise<Answer> {
  const base = source.url.replace(/\/+$/, "") + url;
  // What a browser says it can read is passed on.
  const headers = { "Accept-Encoding": "gzip, deflate, br, zstd", ...source.headers };
  const answer =
    method === "POST"
      ? await ask(withParameters(base, source.custom), {
          method,
          body: form(pairs),
          headers: { ...headers, "Content-Type": "application/x-www-form-urlencoded" },
        })
      : await ask(withParameters(base, { ...Object.fromEntries(pairs), ...source.custom }), { headers });
  source.seen?.(answer);
  return answer;
}

function answerOf(answer: Answer): Answer {
  assert.ok(["identity", "gzip", "br"].includes(answer.encoding), `Grafana cannot read ${answer.encoding}`);
  return answer;
}

interface Suggestions {
  labelName?: string;
  queries?: string[];
  scopes?: { key: string; operator: string; value: string; values?: string[] }[];
  adhocFilters?: { key: string; operator: string; value: string; values?: string[] }[];
  start?: string;
  end?: string;
  limit?: number;
}

const OPERATORS: Record<string, string> = {
  equals: "=",
  "not-equals": "!=",
  "regex-match": "=~",
  "regex-not-match": "!~",
  "one-of": "=~",
  "not-one-of": "!~",
};

/** Names or values of labels for the metrics of queries under filters, a selector for each metric. */
async function suggestions(source: Source, asked: Suggestions): Promise<Answer> {
  const filters = [...(asked.scopes ?? []), ...(asked.adhocFilters ?? [])].map(({ key, operator, value, values }) => {
    const text = operator.endsWith("one-of") ? (values ?? [value]).join("|") : value;
    return `${/^[a-zA-Z_]\w*$/.test(key) ? key : JSON.stringify(key)}${OPERATORS[operator] ?? operator}${JSON.stringify(text)}`;
  });
  const metrics = (asked.queries ?? []).flatMap((query) => [...query.matchAll(/[a-zA-Z_:][\w:]*(?=\s*[{[)]|\s*$)/g)].map(([name]) => name));
  const selectors = metrics.map((name) => `{${[`__name__=${JSON.stringify(name)}`, ...filters].join(",")}}`);
  if (selectors.length === 0 && filters.length > 0) selectors.push(`{${filters.join(",")}}`);
  const pairs: [string, string][] = selectors.map((selector) => ["match[]", selector]);
  for (const name of ["start", "end", "limit"] as const) if (asked[name] !== undefined) pairs.push([name, String(asked[name])]);
  const path = asked.labelName ? `/api/v1/label/${encodeURIComponent(asked.labelName)}/values` : "/api/v1/labels";
  const url = withParameters(source.url.replace(/\/+$/, "") + path, pairs);
  const answer = await ask(url, { headers: source.headers });
  source.seen?.(answer);
  return answer;
}
