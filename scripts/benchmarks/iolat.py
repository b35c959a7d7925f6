"""What iolat costs in the kernel per request, compared with biolatency of libbpf-tools and with two floors.

All hooks of a tool count together, over the same direct reads of fio. The requests are those that all disks completed
meanwhile (/sys/block/*/stat), because the hooks see those of other programs too. The floors are programs at the same
tracepoint: one does nothing, which is what the kernel takes to run any program there and to measure it; one only reads
the clock, which every tool must do. BENCH_ROUNDS (7) sets how many rounds are run.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import bpf

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))


def requests():
    """Reads, writes, discards and flushes that all disks have completed."""
    total = 0
    for queue in Path("/sys/block").glob("*/mq"):
        fields = [int(field) for field in (queue.parent / "stat").read_text().split()]
        total += sum(fields[at] for at in (0, 4, 11, 15) if at < len(fields))
    return total


def reads(file, seconds):
    job = ["fio", "--name=reads", f"--filename={file}", "--size=256m", "--rw=randread", "--bs=4k", "--direct=1"]
    subprocess.run([*job, "--time_based", f"--runtime={seconds}"], check=True, stdout=subprocess.DEVNULL)


def measure(file, tool):
    """Nanoseconds per request of all programs of a tool."""
    with tool() as (process, _):
        reads(file, 1)  # what is read for the first time is not measured
        before, begin = bpf.programs(process.pid), requests()
        reads(file, 3)
        done = requests() - begin
        return sum(ns for ns, _ in bpf.since(process.pid, before)) / done


def main(programs):
    iolat = programs / "iolat"
    tools = {
        "biolatency": lambda: bpf.tool("biolatency", "60", "1"),
        "an empty program at block_rq_complete": lambda: bpf.program("block_rq_complete", bpf.EMPTY),
        "one that reads the clock": lambda: bpf.program("block_rq_complete", bpf.CLOCK),
        "iolat": lambda: bpf.tool(iolat),
        "iolat --who": lambda: bpf.tool(iolat, "--who"),
    }
    figures = {name: [] for name in tools}
    # In the folder of the checkout: temporary files may be in memory.
    with bpf.kernel_statistics(), tempfile.NamedTemporaryFile(dir=".", prefix=".bench-iolat.") as file:
        for _ in range(ROUNDS):
            for name, tool in tools.items():
                figures[name].append(measure(file.name, tool))
    bpf.table("per request", "biolatency", figures)
    clock = figures["one that reads the clock"]
    above = sorted(ours - floor for ours, floor in zip(figures["iolat"], clock))
    print(f"iolat above a program that reads the clock: {above[len(above) // 2]:,.0f} ns (median)")
