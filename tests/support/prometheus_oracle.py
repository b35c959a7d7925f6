"""Parses and writes expositions with the Prometheus client library, as an oracle for scrape --url.

    parse text|openmetrics   reads an exposition from stdin and prints one JSON object per sample
    write                    prints an OpenMetrics exposition
"""

import json
import sys

from prometheus_client import (
    CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, parser,
)
from prometheus_client.openmetrics import exposition, parser as openmetrics_parser


def parse(form):
    text = sys.stdin.buffer.read().decode()
    read = parser.text_string_to_metric_families
    if form == "openmetrics":
        read = openmetrics_parser.text_string_to_metric_families
    for family in read(text):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key not in ("le", "quantile")}
            bound = sample.labels.get("le") or sample.labels.get("quantile")
            print(json.dumps({
                "name": sample.name,
                "type": family.type,
                "help": family.documentation,
                "labels": labels,
                "bound": None if bound is None else repr(float(bound)),
                "value": repr(float(sample.value)),
                "time": None if sample.timestamp is None else float(sample.timestamp),
            }))


def write():
    registry = CollectorRegistry()
    requests = Counter("http_requests", "Requests", ["path", "note"], registry=registry)
    requests.labels("/a\"b\\c\nd{e=\"f\",g} #", "é").inc(3, {"trace_id": "abc"})
    requests.labels("", "#").inc(1e15)
    Counter("alone", "No labels", registry=registry).inc()
    Gauge("temperature_celsius", "Of\nthe \\ room", unit="celsius", registry=registry).set(-4.25)
    Gauge("impossible", "Not a number", registry=registry).set(float("nan"))
    times = Histogram("duration_seconds", "Time", ["path"], buckets=(0.001, 0.5, 2.5), registry=registry)
    for value in (0.0001, 0.5, 1.0, 99.0):
        times.labels("/").observe(value, {"trace_id": "def"})
    times.labels("/never")
    Summary("size_bytes", "Size", registry=registry).observe(1e9)
    Info("build", "What runs", registry=registry).info({"version": "1.2", "instance": "own"})
    Enum("state", "Of it", states=["on", "off"], registry=registry).state("off")
    sys.stdout.buffer.write(exposition.generate_latest(registry))


if __name__ == "__main__":
    parse(sys.argv[2]) if sys.argv[1] == "parse" else write()
