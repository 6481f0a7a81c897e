// The data source with everything around it that Grafana would be: its server half is promlib.ts, templates replace
// variables and nothing else. It keeps what went over the wire, for those who want to know.

import { CoreApp, type DataFrame, type DataQueryRequest, dateTime, type TimeRange } from "@grafana/data";
import { type PromOptions, type PromQuery, PrometheusDatasource } from "@grafana/prometheus";
import { setBackendSrv, setDataSourceSrv, setTemplateSrv } from "@grafana/runtime";
import { from, lastValueFrom, of, switchMap } from "rxjs";

import type { Settings } from "./check";
import { type Answer, ask } from "./http";
import * as promlib from "./promlib";

/** A request of the data source to Grafana. */
interface Wanted {
  url: string;
  method?: string;
  params?: Record<string, unknown>;
  data?: unknown;
}

const sources = new Map<string, promlib.Source>();

class Refused extends Error {
  readonly data: unknown;
  readonly isHandled = true;

  constructor(
    readonly status: number,
    readonly statusText: string,
    text: string,
    readonly config: Wanted,
  ) {
    super(text);
    try {
      this.data = JSON.parse(text);
    } catch {
      this.data = { message: text };
    }
  }
}

function uid(url: string): string {
  // /api/datasources/uid/UID/... or /apis/.../datasources/UID/...
  return /\/datasources\/(?:uid\/)?([^/]+)\//.exec(url)![1]!;
}

function split(wanted: Wanted): { path: string; query: string } {
  const [path = "", query = ""] = wanted.url.split("/resources/")[1]!.split("?");
  const more = new URLSearchParams(query);
  for (const [name, value] of Object.entries(wanted.params ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== null) more.append(name, String(one));
  }
  return { path, query: more.toString() };
}

async function answer(wanted: Wanted): Promise<unknown> {
  if (/\/api\/ds\/query|\/query(\?|$)/.test(wanted.url) && !wanted.url.includes("/resources/")) return query(wanted);
  const source = sources.get(uid(wanted.url))!;
  if (wanted.url.endsWith("/health")) {
    const health = await promlib.health(source);
    if (health.status !== "OK") throw new Refused(400, "Bad Request", JSON.stringify(health), wanted);
    return health;
  }
  const { path, query: parameters } = split(wanted);
  const got = await promlib.resource(source, wanted.method ?? "GET", path, parameters, wanted.data);
  if (got.status >= 300) {
    throw new Refused(got.status, String(got.status), got.text, wanted);
  }
  return got.json;
}

interface QueryBody {
  queries: (promlib.Query & { datasource: { uid: string } })[];
  from: string;
  to: string;
}

async function query(wanted: Wanted): Promise<unknown> {
  const body = wanted.data as QueryBody;
  const results: Record<string, unknown> = {};
  await Promise.all(
    body.queries.map(async (one) => {
      const source = sources.get(one.datasource.uid)!;
      try {
        const frames = await promlib.run(source, one, Number(body.from) / 1000, Number(body.to) / 1000);
        results[one.refId] = { status: 200, frames };
      } catch (error) {
        if (!(error instanceof promlib.QueryError)) throw error;
        results[one.refId] = { status: error.status, error: `${error.errorType}: ${error.message}`, frames: [] };
      }
    }),
  );
  return { results };
}

const response = (wanted: Wanted, data: unknown) => ({
  data,
  status: 200,
  statusText: "OK",
  ok: true,
  headers: new Headers(),
  redirected: false,
  type: "basic",
  url: wanted.url,
  config: wanted,
});

const backend = {
  fetch: (wanted: Wanted) => from(answer(wanted)).pipe(switchMap((data) => of(response(wanted, data)))),
  get: (url: string, params?: Record<string, unknown>) => answer({ url, params }),
  post: (url: string, data?: unknown) => answer({ url, method: "POST", data }),
  request: (wanted: Wanted) => answer(wanted),
  datasourceRequest: (wanted: Wanted) => answer(wanted).then((data) => response(wanted, data)),
  /** The body piece by piece; the last one is none. */
  chunked: (wanted: Wanted) => from(pieces(wanted)).pipe(switchMap((all) => from(all))),
};

async function pieces(wanted: Wanted): Promise<object[]> {
  const source = sources.get(uid(wanted.url))!;
  const { path, query: parameters } = split(wanted);
  const got: Answer = await ask(`${source.url}/${path}${parameters === "" ? "" : `?${parameters}`}`, { headers: source.headers });
  source.seen?.(got);
  const about = { ...response(wanted, undefined), status: got.status, ok: got.status < 300, statusText: String(got.status) };
  const out: object[] = [];
  for (let i = 0; i < got.bytes.length; i += 1000) out.push({ ...about, data: new Uint8Array(got.bytes.subarray(i, i + 1000)) });
  return [...out, { ...about, data: undefined }];
}

type Variables = Record<string, { text?: unknown; value?: unknown } | undefined>;

const templates = {
  replace: (text: string | undefined, variables: Variables = {}) =>
    (text ?? "").replace(/\$(\w+)|\$\{(\w+)(?::\w+)?\}/g, (whole, bare?: string, braced?: string) => {
      const found = variables[bare ?? braced ?? ""];
      return found === undefined ? whole : String(found.value);
    }),
  containsTemplate: (text: string | undefined) => (text ?? "").includes("$"),
  getVariables: () => [],
  updateTimeRange: () => undefined,
  getAdhocFilters: () => [],
};

setBackendSrv(backend as never);
setTemplateSrv(templates as never);

const added = new Map<string, PrometheusDatasource>();
const named = (ref: { uid?: string } | string | null | undefined) => added.get(typeof ref === "string" ? ref : (ref?.uid ?? ""));
setDataSourceSrv({
  get: async (ref: never) => named(ref),
  getList: () => [...added.values()].map((source) => source.instanceSettings),
  getInstanceSettings: (ref: never) => named(ref)?.instanceSettings,
  reload: async () => undefined,
} as never);

let made = 0;

/** A data source as somebody adds it. */
export function add(url: string, settings: Partial<PromOptions> = {}, headers: Record<string, string> = {}) {
  const name = `source${(made += 1)}`;
  const asked: Answer[] = [];
  const method = (settings.httpMethod ?? "POST") as "GET" | "POST";
  sources.set(name, { url, method, headers, seen: (answer) => asked.push(answer) });
  const instance = {
    id: made,
    uid: name,
    type: "prometheus",
    name,
    access: "proxy",
    url: `/api/datasources/proxy/uid/${name}`,
    readOnly: false,
    meta: { id: "prometheus", name: "Prometheus", info: {}, module: "", baseUrl: "", type: "datasource", jsonData: {} },
    jsonData: { httpMethod: method, ...settings },
  };
  const source = new PrometheusDatasource(instance as never, templates as never);
  added.set(name, source);
  return { source, asked };
}

export function range(settings: Settings, fromSeconds = settings.begin, toSeconds = settings.end): TimeRange {
  const [start, end] = [dateTime(fromSeconds * 1000), dateTime(toSeconds * 1000)];
  return { from: start, to: end, raw: { from: start, to: end } };
}

/** What a panel shows for `targets`. */
export async function panel(source: PrometheusDatasource, span: TimeRange, targets: Partial<PromQuery>[]): Promise<{ data: DataFrame[]; errors: string[] }> {
  const request = {
    requestId: `Q${(made += 1)}`,
    app: CoreApp.Dashboard,
    interval: "15s",
    intervalMs: 15_000,
    maxDataPoints: 1000,
    range: span,
    scopedVars: {},
    startTime: Date.now(),
    timezone: "utc",
    targets: targets.map((target, i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: { uid: source.uid, type: "prometheus" },
      ...target,
    })),
  } as unknown as DataQueryRequest<PromQuery>;
  // As Grafana does before it asks a data source.
  request.targets = request.targets.filter((target) => source.filterQuery(target));
  if (request.targets.length === 0) return { data: [], errors: [] };
  const shown = await lastValueFrom(source.query(request), { defaultValue: { data: [] } });
  const errors = [...(shown.errors ?? []), ...(shown.error ? [shown.error] : [])].map((error) => error.message ?? String(error));
  return { data: shown.data as DataFrame[], errors: [...new Set(errors)] };
}

