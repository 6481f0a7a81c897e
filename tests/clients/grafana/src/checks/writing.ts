// Recording rules that Grafana evaluates itself and writes to us.

import assert from "node:assert/strict";

import { type Room, check, status } from "../check";
import type { Answer } from "../http";

function varint(n: number): number[] {
  const out: number[] = [];
  for (; n >= 0x80; n = Math.floor(n / 128)) out.push((n % 128) | 0x80);
  return [...out, n];
}

function field(number: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(bytes.length)]), bytes]);
}

/** A write request of one sample, its labels in the order given. */
function request(labels: [string, string][], value: number, time: number): Buffer {
  const pair = ([name, text]: [string, string]) =>
    field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, Buffer.from(text))]));
  const double = Buffer.alloc(9);
  double[0] = 0x09;
  double.writeDoubleLE(value, 1);
  const sample = field(2, Buffer.concat([double, Buffer.from([0x10, ...varint(time)])]));
  return field(1, Buffer.concat([...labels.map(pair), sample]));
}

/** Snappy's block format, with nothing compressed. */
function snappy(bytes: Buffer): Buffer {
  assert.ok(bytes.length < 60_000);
  const length = bytes.length - 1;
  return Buffer.concat([Buffer.from([...varint(bytes.length), 61 << 2, length & 0xff, length >> 8]), bytes]);
}

function write(room: Room, labels: [string, string][], value: number, time: number, headers: Record<string, string> = {}): Promise<Answer> {
  return room.get(
    "/api/v1/write",
    {},
    {
      method: "POST",
      body: snappy(request(labels, value, time)),
      headers: {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
        "User-Agent": "grafana-recording-rule",
        ...headers,
      },
    },
  );
}

const time = Math.floor(Date.now() / 1000) * 1000;

check("G61", "C", "labels in no order are taken", async (room) => {
  const answer = await write(room, [["zone", "b"], ["__name__", "grafana_recorded"], ["area", "a"]], 5, time);
  assert.ok([200, 204].includes(answer.status), `${answer.status} ${answer.text}`);
  room.same("status", answer.status);
  const { result } = await room.data("/api/v1/query", { query: 'grafana_recorded{zone="b"}', time: time / 1000 });
  assert.deepEqual(result, [
    { metric: { __name__: "grafana_recorded", area: "a", zone: "b" }, value: [time / 1000, "5"] },
  ]);
});

check("G62", "C", "another value at the same time is a duplicate", async (room) => {
  const answer = await write(room, [["__name__", "grafana_recorded"], ["area", "a"], ["zone", "b"]], 6, time);
  status(answer, 400);
  assert.match(answer.text, /duplicate sample for timestamp/);
  room.same("text", answer.text);
});

check(
  "G63",
  "C",
  "nobody takes anything unless told to",
  async (room) => {
    const basic = Buffer.from(`${room.server.user}:${room.server.password}`).toString("base64");
    const answer = await write(room, [["__name__", "x"]], 1, time, { Authorization: `Basic ${basic}` });
    status(answer, 404);
    assert.match(answer.text, /--web\.enable-remote-write-receiver/);
    room.same("text", answer.text);
  },
  "bare",
);
