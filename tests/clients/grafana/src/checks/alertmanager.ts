// The Alertmanager as a data source of Grafana's.

import assert from "node:assert/strict";

import { check, status } from "../check";

const JSON_TYPE = { headers: { "Content-Type": "application/json" } };

check(
  "G58",
  "C",
  "its status",
  async (room) => {
    const answer = await room.get("/api/v2/status");
    status(answer, 200);
    const { cluster, versionInfo, config, uptime } = answer.json;
    assert.equal(typeof cluster.status, "string");
    assert.equal(typeof versionInfo.version, "string");
    assert.match(config.original, /receiver: nobody/);
    assert.ok(!Number.isNaN(Date.parse(uptime)), uptime);
  },
  "alertmanager",
);

check("G59", "C", "it is not there twice", async (room) => status(await room.get("/alertmanager/api/v2/status"), 404), "alertmanager");

check(
  "G60",
  "C",
  "silences, alerts and groups",
  async (room) => {
    const post = (path: string, body: unknown) =>
      room.get(path, {}, { method: "POST", body: JSON.stringify(body), ...JSON_TYPE });
    const now = Date.now();
    const time = (seconds: number) => new Date(now + seconds * 1000).toISOString();
    status(await post("/api/v2/alerts", [{ labels: { alertname: "FromGrafana", zone: "a" }, annotations: { summary: "x" } }]), 200);
    const silence = {
      matchers: [{ name: "alertname", value: "FromGrafana", isRegex: false, isEqual: true }],
      startsAt: time(-1),
      endsAt: time(600),
      createdBy: "grafana",
      comment: "a check",
    };
    const made = await post("/api/v2/silences", silence);
    status(made, 200);
    const { silenceID } = made.json;
    assert.equal(typeof silenceID, "string");
    const one = await room.get(`/api/v2/silence/${silenceID}`);
    status(one, 200);
    assert.deepEqual(one.json.matchers, silence.matchers);
    assert.equal(one.json.status.state, "active");
    room.same("silence", Object.keys(one.json).sort());
    const listed = await room.get("/api/v2/silences", { filter: 'alertname="FromGrafana"' });
    assert.ok(listed.json.some((other: { id: string }) => other.id === silenceID), listed.text);
    const others = await room.get("/api/v2/silences", { filter: 'alertname="Another"' });
    assert.ok(!others.json.some((other: { id: string }) => other.id === silenceID), others.text);
    const alerts = await room.get("/api/v2/alerts", { filter: 'alertname="FromGrafana"' });
    assert.deepEqual(alerts.json.map((alert: { labels: object }) => alert.labels), [{ alertname: "FromGrafana", zone: "a" }]);
    room.same("alert", Object.keys(alerts.json[0]).sort());
    const groups = await room.get("/api/v2/alerts/groups");
    status(groups, 200);
    assert.ok(Array.isArray(groups.json));
    const deleted = await room.get(`/api/v2/silence/${silenceID}`, {}, { method: "DELETE" });
    status(deleted, 200);
    assert.equal((await room.get(`/api/v2/silence/${silenceID}`)).json.status.state, "expired");
    status(await room.get("/api/v2/silence/00000000-0000-4000-8000-000000000000"), 404);
  },
  "alertmanager",
);
