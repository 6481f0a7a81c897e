// A value that is asked for again and again while its view is open.

import { useEffect, useState } from "preact/hooks";

export interface Polled<T> {
  value?: T;
  error?: string;
}

/** Asks at once, then every `interval` ms while the page is visible, and when `again` changes; the last value stays beside an error. */
export function usePolled<T>(ask: () => Promise<T>, interval: number, again = 0): Polled<T> {
  const [state, setState] = useState<Polled<T>>({});
  useEffect(() => {
    let open = true;
    const poll = () =>
      ask().then(
        (value) => open && setState({ value }),
        (e: unknown) => open && setState((old) => ({ ...old, error: e instanceof Error ? e.message : String(e) })),
      );
    void poll();
    const timer = setInterval(() => document.hidden || void poll(), interval);
    return () => {
      open = false;
      clearInterval(timer);
    };
  }, [again]);
  return state;
}
