"""What the tracers cost in the kernel, compared with bcc's libbpf-tools and bpftrace, and how much they slow a load down.

BENCH_PARTS names parts, separated by commas: system_calls, events, scheduler, page_faults, slow_downs (default: all).
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import bpf

TESTS = Path("tests/kernels")

THRESHOLD = """
tracepoint:raw_syscalls:sys_enter { @begin[tid] = nsecs; }
tracepoint:raw_syscalls:sys_exit /@begin[tid]/ {
    $ns = nsecs - @begin[tid];
    delete(@begin[tid]);
    if ($ns >= 10000000) { printf("%d %s %d %d\\n", pid, comm, args->id, $ns); }
}
"""
EMPTY = """
tracepoint:raw_syscalls:sys_enter { $nothing = 1; }
tracepoint:raw_syscalls:sys_exit { $nothing = 1; }
"""
FAULTS = """
tracepoint:exceptions:page_fault_user { @begin[tid] = nsecs; }
tracepoint:exceptions:page_fault_kernel { @begin[tid] = nsecs; }
software:page-faults:1 /@begin[tid]/ { @ns = hist(nsecs - @begin[tid]); delete(@begin[tid]); }
"""


def output(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


class Loads:
    """The loads that are traced; tests/kernels/calls.c makes most of them, pinned to the second CPU."""

    def __init__(self, folder):
        self.calls = Path(folder) / "calls"
        output("cc", "-O2", "-pthread", "-o", self.calls, TESTS / "calls.c")

    def loop(self, seconds):
        """System calls a second of a loop of getppid."""
        return float(output("taskset", "-c", "1", self.calls, "loop", seconds).split()[0])

    def ping_pong(self):
        """Round trips a second of a byte through two pipes, on one CPU."""
        return float(output("taskset", "-c", "1", self.calls, "pingpong", 2).split()[0])

    def rate(self, calls_per_s, seconds):
        """Calls that were made at a steady rate."""
        return output("taskset", "-c", "1", self.calls, "rate", calls_per_s, seconds).split()

    @staticmethod
    def switches():
        output("stress-ng", "--quiet", "--switch", "1", "--timeout", "3")

    @staticmethod
    def faults():
        output("stress-ng", "--quiet", "--fault", "1", "--timeout", "3")

    @staticmethod
    def reads():
        """Direct reads of 4 KiB a second."""
        with tempfile.NamedTemporaryFile(dir=".", prefix=".bench-tracers.") as file:
            job = ["fio", "--name=reads", f"--filename={file.name}", "--size=64m", "--rw=randread", "--bs=4k"]
            report = output(*job, "--direct=1", "--time_based", "--runtime=2", "--output-format=json")
        return json.loads(report)["jobs"][0]["read"]["iops"]


def system_calls(programs, loads):
    tools = {
        "syscount -L": ["syscount", "-L", "-d", "600"],
        "bpftrace, same threshold": ["bpftrace", "-e", THRESHOLD],
        "two empty programs": ["bpftrace", "-e", EMPTY],
        "syscall-trace": [programs / "syscall-trace"],
        "syscall-trace --summary": [programs / "syscall-trace", "--summary"],
    }
    figures = {name: [] for name in tools}
    rates = {name: [] for name in tools}
    loads.loop(1)
    alone = loads.loop(2)
    for _ in range(3):
        for name, command in tools.items():
            with bpf.tool(*command, least=2) as (process, _):
                with bpf.kernel_statistics():
                    before = bpf.programs(process.pid)
                    loads.loop(2)
                    did = bpf.since(process.pid, before)
                # One call runs the program at sys_enter, which runs most, once.
                figures[name].append(sum(ns for ns, _ in did) / max(runs for _, runs in did))
                rates[name].append(loads.loop(1))
    bpf.table("system call (getppid)", "syscount -L", figures)
    print(f"of bpftrace, same threshold: syscall-trace "
          f"{statistics.median(figures['syscall-trace']) / statistics.median(figures['bpftrace, same threshold']):.2f}")
    print(f"the loop takes, in ns per call: not traced {1e9 / alone:.0f}, " + ", ".join(
        f"{name} {1e9 / statistics.median(rate):.0f}" for name, rate in rates.items()))


def events(programs, loads):
    """Events that arrive as lines, at a steady rate of calls on one CPU with the tracer on the other."""
    print(f"{'events, --min 0':<30} {'calls/s':>12} {'lines':>12} {'lost':>12}")
    for rate in (300_000, 500_000, 600_000, 800_000):
        trace = ["taskset", "-c", "0", programs / "syscall-trace", "--min", "0", "--syscall", "getppid", "--comm", "calls"]
        with bpf.tool(*trace, least=2) as (process, out):
            *_, per_second = loads.rate(rate, 5)
            time.sleep(1)
            process.send_signal(2)
            process.wait(20)
            out.seek(0)
            text = out.read()
        lost = sum(json.loads(line)["count"] for line in text.splitlines() if b'"kind":"lost"' in line)
        lines = text.count(b'"kind":"syscall"')
        print(f"{'':<30} {per_second:>12} {lines:>12,} {lost:>12,}")


def per_run(title, load, tools):
    """The time of one run of each of a tool's programs, added up; the first tool is the peer."""
    figures = {name: [] for name in tools}
    for _ in range(3):
        for name, command in tools.items():
            with bpf.tool(*command, least=2) as (process, _), bpf.kernel_statistics():
                before = bpf.programs(process.pid)
                load()
                did = bpf.since(process.pid, before)
            most = max(runs for _, runs in did)
            figures[name].append(sum(ns / runs for ns, runs in did if runs * 10 > most))
    bpf.table(title, next(iter(tools)), figures)


def scheduler(programs, loads):
    schedlat = programs / "schedlat"
    per_run("scheduler: a wake-up and a switch", loads.switches, {
        "runqlat": ["runqlat", "600", "1"],
        "schedlat --no-processes --no-events": [schedlat, "--no-processes", "--no-events"],
        "schedlat --no-processes": [schedlat, "--no-processes"],
        "schedlat": [schedlat],
    })


def page_faults(programs, loads):
    trace = programs / "pagefault-trace"
    per_run("page fault: its begin and its end", loads.faults, {
        "bpftrace, same hooks": ["bpftrace", "-e", FAULTS],
        "pagefault-trace": [trace],
        "pagefault-trace --per-process": [trace, "--per-process"],
    })


def slow_down(title, load, tools):
    """How much slower a load becomes while each tool runs; medians of five rounds."""
    rates = {"alone": [], **{name: [] for name in tools}}
    for _ in range(5):
        rates["alone"].append(load())
        for name, command in tools.items():
            with bpf.tool(*command):
                rates[name].append(load())
    alone = statistics.median(rates["alone"])
    print(f"{title:<46}{'a second':>12}{'slower by':>12}")
    for name, rounds in rates.items():
        rate = statistics.median(rounds)
        print(f"{name:<46}{rate:>12,.0f}{(alone / rate - 1) * 100:>11.1f}%")


def slow_downs(programs, loads):
    slow_down("a byte through a pipe and back, one CPU", loads.ping_pong, {
        "syscount -L": ["syscount", "-L", "-d", "600"],
        "syscall-trace": [programs / "syscall-trace"],
        "syscall-trace --summary": [programs / "syscall-trace", "--summary"],
        "runqlat": ["runqlat", "600", "1"],
        "schedlat --no-processes --no-events": [programs / "schedlat", "--no-processes", "--no-events"],
        "schedlat": [programs / "schedlat"],
    })
    print()
    slow_down("fio, direct reads of 4 KiB", loads.reads, {
        "biolatency": ["biolatency", "600", "1"],
        "iolat": [programs / "iolat"],
        "iolat --who": [programs / "iolat", "--who"],
        "syscall-trace": [programs / "syscall-trace"],
    })


def main(programs):
    parts = {part.__name__: part for part in (system_calls, events, scheduler, page_faults, slow_downs)}
    wanted = os.environ.get("BENCH_PARTS", ",".join(parts)).split(",")
    with tempfile.TemporaryDirectory() as folder:
        loads = Loads(folder)
        for name in wanted:
            parts[name](programs, loads)
            print(flush=True)
