"""An OTLP server of grpcio that answers by a script.

    grpc_server.py OPTIONS [ANSWER...]

OPTIONS is a JSON object: "max_bytes", the longest message that is taken (4 MiB by default); "certificate" and "key", PEM
files for TLS. An ANSWER is a JSON object: "code", the number of a gRPC status, with "message" and "retry_s", the delay of
a RetryInfo; or "rejected" and "message", a partial success; or {}. After the last one, every answer is {}.

Prints its port, and then a line of JSON for each request that it took: the signal, the metadata, the message and its
size. Ends when stdin does.
"""

import json
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2, duration_pb2, json_format
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

options = json.loads(sys.argv[1])
answers = iter([json.loads(text) for text in sys.argv[2:]])
lock = threading.Lock()


def answer(signal, request, context, success):
    with lock:
        wanted = next(answers, {})
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        message = json_format.MessageToDict(request, use_integers_for_enums=True)
        left_s = context.time_remaining()
        seen = {"signal": signal, "metadata": metadata, "left_s": left_s, "message": message, "bytes": request.ByteSize()}
        print(json.dumps(seen), flush=True)
    if "code" not in wanted:
        return success(wanted)
    status = status_pb2.Status(code=wanted["code"], message=wanted.get("message", ""))
    if "retry_s" in wanted:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(wanted["retry_s"] * 1000))
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        status.details.append(detail)
    context.abort_with_status(rpc_status.to_status(status))


def partial(response, field):
    """A response with a partial success, if the answer asks for one."""

    def make(wanted):
        if "rejected" in wanted:
            setattr(response.partial_success, field, wanted["rejected"])
            response.partial_success.error_message = wanted.get("message", "")
        return response

    return make


class Metrics(metrics_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        response = metrics.ExportMetricsServiceResponse()
        return answer("metrics", request, context, partial(response, "rejected_data_points"))


class Logs(logs_grpc.LogsServiceServicer):
    def Export(self, request, context):
        return answer("logs", request, context, partial(logs.ExportLogsServiceResponse(), "rejected_log_records"))


class Traces(trace_grpc.TraceServiceServicer):
    def Export(self, request, context):
        return answer("traces", request, context, partial(trace.ExportTraceServiceResponse(), "rejected_spans"))


limit = [("grpc.max_receive_message_length", options["max_bytes"])] if "max_bytes" in options else []
server = grpc.server(futures.ThreadPoolExecutor(8), options=limit)
metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
logs_grpc.add_LogsServiceServicer_to_server(Logs(), server)
trace_grpc.add_TraceServiceServicer_to_server(Traces(), server)
if "key" in options:
    with open(options["key"], "rb") as key, open(options["certificate"], "rb") as certificate:
        credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
sys.stdin.read()
server.stop(None)
