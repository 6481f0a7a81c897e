// Rules and alerts as Grafana's alerting pages ask for them.

import assert from "node:assert/strict";

import { type Room, check, failure, status } from "../check";

interface Rule {
  type: string;
  name: string;
  alerts?: unknown[] | null;
  state?: string;
  [key: string]: unknown;
}

interface Group {
  name: string;
  file: string;
  rules: Rule[];
  [key: string]: unknown;
}

const RFC3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/;

async function groups(room: Room, parameters: [string, string | number][] = []): Promise<Group[]> {
  return (await room.data("/api/v1/rules", parameters)).groups;
}

check("G51", "C", "filters with brackets, copies without", async (room) => {
  const all = await groups(room);
  assert.deepEqual(all.map((group) => group.name).sort(), ["alerts", "another", "recorded"]);
  const file = all.find((group) => group.name === "alerts")!.file;
  const filtered = await groups(room, [
    ["file", "nothing"],
    ["file[]", file],
    ["rule_group", "nothing"],
    ["rule_group[]", "alerts"],
    ["rule_name", "nothing"],
    ["rule_name[]", "Always"],
  ]);
  assert.deepEqual(filtered.map((group) => [group.name, group.rules.map((rule) => rule.name)]), [["alerts", ["Always"]]]);
  assert.deepEqual(await groups(room, [["rule_group[]", "nothing"]]), []);
});

check("G52", "C", "page by page", async (room) => {
  const seen: string[] = [];
  let token: string | undefined;
  do {
    const parameters: [string, string | number][] = [["group_limit", 1]];
    if (token !== undefined) parameters.push(["group_next_token", token]);
    const data = await room.data("/api/v1/rules", parameters);
    assert.equal(data.groups.length, 1);
    seen.push(data.groups[0].name);
    token = data.groupNextToken;
    assert.ok(seen.length <= 3, `${seen}`);
  } while (token !== undefined && token !== "");
  assert.deepEqual(seen.toSorted(), ["alerts", "another", "recorded"]);
  room.same("order", seen);
});

check("G53", "C", "pages that are none", async (room) => {
  for (const [name, value] of [
    ["group_next_token", "x"],
    ["group_limit", "0"],
    ["group_limit", "x"],
  ] as const) {
    const answer = await room.get("/api/v1/rules", [[name, value]]);
    failure(answer, 400, "bad_data");
    room.same(`${name}=${value}`, answer.text);
  }
});

check("G54", "C", "rules without their alerts", async (room) => {
  const [group] = (await groups(room, [["exclude_alerts", "true"], ["rule_group[]", "alerts"]])) as [Group];
  for (const rule of group.rules) {
    assert.ok(rule.alerts === undefined || rule.alerts === null || rule.alerts.length === 0, JSON.stringify(rule));
  }
  assert.equal(group.rules.find((rule) => rule.name === "Always")!.state, "firing");
});

check("G55", "C", "rules of a type", async (room) => {
  const types = async (type: string) => new Set((await groups(room, [["type", type]])).flatMap((group) => group.rules.map((rule) => rule.type)));
  assert.deepEqual([...(await types("alert"))], ["alerting"]);
  assert.deepEqual([...(await types("record"))], ["recording"]);
  const answer = await room.get("/api/v1/rules", { type: "x" });
  failure(answer, 400, "bad_data");
  room.same("error", answer.text);
});

check("G56", "C", "alerts", async (room) => {
  const { alerts } = await room.data("/api/v1/alerts");
  const shown = alerts.map((alert: Record<string, unknown>) => {
    assert.match(alert.activeAt as string, RFC3339);
    assert.equal(typeof alert.value, "string");
    const { labels, annotations, state, value } = alert;
    return { labels, annotations, state, value };
  });
  assert.equal(shown.length, 3);
  const firing = shown.find((alert: { labels: Record<string, string> }) => alert.labels.severity === "page");
  assert.deepEqual(firing, {
    labels: { alertname: "Always", severity: "page" },
    annotations: { summary: "it is 7" },
    state: "firing",
    value: "7e+00",
  });
  room.same("alerts", shown.toSorted((a: object, b: object) => JSON.stringify(a).localeCompare(JSON.stringify(b))));
});

check("G57", "C", "numbers of rules", async (room) => {
  const all = await groups(room);
  for (const group of all) {
    assert.deepEqual([typeof group.interval, typeof group.evaluationTime], ["number", "number"]);
    assert.match(group.lastEvaluation as string, RFC3339);
    for (const rule of group.rules) {
      assert.equal(typeof rule.evaluationTime, "number");
      assert.match(rule.lastEvaluation as string, RFC3339);
      if (rule.type === "alerting") assert.deepEqual([typeof rule.duration, typeof rule.keepFiringFor], ["number", "number"]);
    }
  }
  const soon = all.flatMap((group) => group.rules).find((rule) => rule.name === "Soon")!;
  assert.deepEqual([soon.duration, soon.keepFiringFor], [3600, 300]);
  // Before 3.14 rules without labels had none, instead of an empty object.
  const keys = (rule: Rule) => Object.keys(rule).filter((key) => key !== "labels");
  room.same("shape", all.map((group) => [group.name, Object.keys(group), group.rules.map((rule) => [rule.name, keys(rule)])]));
});

check("a1", "C", "what the list of alerts asks for", async (room) => {
  const answer = await room.get("/api/v1/rules", [["group_limit", 40], ["exclude_alerts", "true"]]);
  status(answer, 200);
  assert.equal(answer.json.data.groups.length, 3);
});
