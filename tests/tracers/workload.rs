//! A process that causes events of each tracer.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::tracer::of;

/// Options with which a tracer reports all of it.
pub fn everything(name: &str) -> &'static [&'static str] {
    match name {
        "iolat" => &["--min", "0", "--who"],
        "syscall-trace" => &["--min", "0", "--syscall", "getppid"],
        "pagefault-trace" => &["--min", "0", "--per-process"],
        _ => &["--min", "0", "--all"],
    }
}

/// A process that asks 997 times who its parent is, sleeps 101 times, touches memory, and writes to a disk 11 times;
/// its name is that of no other. Returns its process number.
pub fn workload(name: &str) -> u64 {
    workload_in(0, name)
}

/// The same in a process group that there is; 0: in one of its own.
pub fn workload_in(group: i32, name: &str) -> u64 {
    let mut perl = begin_workload(group, name);
    drop(perl.stdin.take());
    assert!(perl.wait().unwrap().success());
    perl.id().into()
}

/// The same, but it begins at the end of its input, which can be the number of a user to become.
pub fn begin_workload(group: i32, name: &str) -> Child {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let script = r#"
        use Fcntl; use IO::Handle;
        $0 = $ARGV[0];
        open(my $file, ">", $ARGV[1]); unlink $ARGV[1];
        my $user = <STDIN>;
        ($<, $>) = ($user, $user) if $user;
        getppid() for 1..997;
        select(undef, undef, undef, 0.001) for 1..101;
        my $memory = "x" x 3_000_000;
        for (1..11) { syswrite($file, "y" x 4096); $file->sync }"#;
    let mut perl = Command::new("perl");
    perl.args(["-e", script, name]).arg(file).process_group(group).stdin(Stdio::piped()).spawn().unwrap()
}

/// Every field that is read by its name in a struct of the kernel's: filters, numbers, names, times.
pub fn assert_seen(name: &str, records: &[Value], pid: u64) {
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
