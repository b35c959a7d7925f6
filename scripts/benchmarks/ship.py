"""What `tele-ship --otlp` delivers on one core, and at what cost, to an HTTP server that does nothing.

It plays recordings of scrape and, as root, of iolat, as fast as tele-ship reads them. BENCH_MIB (64) sets how much of
each is played.
"""

import json
import os
import socket
import subprocess
import tempfile
import threading
import time

BYTES = int(float(os.environ.get("BENCH_MIB", "64")) * 2**20)
LIMIT = 10  # seconds for each run; on an idle machine one takes less than one
CORES = sorted(os.sched_getaffinity(0))


def start(program, *args, **options):
    return subprocess.Popen([str(program), *args], stderr=subprocess.PIPE, **options)


def scrape(programs, lines):
    """A hundred samples of everything."""
    finish(start(programs / "scrape", "--per-cpu", "-i", "20ms", "-n", "100", stdout=lines))


def iolat(programs, lines):
    """Five seconds of a busy disk."""
    process = start(programs / "iolat", "-i", "100ms", "--duration", "5s", stdout=lines)
    block = os.urandom(1 << 16)
    with tempfile.NamedTemporaryFile(dir=".") as file:
        end = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end:
            file.seek(0)
            for _ in range(64):
                file.write(block)
                file.flush()
                os.fdatasync(file.fileno())
    finish(process)


def finish(process):
    """Waits for its end, at most ten seconds."""
    try:
        _, messages = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode != 0:
        raise OSError(messages.decode().strip() or f"exit code {process.returncode}")


def serve(listener):
    """Reads requests whole and answers 200, in a process of its own, so that tele-ship does not pay for it."""
    scratch = memoryview(bytearray(1 << 20))

    def client(connection):
        head = b""
        while True:
            while b"\r\n\r\n" not in head:
                got = connection.recv(65536)
                if not got:
                    return
                head += got
            lines, _, body = head.partition(b"\r\n\r\n")
            fields = dict(line.lower().split(b":", 1) for line in lines.split(b"\r\n")[1:])
            left = int(fields[b"content-length"]) - len(body)
            while left > 0:
                left -= connection.recv_into(scratch, min(left, len(scratch)))
            head = b""
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=client, args=(connection,), daemon=True).start()


def play(programs, path, url, compression):
    """Returns wall seconds, CPU seconds and the last statistics."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env["NO_PROXY"] = "127.0.0.1"
    args = ["--otlp", url, "--compression", compression, "--stats", "1h"]
    with open(path, "rb") as lines:
        begin = time.monotonic()
        pin = lambda: os.sched_setaffinity(0, CORES[:1])
        process = start(programs / "tele-ship", *args, stdin=lines, env=env, preexec_fn=pin)
        # If the server is stuck, this ends tele-ship, which then fails because lines are pending.
        timer = threading.Timer(LIMIT, process.terminate)
        timer.start()
        messages = process.stderr.read().decode()
        timer.cancel()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - begin
    if status != 0:
        raise RuntimeError(f"tele-ship failed: {messages}")
    stats = next(json.loads(line) for line in messages.splitlines() if line.startswith("{"))
    return wall, usage.ru_utime + usage.ru_stime, stats


def main(programs):
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = os.fork()
    if server == 0:
        serve(listener)
    try:
        with tempfile.TemporaryDirectory() as folder:
            print(f"tele-ship on one core, {BYTES / 2**20:g} MiB of each recording, HTTP on loopback")
            titles = ["lines/s", "MB/s", "points/s", "CPU s/M points", "points/CPU s"]
            print(f"{'recording':10}{'compression':13}" + "".join(f"{title:>16}" for title in titles))
            for record in (scrape, iolat):
                measure(programs, record, os.path.join(folder, "lines"), url)
    finally:
        os.kill(server, 9)
        os.waitpid(server, 0)


def measure(programs, record, path, url):
    try:
        with open(path, "wb") as file:
            record(programs, file)
    except (OSError, subprocess.TimeoutExpired) as why:
        print(f"{record.__name__:10}not recorded: {why}")
        return
    with open(path, "rb") as file:
        lines = file.read()
    with open(path, "wb") as file:
        for _ in range(max(1, BYTES // len(lines))):
            file.write(lines)
    for compression in ("none", "gzip"):
        wall, cpu, stats = play(programs, path, url, compression)
        points = stats["accepted_items"]
        columns = [
            f"{stats['read'] / wall:,.0f}",
            f"{os.path.getsize(path) / wall / 1e6:,.1f}",
            f"{points / wall:,.0f}",
            f"{cpu / points * 1e6:.3f}",
            f"{points / cpu:,.0f}",
        ]
        print(f"{record.__name__:10}{compression:13}" + "".join(f"{column:>16}" for column in columns))
