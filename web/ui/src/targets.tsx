// The targets view: every target by pool, the sick ones first.

import { discovery, type Target, targets } from "./api";
import { failing } from "./discovery";
import { formatAge, formatDuration } from "./format";
import { usePolled } from "./polled";

const order = { down: 0, unknown: 1, up: 2 };

export function TargetsView() {
  const { value, error } = usePolled(targets, 5000);
  const found = usePolled(discovery, 5000);
  const pools = new Map<string, Target[]>();
  for (const target of value ?? []) pools.set(target.scrapePool, [...(pools.get(target.scrapePool) ?? []), target]);
  return (
    <main>
      {error && <p class="error" role="alert">{error}</p>}
      <Failing lines={failing(found.value ?? [], Date.now())} />
      {value && pools.size === 0 && <p class="note">no targets yet</p>}
      {[...pools].map(([pool, members]) => (
        <Pool key={pool} name={pool} members={members} />
      ))}
    </main>
  );
}

/** Discovery that fails: its targets are still scraped, but they may be out of date. */
function Failing({ lines }: { lines: ReturnType<typeof failing> }) {
  if (lines.length === 0) return null;
  return (
    <section role="alert">
      <h2>
        discovery fails <small>the last known targets stay</small>
      </h2>
      <ul>
        {lines.map((line) => (
          <li key={line.key}>
            <strong>{line.job}</strong> {line.text}
            <p class="error">{line.error}</p>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Pool({ name, members }: { name: string; members: Target[] }) {
  const up = members.filter((target) => target.health === "up").length;
  return (
    <section>
      <h2>
        {name} <small>{`${up} of ${members.length} up`}</small>
      </h2>
      <table>
        <thead>
          <tr>
            <th>target</th>
            <th>labels</th>
            <th>state</th>
            <th>last scrape</th>
            <th>took</th>
          </tr>
        </thead>
        <tbody>
          {[...members]
            .sort((a, b) => order[a.health] - order[b.health])
            .map((target) => (
              <tr key={target.scrapeUrl + JSON.stringify(target.labels)}>
                <td>
                  <a href={target.scrapeUrl}>{target.scrapeUrl}</a>
                  {target.lastError && <p class="error">{target.lastError}</p>}
                </td>
                <td>
                  <Labels of={target.labels} />
                </td>
                <td>
                  <span class={`state ${target.health}`}>{target.health}</span>
                </td>
                <td>{formatAge(target.lastScrape, Date.now())}</td>
                <td class="number">{formatDuration(target.lastScrapeDuration)}</td>
              </tr>
            ))}
        </tbody>
      </table>
    </section>
  );
}

export function Labels({ of }: { of: Record<string, string> }) {
  return (
    <span class="labels">
      {Object.entries(of).map(([name, value]) => (
        <code key={name}>{`${name}=${JSON.stringify(value)}`}</code>
      ))}
    </span>
  );
}
