import { expect, test } from "vitest";
import type { Discovery } from "./api";
import { failing } from "./discovery";

const now = Date.parse("2026-01-01T01:00:00Z");
const never = "0001-01-01T00:00:00Z";
const well: Discovery = {
  job: "node",
  manager: "scrape",
  mechanism: "static",
  targets: 2,
  lastError: "",
  failingSince: never,
  lastUpdate: "2026-01-01T00:59:00Z",
};

test("what is well is not listed", () => {
  expect(failing([], now)).toEqual([]);
  expect(failing([well, { ...well, mechanism: "http" }], now)).toEqual([]);
});

test("what fails longest comes first, with what it still has", () => {
  const late = { ...well, job: "a", mechanism: "http", targets: 1, lastError: "refused", failingSince: "2026-01-01T00:58:30Z" };
  const early = {
    ...well,
    job: "b",
    mechanism: "ec2",
    targets: 0,
    lastError: "not built in",
    failingSince: "2026-01-01T00:00:00Z",
    lastUpdate: never,
  };
  expect(failing([late, well, early], now)).toEqual([
    { key: "scrape b 2", job: "b", text: "ec2, failing since 1h ago, no targets, last update never", error: "not built in" },
    { key: "scrape a 0", job: "a", text: "http, failing since 1m 30s ago, 1 target, last update 1m ago", error: "refused" },
  ]);
});
