//! Tests that are the same for the four tracers, as root on a real kernel: type information from the kernel, a file or
//! nowhere, containers without some mounts, capabilities, and usage errors. Without root these tests are skipped.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

mod cgroups;
mod full;
mod self_filter;
mod tasks;
mod who;
mod workload;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use support::program;
use support::tracer::{Tracer, ready};
use workload::{assert_seen, everything, workload};

fn tracers() -> [(&'static str, &'static Path); 4] {
    [
        ("iolat", program!("iolat")),
        ("syscall-trace", program!("syscall-trace")),
        ("pagefault-trace", program!("pagefault-trace")),
        ("schedlat", program!("schedlat")),
    ]
}

/// Hides the kernel's type information, and every vmlinux that libbpf would read instead.
const HIDE_TYPES: &str = "for folder in /sys/kernel/btf /boot /lib/modules /usr/lib/debug; do \
     [ ! -d $folder ] || mount -t tmpfs none $folder; done";

/// A command that runs a program in a new mount namespace, after a script has changed the mounts there.
fn inside(script: &str, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    command.args(["--mount", "sh", "-c", &script]).arg(program);
    command
}

fn refused(output: &Output, name: &str, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]), "{name}: {stderr}");
    for words in words {
        assert!(stderr.starts_with(&format!("{name}: ")) && stderr.contains(words), "{words}: {stderr}");
    }
}

#[test]
fn no_type_information() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    for (name, path) in tracers() {
        let output = inside(HIDE_TYPES, path).output().unwrap();
        refused(&output, name, &["BTF", "CONFIG_DEBUG_INFO_BTF", "/sys/kernel/btf/vmlinux", "--btf FILE"]);
    }
}

#[test]
fn type_information_from_a_file() {
    let Some(_alone) = ready(&["unshare", "perl"]) else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("btf");
    std::fs::copy("/sys/kernel/btf/vmlinux", &file).unwrap();
    for (name, path) in tracers() {
        let comm = format!("types-{}", std::process::id());
        let mut command = inside(HIDE_TYPES, path);
        command.process_group(0);
        let args =
            [&["--btf", file.to_str().unwrap(), "--comm", &comm, "--uid", "0"], everything(name)].concat();
        let tracer = Tracer::start_command(command, "1h", &args);
        let pid = workload(&comm);
        let records = tracer.finish();
        assert_eq!(records[0]["method"], "raw_tp", "{}", records[0]);
        assert_seen(name, &records, pid);
    }
}

#[test]
fn stuck_needs_the_kernels_own_type_information() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::copy("/sys/kernel/btf/vmlinux", file.path()).unwrap();
    let mut command = inside(HIDE_TYPES, program!("syscall-trace"));
    let output = command.args(["--stuck", "1s", "--btf"]).arg(file.path()).output().unwrap();
    refused(&output, "syscall-trace", &["--stuck", "/sys/kernel/btf/vmlinux"]);
}

#[test]
fn a_container_without_sysfs() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    for (name, path) in tracers() {
        for more in [&[][..], &["--btf", "/dev/null"]] {
            let output = inside("mount -t tmpfs none /sys", path).args(more).output().unwrap();
            refused(&output, name, &["/sys is not mounted", "mount -t sysfs", "-v /sys:/sys:ro"]);
        }
    }
}

/// A typical container: sysfs is read-only, and there is no debugfs, tracefs, cgroup mount or device node.
#[test]
fn a_container_with_a_read_only_sysfs() {
    let Some(_alone) = ready(&["unshare", "perl"]) else { return };
    let script = "for folder in /sys/fs/cgroup /sys/kernel/tracing /sys/kernel/debug /dev /run; do \
         [ ! -d $folder ] || mount -t tmpfs none $folder; done; mount -o remount,bind,ro /sys";
    for (name, path) in tracers() {
        let more: &[&str] = if name == "syscall-trace" { &["--stuck", "5s"] } else { &[] };
        let comm = format!("reads-{}", std::process::id());
        let mut command = inside(script, path);
        command.process_group(0);
        let tracer =
            Tracer::start_command(command, "1h", &[&["--comm", &comm], everything(name), more].concat());
        let pid = workload(&comm);
        assert_seen(name, &tracer.finish(), pid);
    }
}

/// The commands in the error message work: as root, and as a user once the file has the capabilities. A script replaces
/// `sudo`; the tests are root already.
#[test]
fn missing_capabilities() {
    let Some(_alone) = ready(&["setpriv"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    open(folder.path());
    let sudo = folder.path().join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").unwrap();
    open(&sudo);
    let shell = |line: &str| {
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let ran = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
        [ran.stdout, ran.stderr].concat()
    };
    for (name, path) in tracers() {
        let copy = folder.path().join(name);
        std::fs::copy(path, &copy).unwrap();
        let user = |words: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "65534", "--clear-groups"]).arg(&copy).args(words).output().unwrap()
        };
        let args = ["-n", "1", "-i", "50ms", "-f", "select(.kind != \"it's \") | .kind"];
        let output = user(&args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        refused(&output, name, &["CAP_BPF and CAP_PERFMON missing", "--cap-add BPF"]);
        let [as_root, once] = stderr.split('`').skip(1).step_by(2).collect::<Vec<_>>()[..] else {
            panic!("{stderr}")
        };
        assert!(as_root.starts_with("sudo ") && once.starts_with("sudo setcap "), "{stderr}");
        assert!(String::from_utf8(shell(as_root)).unwrap().contains(r#""reason":"active""#), "{as_root}");
        shell(once);
        let output = user(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        // If root lacks them, sudo does not help.
        let mut root = Command::new("setpriv");
        let root = root.args(["--bounding-set", "-bpf,-perfmon,-sys_admin"]).arg(path).output().unwrap();
        refused(&root, name, &["CAP_BPF and CAP_PERFMON missing", "--cap-add PERFMON"]);
        assert!(!String::from_utf8_lossy(&root.stderr).contains("sudo"));
    }
}

/// The capabilities of root in a user namespace, as in a rootless container, do not count.
#[test]
fn capabilities_of_a_user_namespace() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    if !Command::new("unshare").args(["-Ur", "true"]).status().unwrap().success() {
        support::skip("user namespaces are not allowed");
        return;
    }
    for (name, path) in tracers() {
        let output = Command::new("unshare").arg("-Ur").arg(path).output().unwrap();
        refused(&output, name, &["user namespace", "the host's root"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("--cap-add"));
    }
}

/// If file descriptors run out, the error is one line with a command that helps, whichever call fails.
#[test]
fn too_few_file_descriptors() {
    let Some(_alone) = ready(&[]) else { return };
    for (name, path) in tracers() {
        let run = |limit: u32| {
            let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            let args = ["-n", "1", "-i", "20ms", "--events"];
            Command::new("sh").args(["-c", &script]).arg(path).args(args).output().unwrap()
        };
        for limit in 8..32 {
            let output = run(limit);
            if output.status.success() {
                continue;
            }
            refused(&output, name, &["`ulimit -n "]);
            let text = String::from_utf8_lossy(&output.stderr);
            let own = |line: &str| line.starts_with(&format!("{name}: "));
            assert!(text.lines().all(own), "a line of libbpf's with {limit}: {text}");
        }
        assert!(!run(16).status.success() && run(256).status.success(), "{name}");
    }
}

#[test]
fn which_capabilities_are_kept() {
    let Some(_alone) = ready(&[]) else { return };
    for (name, path) in tracers() {
        let output = Command::new(path).args(["-v", "-n", "1", "-i", "50ms"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Old kernels need some until the end.
        let kept = stderr.split("capabilities kept: ").nth(1).and_then(|rest| rest.lines().next());
        assert!(kept.is_some_and(|kept| kept == "none" || kept.starts_with("CAP_")), "{name}: {stderr}");
    }
}

#[test]
fn usage_errors() {
    for (name, path) in tracers() {
        for (args, words) in [
            (["--comm", ""], "--comm"),
            (["--comm", "sixteen-letters-"], "--comm"),
            (["--pid", "0"], "--pid"),
            (["--pid", "4194304"], "--pid 4194304:"),
            (["--uid", "no-such-user"], "--uid"),
            (["--cgroup", "0"], "--cgroup 0:"),
            (["--cgroup", "/no/such/folder"], "--cgroup /no/such/folder:"),
            (["--cgroup", "/dev"], "--cgroup /dev:"),
            (["--min", "-1"], "--min"),
            (["--btf", "/no/such/file"], "--btf /no/such/file:"),
            (["--btf", "/dev/null"], "--btf /dev/null:"),
            (["--btf", "/etc/passwd"], "--btf /etc/passwd:"),
        ] {
            if args[0] == "--btf" && !support::require_root() {
                continue;
            }
            let output = Command::new(path).args(args).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
            assert!(stderr.starts_with(&format!("{name}: ")) && stderr.contains(words), "{args:?}: {stderr}");
        }
    }
}
