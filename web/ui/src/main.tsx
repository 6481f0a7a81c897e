// The page: a header and the view that the path names.

import { render } from "preact";
import { AlertsView } from "./alerts";
import { viewOfHash } from "./matchers";
import { QueryView } from "./query";
import { SilencesView } from "./silences";
import "./style.css";
import { TargetsView } from "./targets";

const views = { query: QueryView, targets: TargetsView, alerts: AlertsView, silences: SilencesView };

function Page() {
  const last = location.pathname.split("/").pop() ?? "";
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
      </header>
      <View />
    </>
  );
}

// Links in mails that are years old lead into the Alertmanager's page.
const moved = viewOfHash(location.hash);
if (moved !== undefined) location.replace(moved);
else render(<Page />, document.getElementById("app")!);
