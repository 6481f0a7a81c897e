// Which discoveries fail, as the page says it.

import type { Discovery } from "./api";
import { formatAge } from "./format";

export interface FailingLine {
  key: string;
  job: string;
  text: string;
  error: string;
}

/** One line for each section that fails, those that fail longest first. */
export function failing(all: Discovery[], now: number): FailingLine[] {
  return all
    .map((section, i) => ({ section, i }))
    .filter(({ section }) => section.lastError !== "")
    .sort((a, b) => Date.parse(a.section.failingSince) - Date.parse(b.section.failingSince) || a.i - b.i)
    .map(({ section, i }) => ({
      key: `${section.manager} ${section.job} ${i}`,
      job: section.job,
      text: `${section.mechanism}, failing since ${formatAge(section.failingSince, now)}, ${count(section.targets)}, last update ${formatAge(section.lastUpdate, now)}`,
      error: section.lastError,
    }));
}

function count(n: number): string {
  if (n === 0) return "no targets";
  return n === 1 ? "1 target" : `${n} targets`;
}
