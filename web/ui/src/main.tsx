// The page: a header and the view that the path names.

import { render } from "preact";
import { AlertsView } from "./alerts";
import { viewOfHash } from "./matchers";
import { QueryView } from "./query";
import { SilencesView } from "./silences";
import "./style.css";
import { TargetsView } from "./targets";

const views = { query: QueryView, targets: TargetsView, alerts: AlertsView, silences: SilencesView };

// Paths of Prometheus' own page, and which view shows the same here.
const aliases: Record<string, keyof typeof views> = {
  rules: "alerts",
  "service-discovery": "targets",
};

// Where the server has pages of its users, as it says in the page.
const told = document.getElementById("app")!.dataset;
const consoles = told.consolesLink?.endsWith(".html") ? told.consolesLink : "";

function Page() {
  const path = location.pathname.split("/").pop() ?? "";
  const last = aliases[path] ?? path;
  const name = last in views ? (last as keyof typeof views) : "query";
  const View = views[name];
  return (
    <>
      <header>
        <a class="brand" href="query">
          <img src="./favicon.svg" alt="" width="24" height="24" /> Ferula
        </a>
        {Object.keys(views).map((view) => (
          <a key={view} href={view} aria-current={view === name ? "page" : undefined}>
            {view}
          </a>
        ))}
        {consoles !== "" && <a href={consoles}>consoles</a>}
      </header>
      <View />
    </>
  );
}

// Links in mails that are years old lead into the Alertmanager's page.
const moved = viewOfHash(location.hash);
if (moved !== undefined) location.replace(moved);
else render(<Page />, document.getElementById("app")!);
