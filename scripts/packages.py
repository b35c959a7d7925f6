"""Finds which system packages are missing, reports why each is needed, and installs them.

    python3 scripts/packages.py [test] [ci] [bench] [kernels]

Knows apt (Debian, Ubuntu), dnf (Fedora), pacman (Arch) and brew (macOS, without anything for eBPF). Asks for root by
sudo, and only to install. Does nothing if nothing is missing. Called by scripts/setup.
"""

import glob
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ["TELEPIPE_CACHE"])
ROOT = Path(__file__).resolve().parent.parent


def log(message):
    print(f"setup: {message}", file=sys.stderr)


def die(message):
    log(message)
    sys.exit(1)


def runs(*command):
    """Whether a command exists and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def output(*command):
    """Returns what a command prints; empty if it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()
    except OSError:
        return ""


def version(text):
    return [int(number) for number in re.findall(r"\d+", text)]


# Checks that are more than the existence of a command.


def compiles():
    return runs("cc", "-E", "-include", "stdio.h", "-x", "c", "/dev/null")


def has_clang():
    names = [os.environ.get("CLANG"), "clang", *(f"clang-{number}" for number in range(30, 13, -1))]
    return any(version(output(name, "-dumpversion"))[:1] >= [14] for name in names if name)


def has_venv():
    return any(CACHE.glob("python-*/ready")) or runs("python3", "-c", "import ensurepip, venv")


def has_go():
    """Any Go from 1.16 on: scripts/otelcol fetches the newer one that the Collector asks for."""
    built = output(str(ROOT / "scripts/otelcol"), "--path")
    return os.access(built, os.X_OK) or version(output("go", "env", "GOVERSION"))[:2] >= [1, 16]


def has_biolatency():
    """Debian 13 renamed the programs of libbpf-tools."""
    return any(shutil.which(name) for name in ("biolatency", "biolatency-libbpf"))


def has_journal_remote():
    """It is not in PATH."""
    return any(os.access(f"{lib}/systemd/systemd-journal-remote", os.X_OK) for lib in ("/usr/lib", "/lib"))


def has_static_busybox():
    return shutil.which("busybox") and not runs("ldd", shutil.which("busybox"))


def has_debian_keys():
    return Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists()


def has_node_exporter():
    return any(shutil.which(name) for name in ("prometheus-node-exporter", "node_exporter"))


def has_clickhouse():
    """Only Debian 12 has it; elsewhere its test is skipped."""
    release = Path("/etc/os-release")
    return shutil.which("clickhouse-server") or "bookworm" not in (release.read_text() if release.exists() else "")


# check: a command that must exist, or a function; why; packages of apt, dnf, pacman, brew. "a|b" is the first that
# exists, "a b" is both, "-" is nothing.
NODE_EXPORTER = ("prometheus-node-exporter", "golang-github-prometheus-node-exporter", "prometheus-node-exporter",
                 "node_exporter")
BUILD = [
    (compiles, "a C compiler and linker", "gcc libc6-dev", "gcc", "gcc", "-"),
    ("make", "builds libelf, zlib and libbpf", "make", "make", "make", "-"),
    (has_clang, "compiles the eBPF programs", "clang-19|clang", "clang", "clang", "-"),
    ("autoreconf", "configures libelf", "autoconf", "autoconf", "autoconf", "-"),
    ("automake", "configures libelf", "automake", "automake", "automake", "-"),
    ("autopoint", "configures libelf", "autopoint", "gettext-devel", "gettext", "-"),
    ("msgfmt", "configures libelf", "gettext", "gettext", "gettext", "-"),
    ("bison", "builds libelf", "bison", "bison", "bison", "-"),
    ("flex", "builds libelf", "flex", "flex", "flex", "-"),
    ("gawk", "builds libelf", "gawk", "gawk", "gawk", "-"),
    ("pkg-config", "finds libraries", "pkg-config", "pkgconf-pkg-config", "pkgconf", "-"),
    ("jq", "reads records and schemas", "jq", "jq", "jq", "jq"),
    ("sqlite3", "reads the database", "sqlite3", "sqlite", "sqlite", "sqlite"),
]
TEST = [
    ("fio", "the oracle of I/O latency", "fio", "fio", "fio", "-"),
    ("ss", "the oracle of socket counts", "iproute2", "iproute", "iproute2", "-"),
    ("sfdisk", "makes partitions", "fdisk", "util-linux", "util-linux", "-"),
    ("dmsetup", "makes a device without requests", "dmsetup", "device-mapper", "device-mapper", "-"),
    ("strace", "sends signals at chosen moments", "strace", "strace", "strace", "-"),
    ("bpftrace", "counts the same events", "bpftrace", "bpftrace", "bpftrace", "-"),
    (has_venv, "for Python packages", "python3-venv", "python3", "python", "python"),
    ("openssl", "makes the certificates of TLS tests", "openssl", "openssl", "openssl", "-"),
    ("promtool", "checks the Prometheus exposition", "prometheus", "golang-github-prometheus", "prometheus", "prometheus"),
    ("stress-ng", "the load that floods the tracers", "stress-ng", "stress-ng", "stress-ng", "-"),
    (has_node_exporter, "scrape --url reads its metrics", *NODE_EXPORTER),
    (has_journal_remote, "makes journals for tests", "systemd-journal-remote", "systemd-journal-remote", "-", "-"),
    (has_clickhouse, "the HTTP interface of ClickHouse", "clickhouse-server", "-", "-", "-"),
    (has_go, "builds the OpenTelemetry Collector", "golang-go", "golang", "go", "go"),
]
CI = [
    ("shellcheck", "checks the scripts", "shellcheck", "ShellCheck", "shellcheck", "shellcheck"),
]
KERNELS = [
    ("qemu-system-x86_64", "boots kernels", "qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86", "-"),
    (has_static_busybox, "the shell of such a machine", "busybox-static", "busybox", "busybox", "-"),
    ("mke2fs", "makes its disk", "e2fsprogs", "e2fsprogs", "e2fsprogs", "-"),
    ("cpio", "packs its initramfs", "cpio", "cpio", "cpio", "-"),
    ("depmod", "resolves what a module needs", "kmod", "kmod", "kmod", "-"),
    ("xz", "unpacks modules", "xz-utils", "xz", "xz", "-"),
    ("strip", "makes the programs small", "binutils", "binutils", "binutils", "-"),
    (has_debian_keys, "verifies the kernels' packages", "debian-archive-keyring", "debian-keyring",
     "debian-archive-keyring", "-"),
]
BENCH = [
    (has_biolatency, "the peer of iolat", "libbpf-tools", "libbpf-tools", "libbpf-tools", "-"),
    ("bpftrace", "the peer of the other tracers", "bpftrace", "bpftrace", "bpftrace", "-"),
    ("fio", "reads a disk", "fio", "fio", "fio", "-"),
    ("stress-ng", "makes load", "stress-ng", "stress-ng", "stress-ng", "stress-ng"),
    (has_venv, "for psutil, asitop and jc, which are peers", "python3-venv", "python3", "python", "python"),
    (has_node_exporter, "a peer of scrape", *NODE_EXPORTER),
]
GROUPS = {"test": TEST, "ci": CI, "bench": BENCH, "kernels": KERNELS}
MANAGERS = {"apt": "apt-get", "dnf": "dnf", "pacman": "pacman", "brew": "brew"}


def package_manager():
    if sys.platform == "darwin":
        return "brew"
    return next((name for name in ("apt", "dnf", "pacman") if shutil.which(MANAGERS[name])), None)


def missing(manager, groups):
    """Returns {package: why} of what is needed and absent. A system without a manager gets apt's names."""
    column = list(MANAGERS).index(manager or "apt")
    found = {}
    for check, why, *packages in BUILD + [need for group in groups for need in GROUPS[group]]:
        package = packages[column]
        there = check() if callable(check) else shutil.which(check)
        if package != "-" and not there:
            found.setdefault(package, why)
    return found


def available(manager, package):
    """Resolves "a|b" to the first that apt has, and "a b" to both."""
    if "|" not in package:
        return package.split()
    names = package.split("|")
    if manager == "apt":
        found = [name for name in names if re.search(r"Candidate: [^(]", output("apt-cache", "policy", name))]
        names = found or names
    return names[:1]


def as_root(*command, to=sys.stderr):
    if os.geteuid() != 0:
        if not shutil.which("sudo"):
            die(f"root is required and sudo is not installed; run as root: {' '.join(command)}")
        log(f"root is required for: {' '.join(command)}")
        command = ("sudo", *command)
    return subprocess.run(command, check=False, stdout=to).returncode == 0


def install(manager, packages):
    if manager == "apt":
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        return as_root(*quiet, *packages, to=subprocess.DEVNULL)
    if manager == "dnf":
        return as_root("dnf", "install", "-y", "-q", *packages)
    if manager == "pacman":
        return as_root("pacman", "-S", "--needed", "--noconfirm", *packages)
    return subprocess.run(["brew", "install", *packages], check=False, stdout=sys.stderr).returncode == 0


def install_without_service(manager, packages):
    """Debian starts these services when they are installed. The tests start them by hand, so none is enabled."""
    units = [f"{name}.service" for name in ("prometheus-node-exporter", "clickhouse-server") if name in packages]
    if manager != "apt" or not units or not Path("/run/systemd/system").is_dir():
        return install(manager, packages)
    as_root("systemctl", "mask", "--runtime", "--quiet", *units)
    done = install(manager, packages)
    as_root("systemctl", "disable", "--quiet", *units)
    as_root("systemctl", "unmask", "--runtime", "--quiet", *units)
    return done


def main():
    groups, manager = sys.argv[1:], package_manager()
    needed = missing(manager, groups)
    for package, why in needed.items():
        log(f"missing: {package} ({why})")
    if not needed:
        return
    if manager is None:
        die("none of apt, dnf, pacman and brew is installed; install the packages above by hand")
    if manager == "brew" and not shutil.which("brew"):
        die("Homebrew is required to install the packages above: see brew.sh")
    if manager == "apt" and not as_root("apt-get", "update", "-qq"):
        log("apt-get update failed; continuing with the present package lists")
    if manager == "pacman" and not glob.glob("/var/lib/pacman/sync/*"):
        as_root("pacman", "-Sy")
    packages = [name for package in needed for name in available(manager, package)]
    log(f"installing {' '.join(packages)}")
    if not install_without_service(manager, packages):
        # One unknown name must not keep the others from being installed.
        for package in packages:
            install_without_service(manager, [package])
    still = missing(manager, groups)
    if still:
        die(f"still missing: {' '.join(still)}; install by hand")


main()
