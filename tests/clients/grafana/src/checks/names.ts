// Names, values, series and metadata: what the editor and variables are filled with, and how the server introduces itself.

import assert from "node:assert/strict";

import { check, failure, status } from "../check";

check("G03", "C", "who is there", async (room) => {
  const answer = await room.get("/api/v1/status/buildinfo");
  status(answer, 200);
  const { data } = answer.json;
  for (const key of ["version", "revision", "branch", "buildUser", "buildDate", "goVersion"]) {
    assert.equal(typeof data[key], "string", key);
  }
  assert.equal(data.features, undefined);
  const found = /^(\d+)\.(\d+)\.(\d+)/.exec(data.version);
  assert.ok(found !== null && found[1] === "3", data.version);
});

check("G04", "C", "the same by POST", async (room) => {
  const [answer, by_get] = [await room.post("/api/v1/status/buildinfo"), await room.get("/api/v1/status/buildinfo")];
  assert.ok([200, 405].includes(answer.status), String(answer.status));
  if (answer.status === 200) assert.equal(answer.text, by_get.text);
  room.same("status", answer.status);
});

check("G05", "C", "flags", async (room) => {
  const flags = await room.data("/api/v1/status/flags");
  assert.ok(Object.keys(flags).length > 20);
  for (const [name, value] of Object.entries(flags)) assert.equal(typeof value, "string", name);
});

check("G06", "C", "no ruler here", async (room) => {
  for (const path of ["/rules/test/test", "/config/v1/rules", "/api/ruler/x"]) {
    const answer = await room.get(path);
    status(answer, 404);
    assert.match(answer.text, /page not found/);
    assert.doesNotMatch(answer.headers["content-type"] ?? "", /html/);
  }
});

check("G07", "C", "no page for everything", async (room) => {
  for (const path of ["/nonexistent", "/api/v1/nonexistent"]) {
    const answer = await room.get(path);
    status(answer, 404);
    assert.doesNotMatch(answer.text, /<html/i);
    room.same(path, answer.text);
  }
});

check("G29", "C", "one value of many, and a warning", async (room) => {
  const answer = await room.get("/api/v1/label/__name__/values", { limit: 1 });
  status(answer, 200);
  assert.equal(answer.json.data.length, 1);
  assert.deepEqual(answer.json.warnings, ["results truncated due to limit"]);
});

check("G30", "C", "no limit", async (room) => {
  const span = { start: room.settings.begin, end: room.settings.end };
  for (const path of ["/api/v1/labels", "/api/v1/label/code/values"]) {
    const [limited, all] = [await room.get(path, { limit: 0, ...span }), await room.get(path, span)];
    status(limited, 200);
    assert.equal(limited.text, all.text);
    assert.ok(all.json.data.length > 2);
  }
  const series = await room.get("/api/v1/series", { "match[]": "http_requests_total", limit: 0, ...span });
  status(series, 200);
  assert.equal(series.json.data.length, 12);
  assert.equal(series.json.warnings, undefined);
  room.same("series", series.text);
});

check("G31", "C", "no metadata at all", async (room) => {
  assert.deepEqual(await room.data("/api/v1/metadata", { limit: 0 }), {});
});

check("G32", "C", "metadata", async (room) => {
  const all = await room.data("/api/v1/metadata", { limit: 40000 });
  assert.ok(Object.keys(all).length > 20);
  for (const [name, entries] of Object.entries(all) as [string, Record<string, unknown>[]][]) {
    assert.ok(entries.length >= 1, name);
    for (const entry of entries) assert.deepEqual(Object.values(entry).map((part) => typeof part), ["string", "string", "string"], name);
    for (const entry of entries) assert.deepEqual(Object.keys(entry).sort(), ["help", "type", "unit"], name);
  }
  const names = ["http_requests", "http_requests_total", "node_cpu_seconds", "node_cpu_seconds_total", "room_celsius", "request_duration_seconds", "rpc_wait_seconds", "rpc_duration_seconds", "utf8.requests", "shop_orders", "shop_orders_total", "shop_wait_seconds"];
  room.same("metadata", names.map((name) => [name, sorted(all[name])]));
});

function sorted(entries: object[] | undefined): object[] | undefined {
  return entries?.toSorted((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
}

check("G33", "C", "metadata of one metric", async (room) => {
  const both = await room.data("/api/v1/metadata", { metric: "waiting" });
  assert.deepEqual(Object.keys(both), ["waiting"]);
  assert.deepEqual(sorted(both.waiting), [
    { type: "gauge", help: "Calls that wait.", unit: "" },
    { type: "gauge", help: "Who waits.", unit: "" },
  ]);
  const one = await room.data("/api/v1/metadata", { metric: "waiting", limit_per_metric: 1 });
  assert.deepEqual([Object.keys(one), one.waiting.length], [["waiting"], 1]);
});

check("G35", "C", "names of the labels of either of two", async (room) => {
  const span: [string, number][] = [["start", room.settings.begin], ["end", room.settings.end]];
  const answer = await room.post("/api/v1/labels", [["match[]", "queue_length"], ["match[]", "room_celsius"], ...span]);
  status(answer, 200);
  assert.deepEqual(answer.json.data, ["__name__", "instance", "job", "queue", "room"]);
});

check("G36", "C", "names of metrics that match", async (room) => {
  const names = await room.data("/api/v1/label/__name__/values", { "match[]": '{__name__=~".*cpu.*"}' });
  assert.ok(names.includes("node_cpu_seconds_total") && names.includes("process_cpu_seconds_total"), names);
  for (const name of names) assert.match(name, /cpu/);
});

check("G37", "C", "a label with a dot, escaped in either way", async (room) => {
  const escaped = await room.get("/api/v1/label/U__http_2e_status/values");
  const raw = await room.get("/api/v1/label/http%2Estatus/values");
  status(escaped, 200);
  status(raw, 200);
  assert.equal(escaped.text, '{"status":"success","data":["200","503"]}');
  assert.equal(raw.text, escaped.text);
  const absent = await room.get("/api/v1/label/U__http_2e_nothing/values");
  assert.equal(absent.text, '{"status":"success","data":[]}');
});

check("G38", "C", "names of labels that are none", async (room) => {
  const spaced = await room.get("/api/v1/label/a%20b/values");
  assert.ok([200, 400].includes(spaced.status), String(spaced.status));
  room.same("a b", [spaced.status, spaced.text]);
  // Prometheus' router sends clients to the path without the empty part, which is none of the API's.
  let empty = await room.get("/api/v1/label//values");
  if (empty.status >= 300 && empty.status < 400) empty = await room.get(empty.headers.location!.replace(room.prefix, ""));
  assert.ok([400, 404].includes(empty.status), String(empty.status));
});

check("G39", "C", "series of a time without any", async (room) => {
  const answer = await room.get("/api/v1/series", { "match[]": "http_requests_total", start: 1000, end: 2000 });
  status(answer, 200);
  assert.equal(answer.text, '{"status":"success","data":[]}');
});

check("series", "C", "series without a selector", async (room) => {
  const answer = await room.get("/api/v1/series");
  failure(answer, 400, "bad_data", /no match\[\] parameter provided/);
  room.same("error", answer.text);
});
