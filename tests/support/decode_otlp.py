"""Bodies of OTLP requests, decoded by the package opentelemetry-proto.

    decode_otlp.py FILE...   a line of OTLP/JSON per file, whose name ends in metrics, logs or traces

Fails on a body that is not the message, or that has a field which the package does not know.
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


def hexadecimal(value):
    """Ids are hexadecimal in OTLP/JSON, where protobuf's own mapping has base64."""
    if isinstance(value, list):
        for inner in value:
            hexadecimal(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("traceId", "spanId", "parentSpanId"):
                value[key] = base64.b64decode(inner).hex()
            else:
                hexadecimal(inner)


for path in sys.argv[1:]:
    request = REQUESTS[path.rpartition("-")[2]]()
    with open(path, "rb") as file:
        request.ParseFromString(file.read())
    assert_known(request)
    said = json_format.MessageToDict(request, use_integers_for_enums=True)
    hexadecimal(said)
    print(json.dumps(said))
