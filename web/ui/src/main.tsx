// The page: a header and the view that the path names.

import { render } from "preact";
import { AlertsView } from "./alerts";
import { QueryView } from "./query";
import "./style.css";
import { TargetsView } from "./targets";

const views = { query: QueryView, targets: TargetsView, alerts: AlertsView };

function Page() {
  const last = location.pathname.split("/").pop() ?? "";
  const name = last === "targets" || last === "alerts" ? last : "query";
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

render(<Page />, document.getElementById("app")!);
