import { expect, test } from "vitest";
import { formatMatchers, parseMatchers, viewOfHash } from "./matchers";

test("matchers are read with and without braces and quotes", () => {
  const expected = [
    { name: "alertname", value: "Disk, \"full\"", isRegex: false, isEqual: true },
    { name: "job", value: "a|b", isRegex: true, isEqual: false },
    { name: "team", value: "", isRegex: false, isEqual: false },
  ];
  const text = 'alertname="Disk, \\"full\\"", job!~"a|b", team!=""';
  expect(parseMatchers(`{${text},}`)).toEqual(expected);
  expect(parseMatchers(text)).toEqual(expected);
  expect(formatMatchers(expected)).toBe(text);
  expect(parseMatchers("severity=critical")[0]?.value).toBe("critical");
  expect(formatMatchers(parseMatchers('"with blank"="x"'))).toBe('"with blank"="x"');
});

test("what is no matcher is refused", () => {
  for (const text of ["job", "=x", 'a="x" b="y"', "{a=b", 'a="\\q"']) expect(() => parseMatchers(text), text).toThrow();
  expect(parseMatchers("{}")).toEqual([]);
});

test("links into the Alertmanager's page find their view", () => {
  expect(viewOfHash("#/alerts?receiver=team%5C.a")).toBe("alerts?receiver=team%5C.a");
  expect(viewOfHash("#/silences/new?filter=%7Ba%3D%22x%22%7D")).toBe("silences?new=1&filter=%7Ba%3D%22x%22%7D");
  expect(viewOfHash("#/silences/5f1c-11")).toBe("silences?id=5f1c-11");
  expect(viewOfHash("#/silences")).toBe("silences");
  expect(viewOfHash("#/status")).toBe("status");
  expect(["", "#g0", "#/nowhere"].map(viewOfHash)).toEqual([undefined, undefined, undefined]);
});
