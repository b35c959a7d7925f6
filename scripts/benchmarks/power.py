"""What reading recordings of powermetrics and vm_stat costs, compared with asitop's parser and jc, and what a sample
of vmstat-json and pmstat costs on Linux.

Start-up is left out on both sides: the time for a short input is subtracted from that for a long one. The programs
run in turn, so that other load on the machine affects all of them. BENCH_MIB (32) sets the size of the recordings,
BENCH_SAMPLES (500) the number of samples.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MIB = float(os.environ.get("BENCH_MIB", "32"))
SAMPLES = int(os.environ.get("BENCH_SAMPLES", "500"))
ROUNDS = 5
INTERVAL_MS = 10
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RECORDED = ROOT.parent / "shared/samples"
OWN = ROOT / "tests/fixtures"

# As asitop does it: split the file at zero bytes, read each list, call its functions on what the list has.
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

# The closest to a sample of vmstat-json, in one process.
JC = """
import json, sys, jc
for _ in range(int(sys.argv[1])):
    for name in ("vmstat", "meminfo"):
        with open("/proc/" + name) as file:
            print(json.dumps(jc.parse("proc_" + name, file.read())))
"""

# Rows of Linux's `vmstat 1`. Both it and macOS's `vm_stat 1` repeat their header after this many rows.
LINUX_HEADER = """procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----
 r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st
"""
LINUX_ROW = " 2  0      0 18245372 120340 2345716    0    0    12   340  812 1530  3  1 96  0  0\n"
ROWS = 21


def cpu_seconds(args, stdin=None):
    """Returns the user and system time of a program that runs to its end."""
    with open(stdin or os.devnull, "rb") as given:
        child = subprocess.Popen([str(arg) for arg in args], stdin=given, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise RuntimeError(f"{args[0]} ended with {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def measured(*runs):
    """Returns, for each pair of a long and a short run, the difference in CPU time: medians of rounds in turn."""
    rounds = [[cpu_seconds(*long) - cpu_seconds(*short) for long, short in runs] for _ in range(ROUNDS)]
    return [statistics.median(times) for times in zip(*rounds)]


def recording(*names):
    """Returns the first of these files that exists."""
    return next(path for path in (RECORDED / names[0], OWN / names[1]) if path.exists())


def written(folder, name, piece, mib):
    """Writes a file of `mib` MiB of pieces and one of a single piece; returns both, and how many pieces more the first has."""
    count = max(2, int(mib * 2**20 / len(piece)))
    paths = folder / f"long-{name}", folder / f"short-{name}"
    for path, times in zip(paths, (count, 1)):
        path.write_bytes(piece * times)
    return paths, count - 1


def whole(path, between=b""):
    return path.read_bytes().rstrip(b"\x00\n") + b"\n" + between


def report(what, ours, unit, *others):
    print(f"{what:<44} {ours:>12,.1f} {unit}")
    for name, theirs in others:
        print(f"{'  ' + name:<44} {theirs:>12,.1f} {unit:<8} {ours / theirs:.1f}x")


def ours(program, paths):
    return [([program, "--input", path],) for path in paths]


def lists(programs, folder):
    for names in (
        ("powermetrics/m4pro_macos15.5_plist_gpu_power_multiple_samples.plist", "powermetrics/stream.plist"),
        ("powermetrics/none", "powermetrics/apple.plist"),
    ):
        path = recording(*names)
        piece = whole(path, b"\x00")
        paths, count = written(folder, path.name, piece, MIB)
        theirs = [([sys.executable, "-c", ASITOP, path],) for path in paths]
        speeds = [len(piece) * count / 1e6 / time for time in measured(ours(programs / "pmstat", paths), theirs)]
        report(f"pmstat, plist ({path.stem[:24]})", speeds[0], "MB/s", ("asitop", speeds[1]))


def texts(programs, folder):
    for names in (
        ("powermetrics/m1_macos11.2_text_stream_first12.txt", "powermetrics/old.txt"),
        ("powermetrics/m4max_macos15.5_text_default.txt", "powermetrics/apple.txt"),
    ):
        path = recording(*names)
        piece = whole(path)
        paths, count = written(folder, path.name, piece, MIB)
        (time,) = measured(ours(programs / "pmstat", paths))
        report(f"pmstat, text ({path.stem[:24]})", len(piece) * count / 1e6 / time, "MB/s")


def rows(programs, folder):
    path = recording("vm_stat/interval_16384_22col_repeated_header.txt", "vm_stat/interval.txt")
    title, header, row = whole(path).splitlines(keepends=True)[:3]
    paths, count = written(folder, "vm_stat.txt", title + header + row * ROWS, MIB)
    piece = (LINUX_HEADER + LINUX_ROW * ROWS).encode()
    other, others = written(folder, "vmstat.txt", piece, MIB / 8)
    commands = ["--vmstat", "--vmstat-s"]
    jc = [[([sys.executable, "-m", "jc", command, "-qq"], path) for path in other] for command in commands]
    time, *times = measured(ours(programs / "vmstat-json", paths), *jc)
    theirs = [(f"jc {command}", others * ROWS / its) for command, its in zip(commands, times)]
    report("vmstat-json, rows of `vm_stat 1`", count * ROWS / time, "rows/s", *theirs)


def samples(programs, folder):
    def each(*commands, count=SAMPLES):
        """Returns the microseconds of CPU for one more sample of each command."""
        runs = [[(command(count + 1),), (command(1),)] for command in commands]
        return [time / count * 1e6 for time in measured(*runs)]

    def sampler(program, *more, interval=f"{INTERVAL_MS}ms"):
        return lambda count: [programs / program, "-i", interval, "-n", count, *more]

    def wake(*files):
        return lambda count: [folder / "wake", count, INTERVAL_MS * 1_000_000, *files]

    print(f"\nmicroseconds of CPU for a sample on Linux, every {INTERVAL_MS} ms, of {SAMPLES}")
    subprocess.run(["cc", "-O2", "-o", folder / "wake", HERE / "wake.c"], check=True)
    files = [Path("/proc") / name for name in ("vmstat", "meminfo", "swaps")]
    files += Path("/sys/block").glob("zram*/mm_stat")
    names = ["vmstat-json", "  C: wakes and reads the same files", "  C: wakes", "pmstat, this machine"]
    commands = [sampler("vmstat-json"), wake(*files), wake(), sampler("pmstat")]
    costs = each(*commands)
    for name, cost in zip(names, costs):
        print(f"{name:<44} {cost:>8,.0f}")
    def jc(count):
        return [sys.executable, "-c", JC, count]

    at_once, theirs = each(sampler("vmstat-json", interval="1us"), jc)
    print(f"{'vmstat-json, one after another':<44} {at_once:>8,.0f}")
    print(f"{'  jc, vmstat and meminfo, in one process':<44} {theirs:>8,.0f}   {theirs / at_once:.1f}x")
    once = [([sys.executable, "-m", "jc", f"/proc/{name}"],) for name in ("vmstat", "meminfo")]
    command = 1e6 * sum(statistics.median(cpu_seconds(*args) for _ in range(ROUNDS)) for args in once)
    print(f"{'jc /proc/vmstat; jc /proc/meminfo':<44} {command:>8,.0f}   {command / costs[0]:.0f}x")
    tree = RECORDED / "sysfs/node_exporter_tree/sys"
    if tree.exists():
        (cost,) = each(sampler("pmstat", "--sys-root", tree), count=SAMPLES // 4)
        print(f"{'pmstat, the sensors of node_exporter_tree':<44} {cost:>8,.0f}")


def main(programs):
    print(f"\nCPU time of {MIB:g} MiB of recordings, medians of {ROUNDS} rounds in turn, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for part in (lists, texts, rows, samples):
            part(programs, Path(folder))
    print(f"load at the end {os.getloadavg()[0]:.1f}")
