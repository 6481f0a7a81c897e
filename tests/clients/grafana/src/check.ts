// What a check is, and the room it runs in: one server at one place.

import assert from "node:assert/strict";

import { type Answer, type Ask, type Parameters, ask, form, withParameters } from "./http";

export interface ServerSettings {
  name: "prometheus" | "ferula";
  version: string;
  plain: string;
  prefixed: string;
  bare: string;
  user: string;
  password: string;
  alertmanager: string | null;
}

export interface Settings {
  /** The samples with fixed times: from, to, distance, in seconds. */
  begin: number;
  end: number;
  step: number;
  servers: ServerSettings[];
}

/** C: requests alone. N: the data source. S: our reading of Grafana's server half. P: a page in Chromium. */
export type Kind = "C" | "N" | "S" | "P";

/** At the root and below a path; at the root alone; on the server with nothing switched on; on the Alertmanager. */
export type Place = "everywhere" | "plain" | "bare" | "alertmanager";

export class Skipped extends Error {}

export interface Check {
  name: string;
  kind: Kind;
  about: string;
  place: Place;
  run: (room: Room) => Promise<void> | void;
}

export const checks: Check[] = [];

export function check(name: string, kind: Kind, about: string, run: Check["run"], place?: Place): void {
  checks.push({ name, kind, about, run, place: place ?? (kind === "C" ? "everywhere" : "plain") });
}

/** What the servers say that must be the same, by check and name. */
export class Compared {
  readonly said = new Map<string, Map<string, unknown>>();

  add(name: string, where: string, value: unknown): void {
    const all = this.said.get(name) ?? new Map<string, unknown>();
    all.set(where, value);
    this.said.set(name, all);
  }
}

export class Room {
  constructor(
    readonly check: Check,
    readonly server: ServerSettings,
    /** Where the server answers, with the path it lies below. */
    readonly base: string,
    readonly settings: Settings,
    readonly compared: Compared,
    /** Answers of queries, for those who read them strictly. */
    readonly answers: Answer[],
  ) {}

  get isOurs(): boolean {
    return this.server.name === "ferula";
  }

  /** The path of the base. */
  get prefix(): string {
    return new URL(this.base).pathname.replace(/\/$/, "");
  }

  /** A moment within the samples with fixed times. */
  get time(): number {
    return this.settings.begin + 1800;
  }

  /** Skips for a Prometheus that is older than what the check is about. */
  since(version: string, reason: string): void {
    const parts = (text: string) => text.split(".").map((part) => parseInt(part, 10));
    const [have, need] = [parts(this.server.version), parts(version)];
    if (this.isOurs || have[0]! > need[0]! || (have[0] === need[0] && have[1]! >= need[1]!)) return;
    throw new Skipped(`${this.server.version} has no ${reason}, which came with ${version}`);
  }

  skip(why: string): never {
    throw new Skipped(why);
  }

  /** All servers must say the same here. */
  same(name: string, value: unknown): void {
    this.compared.add(name, `${this.server.name} at ${this.base}`, value);
  }

  private keep(answer: Answer): Answer {
    if (/\/api\/v1\/query(_range)?(\?|$)/.test(answer.url)) this.answers.push(answer);
    return answer;
  }

  async get(path: string, parameters: Parameters = {}, how: Ask = {}): Promise<Answer> {
    return this.keep(await ask(withParameters(this.base + path, parameters), how));
  }

  async post(path: string, parameters: Parameters = {}, how: Ask = {}): Promise<Answer> {
    const headers = { "Content-Type": "application/x-www-form-urlencoded", ...how.headers };
    return this.keep(await ask(this.base + path, { method: "POST", body: form(parameters), ...how, headers }));
  }

  /** The `data` of an answer that must be good. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  async data(path: string, parameters: Parameters = {}): Promise<any> {
    const answer = await this.get(path, parameters);
    status(answer, 200);
    assert.equal(answer.json.status, "success");
    return answer.json.data;
  }

  query(query: string, more: Record<string, string | number> = {}): Promise<Answer> {
    return this.get("/api/v1/query", { query, time: this.time, ...more });
  }

  range(query: string, more: Record<string, string | number> = {}): Promise<Answer> {
    return this.get("/api/v1/query_range", { query, start: this.time, end: this.time + 600, step: 15, ...more });
  }
}

export function status(answer: Answer, expected: number): void {
  if (answer.status !== expected) {
    assert.fail(`${answer.url} answers ${answer.status}, not ${expected}: ${answer.text.slice(0, 300)}`);
  }
}

/** An error as the API tells it. */
export function failure(answer: Answer, code: number, type: string, text?: RegExp): void {
  status(answer, code);
  assert.match(answer.headers["content-type"] ?? "", /^application\/json/);
  const body = answer.json;
  assert.deepEqual([body.status, body.errorType], ["error", type]);
  if (text !== undefined) assert.match(body.error, text);
}
