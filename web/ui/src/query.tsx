// The query view: an expression, its answer as a table or a graph. Its whole state is in the URL, in
// Prometheus' parameters, so that links from alerts and bookmarks work.

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Answer, type QueryData, metricNames, queryInstant, queryRange } from "./api";
import { defaultStep, formatDuration, parseDuration, seriesName } from "./format";
import { Graph } from "./graph";

/** More rows than this are not put on the page. */
const ROWS_MAX = 1000;

/** What there is to see on any server that watches itself. */
const starters = [
  "rate(process_cpu_seconds_total[1m])",
  "process_resident_memory_bytes",
  "rate(prometheus_tsdb_head_samples_appended_total[1m])",
  "up",
];

const ranges = ["5m", "15m", "1h", "6h", "1d", "1w"];

const params = new URLSearchParams(location.search);
const expr = signal(params.get("g0.expr") ?? starters[0]!);
const tab = signal<"graph" | "table">(params.get("g0.tab") === "1" ? "table" : "graph");
const range = signal(params.get("g0.range_input") ?? "15m");
const names = signal<string[]>([]);

type Outcome =
  | { state: "running" }
  | { state: "failed"; error: string }
  | { state: "done"; answer: Answer<QueryData>; seconds: number; range: { start: number; end: number; step: number } };
const outcome = signal<Outcome | undefined>(undefined);

let running: AbortController | undefined;

async function run() {
  running?.abort();
  const mine = (running = new AbortController());
  const text = expr.value.trim();
  if (text === "") return;
  const query = new URLSearchParams({
    "g0.expr": text,
    "g0.tab": tab.value === "table" ? "1" : "0",
    "g0.range_input": range.value,
  });
  history.replaceState(null, "", `?${query}`);
  outcome.value = { state: "running" };
  const started = performance.now();
  const seconds = parseDuration(range.value);
  if (seconds === undefined) {
    outcome.value = { state: "failed", error: `"${range.value}" is not a duration such as 1h30m` };
    return;
  }
  const step = defaultStep(seconds);
  const end = Math.floor(Date.now() / 1000 / step) * step;
  const window = { start: end - Math.floor(seconds / step) * step, end, step };
  try {
    const answer =
      tab.value === "table"
        ? await queryInstant(text, Date.now() / 1000, mine.signal)
        : await queryRange(text, window, mine.signal);
    outcome.value = { state: "done", answer, seconds: (performance.now() - started) / 1000, range: window };
  } catch (e) {
    if (!mine.signal.aborted) outcome.value = { state: "failed", error: e instanceof Error ? e.message : String(e) };
  }
}

export function QueryView() {
  useEffect(() => {
    void run();
    metricNames().then((found) => (names.value = found), () => undefined);
    const timer = setInterval(() => {
      if (!document.hidden && outcome.value?.state !== "running") void run();
    }, 15_000);
    return () => clearInterval(timer);
  }, []);

  const choose = (change: () => void) => {
    change();
    void run();
  };
  return (
    <main>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <textarea
          aria-label="expression"
          spellcheck={false}
          rows={Math.max(1, expr.value.split("\n").length)}
          value={expr.value}
          onInput={(event) => (expr.value = event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey) {
              event.preventDefault();
              void run();
            }
          }}
        />
        <button type="submit">Run</button>
      </form>
      <nav class="options">
        <span role="group" aria-label="view">
          {(["graph", "table"] as const).map((name) => (
            <button aria-pressed={tab.value === name} onClick={() => choose(() => (tab.value = name))}>
              {name}
            </button>
          ))}
        </span>
        {tab.value === "graph" && (
          <span role="group" aria-label="range">
            {ranges.map((name) => (
              <button aria-pressed={range.value === name} onClick={() => choose(() => (range.value = name))}>
                {name}
              </button>
            ))}
          </span>
        )}
        <select
          aria-label="insert a metric"
          value=""
          onChange={(event) => choose(() => (expr.value = event.currentTarget.value))}
        >
          <option value="">metrics and examples</option>
          <optgroup label="examples">
            {starters.map((text) => (
              <option>{text}</option>
            ))}
          </optgroup>
          <optgroup label="metrics">
            {names.value.map((name) => (
              <option>{name}</option>
            ))}
          </optgroup>
        </select>
      </nav>
      <Result />
    </main>
  );
}

function Result() {
  const current = outcome.value;
  if (current === undefined) return null;
  if (current.state === "running") return <p class="note">running</p>;
  if (current.state === "failed") return <p class="error" role="alert">{current.error}</p>;
  const { data, warnings, infos } = current.answer;
  const count = Array.isArray(data.result) && data.resultType !== "scalar" && data.resultType !== "string" ? data.result.length : 1;
  return (
    <>
      <p class="note">{`${count} series in ${formatDuration(current.seconds)}`}</p>
      {[...warnings, ...infos].map((text) => (
        <p class="warning">{text}</p>
      ))}
      {data.resultType === "matrix" && tab.value === "graph" ? (
        <Graph series={data.result} range={current.range} />
      ) : (
        <Table data={data} />
      )}
    </>
  );
}

function rows(data: QueryData): [name: string, value: string][] {
  switch (data.resultType) {
    case "vector":
      return data.result.map(({ metric, value }) => [seriesName(metric), value[1]]);
    case "matrix":
      return data.result.map(({ metric, values }) => [
        seriesName(metric),
        values.map(([time, value]) => `${value} @${time}`).join("\n"),
      ]);
    default:
      return [[data.resultType, data.result[1]]];
  }
}

function Table({ data }: { data: QueryData }) {
  const all = rows(data);
  if (all.length === 0) return <p class="note">the answer is empty</p>;
  return (
    <>
      <table>
        <tbody>
          {all.slice(0, ROWS_MAX).map(([name, value]) => (
            <tr key={name}>
              <td>
                <code>{name}</code>
              </td>
              <td class="number">{value}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {all.length > ROWS_MAX && <p class="note">{`${ROWS_MAX} of ${all.length} series are shown`}</p>}
    </>
  );
}
