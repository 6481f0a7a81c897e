// The search API: answers as lines, errors, and clients that go away.

import assert from "node:assert/strict";
import http from "node:http";

import { type Room, check, failure, status } from "../check";
import { type Answer, type Parameters, form, withParameters } from "../http";

interface Line {
  results?: Record<string, unknown>[];
  warnings?: string[];
  status?: string;
  has_more?: boolean;
  error?: string;
}

/** Lines of results and, last, the one that says how it ended. */
function lines(answer: Answer): [Line[], Line] {
  status(answer, 200);
  assert.match(answer.headers["content-type"] ?? "", /^application\/x-ndjson; ?charset=utf-8$/i);
  const all = answer.text.trimEnd().split("\n").map((line) => JSON.parse(line) as Line);
  const last = all.pop()!;
  assert.equal(last.status, "success", answer.text.slice(-300));
  assert.equal(typeof last.has_more, "boolean");
  assert.ok(all.length >= 1, "there is a line of results, be it empty");
  for (const line of all) assert.ok(Array.isArray(line.results), JSON.stringify(line).slice(0, 200));
  return [all, last];
}

function search(room: Room, what: string, parameters: Parameters = {}): Promise<Answer> {
  room.since("3.14", "search API");
  return room.get(`/api/v1/search/${what}`, parameters);
}

check("G42", "C", "names of metrics without a term", async (room) => {
  const [all] = lines(await search(room, "metric_names"));
  const names = all.flatMap((line) => line.results!.map((result) => result.name));
  assert.ok(names.length > 0 && names.length <= 100);
  const [labels] = lines(await search(room, "label_names", { "match[]": "queue_length", limit: 10000 }));
  assert.deepEqual(labels.flatMap((line) => line.results!.map((result) => result.name)), ["__name__", "instance", "job", "queue"]);
  const [values] = lines(await search(room, "label_values", { label: "room", limit: 10000 }));
  assert.deepEqual(values.flatMap((line) => line.results), ["attic", "cellar", "hall", "kitchen", "loft", "yard"].map((value) => ({ value })));
});

check("G43", "C", "names of metrics by score", async (room) => {
  const parameters = {
    "search[]": "cpu",
    sort_by: "score",
    fuzz_threshold: 80,
    fuzz_alg: "jarowinkler",
    case_sensitive: "false",
    limit: 10000,
    batch_size: 100,
  };
  lines(await search(room, "metric_names", parameters));
  const [all] = lines(await search(room, "metric_names", { ...parameters, include_score: "true", include_metadata: "true" }));
  for (const line of all) assert.ok(line.results!.length <= 100);
  const results = all.flatMap((line) => line.results!);
  assert.ok(results.some((result) => result.name === "node_cpu_seconds_total"), JSON.stringify(results));
  const scores = results.map((result) => result.score as number);
  for (const [i, score] of scores.entries()) assert.ok(typeof score === "number" && (i === 0 || score <= scores[i - 1]!), String(scores));
  const ofTheData = ["node_cpu_seconds_total", "process_cpu_seconds_total"];
  room.same("scores", results.filter((result) => ofTheData.includes(result.name as string)).map((result) => [result.name, result.score]));
});

check("G44", "C", "searches that are refused", async (room) => {
  const wrong: [string, Parameters][] = [
    ["limit above the most", { limit: 10001 }],
    ["limit of nothing", { limit: 0 }],
    ["33 terms", Array.from({ length: 33 }, (_, i): [string, string] => ["search[]", `t${i}`])],
    ["score without a term", { sort_by: "score" }],
    ["end before start", { start: room.time, end: room.time - 10 }],
  ];
  for (const [name, parameters] of wrong) {
    const answer = await search(room, "metric_names", parameters);
    failure(answer, 400, "bad_data");
    room.same(name, answer.text);
  }
});

check("G45", "C", "a client that goes away after the first line, and before it", async (room) => {
  room.since("3.14", "search API");
  const url = withParameters(`${room.base}/api/v1/search/metric_names`, { limit: 10000, batch_size: 1 });
  const before = await served(room);
  await new Promise<void>((resolve, reject) => {
    const request = http.get(url, { agent: false }, (response) => {
      response.once("data", (part: Buffer) => {
        response.destroy();
        if (part.toString().startsWith('{"results":')) resolve();
        else reject(new Error(`the first line is ${part.toString().slice(0, 100)}`));
      });
      response.on("error", () => undefined);
    });
    request.on("error", reject);
  });
  // The request is over for the server as well, and it goes on answering.
  for (let i = 0; ; i++) {
    if ((await served(room)) > before) break;
    assert.ok(i < 100, "the search goes on without its client");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  lines(await search(room, "metric_names"));
  // Prometheus does not tell whether a search went on to its end; nor whether it was given up.
  if (!room.isOurs) return;
  const abandonedBefore = await abandoned(room);
  for (let attempt = 1; (await abandoned(room)) === abandonedBefore; attempt++) {
    assert.ok(attempt <= 40, "no search is given up whose client goes away before the first line");
    // Who leaves too soon has not asked yet, and who leaves too late has its answer.
    await leave(room, (attempt % 10) * 10);
  }
});

/** Asks for a search that takes long, and goes away after some time unless there is an answer before. */
async function leave(room: Room, ms: number): Promise<void> {
  const terms = Array.from({ length: 32 }, (_, i): [string, string] => ["search[]", "~".repeat(1000) + i]);
  const body = form([...terms, ["fuzz_alg", "jarowinkler"], ["fuzz_threshold", "90"], ["sort_by", "score"]]);
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  await new Promise<void>((resolve) => {
    const request = http.request(`${room.base}/api/v1/search/metric_names`, { method: "POST", agent: false, headers });
    request.on("close", resolve);
    request.on("error", () => undefined);
    request.on("response", () => request.destroy());
    request.end(body, () => setTimeout(() => request.destroy(), ms));
  });
  // What the server does about it is not there at once.
  await new Promise((resolve) => setTimeout(resolve, 50));
}

async function metric(room: Room, line: RegExp): Promise<number> {
  const { text } = await room.get("/metrics");
  return Number(line.exec(text)?.[1] ?? 0);
}

/** How many searches of names have ended. */
function served(room: Room): Promise<number> {
  return metric(room, /^prometheus_http_request_duration_seconds_count\{handler="[^"]*search\/metric_names"\} (\S+)$/m);
}

/** How many searches ended because their clients went away. */
function abandoned(room: Room): Promise<number> {
  return metric(room, /^ferula_api_searches_abandoned_total (\S+)$/m);
}
