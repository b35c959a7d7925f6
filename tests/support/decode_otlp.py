"""Decodes OTLP requests with the package opentelemetry-proto, and prints a line of OTLP/JSON for each.

    decode_otlp.py FILE...

A file is a request in protobuf, and its name ends in metrics, logs or traces; or it ends in metrics.json, logs.json or
traces.json, and the file is OTLP/JSON. Fails if a file is not that message, or has a field that the package does not
know; OTLP/JSON may have unknown fields.
"""

import base64
import json
import sys

from google.protobuf import json_format, unknown_fields
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
    "traces": ExportTraceServiceRequest,
}


def assert_known(message):
    assert len(unknown_fields.UnknownFieldSet(message)) == 0, f"unknown fields in {message}"
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if hasattr(value, "__len__") else [value]:
                assert_known(inner)


IDS = {"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"}


def convert_ids(value, convert):
    """Ids are hexadecimal in OTLP/JSON, but base64 in protobuf's own mapping."""
    if isinstance(value, list):
        for inner in value:
            convert_ids(inner, convert)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in IDS and isinstance(inner, str):
                value[key] = convert(inner)
            else:
                convert_ids(inner, convert)


for path in sys.argv[1:]:
    stem = path.removesuffix(".json")
    request = REQUESTS[stem.rpartition("-")[2]]()
    with open(path, "rb") as file:
        content = file.read()
    if stem == path:
        request.ParseFromString(content)
        assert_known(request)
    else:
        given = json.loads(content)
        convert_ids(given, lambda text: base64.b64encode(bytes.fromhex(text)).decode())
        json_format.ParseDict(given, request, ignore_unknown_fields=True)
    decoded = json_format.MessageToDict(request, use_integers_for_enums=True)
    convert_ids(decoded, lambda text: base64.b64decode(text).hex())
    print(json.dumps(decoded))
