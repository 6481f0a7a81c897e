"""prometheus-api-client against every server, and prometheus_client's parsers on what the servers say of themselves.

checks.py <settings as JSON in a file>"""

import datetime
import json
import sys
import traceback

import requests
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from prometheus_client.parser import text_string_to_metric_families

with open(sys.argv[1]) as file:
    SETTINGS = json.load(file)

FROM, TO = (datetime.datetime.fromtimestamp(SETTINGS["begin"] + seconds) for seconds in (2400, 3000))


class Skipped(Exception):
    pass


def connection(base):
    # It asks `/` of the host whether anybody is there, which leads to the page.
    if base != next(server["plain"] for server in SETTINGS["servers"] if base in (server["plain"], server["prefixed"])):
        raise Skipped("it cannot ask a server below a path")
    if base != SETTINGS["servers"][-1]["plain"] and not requests.get(f"{base}/query", timeout=20).ok:
        raise Skipped("this server was built without its page")
    found = PrometheusConnect(base, disable_ssl=True, timeout=20).check_prometheus_connection()
    assert found, "nobody at /"
    by_post = PrometheusConnect(base, method="POST", timeout=20)
    return by_post.custom_query("1+1", params={"time": 4})


def queries(base):
    client = PrometheusConnect(base, timeout=20)
    instant = client.custom_query("sum by (code) (http_requests_total)", params={"time": FROM.timestamp()})
    assert [(one["metric"]["code"], one["value"][1]) for one in instant] == [("200", "12480"), ("404", "1280"), ("500", "640")], instant
    ranges = client.custom_query_range("queue_length", FROM, TO, "15")
    assert [len(one["values"]) for one in ranges] == [41, 41], ranges
    raw = client.get_metric_range_data("queue_length", {"queue": "mail"}, FROM, TO)
    assert len(raw) == 1 and len(raw[0]["values"]) >= 40, raw
    aggregated = client.get_metric_aggregation("queue_length", ["sum", "max", "percentile_95"], FROM, TO, "15") if numpy() else {}
    try:
        client.custom_query("rate(up)")
        raise AssertionError("a wrong query is answered")
    except PrometheusApiClientException as error:
        assert "1:6: parse error" in str(error), error
    return [instant, ranges, raw, aggregated]


def numpy():
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True


def names(base):
    client = PrometheusConnect(base, timeout=20)
    metrics = client.all_metrics()
    assert "http_requests_total" in metrics and "utf8.requests" in metrics, metrics
    labels = client.get_label_names({"match[]": "queue_length"})
    values = client.get_label_values("room")
    series = client.get_series(FROM, TO, {"match[]": "queue_length"})
    metadata = client.get_metric_metadata("room_celsius")
    assert values == ["attic", "cellar", "hall", "kitchen", "loft", "yard"], values
    assert len(series) == 2, series
    assert metadata[0]["help"] == "Temperature of a room.", metadata
    return [labels, values, sorted(json.dumps(one, sort_keys=True) for one in series), metadata]


def targets(base):
    client = PrometheusConnect(base, timeout=20)
    found = client.get_targets()
    assert found["activeTargets"] and found["droppedTargets"] == [], found
    assert client.get_targets(state="active", scrape_pool="text")["activeTargets"][0]["scrapePool"] == "text"
    pools = client.get_scrape_pools()
    about = client.get_target_metadata({"job": "text"}, "waiting")
    assert [one["help"] for one in about] == ["Who waits."], about
    return [sorted(pools), sorted(set(found["activeTargets"][0]))]


def self_metrics(base):
    answer = requests.get(f"{base}/metrics", timeout=20)
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert len(families) > 50, sorted(families)
    for family in families.values():
        seen = set()
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in seen, key
            seen.add(key)
        if family.type == "histogram":
            buckets = {}
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    key = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
                    assert sample.value >= buckets.get(key, 0), f"{family.name} {key} goes down"
                    buckets[key] = sample.value
    assert families["prometheus_build_info"].samples[0].labels["version"].startswith("3.")


def federation(base):
    answer = requests.get(f"{base}/federate", params={"match[]": ["queue_length", "room_celsius"]}, timeout=20)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert set(families) == {"queue_length", "room_celsius"}, sorted(families)
    return {name: sorted(json.dumps(sample.labels, sort_keys=True) for sample in family.samples) for name, family in families.items()}


CHECKS = {
    "prometheus-api-client: connection": connection,
    "prometheus-api-client: queries": queries,
    "prometheus-api-client: names": names,
    "prometheus-api-client: targets": targets,
    "prometheus_client: reads /metrics": self_metrics,
    "prometheus_client: reads /federate": federation,
}

for check, run in CHECKS.items():
    expected = None
    for server in SETTINGS["servers"]:
        for base in (server["plain"], server["prefixed"]):
            why, skipped = "", False
            try:
                value = run(base)
                # A NaN is as good as another.
                text = json.dumps(value, sort_keys=True)
                if expected is None:
                    expected = text
                if text != expected:
                    at = next((i for i, (a, b) in enumerate(zip(text, expected)) if a != b), min(len(text), len(expected)))
                    why = f"not as that of {SETTINGS['servers'][0]['name']}: ...{text[max(0, at - 80):at + 200]} instead of ...{expected[max(0, at - 80):at + 200]}"
            except Skipped as reason:
                why, skipped = str(reason), True
            except Exception:
                why = traceback.format_exc()[-1500:]
            outcome = {"check": check, "server": server["name"], "at": base, "outcome": "skip" if skipped else "fail" if why else "pass", "why": why}
            print(json.dumps(outcome), flush=True)
