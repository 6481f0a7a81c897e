// Matchers of silences as text, and where old links of the Alertmanager's page lead. Pure functions, no page.

export interface Matcher {
  name: string;
  value: string;
  isRegex: boolean;
  isEqual: boolean;
}

const OPERATORS: Record<string, Pick<Matcher, "isRegex" | "isEqual">> = {
  "=": { isRegex: false, isEqual: true },
  "!=": { isRegex: false, isEqual: false },
  "=~": { isRegex: true, isEqual: true },
  "!~": { isRegex: true, isEqual: false },
};

const PART = /^\s*("(?:[^"\\]|\\.)*"|[^\s{}!=~,"\\'`]+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^\s{}!=~,"\\'`]*)\s*(?:,|$)/;

/** The matchers of `{a="x", b=~"y.*"}`, braces or none. Throws with what is wrong. */
export function parseMatchers(text: string): Matcher[] {
  let rest = text.trim().replace(/^\{([\s\S]*)\}$/, "$1").trim();
  const matchers: Matcher[] = [];
  while (rest !== "") {
    const found = PART.exec(rest);
    if (!found) throw new Error(`expected a matcher such as job="node" at ${JSON.stringify(rest.slice(0, 40))}`);
    const [all, name, operator, value] = found as unknown as [string, string, string, string];
    matchers.push({ name: unquote(name), value: unquote(value), ...OPERATORS[operator]! });
    rest = rest.slice(all.length).trim();
  }
  return matchers;
}

function unquote(text: string): string {
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text) as string;
  } catch {
    throw new Error(`${text} has an escape that is not known`);
  }
}

/** `job="node", instance!~"a.*"`. */
export function formatMatchers(matchers: Matcher[]): string {
  return matchers.map((one) => `${quoteName(one.name)}${operatorOf(one)}${JSON.stringify(one.value)}`).join(", ");
}

function quoteName(name: string): string {
  return /^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) ? name : JSON.stringify(name);
}

function operatorOf({ isRegex, isEqual }: Matcher): string {
  return isRegex ? (isEqual ? "=~" : "!~") : isEqual ? "=" : "!=";
}

/** One matcher for each label of an alert. */
export function matchersOf(labels: Record<string, string>): Matcher[] {
  return Object.entries(labels).map(([name, value]) => ({ name, value, isRegex: false, isEqual: true }));
}

/** The view, relative to the page's folder, that a link into the Alertmanager's page means; `undefined` for none. */
export function viewOfHash(hash: string): string | undefined {
  const [, path = "", query = ""] = /^#\/([^?]*)\??(.*)$/.exec(hash) ?? [];
  const [view, id] = path.split("/");
  if (view === "alerts") return `alerts${query && `?${query}`}`;
  if (view === "status" || view === "settings") return "status";
  if (view !== "silences") return undefined;
  if (id === "new") return `silences?new=1${query && `&${query}`}`;
  if (id) return `silences?id=${encodeURIComponent(id)}`;
  return `silences${query && `?${query}`}`;
}
