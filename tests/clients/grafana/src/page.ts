// The little of a browser that the data source touches as it is loaded. Imported first, for that reason.

const store = () => {
  const kept = new Map<string, string>();
  return {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
    clear: () => kept.clear(),
    key: (i: number) => [...kept.keys()][i] ?? null,
    get length() {
      return kept.size;
    },
  };
};

const element = () => ({
  style: {},
  setAttribute: () => undefined,
  appendChild: () => undefined,
  addEventListener: () => undefined,
  getContext: () => null,
});

const page: Record<string, unknown> = {
  window: globalThis,
  self: globalThis,
  location: new URL("http://grafana.example/"),
  document: {
    createElement: element,
    createTextNode: element,
    getElementById: () => null,
    getElementsByTagName: () => [],
    querySelector: () => null,
    querySelectorAll: () => [],
    addEventListener: () => undefined,
    documentElement: element(),
    head: element(),
    body: element(),
    cookie: "",
  },
  Element: class {},
  HTMLElement: class {},
  Node: class {},
  DOMParser: class {},
  Prism: { manual: true },
  localStorage: store(),
  sessionStorage: store(),
  matchMedia: () => ({ matches: false, addEventListener: () => undefined, addListener: () => undefined }),
  addEventListener: () => undefined,
  removeEventListener: () => undefined,
  requestAnimationFrame: (call: () => void) => setTimeout(call, 0),
  grafanaBootData: { settings: { featureToggles: {}, buildInfo: { version: "13.2.3" } }, user: { orgId: 1 } },
};

for (const [name, value] of Object.entries(page)) {
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

export {};
