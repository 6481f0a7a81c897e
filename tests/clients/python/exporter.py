"""Targets made with the Python libraries: prometheus_client as text and as OpenMetrics with exemplars, and what the
OpenTelemetry SDK exports for scraping. Values do not change, so that whoever scrapes them has the same."""

import http.server
import sys

import opentelemetry.metrics
import prometheus_client
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource


def by_hand():
    registry = prometheus_client.CollectorRegistry()
    orders = prometheus_client.Counter("shop_orders", 'Orders by "state",\nand a \\.', ["state"], registry=registry)
    orders.labels("paid").inc(17, exemplar={"trace_id": "order-17"})
    orders.labels('odd "state" C:\\shop\n').inc(3)
    stock = prometheus_client.Gauge("shop_stock", "What is there.", ["item"], registry=registry)
    stock.labels("pear").set(-2.5)
    stock.labels("nothing").set(float("nan"))
    stock.labels("everything").set(float("inf"))
    stock.labels("crumb").set(1e-310)
    waits = prometheus_client.Histogram(
        "shop_wait_seconds", "How long they waited.", ["till"], buckets=[0.1, 1, 10], registry=registry
    )
    for value in [0.05, 0.5, 0.7, 5, 50]:
        waits.labels("1").observe(value, exemplar={"trace_id": f"wait-{value}"})
    sizes = prometheus_client.Summary("shop_order_items", "Items.", registry=registry)
    for value in range(1, 11):
        sizes.observe(value)
    prometheus_client.Info("shop_build", "What runs.", registry=registry).info({"version": "1.2"})
    prometheus_client.Enum("shop_state", "Open or not.", states=["open", "closed"], registry=registry).state("closed")
    dotted = prometheus_client.Gauge("shop.till.count", "A name with dots.", ["till.kind"], registry=registry)
    dotted.labels("self service").set(4)
    return registry


def by_opentelemetry():
    reader = PrometheusMetricReader()
    resource = Resource.create({"service.name": "shop", "service.namespace": "stores", "service.instance.id": "1"})
    opentelemetry.metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))
    meter = opentelemetry.metrics.get_meter("shop.meter", "2.1")
    meter.create_counter("shop.otel.orders", unit="1", description="Orders.").add(17, {"order.state": "paid"})
    meter.create_up_down_counter("shop.otel.queue", description="Who waits.").add(-3, {"till": "1"})
    waits = meter.create_histogram("shop.otel.wait", unit="s", description="How long they waited.")
    for value in [0.05, 0.5, 0.7, 5, 50]:
        waits.record(value, {"till": "1"})
    meter.create_observable_gauge(
        "shop.otel.temperature",
        callbacks=[lambda _: [opentelemetry.metrics.Observation(21.5, {"room": "hall"})]],
        unit="Cel",
    )
    # What the interpreter says of itself changes from scrape to scrape.
    for collector in [prometheus_client.GC_COLLECTOR, prometheus_client.PLATFORM_COLLECTOR, prometheus_client.PROCESS_COLLECTOR]:
        prometheus_client.REGISTRY.unregister(collector)
    return prometheus_client.REGISTRY


REGISTRY = by_hand()
OTEL = by_opentelemetry()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        accept = self.headers.get("Accept", "")
        body, kind = b"", "text/plain"
        if self.path == "/text":
            encode, kind = prometheus_client.exposition.choose_encoder("text/plain")
            body = encode(REGISTRY)
        elif self.path == "/openmetrics":
            encode, kind = prometheus_client.exposition.choose_encoder(accept.replace("application/vnd.google.protobuf", "x/y"))
            body = encode(REGISTRY)
        elif self.path == "/otel":
            encode, kind = prometheus_client.exposition.choose_encoder(accept)
            body = encode(OTEL)
        elif self.path != "/ready":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f'msg="Listening on" address=127.0.0.1:{server.server_address[1]}', file=sys.stderr, flush=True)
server.serve_forever()
