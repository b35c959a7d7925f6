"""What scrape costs, compared with prometheus-node-exporter with the same collectors and with a psutil script.

All three run at the same time and are asked once a second. BENCH_SAMPLES (30) and BENCH_INTERVAL (1) change that.
"""

import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

EXPORTER = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
SAMPLES = int(os.environ.get("BENCH_SAMPLES", "30"))
INTERVAL = float(os.environ.get("BENCH_INTERVAL", "1"))
COLLECTORS = """cpu diskstats filesystem loadavg meminfo netdev netstat pressure sockstat stat tcpstat uname
    vmstat""".split()

# The closest that psutil comes to what `scrape` reads, as a line of JSON.
PSUTIL = """
import json, sys, time, psutil
while True:
    sample = [psutil.cpu_times(), psutil.cpu_stats(), psutil.getloadavg(), psutil.virtual_memory(),
              psutil.swap_memory(), psutil.disk_io_counters(perdisk=True),
              [psutil.disk_usage(p.mountpoint) for p in psutil.disk_partitions()],
              psutil.net_io_counters(pernic=True), len(psutil.net_connections("tcp"))]
    print(json.dumps(sample), flush=True)
    time.sleep(float(sys.argv[1]))
"""


def cpu_seconds(pid):
    """The CPU time of a process, ended threads included, to the nanosecond (clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def status(pid, field):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def exporter(port):
    only = ["--collector.disable-defaults", *(f"--collector.{name}" for name in COLLECTORS)]
    args = [EXPORTER, *only, "--web.disable-exporter-metrics", f"--web.listen-address=127.0.0.1:{port}"]
    return subprocess.Popen(args, stderr=subprocess.DEVNULL)


def lines_of(args):
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def drain(process):
    """Reads what a program writes, so that it writes into a pipe with a reader."""
    threading.Thread(target=lambda: any(False for _ in process.stdout), daemon=True).start()
    return process


class Scraper:
    """Asks the exporter as Prometheus does, but without compression, which would cost the exporter more."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def ask(self):
        self.connection.request("GET", "/metrics")
        return len(self.connection.getresponse().read())


def stop(process):
    process.terminate()
    process.wait(5)


def first_answer(make, ready):
    """Milliseconds from the start of a program to its first output: the median of some runs."""
    took = []
    for _ in range(9):
        begin = time.monotonic()
        process = make()
        ready(process)
        took.append((time.monotonic() - begin) * 1000)
        stop(process)
    return statistics.median(took)


def exporter_answers(port):
    while True:
        try:
            return Scraper(port).ask()
        except OSError:
            time.sleep(0.0005)


def main(programs):
    if not EXPORTER:
        raise RuntimeError("prometheus-node-exporter is not installed")
    port = free_port()
    scrape = [str(programs / "scrape"), "-i", f"{INTERVAL}s"]
    psutil = [sys.executable, "-c", PSUTIL, str(INTERVAL)]
    names = ["scrape", "node_exporter", "psutil script"]
    first = [
        first_answer(lambda: lines_of(scrape), lambda process: process.stdout.readline()),
        first_answer(lambda: exporter(port), lambda _: exporter_answers(port)),
        first_answer(lambda: lines_of(psutil), lambda process: process.stdout.readline()),
    ]
    running = [drain(lines_of(scrape)), exporter(port), drain(lines_of(psutil))]
    exporter_answers(port)
    scraper = Scraper(port)
    begin = None
    # The first two seconds are start-up; each program then takes one sample in each interval.
    warm = max(2, round(2 / INTERVAL))
    due = time.monotonic() + INTERVAL / 2
    for turn in range(warm + SAMPLES + 1):
        time.sleep(max(0, due - time.monotonic()))
        due += INTERVAL
        if turn == warm:
            begin = [cpu_seconds(process.pid) for process in running]
        if turn == warm + SAMPLES:
            break
        scraper.ask()
    cost = [(cpu_seconds(one.pid) - was) / SAMPLES * 1000 for one, was in zip(running, begin)]
    memory = [status(process.pid, "VmHWM") / 1024 for process in running]
    for process in running:
        stop(process)

    print(f"one sample every {INTERVAL:g} s, {SAMPLES} samples, all three at the same time")
    print(f"{'':15}{'CPU ms/sample':>15}{'scrape is':>12}{'peak RSS MiB':>14}{'first output ms':>17}")
    for name, ms, mib, answer in zip(names, cost, memory, first):
        print(f"{name:15}{ms:15.3f}{cost[0] / ms:11.2f}×{mib:14.1f}{answer:17.1f}")
