// Queries as Grafana sends them: forms, parameters in body and URL, times and steps, errors, what answers look like.

import assert from "node:assert/strict";

import { check, failure, status } from "../check";
import * as promlib from "../promlib";
import { Answer, type Parameters, withParameters } from "../http";

/** Queries that take a while, wherever: seconds, and some tenths of one. */
const SLOW = "quantile_over_time(0.5, sin(vector(time()))[20m:1ms])";
const BUSY = "count_over_time(vector(1)[40m:1ms])";

check("G01", "C", "the query of Save & test", async (room) => {
  const answer = await room.post("/api/v1/query", { query: "1+1", time: 4 });
  status(answer, 200);
  assert.equal(answer.text, '{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}');
  room.same("answer", answer.text);
});

check("G08", "C", "prometheus_build_info, asked when buildinfo fails", async (room) => {
  const answer = await room.get("/api/v1/query", { query: "prometheus_build_info" });
  status(answer, 200);
  const { resultType, result } = answer.json.data;
  assert.equal(resultType, "vector");
  assert.ok(result.length > 0 && result.every((one: promlib.Series) => typeof one.metric.version === "string"), answer.text);
});

check("G10", "C", "the probe for exemplars, with milliseconds for seconds", async (room) => {
  const parameters = { query: "test", start: 1763700000000, end: 1763701800000 };
  for (const answer of [await room.get("/api/v1/query_exemplars", parameters), await room.post("/api/v1/query_exemplars", parameters)]) {
    status(answer, 200);
    assert.equal(answer.text, '{"status":"success","data":[]}');
  }
});

check("G11", "C", "exemplars: series before exemplars, three keys each", async (room) => {
  const { begin, end } = room.settings;
  for (const query of ["request_duration_seconds_bucket", "rpc_duration_seconds"]) {
    const answer = await room.get("/api/v1/query_exemplars", { query, start: begin, end: end + 1 });
    status(answer, 200);
    assert.ok(answer.json.data.length > 0, answer.text);
    for (const series of answer.json.data) {
      assert.deepEqual(Object.keys(series), ["seriesLabels", "exemplars"]);
      for (const exemplar of series.exemplars) {
        assert.deepEqual(Object.keys(exemplar), ["labels", "value", "timestamp"]);
        assert.deepEqual([typeof exemplar.value, typeof exemplar.timestamp], ["string", "number"]);
      }
    }
    promlib.exemplars(answer);
    room.same(query, answer.json.data);
  }
});

check("G12", "C", "a range by POST with more in the URL", async (room) => {
  const parameters = { query: "http_requests_total", start: room.time, end: room.time + 60, step: 15 };
  const answer = await room.post("/api/v1/query_range?timeout=30s&dedup=true&partial_response=true", parameters);
  status(answer, 200);
  assert.equal(answer.json.data.result.length, 12);
  room.same("answer", answer.text);
});

check("G13", "C", "the query in the URL alone and an empty form", async (room) => {
  const answer = await room.post(withParameters("/api/v1/query", { query: "up" }));
  status(answer, 200);
  assert.equal(answer.json.data.resultType, "vector");
  assert.ok(answer.json.data.result.length > 0, answer.text);
});

check("G14", "C", "the body wins over the URL", async (room) => {
  const answer = await room.post("/api/v1/query?query=1&time=4", { query: "2" });
  status(answer, 200);
  assert.equal(answer.text, '{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}');
});

check("G15", "C", "11,000 steps and no more", async (room) => {
  const range = (steps: number) =>
    room.get("/api/v1/query_range", { query: "vector(1)", start: room.time, end: room.time + steps, step: 1 });
  const full = await range(11_000);
  status(full, 200);
  assert.equal(full.json.data.result[0].values.length, 11_001);
  const over = await range(11_001);
  failure(over, 400, "bad_data", /11,000/);
  room.same("error", over.text);
});

check("G16", "C", "steps and times in every form", async (room) => {
  for (const step of ["0.5", "15", "1h30m"]) {
    const answer = await room.range("time()", { end: room.time + 5, step });
    status(answer, 200);
    room.same(`step ${step}`, answer.text);
  }
  for (const [time, shown] of [
    ["1435781430.781", 1435781430.781],
    ["2015-07-01T20:10:30.781Z", 1435781430.781],
    ["2015-07-01T22:10:30.781+02:00", 1435781430.781],
    ["4", 4],
  ] as const) {
    const answer = await room.get("/api/v1/query", { query: "time()", time });
    status(answer, 200);
    assert.deepEqual(answer.json.data.result, [shown, String(shown)]);
    room.same(`time ${time}`, answer.text);
  }
});

check("G17", "C", "a query that cannot be read", async (room) => {
  const answer = await room.query("rate(up)");
  failure(answer, 400, "bad_data", /1:6: parse error/);
  room.same("error", answer.text);
});

check("G18", "C", "a query that fails as it runs", async (room) => {
  const answer = await room.query('http_requests_total{code="500"} * on(job) http_requests_total{code="500"}');
  failure(answer, 422, "execution", /many-to-many|duplicate series/);
});

check("G19", "C", "a query over its time", async (room) => {
  const answer = await room.range(SLOW, { timeout: "100ms" });
  failure(answer, 503, "timeout", /query timed out/);
});

check(
  "G20",
  "C",
  "a query that waits for others too long",
  async (room) => {
    const basic = Buffer.from(`${room.server.user}:${room.server.password}`).toString("base64");
    const headers = { Authorization: `Basic ${basic}` };
    const ask = (parameters: Parameters) => room.get("/api/v1/query", parameters, { headers });
    // One at a time runs, the others wait.
    const busy = [1, 2, 3, 4, 5, 6].map(() => ask({ query: BUSY, time: room.time }));
    for (let i = 0; ; i++) {
      const { text } = await room.get("/metrics", {}, { headers });
      if (Number(/^prometheus_engine_queries (\S+)$/m.exec(text)?.[1]) >= 1) break;
      assert.ok(i < 200, "no query is being executed");
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const late = await ask({ query: "vector(1)", timeout: "5ms" });
    for (const answer of await Promise.all(busy)) status(answer, 200);
    // Prometheus waits for a place in the list of running queries before it has a queue, and calls that a bad query.
    if (!room.isOurs && late.status === 400) failure(late, 400, "bad_data", /context deadline exceeded/);
    else failure(late, 503, "timeout", /query timed out in query queue/);
  },
  "bare",
);

check("G21", "S", "every answer so far stands up to a strict reader", (room) => {
  assert.ok(room.answers.length >= 40, `only ${room.answers.length} answers`);
  for (const answer of room.answers) promlib.read(answer);
});

check("G22", "C", "stats=all, after the result", async (room) => {
  for (const answer of [await room.query("sum(http_requests_total)", { stats: "all" }), await room.range("sum(http_requests_total)", { stats: "all" })]) {
    status(answer, 200);
    const keys = Object.keys(answer.json.data);
    assert.deepEqual(keys, ["resultType", "result", "stats"]);
    const { timings, samples } = answer.json.data.stats;
    for (const key of ["evalTotalTime", "resultSortTime", "queryPreparationTime", "innerEvalTime", "execQueueTime", "execTotalTime"]) {
      assert.equal(typeof timings[key], "number", key);
    }
    assert.ok(samples.totalQueryableSamples > 0 && samples.peakSamples > 0, answer.text);
    const steps = samples.totalQueryableSamplesPerStep;
    assert.ok(Array.isArray(steps) && steps.length > 0, answer.text);
    const total = steps.reduce((sum: number, [, n]: [number, number]) => sum + n, 0);
    assert.equal(total, samples.totalQueryableSamples);
    room.same(answer.url.includes("range") ? "range" : "instant", {
      keys: Object.keys(timings),
      total: samples.totalQueryableSamples,
      steps,
    });
  }
});

check("G23", "C", "a threshold of samples", async (room) => {
  const answer = await room.query("sum(http_requests_total)", { max_samples_processed_warning_threshold: 1 });
  status(answer, 200);
  assert.equal(answer.json.data.result.length, 1);
  const { warnings } = answer.json;
  assert.ok(warnings === undefined || warnings.every((text: unknown) => typeof text === "string"), answer.text);
});

check("G24", "C", "odd values", async (room) => {
  const answer = await room.query("room_celsius");
  const shown = answer.json.data.result.map((one: promlib.Series) => [one.metric.room, one.value![1]]);
  assert.deepEqual(Object.fromEntries(shown), {
    attic: "1e-310",
    cellar: "NaN",
    hall: "-0",
    kitchen: "+Inf",
    loft: "-Inf",
    yard: "0.1",
  });
  room.same("answer", answer.text);
  room.same("range", (await room.range("room_celsius")).text);
});

check("G25", "C", "rate of what is no counter by its name", async (room) => {
  const answer = await room.query("rate(queue_length[5m])");
  status(answer, 200);
  assert.match(answer.json.infos[0], /^PromQL info: metric might not be a counter/);
  assert.equal(answer.json.warnings, undefined);
  room.same("infos", answer.json.infos);
});

check("G26", "C", "native histograms", async (room) => {
  const [instant, range] = [await room.query("rpc_duration_seconds"), await room.range("rate(rpc_duration_seconds[1m])")];
  const histograms = [instant.json.data.result[0].histogram, ...range.json.data.result[0].histograms];
  for (const [time, histogram] of histograms) {
    assert.equal(typeof time, "number");
    assert.deepEqual([typeof histogram.count, typeof histogram.sum], ["string", "string"]);
    assert.ok(histogram.buckets.length >= 6);
    for (const bucket of histogram.buckets) {
      assert.equal(bucket.length, 4);
      assert.ok([0, 1, 2, 3].includes(bucket[0]), bucket);
      assert.deepEqual(bucket.slice(1).map((part: unknown) => typeof part), ["string", "string", "string"]);
    }
  }
  room.same("instant", instant.text);
  room.same("range", range.text);
});

check("G27", "S", "native histograms as cells of a heatmap", async (room) => {
  const [frame] = promlib.frames(promlib.read(await room.range("rate(rpc_duration_seconds[1m])")), "A");
  assert.equal(frame!.schema.meta.type, "heatmap-cells");
  assert.deepEqual(frame!.schema.fields.map((field) => field.name), ["xMax", "yMin", "yMax", "count", "yLayout"]);
  const lengths = frame!.data.values.map((column) => column.length);
  assert.ok(lengths[0]! > 100 && lengths.every((length) => length === lengths[0]), String(lengths));
  room.same("frame", frame!.data.values);
});

check("G66", "S", "two overlapping ranges are one", async (room) => {
  const query = "sum by (code) (rate(http_requests_total[1m]))";
  const series = async (start: number, end: number) => promlib.read(await room.range(query, { start, end, step: 15 }));
  const { time } = room;
  const whole = await series(time, time + 900);
  const [before, after] = [await series(time, time + 600), await series(time + 300, time + 900)];
  const merged = promlib.merge(before, after);
  assert.deepEqual(promlib.frames(merged, "A"), promlib.frames(whole, "A"));
});

check("G67", "C", "ten panels at once, each with three requests", async (room) => {
  const panels = Array.from({ length: 10 }, (_, i) => `sum by (code) (rate(http_requests_total[${i + 1}m]))`);
  const answers = await Promise.all(
    panels.flatMap((query) => [
      room.query(query),
      room.range(query),
      room.get("/api/v1/query_exemplars", { query, start: room.time, end: room.time + 600 }),
    ]),
  );
  for (const answer of answers) status(answer, 200);
  room.same("answers", answers.map((answer) => answer.json));
});

check("strict", "S", "the strict reader refuses what Grafana would complain of", (room) => {
  const answer = (body: string, status = 200) =>
    new Answer(room.base, status, { "content-type": "application/json" }, Buffer.from(body));
  const vector = (result: string) => answer(`{"status":"success","data":{"resultType":"vector","result":[${result}]}}`);
  promlib.read(vector('{"metric":{"a":"b"},"value":[1.5,"-Inf"]}'));
  const wrong = [
    vector('{"metric":{},"value":["1","2"]}'),
    vector('{"metric":{},"value":[1,2]}'),
    vector('{"metric":{},"value":[1,"Inf"]}'),
    vector('{"metric":{},"value":[1.00001,"1"]}'),
    vector('{"metric":{"a":1},"value":[1,"1"]}'),
    vector('{"metric":{}}'),
    vector('{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,"1","2"]]}]}'),
    vector('{"metric":{},"histogram":[1,{"count":"1","sum":"1","buckets":[[0,1,"2","1"]]}]}'),
    answer('{"status":"success","data":{"result":[4,"2"],"resultType":"scalar"}}'),
    answer('{"status":"success","data":{"resultType":"scalar","stats":{},"result":[4,"2"]}}'),
    answer('{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[2,"1"],[1,"1"]]}]}}'),
    answer('{"status":"error","errorType":"timeout","error":"x"}', 429),
  ];
  for (const one of wrong) assert.throws(() => promlib.read(one), undefined, one.text);
  const exemplar = (more: string) =>
    answer(`{"status":"success","data":[{"seriesLabels":{},"exemplars":[{"labels":{},"value":"1","timestamp":1${more}}]}]}`);
  promlib.exemplars(exemplar(""));
  assert.throws(() => promlib.exemplars(exemplar(',"traceId":"1"')));
});
