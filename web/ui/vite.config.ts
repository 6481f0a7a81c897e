import { defineConfig } from "vitest/config";

// The page may lie under any prefix, so every asset is found relative to it; `npm run dev` asks a server on 9090.
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: { target: "es2022", sourcemap: false },
  server: { proxy: { "/api": "http://localhost:9090" } },
});
