// Stands for a package that draws on a screen: whatever is taken from it can be called, constructed and rendered,
// and does nothing. The data source is driven without a page, so none of it is ever seen.
"use strict";

function nothing() {
  return null;
}

function get(_, key) {
  if (key === "__esModule") return true;
  if (key === "prototype") return nothing.prototype;
  if (key === Symbol.toPrimitive) return () => "";
  if (key === "then") return undefined;
  return everything;
}

// A bundler makes the object of named imports of a module's prototype: that one must have all names, too.
const names = new Proxy({}, { get });

const everything = new Proxy(nothing, {
  get,
  has: () => true,
  getPrototypeOf: () => names,
  apply: () => everything,
  construct: () => everything,
});

module.exports = everything;
