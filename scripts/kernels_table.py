"""The table of scripts/kernels: reads VERSION.results files, prints kernel × program × test, then what failed.

    python3 scripts/kernels_table.py [-v] RESULTS ...

Each line of a file is what tests/kernels/guest/lib prints: `kernel RELEASE up in N s`, `attach PROGRAM WAY`,
`ok PROGRAM TEST DETAIL`, `not ok PROGRAM TEST DETAIL`, `skip PROGRAM TEST DETAIL`, `end`. Exits 1 if a test failed, if
a machine has no result of a test that others have, or if a machine did not come to its end. -v prints every detail.
"""

import re
import sys
from pathlib import Path


class Machine:
    """What one kernel's test machine reported."""

    def __init__(self, path, verbose):
        self.version = path.name.removesuffix(".results")
        self.release, self.boot, self.ended = f"{self.version}?", "", False
        self.cells, self.failures = {}, []
        for line in path.read_text(errors="replace").splitlines():
            self.read(line.split(), verbose)

    def read(self, words, verbose):
        match words:
            case ["kernel", release, _, _, seconds, *_]:
                self.release, self.boot = re.split("[-+]", release)[0], f"{seconds} s"
            case ["attach", program, *way]:
                self.cells[program, "attached by"] = " ".join(way)
            case ["ok" | "skip" as what, program, test, *detail]:
                self.result(what, program, test, detail, verbose)
            case ["not", "ok", program, test, *detail]:
                self.result("FAILED", program, test, detail, verbose)
                self.failures.append(f"{self.version}: {program} {test}: {' '.join(detail)}")
            case ["end"]:
                self.ended = True

    def result(self, what, program, test, detail, verbose):
        self.cells[program, test] = what
        if verbose:
            print(f"{self.version}: {what} {program} {test} {' '.join(detail)}")


def columns(rows):
    """Pads the cells of each column to the widest."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def main():
    verbose = "-v" in sys.argv[1:]
    machines = [Machine(Path(name), verbose) for name in sys.argv[1:] if name != "-v"]
    # In the order in which the tests were reported first.
    tests = list(dict.fromkeys(key for machine in machines for key in machine.cells))
    failures = [failure for machine in machines for failure in machine.failures]
    for machine in machines:
        if not machine.ended:
            failures.append(f"{machine.version}: the machine did not come to its end")
            continue
        for program, test in tests:
            if (program, test) not in machine.cells:
                machine.cells[program, test] = "MISSING"
                failures.append(f"{machine.version}: {program} {test}: no result")
    if not tests:
        failures.append("no result at all")
    rows = [["PROGRAM", "TEST", *(machine.release for machine in machines)],
            ["", "boot", *(machine.boot for machine in machines)]]
    last = None
    for program, test in tests:
        results = [machine.cells.get((program, test), "") for machine in machines]
        rows.append([program if program != last else "", test, *results])
        last = program
    columns(rows)
    for failure in failures:
        print(f"not ok: {failure}")
    sys.exit(bool(failures))


main()
