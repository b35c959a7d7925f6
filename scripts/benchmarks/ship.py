"""What `tele-ship` delivers on one core, and at what cost, to a server that does nothing; next to the OpenTelemetry
Collector.

It plays recordings of scrape and, as root, of iolat, as fast as tele-ship reads them, and prints the run with the median
CPU time. BENCH_LINES (1,000,000) sets how many lines, BENCH_RUNS (3) how many runs, BENCH_RECORDINGS a folder with
recordings to use instead (scrape.ndjson, iolat.ndjson, events.ndjson).
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from datetime import datetime, timedelta
from pathlib import Path

LINES = int(os.environ.get("BENCH_LINES", "1000000"))
RUNS = int(os.environ.get("BENCH_RUNS", "3"))
LIMIT = 120  # seconds for each run; on an idle machine one takes less than ten
CORES = sorted(os.sched_getaffinity(0))
OTHER_CORES = CORES[1:] or CORES
HERE = Path(__file__).parent
# Recordings are played from memory, as a disk could be the slowest part.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

Run = namedtuple("Run", "wall cpu peak_mib stats")


# Recordings


def scrape(programs, lines):
    """A hundred samples of everything."""
    finish([programs / "scrape", "--per-cpu", "-i", "20ms", "-n", "100"], lines)


def iolat(programs, lines):
    """Five seconds of a busy disk, mostly histograms."""
    finish([programs / "iolat", "-i", "100ms", "--duration", "5s"], lines, write_blocks)


def events(programs, lines):
    """Every request of a busy disk, which are log records."""
    finish([programs / "iolat", "--events", "--no-summary", "--duration", "3s"], lines, write_blocks)


def write_blocks(process):
    block = os.urandom(1 << 16)
    with tempfile.NamedTemporaryFile(dir=".") as file:
        while process.poll() is None:
            file.seek(0)
            for _ in range(64):
                file.write(block)
                file.flush()
                os.fdatasync(file.fileno())


def finish(command, lines, meanwhile=None):
    """Waits for its end, at most twenty seconds."""
    process = subprocess.Popen([str(word) for word in command], stdout=lines, stderr=subprocess.PIPE)
    timer = threading.Timer(20, process.kill)
    timer.start()
    if meanwhile:
        meanwhile(process)
    _, messages = process.communicate()
    timer.cancel()
    if process.returncode != 0:
        raise OSError(messages.decode().strip() or f"exit code {process.returncode}")


def recording(programs, record, count, folder):
    """A file of that many recorded lines, over and over, each time a minute later; None if nothing can be recorded."""
    given = os.environ.get("BENCH_RECORDINGS")
    path = Path(folder, f"{record.__name__}.ndjson")
    try:
        if given:
            shutil.copyfile(Path(given, path.name), path)
        else:
            with open(path, "wb") as file:
                record(programs, file)
    except OSError as why:
        print(f"{record.__name__}: not recorded: {why}")
        return None
    once = path.read_bytes()
    minutes = sorted(set(re.findall(rb'"ts":"([-0-9]+T[0-9]+:[0-9]+)', once)), reverse=True)
    with open(path, "wb") as file:
        left, number = count, 0
        while left > 0:
            again = once
            for minute in minutes:
                again = again.replace(minute, later(minute, number))
            lines = again.splitlines(keepends=True)[:left]
            file.writelines(lines)
            left, number = left - len(lines), number + 1
    return path


def later(minute, number):
    """That many minutes after `2026-01-02T03:04`."""
    form = "%Y-%m-%dT%H:%M"
    time = datetime.strptime(minute.decode(), form) + timedelta(minutes=number)
    return time.strftime(form).encode()


# Running


def peak_mib(pid):
    """The most memory that the process had resident. Its rusage would include what it was before exec: this program."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(sizes[0]) / 1024 if sizes else 0


def until_end(process, done=lambda: False):
    """Waits for its end, or ends it when `done`. Returns CPU seconds and the peak of its memory."""
    peak, end = 0, time.monotonic() + LIMIT
    while True:
        peak = max(peak, peak_mib(process.pid))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime, peak
        if time.monotonic() > end or done():
            process.terminate()
        time.sleep(0.005)


def start(command, **options):
    """Starts a program on the first core."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env["NO_PROXY"] = "127.0.0.1"
    pin = lambda: os.sched_setaffinity(0, CORES[:1])
    return subprocess.Popen([str(word) for word in command], env=env, preexec_fn=pin, **options)


def play(programs, path, args):
    """tele-ship with these options and the lines of a file."""
    with open(path, "rb") as lines, tempfile.TemporaryFile() as messages:
        begin = time.monotonic()
        process = start([programs / "tele-ship", *args, "--stats", "1h"], stdin=lines, stderr=messages)
        cpu, peak = until_end(process)
        wall = time.monotonic() - begin
        messages.seek(0)
        text = messages.read().decode()
    if process.returncode != 0:
        raise RuntimeError(f"tele-ship {' '.join(map(str, args))} failed: {text}")
    stats = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return Run(wall, cpu, peak, stats[-1])


def median(runs):
    return sorted(runs, key=lambda run: run.cpu)[len(runs) // 2]


class NullServer:
    def __init__(self, folder):
        self.folder = folder
        pin = lambda: os.sched_setaffinity(0, OTHER_CORES)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, HERE / "null_server.py", folder], preexec_fn=pin, **pipes)
        ports = json.loads(self.process.stdout.readline())
        self.port = ports["http"]
        self.http, self.grpc = f"http://127.0.0.1:{self.port}", f"grpc://127.0.0.1:{ports['grpc']}"
        self.post("/", b"SELECT 1")  # the engine takes a moment to start

    def post(self, path, body=b""):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("POST", path, body)
        return connection.getresponse().read()

    def counts(self):
        return json.loads(self.post("/counts"))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


# The table

TITLES = ["lines/s", "MB/s", "items/s", "CPU s/M items", "items/CPU s", "lines/CPU s", "peak MiB"]


def show(what, run, lines, size, items):
    columns = [
        f"{lines / run.wall:,.0f}",
        f"{size / run.wall / 1e6:,.1f}",
        f"{items / run.wall:,.0f}",
        f"{run.cpu / items * 1e6:.3f}",
        f"{items / run.cpu:,.0f}",
        f"{lines / run.cpu:,.0f}",
        f"{run.peak_mib:.1f}",
    ]
    print(f"{what:34}" + "".join(f"{column:>15}" for column in columns), flush=True)


def measure(programs, name, path, destinations):
    """Plays a recording to each destination, in turns. Returns the median runs by destination."""
    runs = {what: [] for what, _ in destinations}
    for _ in range(RUNS):
        for what, args in destinations:
            with tempfile.TemporaryDirectory(dir=".") as folder:
                runs[what].append(play(programs, path, [arg.replace("FOLDER", folder) for arg in args]))
    results = {what: median(all) for what, all in runs.items()}
    for what, run in results.items():
        show(f"{name}: {what}", run, run.stats["read"], path.stat().st_size, run.stats["accepted_items"])
    return results


# The Collector


def collector_config(server, receiver):
    """From one receiver to the server, uncompressed, with a queue that waits instead of dropping when it is full."""
    pipeline = {"receivers": list(receiver), "exporters": ["otlphttp"]}
    exporter = {"endpoint": server.http, "compression": "none", "tls": {"insecure": True}}
    exporter["sending_queue"] = {"block_on_overflow": True}
    signal_name = "logs" if "filelog" in receiver else "metrics"
    return {
        "receivers": receiver,
        "exporters": {"otlphttp": exporter},
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "error"}},
            "pipelines": {signal_name: pipeline},
        },
    }


def collect(program, folder, config, feed, done):
    """A Collector from its start until `done`."""
    path = Path(folder, "collector.json")
    path.write_text(json.dumps(config))
    begin, wall, failed = time.monotonic(), [], []

    def checked():
        if done() and not wall:
            wall.append(time.monotonic() - begin)
        return bool(wall or failed)

    def feeding():
        try:
            feed()
        except (OSError, RuntimeError, http.client.HTTPException) as why:
            failed.append(why)

    with tempfile.TemporaryFile() as messages:
        process = start([program, "--config", path], stdout=messages, stderr=messages)
        threading.Thread(target=feeding, daemon=True).start()
        cpu, peak = until_end(process, checked)
        messages.seek(0)
        first = messages.read(300).decode(errors="replace")
    if not wall:
        raise RuntimeError(f"the Collector has not delivered everything: {failed or first or 'too slow'}")
    return Run(wall[0], cpu, peak, {})


def collector_logs(program, server, folder, path):
    """It reads the file and parses each line, and delivers log records."""
    operators = [{"type": "json_parser"}]
    receiver = {"filelog": {"include": [str(path)], "start_at": "beginning", "operators": operators}}
    before = server.counts()["lines"]
    done = lambda: server.counts()["lines"] - before >= LINES
    return collect(program, folder, collector_config(server, receiver), lambda: None, throttled(done))


def collector_points(program, server, folder, bodies):
    """It relays the requests that tele-ship made, which spares it the JSON."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    receiver = {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}}
    before = server.counts()["requests"]
    done = lambda: server.counts()["requests"] - before >= len(bodies)

    def feed():
        os.sched_setaffinity(0, OTHER_CORES)
        for _ in range(200):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.connect()
                break
            except OSError:
                time.sleep(0.05)
        for body in bodies:
            connection.request("POST", "/v1/metrics", body, {"content-type": "application/x-protobuf"})
            response = connection.getresponse()
            text = response.read()
            if response.status != 200:
                raise RuntimeError(f"the Collector answers {response.status}: {text}")

    return collect(program, folder, collector_config(server, receiver), feed, throttled(done))


def throttled(check, seconds=0.1):
    """Asks at most ten times a second."""
    last = 0

    def asked():
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return check()

    return asked


def against_the_collector(programs, server, folder, path, ours):
    """Relays the points of a recording through the Collector."""
    program = collector()
    if not program:
        return
    run = play(programs, path, ["--otlp", f"{server.http}/keep", "--compression", "none"])
    files = sorted(Path(folder).glob("*.body"))
    bodies = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    points = run.stats["accepted_items"]
    results = [collector_points(program, server, folder, bodies) for _ in range(RUNS)]
    theirs = median(results)
    show("scrape: Collector, otlp to otlphttp", theirs, run.stats["read"], sum(map(len, bodies)), points)
    ratio = (ours.stats["accepted_items"] / ours.cpu) / (points / theirs.cpu)
    print(f"points per CPU second: {ratio:.1f} times the Collector's")


def logs_against_the_collector(programs, server, folder, path):
    results = measure(programs, "events", path, [("OTLP/HTTP", ["--otlp", server.http, "--compression", "none"])])
    program = collector()
    if not program:
        return
    theirs = median([collector_logs(program, server, folder, path) for _ in range(RUNS)])
    show("events: Collector, filelog", theirs, LINES, path.stat().st_size, LINES)
    ours = results["OTLP/HTTP"]
    ratio = (ours.stats["read"] / ours.cpu) / (LINES / theirs.cpu)
    print(f"log lines per CPU second: {ratio:.1f} times the Collector's")


def collector():
    """The program, built once."""
    built = subprocess.run([HERE.parent / "otelcol", "--bench"], stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        print("no Collector to compare with")
        return None
    return built.stdout.strip()


def memory_without_answers(programs, server, path):
    """The most memory while the server accepts requests and answers none."""
    for queue_mib in (16, 64):
        args = ["--otlp", f"{server.http}/hold", "--queue-bytes", f"{queue_mib}MiB", "--drain", "1s"]
        with open(path, "rb") as lines:
            process = start([programs / "tele-ship", *args], stdin=lines, stderr=subprocess.DEVNULL)
            end = time.monotonic() + 5
            _, peak = until_end(process, lambda: time.monotonic() > end)
        print(f"peak with --queue-bytes {queue_mib}MiB and a server that never answers: {peak:.1f} MiB")


def main(programs):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        server = NullServer(folder)
        try:
            plain = ["--otlp", server.http, "--compression", "none"]
            destinations = [
                ("OTLP/HTTP", plain),
                ("OTLP/HTTP, gzip", ["--otlp", server.http, "--compression", "gzip"]),
                ("OTLP/HTTP, zstd", ["--otlp", server.http, "--compression", "zstd"]),
                ("OTLP/gRPC", ["--otlp", server.grpc, "--compression", "none"]),
                ("ClickHouse, otel_*", ["--clickhouse", server.http, "--create"]),
                ("ClickHouse, --table", ["--clickhouse", server.http, "--create", "--table", "bench_{kind}"]),
                ("SQLite", ["--sqlite", "FOLDER/lines.db"]),
                ("OTLP/HTTP, --spool", [*plain, "--spool", "FOLDER/spool"]),
            ]
            print(f"{LINES:,} lines each on one core, to loopback; an item is a point, a log record or a row")
            print(f"{'recording: destination':34}" + "".join(f"{title:>15}" for title in TITLES), flush=True)
            for record, part in ((scrape, 1), (iolat, 4)):
                path = recording(programs, record, LINES // part, folder)
                if path is None:
                    continue
                results = measure(programs, record.__name__, path, destinations)
                plain_run, gzip_run = results["OTLP/HTTP"], results["OTLP/HTTP, gzip"]
                spooled = results["OTLP/HTTP, --spool"]
                print(f"CPU time with gzip: {gzip_run.cpu / plain_run.cpu:.2f} times that without")
                print(f"lines per second with the spool: {plain_run.wall / spooled.wall:.2f} times those without")
                if record is scrape:
                    memory_without_answers(programs, server, path)
                    against_the_collector(programs, server, folder, path, plain_run)
                path.unlink()
            if path := recording(programs, events, LINES, folder):
                logs_against_the_collector(programs, server, folder, path)
        finally:
            server.end()
