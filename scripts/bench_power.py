"""Recordings of powermetrics and vm_stat, and samples of Linux: CPU time of ours and of others. Called by bench-power."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = Path(sys.argv[1])
MIB = float(os.environ.get("BENCH_MIB", "32"))
SAMPLES = int(os.environ.get("BENCH_SAMPLES", "2000"))
ROUNDS = 3
HERE = Path(__file__).resolve().parent.parent
RECORDED = HERE.parent / "shared/samples"
OWN = HERE / "tests/fixtures"

# asitop's own way: a file cut at zero bytes, each list read, and its functions called on what the list has.
ASITOP = """
import plistlib, sys
from asitop.parsers import parse_cpu_metrics, parse_gpu_metrics, parse_thermal_pressure
with open(sys.argv[1], "rb") as file:
    data = file.read().split(b"\\x00")
for part in data:
    if part.strip():
        sample = plistlib.loads(part.strip())
        for key, parse in (("processor", parse_cpu_metrics), ("gpu", parse_gpu_metrics),
                           ("thermal_pressure", parse_thermal_pressure)):
            if key in sample:
                try:
                    print(parse(sample))
                except KeyError:  # chips that it does not know
                    pass
"""

# The nearest to a sample of vmstat-json, in one process that goes on.
JC = """
import json, sys, jc
for _ in range(int(sys.argv[1])):
    for name in ("vmstat", "meminfo"):
        with open("/proc/" + name) as file:
            print(json.dumps(jc.parse("proc_" + name, file.read())))
"""


def cpu_seconds(args, stdin=None):
    """User and system time of a program that runs to its end: the median of some runs."""

    def once():
        with open(stdin or os.devnull, "rb") as given:
            child = subprocess.Popen([str(arg) for arg in args], stdin=given, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            sys.exit(f"bench: {args[0]} ended with {child.returncode}")
        return usage.ru_utime + usage.ru_stime

    return statistics.median(once() for _ in range(ROUNDS))


def recording(*names):
    """The first of these files that is here."""
    return next(path for path in (RECORDED / names[0], OWN / names[1]) if path.exists())


def repeated(folder, path, between=b""):
    """So many copies of a file that they are as long as asked for."""
    content = path.read_bytes().rstrip(b"\x00\n") + b"\n" + between
    large = folder / path.name
    large.write_bytes(content * max(1, int(MIB * 2**20 / len(content))))
    return large


def linux_vmstat(folder):
    """What Linux's own `vmstat 1` prints, as long as the others."""
    text = """procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----
 r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st
"""
    row = " 2  0      0 18245372 120340 2345716    0    0    12   340  812 1530  3  1 96  0  0\n"
    large = folder / "vmstat.txt"
    large.write_text(text + row * int(MIB * 2**20 / 4 / len(row)))
    return large


def compare(what, ours, theirs, unit):
    ratio = f"{ours / theirs[1]:.0f}x {theirs[0]}" if theirs else "nobody else on PyPI reads it"
    print(f"{what:<44} {ours:>12,.1f} {unit:<8} {ratio}")


def recordings(folder):
    pmstat, vmstat = PROGRAMS / "pmstat", PROGRAMS / "vmstat-json"

    def speed(args, path):
        return path.stat().st_size / 1e6 / cpu_seconds(args)

    print(f"\nMB a second of CPU, {MIB:g} MiB of recordings, median of {ROUNDS} runs")
    for names in (
        ("powermetrics/m4pro_macos15.5_plist_gpu_power_multiple_samples.plist", "powermetrics/stream.plist"),
        ("powermetrics/none", "powermetrics/apple.plist"),
    ):
        path = repeated(folder, recording(*names), b"\x00")
        theirs = speed([sys.executable, "-c", ASITOP, path], path)
        ours = speed([pmstat, "--input", path], path)
        compare(f"pmstat, plist ({path.stem[:24]})", ours, (f"asitop ({theirs:.1f})", theirs), "MB/s")
    for names in (
        ("powermetrics/m1_macos11.2_text_stream_first12.txt", "powermetrics/old.txt"),
        ("powermetrics/m4max_macos15.5_text_default.txt", "powermetrics/apple.txt"),
    ):
        path = repeated(folder, recording(*names))
        compare(f"pmstat, text ({path.stem[:24]})", speed([pmstat, "--input", path], path), None, "MB/s")
    path = repeated(folder, recording("vm_stat/interval_16384_22col_repeated_header.txt", "vm_stat/interval.txt"))
    rows = sum(line.strip()[:1].isdigit() for line in path.open())
    ours = rows / cpu_seconds([vmstat, "--input", path])
    other = linux_vmstat(folder)
    others = other.read_text().count("\n") - 2
    theirs = others / cpu_seconds([sys.executable, "-m", "jc", "--vmstat-s", "-qq"], other)
    compare("vmstat-json, rows of `vm_stat 1`", ours, (f"jc --vmstat-s ({theirs:,.0f})", theirs), "rows/s")


def samples():
    def each(args, count):
        """Microseconds of CPU for one more sample."""
        return (cpu_seconds(args(count + 1)) - cpu_seconds(args(1))) / count * 1e6

    def sampler(program, *more):
        return lambda count: [PROGRAMS / program, "-i", "10ms", "-n", count, *more]

    print(f"\nmicroseconds of CPU for a sample on Linux, of {SAMPLES}")
    ours = each(sampler("vmstat-json"), SAMPLES)
    theirs = each(lambda count: [sys.executable, "-c", JC, count], SAMPLES // 4)
    command = 1e6 * sum(cpu_seconds([sys.executable, "-m", "jc", f"/proc/{name}"]) for name in ("vmstat", "meminfo"))
    print(f"{'vmstat-json':<44} {ours:>8,.0f}")
    print(f"{'jc, vmstat and meminfo, in one process':<44} {theirs:>8,.0f}   {theirs / ours:.1f}x")
    print(f"{'jc /proc/vmstat; jc /proc/meminfo':<44} {command:>8,.0f}   {command / ours:.0f}x")
    print(f"{'pmstat, this machine':<44} {each(sampler('pmstat'), SAMPLES):>8,.0f}")
    tree = RECORDED / "sysfs/node_exporter_tree/sys"
    if tree.exists():
        cost = each(sampler("pmstat", "--sys-root", tree), SAMPLES // 4)
        print(f"{'pmstat, the sensors of node_exporter_tree':<44} {cost:>8,.0f}")


with tempfile.TemporaryDirectory() as name:
    recordings(Path(name))
samples()
