// A link from Grafana to the page of the server, in Chromium; and what only Ferula has.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";

import { check, status } from "../check";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);

check("G70", "P", "a link to a graph", async (room) => {
  if (CHROMIUM === undefined) room.skip("no Chromium here");
  const page = await room.get("/query");
  if (!room.isOurs && page.status !== 200) room.skip("this Prometheus was built without its page");
  status(page, 200);
  if (!/<script/.test(page.text)) room.skip("Ferula was built without its page (`make ui`)");
  const home = mkdtempSync(path.join(tmpdir(), "clients-"));
  try {
    const { stdout } = await promisify(execFile)(
      CHROMIUM,
      [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        `--user-data-dir=${home}`,
        "--virtual-time-budget=5000",
        "--dump-dom",
        `${room.base}/query?g0.expr=up&g0.tab=0&g0.range_input=1h`,
      ],
      { timeout: 30_000, maxBuffer: 1 << 24 },
    );
    assert.match(stdout, /class="[^"]*uplot/, stdout.slice(0, 2000));
    assert.match(stdout, /1h/);
    assert.match(stdout, /up\b/);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});

check("G68", "C", "which dashboard and panel a query is for", async (room) => {
  if (!room.isOurs) room.skip("Prometheus does not keep who asks");
  const headers = { "X-Dashboard-Uid": `board${room.prefix.length}`, "X-Panel-Id": "7" };
  const query = "count(http_requests_total) + 68";
  status(await room.get("/api/v1/query", { query, time: room.time }, { headers }), 200);
  const { queries } = await room.data("/api/v1/status/top_queries", { sort_by: "last_time", limit: 1000 });
  const found = queries.find((one: { query: string }) => one.query.includes("+ 68"));
  assert.ok(found !== undefined, JSON.stringify(queries).slice(0, 1000));
  const shown = JSON.stringify(found.shownIn);
  assert.ok(shown.includes(headers["X-Dashboard-Uid"]) && shown.includes('"7"'), JSON.stringify(found));
  assert.ok(found.count >= 1 && found.totalTime > 0, JSON.stringify(found));
});
