"""ClickHouse's engine (chdb) behind HTTP, as far as inserts and queries need it.

Prints its port, and ends when its stdin ends. `GET /lose?database=D&inserts=N` makes it store the next N inserts into
that database and then close the connection without an answer. `GET /fail?database=D&percent=P` makes that share of
the inserts into that database fail at random, before or after the rows are stored, and answers with the number of
inserts that repeated an earlier token.
"""

import json
import os
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
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
fail = {}
tokens = {}
repeated = {}
moods = random.Random(7)


def mood(database):
    """How an insert goes wrong; None if it does not."""
    if moods.randrange(100) < fail.get(database, 0):
        return moods.choice(["refuse", "reset", "store and lose", "store and reset", "store and report a failure"])
    return None


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

    def hang_up(self, reset):
        """Ends the connection without an answer."""
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def do_GET(self):
        url = urlsplit(self.path)
        parameters = dict(parse_qsl(url.query))
        database = f"`{parameters.get('database')}`"
        if url.path == "/lose":
            lose[database] = int(parameters["inserts"])
        if url.path == "/fail":
            fail[database] = int(parameters["percent"])
            return self.answer(200, str(repeated.get(database, 0)).encode())
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
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                return self.hang_up(reset=False)
        statement = parameters.get("query")
        if statement is None:
            statement, body = body.decode(), b""
        elif not INSERT.match(statement):
            # A query may begin in the URL and end in the body.
            statement, body = statement + "\n" + body.decode(), b""
        is_insert, wrong = bool(body or INSERT.match(statement)), None
        try:
            with LOCK:
                if is_insert:
                    database = statement.partition("INSERT INTO ")[2].partition(".")[0]
                    wrong = mood(database)
                    if wrong == "refuse":
                        return self.answer(503, b"")
                    if wrong == "reset":
                        return self.hang_up(reset=True)
                    insert(statement, settings, body, self.headers.get("Content-Encoding"))
                    result, token = b"", parameters.get("insert_deduplication_token")
                    known = tokens.setdefault(database, set())
                    repeated[database] = repeated.get(database, 0) + (token in known)
                    known.add(token)
                    if lose.get(database, 0) > 0:
                        lose[database] -= 1
                        wrong = "store and lose"
                else:
                    is_native = parameters.get("default_format") == "Native"
                    result = native(statement) if is_native else SESSION.query(statement, "TabSeparated").bytes()
        except Exception as error:  # the engine's own exceptions have no class of their own
            code = re.search(r"Code: (\d+)", str(error))
            self.answer(500, str(error).encode(), X_ClickHouse_Exception_Code=code[1] if code else "1002")
            return
        if is_insert and fail.get(database):
            # The rows are stored: the time in which a client is to be killed.
            time.sleep(moods.random() / 20)
        if wrong == "store and report a failure":
            self.answer(200, b"Code: 241. DB::Exception: Memory limit exceeded.", X_ClickHouse_Exception_Code="241")
        elif wrong:
            self.hang_up(reset=wrong == "store and reset")
        else:
            self.answer(200, result)


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the client was killed
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
os._exit(0)  # the engine's own end can take seconds
