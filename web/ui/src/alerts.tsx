// The alerts view: every alerting rule with what it found, firing first; rules that fail show why.

import { type Rule, ruleGroups } from "./api";
import { formatAge, formatDuration } from "./format";
import { formatMatchers, matchersOf } from "./matchers";
import { usePolled } from "./polled";
import { Labels } from "./targets";

const order: Record<string, number> = { firing: 0, pending: 1, unknown: 2, inactive: 3 };

export function AlertsView() {
  const { value, error } = usePolled(ruleGroups, 5000);
  const rules = (value ?? [])
    .flatMap(({ rules }) => rules)
    .filter(({ type, health }) => type === "alerting" || health === "err")
    .sort((a, b) => (order[a.state ?? "unknown"] ?? 4) - (order[b.state ?? "unknown"] ?? 4));
  return (
    <main>
      {error && <p class="error" role="alert">{error}</p>}
      {value && rules.length === 0 && <p class="note">no alerting rules</p>}
      {rules.map((rule) => (
        <RuleSection key={rule.name + rule.query} rule={rule} />
      ))}
    </main>
  );
}

function RuleSection({ rule }: { rule: Rule }) {
  const link = `query?${new URLSearchParams({ "g0.expr": rule.query, "g0.tab": "0" })}`;
  const state = rule.state ?? rule.health;
  return (
    <section>
      <h2>
        <span class={`state ${state}`}>{state}</span> {rule.name}
      </h2>
      <p>
        <a href={link}>
          <code>{rule.query}</code>
        </a>
        {rule.duration ? ` for ${formatDuration(rule.duration)}` : ""}
      </p>
      {rule.lastError && <p class="error">{rule.lastError}</p>}
      {rule.alerts && rule.alerts.length > 0 && (
        <table>
          <tbody>
            {rule.alerts.map((alert) => (
              <tr key={JSON.stringify(alert.labels)}>
                <td>
                  <span class={`state ${alert.state}`}>{alert.state}</span>
                </td>
                <td>
                  <Labels of={alert.labels} />
                  {alert.annotations["summary"] && <p>{alert.annotations["summary"]}</p>}
                </td>
                <td>{alert.activeAt ? formatAge(alert.activeAt, Date.now()) : ""}</td>
                <td class="number">{Number(alert.value)}</td>
                <td>
                  <a href={`silences?${new URLSearchParams({ new: "1", filter: formatMatchers(matchersOf(alert.labels)) })}`}>silence</a>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
