// The part of the HTTP API that the page uses, typed, and nothing about how it is shown.

import { type Matcher, formatMatchers } from "./matchers";

export type LabelSet = Record<string, string>;
export type Point = [time: number, value: string];

export interface VectorSample {
  metric: LabelSet;
  value: Point;
}

export interface Series {
  metric: LabelSet;
  values: Point[];
}

export type QueryData =
  | { resultType: "vector"; result: VectorSample[] }
  | { resultType: "matrix"; result: Series[] }
  | { resultType: "scalar" | "string"; result: Point };

export interface Answer<T> {
  data: T;
  warnings: string[];
  infos: string[];
}

export interface Target {
  labels: LabelSet;
  scrapePool: string;
  scrapeUrl: string;
  lastError: string;
  lastScrape: string;
  lastScrapeDuration: number;
  health: "up" | "down" | "unknown";
}

/** How one section of a job's discovery does; `lastError` is empty if all is well. */
export interface Discovery {
  job: string;
  manager: "scrape" | "notify";
  mechanism: string;
  targets: number;
  lastError: string;
  failingSince: string;
  lastUpdate: string;
}

export interface Alert {
  labels: LabelSet;
  annotations: LabelSet;
  state: "pending" | "firing";
  activeAt?: string;
  value: string;
}

export interface Rule {
  type: "alerting" | "recording";
  name: string;
  query: string;
  health: string;
  lastError?: string;
  state?: "inactive" | "pending" | "firing" | "unknown";
  duration?: number;
  alerts?: Alert[] | null;
}

export interface RuleGroup {
  name: string;
  file: string;
  rules: Rule[];
}

/** The folder the page lies in, whatever the route prefix is. */
const base = new URL("./api/v1/", location.href);

async function call<T>(path: string, params: Record<string, string>, signal?: AbortSignal): Promise<Answer<T>> {
  const url = new URL(path, base);
  for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value);
  const response = await fetch(url, signal ? { signal } : {});
  const body = await response.json().catch(() => {
    throw new Error(`the server answered ${response.status} ${response.statusText}`);
  });
  if (body.status !== "success") throw new Error(body.error ?? `the server answered ${response.status}`);
  return { data: body.data, warnings: body.warnings ?? [], infos: body.infos ?? [] };
}

export function queryInstant(query: string, time: number, signal?: AbortSignal): Promise<Answer<QueryData>> {
  return call("query", { query, time: String(time) }, signal);
}

export function queryRange(
  query: string,
  range: { start: number; end: number; step: number },
  signal?: AbortSignal,
): Promise<Answer<QueryData>> {
  const { start, end, step } = range;
  return call("query_range", { query, start: String(start), end: String(end), step: String(step) }, signal);
}

export async function targets(): Promise<Target[]> {
  const answer = await call<{ activeTargets: Target[] }>("targets", { state: "active" });
  return answer.data.activeTargets;
}

export async function discovery(): Promise<Discovery[]> {
  return (await call<Discovery[]>("discovery", {})).data;
}

export async function ruleGroups(): Promise<RuleGroup[]> {
  return (await call<{ groups: RuleGroup[] }>("rules", {})).data.groups;
}

export async function metricNames(): Promise<string[]> {
  return (await call<string[]>("label/__name__/values", { limit: "10000" })).data;
}

export interface Silence {
  id: string;
  status: { state: "active" | "pending" | "expired" };
  matchers: Matcher[];
  startsAt: string;
  endsAt: string;
  createdBy: string;
  comment: string;
}

/** A request to the Alertmanager's API; its errors are a JSON text. */
async function callAlertmanager<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await fetch(new URL(`./api/v2/${path}`, location.href), init);
  const text = await response.text();
  if (response.status === 404 && text === "") throw new Error("the built-in Alertmanager is not configured here, or does not know this silence");
  if (!response.ok) throw new Error(text.replace(/^"|"\n?$/g, "") || `the server answered ${response.status}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

export function silences(): Promise<Silence[]> {
  return callAlertmanager("silences");
}

export function postSilence(silence: Omit<Silence, "id" | "status">): Promise<{ silenceID: string }> {
  const headers = { "Content-Type": "application/json" };
  return callAlertmanager("silences", { method: "POST", headers, body: JSON.stringify(silence) });
}

export function expireSilence(id: string): Promise<void> {
  return callAlertmanager(`silence/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** How many alerts that fire now the matchers cover. */
export async function silencedBy(matchers: Matcher[]): Promise<number> {
  const filters = matchers.map((one) => ["filter", formatMatchers([one])]);
  return (await callAlertmanager<unknown[]>(`alerts?${new URLSearchParams(filters)}`)).length;
}
