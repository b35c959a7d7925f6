"""Measures what eBPF tools cost in the kernel: `kernel.bpf_stats_enabled` and the counts in /proc/PID/fdinfo.

The kernel adds the run time of a program to its `run_time_ns` while the statistics are on, and about 20 ns of its own
to each run. Tools are compared in turn, over several rounds, so that other load on the machine affects all of them.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import types
from pathlib import Path

STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


@contextlib.contextmanager
def kernel_statistics():
    """Turns the kernel's statistics of eBPF programs on."""
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


def programs(pid):
    """The eBPF programs that a process holds: {id: (nanoseconds, runs)}."""
    found = {}
    for path in Path(f"/proc/{pid}/fdinfo").glob("*"):
        try:
            fields = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
        except OSError:  # closed meanwhile
            continue
        if "run_time_ns" in fields:  # a link names its program, but has no times
            found[fields["prog_id"]] = (int(fields["run_time_ns"]), int(fields["run_cnt"]))
    return found


def since(pid, before):
    """What the programs did since `programs` gave `before`: a list of (nanoseconds, runs)."""
    return [(ns - before[key][0], runs - before[key][1]) for key, (ns, runs) in programs(pid).items() if key in before]


@contextlib.contextmanager
def tool(*command, least=1):
    """Runs a tracer, from when it has loaded `least` programs; yields the process, and its output as a file."""
    if not shutil.which(str(command[0])):
        raise RuntimeError(f"{command[0]} is not installed")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=err)
        try:
            end = time.monotonic() + 30
            while len(programs(process.pid)) < least:
                if process.poll() is not None or time.monotonic() > end:
                    err.seek(0)
                    raise RuntimeError(f"{command[0]} loads no program: {err.read().decode().strip()}")
                time.sleep(0.1)
            time.sleep(1)
            yield process, out
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


# Instructions of eBPF: opcode, registers, offset, immediate (Documentation/bpf/standardization/instruction-set.rst).
EMPTY = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0]) + bytes([0x95, 0, 0, 0, 0, 0, 0, 0])  # r0 = 0; exit
CLOCK = bytes([0x85, 0, 0, 0, 5, 0, 0, 0]) + EMPTY  # bpf_ktime_get_ns()


class _Load(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("instructions", ctypes.c_char_p),
        ("license", ctypes.c_char_p),
        ("rest", ctypes.c_uint64 * 12),
    ]


class _Open(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("program", ctypes.c_uint32), ("rest", ctypes.c_uint32)]


def _bpf(command, attributes):
    call = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(call, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return fd


@contextlib.contextmanager
def program(tracepoint, instructions):
    """Runs a program of this process at a raw tracepoint; yields this process, as `tool` does its own."""
    load = _Load(type=17, count=len(instructions) // 8, instructions=instructions, license=b"GPL")
    loaded = _bpf(5, load)
    try:
        attached = _bpf(17, _Open(name=tracepoint.encode(), program=loaded))
        try:
            yield types.SimpleNamespace(pid=os.getpid()), None
        finally:
            os.close(attached)
    finally:
        os.close(loaded)


def table(title, first, figures, unit="ns"):
    """Prints the median and the range of each tool's rounds, and the ratio to the first tool, round by round."""
    print(f"{title:<46}{unit + ', median':>12}  {'range':<16}{'of ' + first:>18}  range")
    for name, rounds in figures.items():
        ratios = [ours / peer for ours, peer in zip(rounds, figures[first])]
        line = f"{name:<46}{statistics.median(rounds):>12,.0f}  {min(rounds):,.0f} to {max(rounds):<8,.0f}"
        print(f"{line}{statistics.median(ratios):>18.2f}  {min(ratios):.2f} to {max(ratios):.2f}")
