// The silences view: those that are there, and a form for a new one that says first what it would mute.

import { useEffect, useState } from "preact/hooks";
import { type Silence, expireSilence, postSilence, silencedBy, silences } from "./api";
import { formatAge, formatDuration, parseDuration } from "./format";
import { type Matcher, formatMatchers, parseMatchers } from "./matchers";
import { usePolled } from "./polled";

const order = { active: 0, pending: 1, expired: 2 };
/** Expired ones are kept for days; the page shows the latest. */
const expiredShown = 20;

export function SilencesView() {
  const params = new URLSearchParams(location.search);
  const [asked, setAsked] = useState(0);
  const { value, error } = usePolled(silences, 5000, asked);
  const wanted = params.get("id");
  const all = (value ?? []).filter(({ id }) => !wanted || id === wanted);
  const kept = all.filter(({ status }) => status.state !== "expired");
  const expired = all.filter(({ status }) => status.state === "expired");
  const shown = [...kept, ...expired.slice(0, expiredShown)];
  shown.sort((a, b) => order[a.status.state] - order[b.status.state]);
  return (
    <main>
      <NewSilence filter={params.get("filter") ?? ""} comment={params.get("comment") ?? ""} done={() => setAsked(asked + 1)} />
      {error && <p class="error" role="alert">{error}</p>}
      {value && shown.length === 0 && <p class="note">{wanted ? "no such silence" : "no silences"}</p>}
      {shown.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>state</th>
              <th>matchers</th>
              <th>ends</th>
              <th>by</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {shown.map((silence) => (
              <Row key={silence.id} silence={silence} changed={() => setAsked(asked + 1)} />
            ))}
          </tbody>
        </table>
      )}
    </main>
  );
}

function Row({ silence, changed }: { silence: Silence; changed: () => void }) {
  const [error, setError] = useState("");
  const { state } = silence.status;
  const expire = () => expireSilence(silence.id).then(changed, (e: unknown) => setError(String(e)));
  const left = (Date.parse(silence.endsAt) - Date.now()) / 1000;
  return (
    <tr>
      <td>
        <span class={`state ${state}`}>{state}</span>
      </td>
      <td>
        <code>{formatMatchers(silence.matchers)}</code>
        {silence.comment && <p>{silence.comment}</p>}
        {error && <p class="error">{error}</p>}
      </td>
      <td title={silence.endsAt}>{left > 0 ? `in ${formatDuration(left)}` : formatAge(silence.endsAt, Date.now())}</td>
      <td>{silence.createdBy}</td>
      <td>{state !== "expired" && <button onClick={expire}>Expire</button>}</td>
    </tr>
  );
}

function NewSilence({ filter, comment, done }: { filter: string; comment: string; done: () => void }) {
  const [text, setText] = useState(filter.replace(/^\{|\}$/g, ""));
  const [duration, setDuration] = useState("2h");
  const [author, setAuthor] = useState(localStorage.getItem("silence.author") ?? "");
  const [why, setWhy] = useState(comment);
  const [error, setError] = useState("");
  const [preview, setPreview] = useState("");
  let matchers: Matcher[] = [];
  let refusal = "";
  try {
    matchers = parseMatchers(text);
  } catch (e) {
    refusal = (e as Error).message;
  }
  const seconds = parseDuration(duration);
  const problem =
    refusal || (seconds === undefined ? "the duration is none, such as 2h or 1d" : "") || (author && why ? "" : "author and comment are missing");
  useEffect(() => {
    if (refusal || matchers.length === 0) return setPreview("");
    const timer = setTimeout(() => {
      silencedBy(matchers).then(
        (n) => setPreview(`would mute ${n} alert${n === 1 ? "" : "s"} that fire${n === 1 ? "s" : ""} now`),
        (e: unknown) => setPreview(String(e)),
      );
    }, 300);
    return () => clearTimeout(timer);
  }, [text]);
  const submit = (event: Event) => {
    event.preventDefault();
    if (problem || seconds === undefined) return setError(problem);
    localStorage.setItem("silence.author", author);
    const now = Date.now();
    const times = { startsAt: new Date(now).toISOString(), endsAt: new Date(now + seconds * 1000).toISOString() };
    postSilence({ matchers, ...times, createdBy: author, comment: why }).then(
      () => {
        setError("");
        setText("");
        done();
      },
      (e: unknown) => setError(e instanceof Error ? e.message : String(e)),
    );
  };
  const input = (label: string, value: string, set: (text: string) => void) => (
    <label>
      {label}
      <input value={value} onInput={(event) => set(event.currentTarget.value)} />
    </label>
  );
  return (
    <section>
      <h2>New silence</h2>
      <form class="silence" onSubmit={submit}>
        {input("matchers", text, setText)}
        {input("duration", duration, setDuration)}
        {input("author", author, setAuthor)}
        {input("comment", why, setWhy)}
        <button type="submit" disabled={matchers.length === 0}>
          Silence
        </button>
      </form>
      <p class={refusal ? "error" : "note"} role="status">
        {refusal || preview}
      </p>
      {error && <p class="error" role="alert">{error}</p>}
    </section>
  );
}
