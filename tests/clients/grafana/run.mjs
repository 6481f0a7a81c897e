// Bundles the checks with the data source that npm installed and runs them.
//
// node run.mjs <folder where npm installed> <settings as JSON in a file> [name of a check ...]

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const installed = path.resolve(process.argv[2]);
const require = createRequire(path.join(installed, "package.json"));
const esbuild = require("esbuild");

const here = path.dirname(fileURLToPath(import.meta.url));
const folder = path.join(installed, "bundle");
mkdirSync(folder, { recursive: true });
const outfile = path.join(folder, `checks-${process.pid}.cjs`);

const stub = path.join(here, "stub/index.js");
/** What npm did not install, since only those want it that draw. */
const drawing = {
  name: "drawing",
  setup: (build) => build.onResolve({ filter: /^(react|react-dom|@grafana\/assistant)(\/|$)/ }, () => ({ path: stub })),
};

await esbuild.build({
  entryPoints: [path.join(here, "src/main.ts")],
  outfile,
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node20",
  // The sources lie elsewhere than what they import.
  nodePaths: [path.join(installed, "node_modules")],
  mainFields: ["module", "main"],
  conditions: ["import", "module"],
  loader: { ".svg": "empty", ".css": "empty", ".png": "empty" },
  plugins: [drawing],
  logLevel: "error",
});
process.on("exit", () => require("node:fs").rmSync(outfile, { force: true }));
await import(pathToFileURL(outfile));
