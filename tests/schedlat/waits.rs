//! Single waits, and their distribution.

use std::time::Duration;

use crate::support::tracer::{lost, of, ready};
use crate::work::{SLEEP, SPIN, Work, last_cpu, trace};

/// Sleeps for 5 ms at a time under the name "late", and prints by how much the longest sleep was too long, in
/// microseconds.
const LATE: &str = r#"$0 = "late"; my $worst = 0; my $end = Time::HiRes::time() + 1.5;
    while ((my $t = Time::HiRes::time()) < $end) { Time::HiRes::usleep(5000);
    my $late = Time::HiRes::time() - $t - 0.005; $worst = $late if $late > $worst; } $0 = "ends"; printf "%.0f", $worst * 1e6"#;
/// Uses the CPU for 80 ms at a real-time priority.
const HOG: &str = r#"$0 = "hog"; Time::HiRes::usleep(500000); system("chrt", "-f", "-p", "50", $$);
    my $end = Time::HiRes::time() + 0.08; 1 while Time::HiRes::time() < $end"#;

#[test]
fn a_long_wait_has_an_event_with_the_task_that_ran_instead() {
    let Some(_alone) = ready(&["taskset", "perl", "chrt"]) else { return };
    let tracer = trace("1h", &["--min", "20ms"]);
    let cpu = last_cpu();
    let waiter = Work::start(cpu, LATE);
    let hog = Work::start(cpu, HOG);
    let (pid, hog_pid) = (waiter.pid(), hog.pid());
    let worst: f64 = waiter.output().parse().unwrap();
    drop(hog);
    let records = tracer.finish();
    let own =
        of(&records, "runq_event").into_iter().filter(|event| event["pid"] == pid && event["comm"] == "late");
    let event = own.max_by_key(|event| event["duration_us"].as_f64().unwrap() as u64).unwrap();
    let waited = event["duration_us"].as_f64().unwrap();
    assert!(waited <= worst, "{waited} us, the waiter itself saw {worst}");
    assert!(waited >= 60_000.0, "the hog held the CPU for 80 ms: {event}");
    assert_eq!((&event["cpu"], &event["uid"]), (&cpu.into(), &0.into()));
    assert!(event["tid"] == pid && event["cgroup_id"].as_u64() > Some(0), "{event}");
    // A kernel thread may have run between hog and waiter.
    let instead = event["prev_pid"] == hog_pid || event["prev_comm"] != "late";
    assert!(instead, "the hog is {hog_pid}: {event}");
    assert!(event["begin_ts"].as_str() < event["ts"].as_str(), "{event}");
    let events = of(&records, "runq_event");
    assert!(events.iter().all(|event| event["duration_us"].as_f64() >= Some(20_000.0)), "{events:?}");
    let summary = of(&records, "runq")[0];
    let longest = events.iter().map(|event| event["duration_us"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(summary["max_us"].as_f64(), Some(longest), "the longest event is the summary's longest");
}

#[test]
fn records_agree_with_themselves() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let tracer = trace("100ms", &["--no-events", "--no-processes"]);
    let cpu = last_cpu();
    let _busy = [Work::start(cpu, SPIN), Work::start(cpu, SLEEP), Work::start(cpu, SPIN)];
    let enough = || (of(&tracer.records(), "runq").len() >= 9).then_some(());
    crate::support::poll(Duration::from_secs(30), enough).unwrap();
    let records = tracer.finish();
    let summaries = of(&records, "runq");
    assert!(of(&records, "sched").is_empty() && of(&records, "runq_event").is_empty());
    for record in &summaries {
        let buckets = record["buckets"].as_object().unwrap().values();
        let counts = buckets.chain([&record["zero_count"]]).map(|count| count.as_u64().unwrap());
        assert_eq!(counts.sum::<u64>(), record["count"], "{record}");
        let field = |name: &str| record[name].as_f64().unwrap();
        let ascending = ["p50_us", "p90_us", "p95_us", "p99_us", "p999_us", "max_us"].map(field);
        assert!(ascending.is_sorted() && field("mean_us") <= field("max_us"), "{record}");
        assert!(record["max_comm"].is_string() && record["max_prev_comm"].is_string(), "{record}");
    }
    for pair in summaries.windows(2) {
        assert_eq!(pair[0]["ts"], pair[1]["start_ts"]);
    }
    assert_eq!(lost(&records), 0, "{records:?}");
}

/// Waits by CPU and by cgroup add up to all waits.
#[test]
fn the_parts_are_the_whole() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let cpu = last_cpu();
    let all = [&[][..], &["--per-cpu"], &["--per-cgroup"], &["--per-cpu", "--per-cgroup"]];
    let name = format!("tp-{}", std::process::id());
    let mut tracers: Vec<_> = all
        .iter()
        .map(|args| trace("1h", &[*args, &["--no-events", "--no-processes", "--comm", &name]].concat()))
        .collect();
    // Only waits under this name are counted. A sleep that is over before the switch is no wait, so the kernel's count
    // of time slices is compared.
    let program = format!(
        r#"sub runs {{ open F, "/proc/self/schedstat"; (split " ", <F>)[2] }}
        $0 = "{name}"; $begin = runs(); select(undef, undef, undef, 0.001) for 1..300; print runs() - $begin"#
    );
    let runs: u64 = Work::start(cpu, &program).output().parse().unwrap();
    assert!(runs > 200, "{runs} of 300 sleeps");
    std::thread::sleep(Duration::from_millis(100));
    let mut counts = Vec::new();
    for (tracer, args) in tracers.drain(..).zip(all) {
        let records = tracer.finish();
        let summaries = of(&records, "runq");
        let count: u64 = summaries.iter().map(|record| record["count"].as_u64().unwrap()).sum();
        counts.push(count);
        for record in summaries {
            let (by_cpu, by_cgroup) = (args.contains(&"--per-cpu"), args.contains(&"--per-cgroup"));
            assert_eq!(
                (record["cpu"].is_u64(), record["cgroup_id"].is_u64()),
                (by_cpu, by_cgroup),
                "{record}"
            );
            assert!(!by_cpu || record["cpu"] == cpu, "{record}");
            assert_eq!(record["scale"], if by_cgroup { 3 } else { 5 }, "{record}");
        }
    }
    assert!(counts[0] >= runs, "{counts:?} of {runs}");
    assert!(counts.iter().all(|count| *count == counts[0]), "four at once: {counts:?}");
}
