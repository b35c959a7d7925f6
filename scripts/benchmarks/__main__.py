"""Runs the benchmarks named on the command line and prints the machine first.

    python scripts/benchmarks PROGRAMS [WHAT ...]

PROGRAMS is the folder of the release build. Each benchmark is a module with a `main(programs)`.
"""

import importlib
import os
import platform
import sys
from pathlib import Path

ALL = ["iolat", "tracers", "scrape", "power", "ship", "clickhouse"]


def machine():
    cpus = Path("/proc/cpuinfo")
    model = platform.machine()
    if cpus.exists():
        names = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"machine: {model}, {os.cpu_count()} CPUs, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def main():
    programs, wanted = Path(sys.argv[1]).resolve(), sys.argv[2:] or ALL
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        print(f"bench: no benchmark '{unknown[0]}'; there are: {' '.join(ALL)}", file=sys.stderr)
        sys.exit(2)
    print(machine())
    print(f"load before: {' '.join(f'{load:.2f}' for load in os.getloadavg())}")
    failed = False
    for name in wanted:
        print(f"\n== {name}", flush=True)
        try:
            importlib.import_module(name).main(programs)
        except (OSError, RuntimeError) as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed = True
    sys.exit(failed)


main()
