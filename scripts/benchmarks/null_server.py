"""A server that reads requests and does nothing with them: OTLP over HTTP and gRPC, and the inserts of ClickHouse.

    null_server.py FOLDER

Prints its ports as a JSON object, and ends when stdin does. ClickHouse's engine (chdb) answers every statement
except inserts. `GET /counts` returns the numbers of requests and of lines (`"kind":` in log records). A path that
begins with `/hold` gets no answer; the bodies posted to `/keep/v1/metrics` become files in FOLDER.
"""

import json
import os
import re
import socket
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc

counts = {"requests": 0, "lines": 0}
lock = threading.Lock()
engine = None


def statement(sql):
    """The answer to a statement, by the engine."""
    global engine
    with lock:
        if engine is None:
            from chdb.session import Session

            engine = Session(os.path.join(sys.argv[1], "engine"))
        try:
            return b"200 OK\r\n", engine.query(sql, "TabSeparated").bytes()
        except Exception as error:  # the engine's own exceptions have no class of their own
            code = re.search(r"Code: (\d+)", str(error))[1]
            return f"500 Error\r\nX-ClickHouse-Exception-Code: {code}\r\n".encode(), str(error).encode()


def answer(target, body):
    """The status, with headers, and the body."""
    if target == "/counts":
        return b"200 OK\r\n", json.dumps(counts).encode()
    if target.startswith("/hold"):
        threading.Event().wait()
    if target.startswith("/?query=INSERT"):
        return b"200 OK\r\n", b""
    if target.startswith("/v1/") or target.startswith("/keep"):
        lines = body.count(b'"kind":') if target.endswith("/logs") else 0
        with lock:
            if target == "/keep/v1/metrics":
                Path(sys.argv[1], f"{counts['requests']}.body").write_bytes(body)
            counts["requests"] += 1
            counts["lines"] += lines
        return b"200 OK\r\n", b""
    return statement(body.decode())


def client(connection):
    """Answers the requests of a connection, one after the other."""
    buffer = bytearray(1 << 20)
    while True:
        filled = 0

        def receive():
            nonlocal filled
            with memoryview(buffer) as all, all[filled:] as rest:
                got = connection.recv_into(rest)
            filled += got
            return got

        while (end := buffer.find(b"\r\n\r\n", 0, filled)) < 0:
            if not receive():
                return
        first, *fields = bytes(buffer[:end]).decode().split("\r\n")
        fields = dict(field.lower().split(":", 1) for field in fields)
        begin = end + 4
        whole = begin + int(fields.get("content-length", 0))
        if whole > len(buffer):
            buffer.extend(bytes(whole - len(buffer)))
        while filled < whole:
            if not receive():
                return
        status, body = answer(first.split()[1], buffer[begin:whole])
        connection.sendall(b"HTTP/1.1 " + status + b"content-length: %d\r\n\r\n" % len(body) + body)


def http(listener):
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=client, args=(connection,), daemon=True).start()


class EveryMethod(grpc.GenericRpcHandler):
    """Answers every method with an empty message."""

    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=http, args=(listener,), daemon=True).start()
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((EveryMethod(),))
    ports = {"http": listener.getsockname()[1], "grpc": server.add_insecure_port("127.0.0.1:0")}
    server.start()
    print(json.dumps(ports), flush=True)
    sys.stdin.read()
    os._exit(0)


main()
