"""ClickHouse's engine (chdb) behind HTTP, as far as inserts and queries need it.

Prints its port, and ends when its stdin ends. `GET /lose?database=D&inserts=N` makes it store the next N inserts into
that database and then close the connection without an answer.
"""

import json
import os
import re
import struct
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session

FOLDER = tempfile.TemporaryDirectory()
SESSION = Session(os.path.join(FOLDER.name, "data"))
LOCK = threading.Lock()
# Query parameters that are no settings.
OWN = {"query", "database", "default_format", "wait_end_of_query", "compress", "decompress", "session_id", "query_id",
       "client_protocol_version"}
INSERT = re.compile(r"^\s*(INSERT INTO .*?)\s*(?:SETTINGS (.*?))?\s*FORMAT\s+(\w+)\s*$", re.DOTALL | re.IGNORECASE)
lose = {}


def insert(statement, settings, body, encoding):
    """Runs an INSERT with its rows in a file, which the engine decompresses."""
    into, own, form = INSERT.match(statement).groups()
    with tempfile.NamedTemporaryFile(dir=FOLDER.name) as file:
        file.write(body)
        file.flush()
        compression = f" COMPRESSION '{encoding}'" if encoding else ""
        given = [f"{name} = '{value}'" for name, value in settings if name not in OWN]
        given += [own] if own else []
        settings = f" SETTINGS {', '.join(given)}" if given else ""
        SESSION.query(f"{into} FROM INFILE '{file.name}'{compression}{settings} FORMAT {form}")


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def text(value):
    value = value.encode()
    return varint(len(value)) + value


def native(statement):
    """The result in the Native format of protocol version 54454 and later, which the Collector's client reads: strings
    and UInt32 only. The engine itself writes an older version."""
    lines = SESSION.query(statement, "JSONCompactEachRowWithNamesAndTypes").bytes().splitlines()
    if not lines:
        return b""
    names, types, *rows = map(json.loads, lines)
    out = b"\x01\x00\x02\xff\xff\xff\xff\x00" + varint(len(names)) + varint(len(rows))
    for index, (name, kind) in enumerate(zip(names, types)):
        values = [row[index] for row in rows]
        data = [text(value) if kind == "String" else struct.pack("<I", value) for value in values]
        out += text(name) + text(kind) + b"\x00" + b"".join(data)
    return out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/lose":
            parameters = dict(parse_qsl(url.query))
            lose[f"`{parameters['database']}`"] = int(parameters["inserts"])
        self.answer(200, b"Ok.\n")

    def do_POST(self):
        settings = parse_qsl(urlsplit(self.path).query, keep_blank_values=True)
        parameters = dict(settings)
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        statement = parameters.get("query")
        if statement is None:
            statement, body = body.decode(), b""
        elif not INSERT.match(statement):
            # A query may begin in the URL and end in the body.
            statement, body = statement + "\n" + body.decode(), b""
        try:
            with LOCK:
                if body or INSERT.match(statement):
                    insert(statement, settings, body, self.headers.get("Content-Encoding"))
                    database = statement.partition("INSERT INTO ")[2].partition(".")[0]
                    result, lost = b"", lose.get(database, 0) > 0
                    if lost:
                        lose[database] -= 1
                else:
                    is_native = parameters.get("default_format") == "Native"
                    result = native(statement) if is_native else SESSION.query(statement, "TabSeparated").bytes()
                    lost = False
        except Exception as error:  # the engine's own exceptions have no class of their own
            code = re.search(r"Code: (\d+)", str(error))
            self.answer(500, str(error).encode(), X_ClickHouse_Exception_Code=code[1] if code else "1002")
            return
        if lost:
            self.close_connection = True
            return
        self.answer(200, result)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
os._exit(0)  # the engine's own end can take seconds
