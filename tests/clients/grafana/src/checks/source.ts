// Grafana's data source itself, without its page.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";

import type { DataFrame } from "@grafana/data";

import { type Room, check } from "../check";
import * as grafana from "../grafana";
import type { Answer } from "../http";

const METHODS = ["POST", "GET"] as const;

/** A data source for each method; what both do must be the same, which is G65. */
async function both<T>(room: Room, run: (added: ReturnType<typeof grafana.add>) => Promise<T>): Promise<T> {
  const outcomes: T[] = [];
  for (const httpMethod of METHODS) outcomes.push(await run(grafana.add(room.base, { httpMethod })));
  assert.deepEqual(outcomes[1], outcomes[0], "GET and POST are not the same");
  return outcomes[0]!;
}

const texts = (values: { text: string }[]): string[] => values.map((value) => value.text);

function columns(frame: DataFrame): [string, unknown[]][] {
  return frame.fields.map((field) => [field.name, [...field.values]]);
}

check("G02", "N", "Save & test", async (room) => {
  const said = await both(room, async ({ source, asked }) => {
    const outcome = await source.testDatasource();
    if (room.isOurs && source.httpMethod === "POST") record(room, outcome, asked);
    return outcome;
  });
  assert.equal(said.status, "success");
  assert.equal(said.message, "Successfully queried the Prometheus API.");
});

/** Writes down what was asked and answered, where somebody wants to have it. */
function record(room: Room, outcome: object, asked: Answer[]): void {
  const file = process.env.FERULA_CLIENTS_RECORD;
  if (file === undefined) return;
  const lines = [
    "What \"Save & test\" of Grafana's Prometheus data source (@grafana/prometheus 13.2.3, run without its page by",
    "tests/clients/grafana) asks of Ferula, what comes back, and what the data source says of it.",
    "Written by `make clients RECORD=1`.",
  ];
  for (const answer of asked) {
    const { method = "GET", body = "" } = answer.asked;
    lines.push("", `> ${method} ${answer.url.slice(room.base.length)}`);
    if (body !== "") lines.push(`> ${String(body)}`);
    lines.push(`< ${answer.status} ${answer.headers["content-type"]}`, `< ${answer.text.trim()}`);
  }
  lines.push("", `testDatasource(): ${JSON.stringify(outcome)}`, "");
  writeFileSync(file, lines.join("\n"));
}

/** Starts a data source; its rules it takes when they come. */
async function begin(source: ReturnType<typeof grafana.add>["source"]): Promise<void> {
  await source.init();
  for (let i = 0; i < 200 && Object.keys(source.ruleMappings ?? {}).length === 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

check("G09", "N", "recording rules and exemplars are found", async (room) => {
  const found = await both(room, async ({ source }) => {
    await begin(source);
    return [source.exemplarsAvailable, source.ruleMappings] as const;
  });
  assert.equal(found[0], true);
  const [rule] = found[1]["job:http_requests:rate5m"]!;
  assert.match(rule!.query, /^sum by \(job\) \(rate\(http_requests_total\[5m\]\)\)$/);
  assert.deepEqual(rule!.labels, { source: "recorded" });
  // Before 3.14 rules without labels had none, instead of an empty object.
  const rules = Object.entries(found[1]).map(([name, all]) => [name, all.map(({ query, labels = {} }) => [query, labels])]);
  room.same("rules", rules.toSorted());
});

check("G28", "N", "a classic histogram as a heatmap", async (room) => {
  const span = grafana.range(room.settings, room.time, room.time + 600);
  const frames = await both(room, async ({ source }) => {
    const query = { expr: "sum by (le) (increase(request_duration_seconds_bucket[1m]))", format: "heatmap", range: true } as const;
    const { data, errors } = await grafana.panel(source, span, [{ ...query, legendFormat: "{{le}}" }]);
    assert.deepEqual(errors, []);
    return data.map((frame) => [frame.meta?.type, frame.fields.map((field) => [field.config.displayNameFromDS ?? field.name, [...field.values]])]);
  });
  assert.equal(frames.length, 1);
  const [type, fields] = frames[0] as [string, [string, number[]][]];
  assert.equal(type, "heatmap-rows");
  assert.deepEqual(fields.slice(1).map(([name]) => number(name)), [0.1, 0.5, 1, 2.5, 10, Infinity]);
  for (const [name, values] of fields.slice(1)) for (const value of values) assert.ok(value >= 0, `${name}: ${values}`);
  room.same("frames", frames);
});

function number(text: string): number {
  return text === "+Inf" ? Infinity : Number(text);
}

check("G34", "N", "what the editor is filled with", async (room) => {
  const span = grafana.range(room.settings);
  const found = await both(room, async ({ source }) => {
    const provider = source.languageProvider;
    await provider.start(span);
    return {
      metrics: provider.retrieveMetrics().filter((name) => !OWN.test(name)),
      histograms: provider.retrieveHistogramMetrics().filter((name) => !OWN.test(name)),
      labels: provider.retrieveLabelKeys().length,
      metadata: Object.entries(provider.retrieveMetricsMetadata()).filter(([name]) => OURS.test(name)).sort(),
    };
  });
  assert.ok(found.metrics.includes("http_requests_total"), String(found.metrics));
  assert.ok(found.histograms.includes("request_duration_seconds_bucket"), String(found.histograms));
  assert.ok(found.labels > 5 && found.metadata.length > 5, JSON.stringify(found.metadata));
  room.same("found", { ...found, labels: undefined });
});

/** What a server says of itself. */
const OWN = /^(prometheus|ferula|go|process|net|promhttp|alertmanager|scrape|ALERTS|grafana|pushed|instance:up)_?/;
const OURS = /^(http_requests|node_cpu|room|request_duration|rpc_|utf8)/;

check("G40", "N", "variables of every form", async (room) => {
  const span = grafana.range(room.settings);
  const found = await both(room, async ({ source }) => {
    await source.languageProvider.start(span);
    const variable = async (query: string) => texts(await source.metricFindQuery(query, { range: span } as never));
    return {
      names: await variable("label_names()"),
      values: await variable("label_values(room)"),
      filtered: await variable('label_values(http_requests_total{code=~"2.."}, method)'),
      dotted: await variable('label_values({"utf8.requests"}, http.status)'),
      metrics: await variable("metrics(.*cpu_seconds.*)"),
      result: await variable('query_result(sum by (code) (http_requests_total{code="404"}) > bool 0)'),
      series: await variable("queue_length"),
    };
  });
  for (const name of ["code", "queue", "http.status"]) assert.ok(found.names.includes(name), String(found.names));
  assert.deepEqual(found.values, ["attic", "cellar", "hall", "kitchen", "loft", "yard"]);
  assert.deepEqual(found.filtered, ["get", "post"]);
  assert.deepEqual(found.dotted, ["200", "503"]);
  assert.deepEqual(found.metrics.filter((name) => !/^(prometheus|ferula|go)_/.test(name)), ["node_cpu_seconds_total", "process_cpu_seconds_total"]);
  assert.equal(found.result.length, 1);
  assert.match(found.result[0]!, /^\{code="404"\} 1 /);
  assert.deepEqual(found.series.toSorted(), ["mail", "print"].map((queue) => `queue_length{instance="a:1", job="web", queue="${queue}"}`).map(loose).toSorted());
  room.same("found", { ...found, names: undefined, metrics: undefined, result: undefined });
});

function loose(text: string): string {
  return text.replaceAll(", ", ",");
}

check("G41", "N", "keys and values under filters", async (room) => {
  const timeRange = grafana.range(room.settings);
  const found = await both(room, async ({ source }) => {
    await source.languageProvider.start(timeRange);
    const keys = (filters: object[]) => source.getTagKeys({ filters, timeRange, queries: [] } as never).then(texts);
    const values = (key: string, filters: object[]) => source.getTagValues({ key, filters, timeRange, queries: [] } as never).then(texts);
    return {
      keys: (await keys([{ key: "queue", operator: "=~", value: "m.*" }])).toSorted(),
      regex: await values("room", [{ key: "room", operator: "=~", value: "[ch].*" }]),
      oneOf: await values("room", [{ key: "room", operator: "=|", value: "loft", values: ["loft", "yard"] }]),
      not: await values("method", [{ key: "code", operator: "=", value: "200" }, { key: "method", operator: "!=", value: "get" }]),
    };
  });
  assert.deepEqual(found.keys.filter((key) => key !== "__name__"), ["instance", "job", "queue"].filter((key) => found.keys.includes(key)));
  assert.ok(found.keys.includes("job"), String(found.keys));
  assert.deepEqual([found.regex, found.oneOf, found.not], [["cellar", "hall"], ["loft", "yard"], ["post"]]);
  room.same("found", found);
});

check("G46", "N", "the editor by the search API", async (room) => {
  room.since("3.14", "search API");
  const span = grafana.range(room.settings);
  const plain = grafana.add(room.base);
  await plain.source.languageProvider.start(span);
  const { source, asked } = grafana.add(room.base, { enableSearchApi: true });
  await source.languageProvider.start(span);
  const names = await source.languageProvider.queryLabelValues(span, "__name__");
  assert.deepEqual(names.toSorted(), plain.source.languageProvider.retrieveMetrics().toSorted());
  assert.deepEqual(await source.languageProvider.queryLabelValues(span, "room", 'room_celsius{room=~"c.*|h.*"}'), ["cellar", "hall"]);
  const searches = asked.filter((answer) => answer.url.includes("/api/v1/search/"));
  assert.ok(searches.length > 0 && searches.every((answer) => answer.status === 200), searches.map((answer) => `${answer.url} ${answer.status}`).join("\n"));
});

check(
  "G47",
  "N",
  "the search API is off: the other ways are taken",
  async (room) => {
    const basic = Buffer.from(`${room.server.user}:${room.server.password}`).toString("base64");
    const { source, asked } = grafana.add(room.base, { enableSearchApi: true }, { Authorization: `Basic ${basic}` });
    const span = grafana.range(room.settings);
    await source.languageProvider.start(span);
    const names = await source.languageProvider.queryLabelValues(span, "__name__");
    assert.ok(names.includes("http_requests_total"), String(names));
    const refused = asked.filter((answer) => answer.url.includes("/api/v1/search/"));
    assert.ok(refused.length > 0, "the search API was never asked");
    for (const answer of refused) {
      if (answer.status !== 404) assert.equal(answer.json.errorType, "unavailable", answer.text);
    }
  },
  "bare",
);

check("G65", "N", "panels by GET and by POST", async (room) => {
  const span = grafana.range(room.settings, room.time, room.time + 300);
  const frames = await both(room, async ({ source }) => {
    const { data, errors } = await grafana.panel(source, span, [
      { expr: "sum by (code) (rate(http_requests_total[$__rate_interval]))", range: true, legendFormat: "{{code}}" },
      { expr: "queue_length", instant: true, range: false, format: "table" },
      { expr: "request_duration_seconds_bucket", range: true, exemplar: true },
    ]);
    assert.deepEqual(errors, []);
    return data.map((frame) => [frame.refId, frame.name, columns(frame)]);
  });
  assert.ok(frames.length >= 5, JSON.stringify(frames).slice(0, 500));
  room.same("frames", frames);
});

check("G71", "N", "what is hidden or empty is not asked", async (room) => {
  const { source, asked } = grafana.add(room.base);
  await source.init();
  const before = asked.length;
  const shown = await grafana.panel(source, grafana.range(room.settings), [{ expr: "up", hide: true, range: true }, { expr: "", range: true }]);
  assert.deepEqual(shown.data, []);
  assert.equal(asked.length, before, asked.slice(before).map((answer) => answer.url).join("\n"));
});

check("parse-error", "N", "a panel says what is wrong with its query", async (room) => {
  const errors = await both(room, async ({ source }) => (await grafana.panel(source, grafana.range(room.settings), [{ expr: "rate(up)", range: true }])).errors);
  assert.equal(errors.length, 1);
  assert.match(errors[0]!, /1:6: parse error/);
  room.same("errors", errors);
});

check("hint", "N", "a recorded rule is offered for expansion", async (room) => {
  const { source } = grafana.add(room.base);
  await begin(source);
  const hints = source.getQueryHints({ refId: "A", expr: "job:http_requests:rate5m" }, []);
  assert.ok(hints.some((hint) => hint.type === "EXPAND_RULES"), JSON.stringify(hints));
});
