//! More processes than task slots: those without a slot are counted as lost.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::program;
use crate::support::tracer::{Tracer, of, ready};
use crate::who::pin;

/// More than the slots of one CPU, 4096.
const CHILDREN: u64 = 4507;

/// Runs a process with this name and [`CHILDREN`] children on one CPU. Returns its process ID, and the kernel's count
/// of its children's page faults.
fn family(comm: &str) -> (u64, u64) {
    let script = r#"
        use POSIX;
        $0 = $ARGV[0];
        <STDIN>;
        for (1..$ARGV[1]) { my $child = fork; POSIX::_exit(0) unless $child; waitpid($child, 0) }
        open(my $stat, "<", "/proc/self/stat");
        my @fields = split " ", (split /\) /, <$stat>)[1];
        print $fields[8] + $fields[10]"#; // cminflt and cmajflt of proc(5)
    let mut perl = Command::new("perl");
    perl.args(["-e", script, comm, &CHILDREN.to_string()]).process_group(0);
    let mut perl = perl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    pin(perl.id());
    drop(perl.stdin.take());
    let mut faults = String::new();
    perl.stdout.take().unwrap().read_to_string(&mut faults).unwrap();
    assert!(perl.wait().unwrap().success());
    (perl.id().into(), faults.parse().unwrap())
}

fn lost(records: &[Value], source: &str) -> u64 {
    let lost = of(records, "lost").into_iter().filter(|record| record["source"] == source);
    lost.map(|record| record["count"].as_u64().unwrap()).sum()
}

#[test]
fn faults_of_more_processes_than_slots() {
    let Some(_alone) = ready(&["perl"]) else { return };
    let comm = format!("faults-{}", std::process::id());
    let args = ["--per-process", "--top", "10000", "--no-events", "--comm", &comm];
    let tracer = Tracer::start(program!("pagefault-trace"), &args);
    let (parent, faults) = family(&comm);
    let records = tracer.finish();
    let children = of(&records, "pagefault_process").into_iter().filter(|record| record["pid"] != parent);
    let reported: Vec<_> = children
        .map(|record| record["minor"].as_u64().unwrap() + record["major"].as_u64().unwrap())
        .collect();
    let lost = lost(&records, "pagefault_process: more processes than slots");
    assert!(lost > 0 && reported.len() > 2000, "{} reported, {lost} faults lost", reported.len());
    assert_eq!(reported.iter().sum::<u64>() + lost, faults, "the kernel's own count");
}

#[test]
fn switches_of_more_processes_than_slots() {
    let Some(_alone) = ready(&["perl"]) else { return };
    let comm = format!("switches-{}", std::process::id());
    let tracer = Tracer::start(program!("schedlat"), &["--all", "--no-events", "--comm", &comm]);
    let (parent, _) = family(&comm);
    let records = tracer.finish();
    let reported = of(&records, "sched").into_iter().filter(|record| record["pid"] != parent).count() as u64;
    let lost = lost(&records, "sched: more processes than slots");
    // A lost process counts at least once. Its waits are in the runq record anyway.
    assert!(reported > 2000 && reported < CHILDREN, "{reported}");
    assert!(lost >= CHILDREN - reported, "{reported} reported, {lost} lost");
    assert!(of(&records, "runq")[0]["count"].as_u64().unwrap() >= CHILDREN, "{:?}", of(&records, "runq"));
}
