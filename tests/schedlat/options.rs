//! Filters, privileges, and usage errors.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::tracer::{Tracer, assert_without_rights, needed_capabilities, of, ready};
use crate::work::{SLEEP, Work, last_cpu, schedlat, trace};

fn count(records: &[Value]) -> u64 {
    of(records, "runq").iter().map(|record| record["count"].as_u64().unwrap()).sum()
}

#[test]
fn filters() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let work = [Work::start(last_cpu(), SLEEP), Work::start(last_cpu(), SLEEP)];
    let pids = work.each_ref().map(Work::pid);
    let both = pids.map(|pid| pid.to_string());
    for (filter, wanted) in [
        (vec!["--pid", &both[0]], vec![pids[0]]),
        (vec!["--pid", &both[0], "--pid", &both[1]], pids.to_vec()),
        (vec!["--comm", "perl", "--uid", "0", "--pid", &both[1]], vec![pids[1]]),
        (vec!["--comm", "no-such-task"], vec![]),
        (vec!["--uid", "4242"], vec![]),
    ] {
        for way in ["tp_btf", "raw_tp"] {
            let tracer = trace("1h", &[&filter[..], &["--attach", way, "--all", "--min", "1us"]].concat());
            work.iter().for_each(|work| work.goes_on(60));
            let records = tracer.finish();
            let mut seen: Vec<_> =
                of(&records, "sched").iter().map(|record| record["pid"].as_u64().unwrap()).collect();
            seen.sort_unstable();
            let mut wanted: Vec<_> = wanted.iter().map(|pid| u64::from(*pid)).collect();
            wanted.sort_unstable();
            assert_eq!(seen, wanted, "{filter:?} {way}");
            assert_eq!(count(&records) > 50, !wanted.is_empty(), "{filter:?} {way}");
            let events = of(&records, "runq_event");
            assert!(
                events.iter().all(|event| wanted.contains(&event["pid"].as_u64().unwrap())),
                "{filter:?} {way}"
            );
        }
    }
}

#[test]
fn the_filter_by_cgroup_includes_those_below_it() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let Some(root) = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")) else {
        crate::support::skip("no cgroup v2 is mounted");
        return;
    };
    let outer = std::path::Path::new(root.split(' ').nth(1).unwrap())
        .join(format!("telepipe-{}", std::process::id()));
    let inner = outer.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    let work = Work::start(last_cpu(), SLEEP);
    std::fs::write(inner.join("cgroup.procs"), work.pid().to_string()).unwrap();
    for way in ["tp_btf", "raw_tp"] {
        for (folder, wanted) in [(&outer, true), (&inner, true)] {
            let folder = folder.to_str().unwrap();
            let tracer = trace("1h", &["--cgroup", folder, "--all", "--attach", way, "--per-cgroup"]);
            let other = Work::start(last_cpu(), SLEEP);
            other.goes_on(20);
            work.goes_on(20);
            let records = tracer.finish();
            let seen: Vec<_> = of(&records, "sched").iter().map(|record| record["pid"].clone()).collect();
            assert_eq!(seen == [Value::from(work.pid())], wanted, "{folder} {way}: {seen:?}");
            let summary = of(&records, "runq")[0];
            assert!(summary["cgroup"].as_str().unwrap().ends_with("/inner"), "{summary}");
        }
    }
    drop(work);
    let gone = Instant::now();
    while std::fs::remove_dir(&inner).is_err() && gone.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_dir(&outer).unwrap();
}

#[test]
fn the_number_of_processes() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let _work =
        [Work::start(last_cpu(), SLEEP), Work::start(last_cpu(), SLEEP), Work::start(last_cpu(), SLEEP)];
    let tracer = trace("1h", &["--top", "2", "--no-summary", "--no-events"]);
    std::thread::sleep(Duration::from_millis(300));
    let records = tracer.finish();
    let waits: Vec<_> =
        of(&records, "sched").iter().map(|record| record["runq_us"].as_f64().unwrap()).collect();
    assert!(waits.len() == 2 && waits[0] >= waits[1], "{waits:?}");
    assert!(of(&records, "runq").is_empty());
}

#[test]
fn privileges_are_dropped_and_only_two_are_needed() {
    let Some(_alone) = ready(&["setpriv"]) else { return };
    let mut command = Command::new("setpriv");
    command.args([needed_capabilities(), schedlat().to_str().unwrap()]).process_group(0);
    let tracer = Tracer::start_command(command, "1h", &[]);
    assert_without_rights(tracer.pid(), 0);
    tracer.finish();
}

#[test]
fn it_ends_when_its_reader_does() {
    let Some(_alone) = ready(&[]) else { return };
    let mut command = Command::new(schedlat());
    let mut child =
        command.args(["-i", "100ms"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let left = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(first.contains(r#""kind":"status""#), "{first}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(left.elapsed() < Duration::from_secs(2), "noticed after {:?}", left.elapsed());
}

#[test]
fn usage_errors() {
    for (args, words) in [
        (&["--sys-root", "/tmp"][..], "--sys-root"),
        (&["--cgroup", "/no/such/folder"], "--cgroup"),
        (&["--top", "0"], "--top"),
        (&["--no-events", "--no-summary", "--no-processes"], "--no-processes"),
        (&["--top", "3", "--all"], "--all"),
        (&["--pid", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"], "--pid"),
    ] {
        let output = Command::new(schedlat()).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.starts_with("schedlat: ") && stderr.contains(words), "{args:?}: {stderr}");
    }
}
