//! What the four tracers have in common, as root on a real kernel: without the kernel's type information and with that
//! of a file, in containers that lack mounts, and mistakes in calling them. Without root each test says so and passes.

#![cfg(all(target_os = "linux", feature = "bpf"))]

mod support;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::program;
use support::tracer::{Tracer, of, ready};

fn tracers() -> [(&'static str, &'static Path); 4] {
    [
        ("iolat", program!("iolat")),
        ("syscall-trace", program!("syscall-trace")),
        ("pagefault-trace", program!("pagefault-trace")),
        ("schedlat", program!("schedlat")),
    ]
}

/// The kernel's type information is hidden, and every vmlinux that libbpf would look for in its place.
const HIDE_TYPES: &str = "for folder in /sys/kernel/btf /boot /lib/modules /usr/lib/debug; do \
     [ ! -d $folder ] || mount -t tmpfs none $folder; done";

/// A command that runs a program in a mount namespace of its own, after a script has changed the mounts there.
fn inside(script: &str, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("set -e; {script}; exec \"$0\" \"$@\"");
    command.args(["--mount", "sh", "-c", &script]).arg(program);
    command
}

fn refused(output: &Output, name: &str, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]), "{name}: {said}");
    for words in words {
        assert!(said.starts_with(&format!("{name}: ")) && said.contains(words), "{words}: {said}");
    }
}

#[test]
fn without_type_information() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    for (name, path) in tracers() {
        let output = inside(HIDE_TYPES, path).output().unwrap();
        refused(&output, name, &["BTF", "CONFIG_DEBUG_INFO_BTF", "/sys/kernel/btf/vmlinux", "--btf FILE"]);
    }
}

/// A process that asks 997 times who its parent is, sleeps 101 times, touches memory, and writes to a disk 11 times;
/// its name is that of no other. Returns its process number.
fn workload(name: &str) -> u64 {
    workload_in(0, name)
}

/// The same in a process group that there is; 0: in one of its own.
fn workload_in(group: i32, name: &str) -> u64 {
    let mut perl = begin_workload(group, name);
    drop(perl.stdin.take());
    assert!(perl.wait().unwrap().success());
    perl.id().into()
}

/// The same, which begins when it reads the end of its input.
fn begin_workload(group: i32, name: &str) -> Child {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let script = r#"
        use Fcntl; use IO::Handle;
        <STDIN>;
        $0 = $ARGV[0];
        getppid() for 1..997;
        select(undef, undef, undef, 0.001) for 1..101;
        my $memory = "x" x 3_000_000;
        open(my $file, ">", $ARGV[1]);
        for (1..11) { syswrite($file, "y" x 4096); $file->sync }
        unlink $ARGV[1]"#;
    let mut perl = Command::new("perl");
    perl.args(["-e", script, name]).arg(file).process_group(group).stdin(Stdio::piped()).spawn().unwrap()
}

/// Every field that is read by its name in a struct of the kernel's: filters, numbers, names, times.
fn assert_seen(name: &str, records: &[Value], pid: u64) {
    let own = |kind: &str| -> Vec<&Value> {
        of(records, kind).into_iter().filter(|record| record["pid"] == pid).collect()
    };
    match name {
        "syscall-trace" => assert_eq!(own("syscall").len(), 997, "{records:?}"),
        "pagefault-trace" => assert!(own("pagefault").len() > 700, "{records:?}"),
        "iolat" => assert!(own("io_event").len() >= 11, "{records:?}"),
        _ => assert!(own("sched")[0]["voluntary_switches"].as_u64().unwrap() >= 101, "{records:?}"),
    }
}

#[test]
fn type_information_of_a_file() {
    let Some(_alone) = ready(&["unshare", "perl"]) else { return };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = folder.path().join("btf");
    std::fs::copy("/sys/kernel/btf/vmlinux", &file).unwrap();
    for (name, path) in tracers() {
        let more: &[&str] = match name {
            "iolat" => &["--events", "--min", "0", "--who"],
            "syscall-trace" => &["--min", "0", "--syscall", "getppid"],
            "pagefault-trace" => &["--min", "0"],
            _ => &["--all"],
        };
        let comm = format!("types-{}", std::process::id());
        let mut command = inside(HIDE_TYPES, path);
        command.process_group(0);
        let args = [&["--btf", file.to_str().unwrap(), "--comm", &comm, "--uid", "0"], more].concat();
        let tracer = Tracer::start_command(command, "1h", &args);
        let pid = workload(&comm);
        let records = tracer.finish();
        assert!(records[0]["detail"].as_str().unwrap().contains("raw_tp"), "{}", records[0]);
        assert_seen(name, &records, pid);
    }
}

#[test]
fn what_needs_the_kernels_own_type_information() {
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

/// As containers have it: sysfs is there to read, neither debugfs nor tracefs nor cgroups are, and no device nodes.
#[test]
fn a_container_that_may_only_read() {
    let Some(_alone) = ready(&["unshare", "perl"]) else { return };
    let script = "for folder in /sys/fs/cgroup /sys/kernel/tracing /sys/kernel/debug /dev /run; do \
         [ ! -d $folder ] || mount -t tmpfs none $folder; done; mount -o remount,bind,ro /sys";
    for (name, path) in tracers() {
        let more: &[&str] = match name {
            "iolat" => &["--events", "--min", "0", "--who"],
            "syscall-trace" => &["--min", "0", "--syscall", "getppid", "--stuck", "5s"],
            "pagefault-trace" => &["--min", "0"],
            _ => &["--all"],
        };
        let comm = format!("reads-{}", std::process::id());
        let mut command = inside(script, path);
        command.process_group(0);
        let tracer = Tracer::start_command(command, "1h", &[&["--comm", &comm], more].concat());
        let pid = workload(&comm);
        assert_seen(name, &tracer.finish(), pid);
    }
}

/// The kernel's numbers are not those of a namespace: they would be another's.
#[test]
fn processes_of_a_namespace() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    for (name, path) in tracers() {
        let mut command = Command::new("unshare");
        let output =
            command.args(["--pid", "--fork", "--mount-proc"]).arg(path).args(["--pid", "1"]).output();
        refused(&output.unwrap(), name, &["PID namespace", "--comm", "--cgroup"]);
    }
}

/// Who asks for a process beside the tracer, as a script does, is told that it is left out.
#[test]
fn a_process_of_its_own_group() {
    let Some(_alone) = ready(&["sleep"]) else { return };
    for (name, path) in tracers() {
        for (more, told) in [(&[][..], true), (&["--include-self"], false)] {
            let mut beside = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
            let mut command = Command::new(path);
            command.process_group(beside.id() as i32);
            let args = ["-n", "1", "-i", "50ms", "--pid", &beside.id().to_string()];
            let output = command.args(args).args(more).output().unwrap();
            beside.kill().unwrap();
            beside.wait().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
            assert_eq!(said.contains("own process group"), told, "{name} {more:?}: {said}");
        }
    }
}

/// Who asks for a name that only tasks of the own group have gets nothing, and is told why; once.
#[test]
fn a_name_in_its_own_group() {
    let Some(_alone) = ready(&["perl", "sleep"]) else { return };
    for (name, path) in tracers() {
        for (more, own, told) in [(&[][..], true, 1), (&[], false, 0), (&["--include-self"], true, 0)] {
            let mut beside = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
            let mut command = Command::new(path);
            command.process_group(beside.id() as i32);
            let comm = format!("own-{}", std::process::id());
            let more = [&["--comm", &comm], more].concat();
            let mut tracer = Tracer::start_command(command, "50ms", &more);
            let pid = workload_in(if own { beside.id() as i32 } else { 0 }, &comm);
            std::thread::sleep(Duration::from_millis(200));
            let said = tracer.stderr();
            beside.kill().unwrap();
            beside.wait().unwrap();
            assert!(tracer.interrupt().success(), "{said}");
            let words = format!(
                "{name}: {comm} ({pid}) is left out, because it is in this program's own process group"
            );
            assert_eq!(said.matches(&words).count(), told, "{name} {more:?} {own}: {said}");
            assert_eq!(said.matches("process group").count(), told, "{name} {more:?} {own}: {said}");
        }
    }
}

/// It ends with the last of the processes that were named, and has told all of them by then.
#[test]
fn processes_that_end() {
    let Some(_alone) = ready(&["perl", "sleep"]) else { return };
    for (name, path) in tracers() {
        let more: &[&str] = match name {
            "iolat" => &["--min", "0", "--who"],
            "syscall-trace" => &["--min", "0", "--syscall", "getppid"],
            "pagefault-trace" => &["--min", "0"],
            _ => &["--all"],
        };
        let mut first = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut last = begin_workload(0, &format!("ends-{}", std::process::id()));
        let pids = format!("{},{}", first.id(), last.id());
        let mut tracer = Tracer::start(path, &[&["--pid", &pids], more].concat());
        first.kill().unwrap();
        first.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(last.stdin.take());
        assert!(last.wait().unwrap().success());
        assert!(tracer.wait().success(), "{}", tracer.stderr());
        assert_seen(name, &tracer.records(), last.id().into());
        assert!(tracer.stderr().contains("--pid: no such process is left"), "{}", tracer.stderr());
    }
}

#[test]
fn a_thread_is_no_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().to_string()).unwrap();
        let _ = ended.recv();
    });
    let id = told.recv().unwrap();
    for (name, path) in tracers() {
        let output = Command::new(path).args(["--pid", &id]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("--pid {id}: a thread of the process {}", std::process::id());
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains(&expected), "{name}: {said}");
    }
    drop(end);
    thread.join().unwrap();
}

/// What it advises works, as it stands: as root, and as a user once the file has the rights. `sudo` is stood in for by
/// a way back to the rights that it would give.
#[test]
fn without_the_rights() {
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
        ran.stdout
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
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        refused(&output, name, &["CAP_BPF and CAP_PERFMON missing", "--cap-add BPF"]);
        let [as_root, once] = said.split('`').skip(1).step_by(2).collect::<Vec<_>>()[..] else {
            panic!("{said}")
        };
        assert!(as_root.starts_with("sudo ") && once.starts_with("sudo setcap "), "{said}");
        assert!(String::from_utf8(shell(as_root)).unwrap().contains(r#""reason":"active""#), "{as_root}");
        shell(once);
        let output = user(&args);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        // Who is root and lacks them cannot get them by sudo.
        let mut root = Command::new("setpriv");
        let root = root.args(["--bounding-set", "-bpf,-perfmon,-sys_admin"]).arg(path).output().unwrap();
        refused(&root, name, &["CAP_BPF and CAP_PERFMON missing", "--cap-add PERFMON"]);
        assert!(!String::from_utf8_lossy(&root.stderr).contains("sudo"));
    }
}

#[test]
fn which_capabilities_are_kept() {
    let Some(_alone) = ready(&[]) else { return };
    for (name, path) in tracers() {
        let output = Command::new(path).args(["-v", "-n", "1", "-i", "50ms"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Where the kernel asks for some still, these have names.
        let kept = said.split("capabilities kept: ").nth(1).and_then(|rest| rest.lines().next());
        assert!(kept.is_some_and(|kept| kept == "none" || kept.starts_with("CAP_")), "{name}: {said}");
    }
}

#[test]
fn mistakes_in_the_call() {
    for (name, path) in tracers() {
        for (args, words) in [
            (["--comm", ""], "--comm"),
            (["--comm", "sixteen-letters-"], "15 bytes"),
            (["--pid", "0"], "not the number of a process"),
            (["--pid", "4194304"], "--pid 4194304: there is no such process"),
            (["--uid", "no-such-user"], "there is no such user"),
            (["--cgroup", "0"], "--cgroup 0: no cgroup has that id"),
            (["--cgroup", "/no/such/folder"], "--cgroup /no/such/folder: no such cgroup: "),
            (["--cgroup", "/dev"], "--cgroup /dev: no cgroup of version 2"),
            (["--min", "-1"], "not a time"),
            (["--btf", "/no/such/file"], "--btf /no/such/file: No such file"),
            (["--btf", "/dev/null"], "--btf /dev/null: neither BTF nor ELF with .BTF"),
            (["--btf", "/etc/passwd"], "--btf /etc/passwd: neither BTF nor ELF with .BTF"),
        ] {
            if args[0] == "--btf" && !support::require_root() {
                continue;
            }
            let output = Command::new(path).args(args).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(said.starts_with(&format!("{name}: ")) && said.contains(words), "{args:?}: {said}");
        }
    }
}
