// What lies below the API: encodings, methods, origins, passwords, old addresses, slow readers.

import assert from "node:assert/strict";
import http from "node:http";

import { type Room, check, failure, status } from "../check";
import { withParameters } from "../http";

check("G48", "C", "what a browser can read", async (room) => {
  const answer = await room.range("http_requests_total", {});
  const packed = await room.get(
    "/api/v1/query_range",
    { query: "http_requests_total", start: room.time, end: room.time + 600, step: 15 },
    { headers: { "Accept-Encoding": "gzip, deflate, br, zstd" } },
  );
  status(packed, 200);
  assert.equal(packed.encoding, "gzip");
  assert.equal(packed.text, answer.text);
  if (room.isOurs || room.server.version.startsWith("3.14")) assert.match(packed.headers.vary ?? "", /accept-encoding/i);
});

check("G49", "C", "zstd alone, and nothing", async (room) => {
  const zstd = await room.get("/api/v1/labels", {}, { headers: { "Accept-Encoding": "zstd" } });
  status(zstd, 200);
  assert.ok(["zstd", "identity"].includes(zstd.encoding), zstd.encoding);
  const none = await room.get("/api/v1/labels");
  assert.equal(none.encoding, "identity");
});

check("G50", "C", "HEAD, OPTIONS and another origin", async (room) => {
  const headers = { Origin: "http://grafana.example" };
  const known = ["access-control-allow-headers", "access-control-allow-methods", "access-control-allow-origin", "access-control-expose-headers", "allow"];
  for (const method of ["GET", "HEAD", "OPTIONS"]) {
    const answer = await room.get("/api/v1/query", { query: "1", time: 4 }, { method, headers });
    room.same(method, [answer.status, known.map((name) => answer.headers[name])]);
    if (method !== "HEAD") assert.equal(answer.headers["access-control-allow-origin"], "http://grafana.example");
  }
});

check(
  "G64",
  "C",
  "a password",
  async (room) => {
    const query = { query: "1", time: 4 };
    const basic = (password: string) => ({
      headers: { Authorization: `Basic ${Buffer.from(`${room.server.user}:${password}`).toString("base64")}` },
    });
    for (const how of [basic("wrong"), {}]) {
      const answer = await room.get("/api/v1/query", query, how);
      status(answer, 401);
      assert.match(answer.headers["www-authenticate"] ?? "", /^Basic/);
      room.same("401", [answer.text, answer.headers["www-authenticate"]]);
    }
    status(await room.get("/api/v1/query", query, basic(room.server.password)), 200);
  },
  "bare",
);

check("G69", "C", "old addresses of pages", async (room) => {
  for (const [from, to] of [
    ["/", "/query"],
    ["/graph?g0.expr=up&g0.tab=1", "/query?g0.expr=up&g0.tab=1"],
  ]) {
    const answer = await room.get(from!);
    status(answer, 302);
    const location = new URL(answer.headers.location!, room.base);
    // Where the path is known from the outside --web.external-url says, not --web.route-prefix.
    assert.equal(location.pathname + location.search, to);
  }
});

/** Bytes of memory that the server has. */
async function memory(room: Room): Promise<number> {
  const { text } = await room.get("/metrics");
  return Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)![1]);
}

check(
  "G72",
  "C",
  "a client that reads 3 MB slowly",
  async (room) => {
    const span = { start: room.settings.begin, end: room.settings.begin + 3000, step: 0.3 };
    const url = withParameters(`${room.base}/api/v1/query_range`, { query: "http_requests_total", ...span });
    const before = await memory(room);
    let highest = before;
    let isRead = false;
    const reading = new Promise<number>((resolve, reject) => {
      const request = http.get(url, { agent: false }, (response) => {
        let n = 0;
        response.on("data", (part: Buffer) => {
          n += part.length;
          response.pause();
          setTimeout(() => response.resume(), 10);
        });
        response.on("end", () => resolve(n));
        response.on("error", reject);
      });
      request.on("error", reject);
    }).finally(() => (isRead = true));
    const watching = (async () => {
      for (let n = 1; ; n++) {
        highest = Math.max(highest, await memory(room));
        if (isRead) return n;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    const [length, looks] = await Promise.all([reading, watching]);
    assert.ok(looks >= 3, `memory was looked at ${looks} times`);
    assert.ok(length > 2_000_000, `${length} bytes`);
    assert.ok(highest - before < 64e6, `memory went from ${before} to ${highest} for ${length} bytes`);
  },
  "plain",
);

check("methods", "C", "methods that are none of ours", async (room) => {
  const answer = await room.get("/api/v1/query", { query: "1" }, { method: "DELETE" });
  assert.equal(answer.status, 405);
  failure(await room.get("/api/v1/query", {}), 400, "bad_data");
});
