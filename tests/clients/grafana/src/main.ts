// Runs every check against every server, and says what came out, a line of JSON for each.

import "./page"; // First: what the data source takes for a browser must be there when it is loaded.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { inspect } from "node:util";

import { type Check, Compared, Room, type ServerSettings, type Settings, Skipped, checks } from "./check";
import type { Answer } from "./http";

import "./checks/queries";
import "./checks/names";
import "./checks/search";
import "./checks/transport";
import "./checks/rules";
import "./checks/alertmanager";
import "./checks/writing";
import "./checks/source";
import "./checks/browser";

interface Outcome {
  check: string;
  kind: string;
  about: string;
  server: string;
  at: string;
  outcome: "pass" | "fail" | "skip";
  why: string;
}

function bases(check: Check, server: ServerSettings): string[] {
  switch (check.place) {
    case "everywhere":
      return [server.plain, server.prefixed];
    case "plain":
      return [server.plain];
    case "bare":
      return [server.bare];
    case "alertmanager":
      return [server.alertmanager ?? ""];
  }
}

/** What differs from the reference server's, which comes first. */
function compare(compared: Compared): Map<string, string> {
  const failures = new Map<string, string>();
  for (const [name, said] of compared.said) {
    const inOrder = [...said].toSorted(([a], [b]) => b.localeCompare(a));
    const [[first, expected], ...others] = inOrder as [[string, unknown], ...[string, unknown][]];
    for (const [where, value] of others) {
      try {
        assert.deepStrictEqual(value, expected);
      } catch (error) {
        failures.set(where, `${name} is not as that of ${first}: ${(error as Error).message.slice(0, 1500)}`);
      }
    }
  }
  return failures;
}

async function run(check: Check, settings: Settings, answers: Map<string, Answer[]>): Promise<Outcome[]> {
  const compared = new Compared();
  const rooms = settings.servers.flatMap((server) =>
    bases(check, server).map((base) => new Room(check, server, base, settings, compared, answers.get(server.name)!)),
  );
  const outcomes = await Promise.all(
    rooms.map(async (room): Promise<Outcome> => {
      const about = { check: check.name, kind: check.kind, about: check.about, server: room.server.name, at: room.base };
      try {
        if (room.base === "") room.skip("no Alertmanager that runs here");
        await check.run(room);
        return { ...about, outcome: "pass", why: "" };
      } catch (error) {
        if (error instanceof Skipped) return { ...about, outcome: "skip", why: error.message };
        const why = error instanceof Error ? (error.stack ?? error.message) : inspect(error);
        return { ...about, outcome: "fail", why: why.slice(0, 2000) };
      }
    }),
  );
  const differences = compare(compared);
  for (const outcome of outcomes) {
    const difference = differences.get(`${outcome.server} at ${outcome.at}`);
    if (outcome.outcome === "pass" && difference !== undefined) {
      outcome.outcome = "fail";
      outcome.why = difference;
    }
  }
  return outcomes;
}

async function main(): Promise<void> {
  const settings = JSON.parse(readFileSync(process.argv[3]!, "utf8")) as Settings;
  const wanted = process.argv.slice(4);
  const answers = new Map(settings.servers.map((server) => [server.name, [] as Answer[]]));
  for (const check of checks) {
    if (wanted.length > 0 && !wanted.includes(check.name)) continue;
    const start = performance.now();
    for (const outcome of await run(check, settings, answers)) {
      process.stdout.write(`${JSON.stringify({ ...outcome, ms: Math.round(performance.now() - start) })}\n`);
    }
  }
}

main().then(
  // Connections that are kept would keep the process.
  () => process.exit(0),
  (error) => {
    process.stderr.write(`${inspect(error)}\n`);
    process.exit(1);
  },
);
