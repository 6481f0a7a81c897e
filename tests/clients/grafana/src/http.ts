// Requests as a client makes them: every header as told, no redirect followed, the answer as bytes.

import http from "node:http";
import zlib from "node:zlib";

export interface Ask {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  /** Whether the connection may be used again. */
  agent?: http.Agent;
}

export class Answer {
  constructor(
    readonly url: string,
    readonly status: number,
    readonly headers: http.IncomingHttpHeaders,
    /** As it came over the wire. */
    readonly bytes: Buffer,
    readonly asked: Ask = {},
  ) {}

  get encoding(): string {
    return this.headers["content-encoding"] ?? "identity";
  }

  get text(): string {
    switch (this.encoding) {
      case "identity":
        return this.bytes.toString("utf8");
      case "gzip":
        return zlib.gunzipSync(this.bytes).toString("utf8");
      default:
        throw new Error(`${this.url} came as ${this.encoding}`);
    }
  }

  // What is in it the checks look at themselves.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  get json(): any {
    try {
      return JSON.parse(this.text);
    } catch (error) {
      throw new Error(`${this.url} answers ${this.status}, not with JSON: ${this.text.slice(0, 300)} (${error})`);
    }
  }
}

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

export function ask(url: string, how: Ask = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { ...how.headers };
    if (how.body !== undefined) headers["Content-Length"] = String(Buffer.byteLength(how.body));
    const request = http.request(url, { method: how.method ?? "GET", headers, agent: how.agent ?? agent }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => resolve(new Answer(url, response.statusCode!, response.headers, Buffer.concat(parts), how)));
      response.on("error", reject);
    });
    request.setTimeout(20_000, () => request.destroy(new Error(`${url} does not answer`)));
    request.on("error", reject);
    request.end(how.body);
  });
}

export type Parameters = [string, string | number][] | Record<string, string | number>;

export function form(parameters: Parameters): string {
  const pairs = Array.isArray(parameters) ? parameters : Object.entries(parameters);
  return new URLSearchParams(pairs.map(([name, value]) => [name, String(value)])).toString();
}

export function withParameters(url: string, parameters: Parameters = {}): string {
  const query = form(parameters);
  return query === "" ? url : `${url}${url.includes("?") ? "&" : "?"}${query}`;
}
