//! A process that causes events of each tracer.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::tracer::of;

/// Options with which a tracer reports the whole workload.
pub fn everything(name: &str) -> &'static [&'static str] {
    match name {
        "iolat" => &["--min", "0", "--who"],
        "syscall-trace" => &["--min", "0", "--syscall", "getppid"],
        "pagefault-trace" => &["--min", "0", "--per-process"],
        _ => &["--min", "0", "--all"],
    }
}

/// Runs a process with this name that calls getppid 997 times, sleeps 101 times, touches memory, and writes to a disk
/// 11 times. Returns its process ID.
pub fn workload(name: &str) -> u64 {
    workload_in(0, name)
}

/// As [`workload`], in an existing process group, or with 0 in a new one.
pub fn workload_in(group: i32, name: &str) -> u64 {
    let mut perl = begin_workload(group, name);
    drop(perl.stdin.take());
    assert!(perl.wait().unwrap().success());
    perl.id().into()
}

/// As [`workload_in`], but it waits for the end of its stdin, which can contain a user ID to change to.
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

/// Asserts that the records contain the whole workload of process `pid`.
pub fn assert_seen(name: &str, records: &[Value], pid: u64) {
    let own = |kind: &str| -> Vec<&Value> {
        of(records, kind).into_iter().filter(|record| record["pid"] == pid).collect()
    };
    match name {
        "syscall-trace" => {
            let calls = own("syscall").into_iter().filter(|event| event["syscall"] == "getppid");
            assert_eq!(calls.count(), 997, "{records:?}");
        }
        "pagefault-trace" => assert!(own("pagefault").len() > 700, "{records:?}"),
        "iolat" => assert!(own("io_event").len() >= 11, "{records:?}"),
        _ => assert!(own("sched")[0]["voluntary_switches"].as_u64().unwrap() >= 101, "{records:?}"),
    }
}
