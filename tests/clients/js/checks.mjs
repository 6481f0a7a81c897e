// Clients of npm against every server: prometheus-query, and the client that the editor of Prometheus' own page asks
// with. Also: do the servers have of the exporters what each of them exposes.
//
// node checks.mjs <folder where npm installed> <settings as JSON in a file>

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(path.resolve(process.argv[2]), "package.json"));
const settings = JSON.parse(readFileSync(process.argv[3], "utf8"));
const { PrometheusDriver } = require("prometheus-query");
const { HTTPPrometheusClient } = require("@prometheus-io/codemirror-promql/dist/cjs/client/prometheus");

const from = new Date((settings.begin + 2400) * 1000);
const to = new Date((settings.begin + 3000) * 1000);

/** Name of a check -> what it does at a place; what it returns must be the same everywhere. */
const checks = {};

for (const preferPost of [false, true]) {
  const name = `prometheus-query by ${preferPost ? "POST" : "GET"}`;
  const driver = (base) => new PrometheusDriver({ endpoint: base, baseURL: "/api/v1", preferPost, timeout: 20_000 });

  checks[`${name}: queries`] = async ({ base }) => {
    const client = driver(base);
    const instant = await client.instantQuery('sum by (code) (http_requests_total)', from);
    assert.equal(instant.resultType, "vector");
    assert.deepEqual(instant.result.map((one) => [one.metric.labels.code, one.value.value]), [["200", 12480], ["404", 1280], ["500", 640]]);
    assert.equal(instant.result[0].value.time.getTime(), from.getTime());
    const range = await client.rangeQuery("queue_length", from, to, 15);
    assert.equal(range.resultType, "matrix");
    assert.equal(range.result.length, 2);
    assert.equal(range.result[0].values.length, 41);
    const scalar = await client.instantQuery("1+1", new Date(4000));
    assert.deepEqual(scalar.result, [4, "2"]);
    await assert.rejects(client.instantQuery("rate(up)"), (error) => /1:6: parse error/.test(`${error.message} ${JSON.stringify(error)}`));
    return [instant, range, scalar];
  };

  checks[`${name}: names`] = async ({ base }) => {
    const client = driver(base);
    const series = await client.series("queue_length", from, to);
    const names = await client.labelNames(["queue_length", "room_celsius"], from, to);
    const values = await client.labelValues("code", ["http_requests_total"], from, to);
    assert.deepEqual(series.map((one) => one.labels.queue).sort(), ["mail", "print"]);
    assert.deepEqual(names, ["__name__", "instance", "job", "queue", "room"]);
    assert.deepEqual(values, ["200", "404", "500"]);
    const metadata = await client.metadata("room_celsius", 10);
    assert.deepEqual(metadata, { room_celsius: [{ type: "gauge", unit: "celsius", help: "Temperature of a room." }] });
    return [series.map((one) => JSON.stringify(one)).sort(), names, values];
  };

  checks[`${name}: targets, rules, status`] = async ({ base, name: server }) => {
    const client = driver(base);
    const { activeTargets } = await client.targets("active");
    const jobs = activeTargets.map((target) => target.labels.job).sort();
    const about = await client.targetsMetadata('{job="text"}', "waiting", 5);
    assert.deepEqual(about.map(({ type, help }) => [type, help]), [["gauge", "Who waits."]]);
    const rules = await client.rules();
    const [rule] = rules.find((group) => group.name === "recorded").rules;
    assert.equal(rule.name, "job:http_requests:rate5m");
    const alerts = await client.alerts();
    assert.equal(alerts.length, 3);
    assert.ok(alerts[0].activeAt instanceof Date && !Number.isNaN(alerts[0].activeAt.getTime()));
    const managers = await client.alertmanagers();
    if (server !== "ferula" && settings.servers[0].alertmanager !== null) assert.equal(managers.activeAlertmanagers.length, 1);
    assert.ok(Array.isArray(managers.droppedAlertmanagers));
    assert.match((await client.status()).yaml, /job_name: native/);
    const flags = await client.statusFlags();
    assert.equal(flags["web.enable-admin-api"], "true");
    const runtime = await client.statusRuntimeInfo();
    for (const key of ["startTime", "CWD", "reloadConfigSuccess", "lastConfigTime", "goroutineCount", "GOMAXPROCS", "storageRetention"]) {
      assert.ok(key in runtime, key);
    }
    const build = await client.statusBuildinfo();
    assert.match(build.version, /^3\./);
    const tsdb = await client.statusTSDB();
    assert.ok(tsdb.headStats.numSeries > 50);
    return [jobs, rules.map((group) => group.name), Object.keys(tsdb)];
  };
}

checks["prometheus-query: admin"] = async ({ base }) => {
  const client = new PrometheusDriver({ endpoint: base, baseURL: "/api/v1" });
  const snapshot = await client.adminSnapshot(true);
  assert.match(snapshot.name, /^\d{8}T\d{6}Z-[0-9a-f]{16}$/);
  // The others it calls failed whenever there is no body, which is how they succeed.
};

for (const httpMethod of ["GET", "POST"]) {
  checks[`codemirror-promql by ${httpMethod}`] = async ({ base }) => {
    const errors = [];
    const client = new HTTPPrometheusClient({ url: base, httpMethod, httpErrorHandler: (error) => errors.push(error) });
    const metrics = await client.metricNames();
    assert.ok(metrics.includes("http_requests_total") && metrics.includes("utf8.requests"), String(metrics));
    const labels = await client.labelNames("queue_length");
    const values = await client.labelValues("code", "http_requests_total");
    const matched = await client.labelValues("method", "http_requests_total", [{ type: 57, name: "code", value: "404", matchesEmpty: () => false }]);
    const metadata = await client.metricMetadata();
    const series = await client.series("queue_length", [], "queue");
    const flags = await client.flags();
    assert.deepEqual(errors, []);
    assert.deepEqual(labels, ["__name__", "instance", "job", "queue"]);
    assert.deepEqual(values, ["200", "404", "500"]);
    assert.ok(matched.includes("get"));
    assert.equal(metadata.room_celsius[0].help, "Temperature of a room.");
    assert.equal(typeof flags["web.route-prefix"], "string");
    client.destroy();
    return [labels, values, matched, series.map((one) => JSON.stringify(one)).sort()];
  };
}

// What was scraped of each exporter: values, types, exemplars.
for (const exporter of settings.exporters) {
  const job = exporter.replace("/", "-");
  checks[`scraped from ${job}`] = async ({ base }) => {
    const ask = async (what, parameters) => {
      const response = await fetch(`${base}/api/v1/${what}?${new URLSearchParams(parameters)}`);
      const body = await response.json();
      assert.equal(body.status, "success", JSON.stringify(body));
      return body.data;
    };
    // Times of creation are the exporter's own, and the same everywhere; those of the scrape are not.
    const { result } = await ask("query", { query: `{job="${job}",__name__!~"up|scrape_.*"}` });
    const values = result.map((one) => [one.metric, one.value?.[1] ?? one.histogram[1]]);
    assert.ok(values.length >= 15, JSON.stringify(values));
    const now = Date.now() / 1000;
    const exemplars = await ask("query_exemplars", { query: `{job="${job}"}`, start: now - 3600, end: now + 60 });
    if (exporter.endsWith("/openmetrics")) assert.ok(exemplars.length >= 4, JSON.stringify(exemplars));
    const metadata = await ask("targets/metadata", { match_target: `{job="${job}"}` });
    assert.ok(metadata.length >= 4, JSON.stringify(metadata));
    const { result: up } = await ask("query", { query: `up{job="${job}"}` });
    assert.equal(up[0].value[1], "1");
    const text = (one) => JSON.stringify(one);
    return [
      values.map(text).sort(),
      exemplars.map(text).sort(),
      metadata.map(({ metric, type, help, unit }) => text([metric, type, help, unit])).sort(),
    ];
  };
}

for (const [check, run] of Object.entries(checks)) {
  const places = settings.servers.flatMap((server) => [server.plain, server.prefixed].map((base) => ({ base, name: server.name })));
  const outcomes = await Promise.all(
    places.map(async (place) => {
      try {
        return { ...place, value: await run(place) };
      } catch (error) {
        return { ...place, why: (error.stack ?? String(error)).slice(0, 1500) };
      }
    }),
  );
  const [expected] = outcomes;
  for (const outcome of outcomes) {
    if (outcome.why === undefined && expected.why === undefined) {
      try {
        assert.deepEqual(outcome.value, expected.value);
      } catch (error) {
        outcome.why = `not as that of ${expected.name}: ${error.message.slice(0, 1500)}`;
      }
    }
    console.log(
      JSON.stringify({ check, server: outcome.name, at: outcome.base, outcome: outcome.why === undefined ? "pass" : "fail", why: outcome.why ?? "" }),
    );
  }
}
process.exit(0);
