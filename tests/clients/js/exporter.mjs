// A target made with prom-client: the same metrics as text and as OpenMetrics with exemplars. Values do not change, so
// that whoever scrapes it has the same.
//
// node exporter.mjs <folder where npm installed>

import { createRequire } from "node:module";
import http from "node:http";
import path from "node:path";

const require = createRequire(path.join(process.argv[2], "package.json"));
const client = require("prom-client");

function registry(contentType) {
  const made = new client.Registry();
  made.setContentType(contentType);
  const isOpenMetrics = contentType === client.Registry.OPENMETRICS_CONTENT_TYPE;
  const registers = [made];
  const orders = new client.Counter({
    name: "shop_orders_total",
    help: 'Orders by "state",\nand a \\ in between.',
    labelNames: ["state", "path"],
    enableExemplars: isOpenMetrics,
    registers,
  });
  const order = (state, path, value) => {
    const labels = { state, path };
    if (isOpenMetrics) orders.inc({ labels, value, exemplarLabels: { trace_id: `order-${value}` } });
    else orders.inc(labels, value);
  };
  order("paid", "/a", 17);
  order('odd "state"', "C:\\shop\n", 3);
  const stock = new client.Gauge({ name: "shop_stock", help: "What is there.", labelNames: ["item"], registers });
  stock.set({ item: "pear" }, -2.5);
  stock.set({ item: "nothing" }, Number.NaN);
  stock.set({ item: "everything" }, Number.POSITIVE_INFINITY);
  stock.set({ item: "crumb" }, 1e-310);
  const waits = new client.Histogram({
    name: "shop_wait_seconds",
    help: "How long they waited.",
    labelNames: ["till"],
    buckets: [0.1, 1, 10],
    enableExemplars: isOpenMetrics,
    registers,
  });
  for (const value of [0.05, 0.5, 0.7, 5, 50]) {
    if (isOpenMetrics) waits.observe({ labels: { till: "1" }, value, exemplarLabels: { trace_id: `wait-${value}` } });
    else waits.observe({ till: "1" }, value);
  }
  const sizes = new client.Summary({ name: "shop_order_items", help: "Items.", percentiles: [0.5, 0.9], registers });
  for (let i = 1; i <= 10; i++) sizes.observe(i);
  return made;
}

const pages = {
  "/text": registry(client.Registry.PROMETHEUS_CONTENT_TYPE),
  "/openmetrics": registry(client.Registry.OPENMETRICS_CONTENT_TYPE),
};

const server = http.createServer(async (request, response) => {
  const page = pages[request.url];
  if (page === undefined) {
    response.writeHead(request.url === "/ready" ? 200 : 404);
    response.end();
    return;
  }
  const body = await page.metrics();
  response.writeHead(200, { "Content-Type": page.contentType });
  response.end(body);
});
server.listen(0, "127.0.0.1", () => {
  console.error(`msg="Listening on" address=127.0.0.1:${server.address().port}`);
});
