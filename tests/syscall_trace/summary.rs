//! Summaries: every call is counted once, in the right bucket.

use std::collections::BTreeMap;

use serde_json::Value;
use telepipe::common::hist::Histogram;

use crate::support::emulated;
use crate::support::tracer::{lost, of};
use crate::workload::{WAYS, comm, ready, run, trace, trace_each};

const PRIME: &str = "7919";

fn total(records: &[Value], call: &str, field: &str) -> u64 {
    let calls = of(records, "syscall_summary").into_iter().filter(|record| record["syscall"] == call);
    calls.map(|record| record[field].as_u64().unwrap()).sum()
}

#[test]
fn a_prime_number_of_calls() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        // By name, so that no other process is counted.
        let comm = comm(calls);
        let tracer = trace(&["--no-events", "--summary", way, "--comm", comm]);
        run(calls, &["count", PRIME]);
        let records = tracer.finish();
        assert_eq!(total(&records, "getppid", "count"), 7919, "{way}: {} lost", lost(&records));
        assert_eq!(total(&records, "getppid", "errors"), 0);
        assert_eq!(total(&records, "close", "errors"), 7919, "{way}");
        assert!(of(&records, "syscall").is_empty(), "{records:?}");
        // A kernel that preempts tasks in a program (7.x, in emulation) skips it for other tasks meanwhile.
        let lost = of(&records, "lost")
            .into_iter()
            .find(|record| !emulated() || !record["source"].as_str().unwrap().contains("inside another"));
        assert_eq!(lost, None);
    }
}

#[test]
fn records_agree_with_themselves_and_add_up() {
    let Some((calls, _alone)) = ready() else { return };
    let comm = comm(calls);
    let tracer = trace_each("20ms", &["--no-events", "--summary", "--comm", comm]);
    run(calls, &["count", "99991"]);
    run(calls, &["sleep", "50"]);
    let records = tracer.finish();
    let summaries = of(&records, "syscall_summary");
    assert!(summaries.len() > 4, "{} records", summaries.len());
    for record in &summaries {
        let number = |field: &str| record[field].as_f64().unwrap();
        let buckets = record["buckets"].as_object().unwrap();
        let zeros = record["zero_count"].as_u64().unwrap();
        let counted: u64 = buckets.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(zeros + counted, record["count"].as_u64().unwrap(), "{record}");
        assert!(["p50_us", "p95_us", "p99_us", "max_us"].map(number).is_sorted(), "{record}");
        assert!(number("mean_us") <= number("max_us"), "{record}");
        // The bounds of the buckets, by OTLP's formula at scale 3, bound the sum.
        let bound = |shift: f64| {
            let sums = buckets.iter().map(|(index, count)| {
                ((index.parse::<f64>().unwrap() + shift) / 8.0).exp2() * count.as_f64().unwrap()
            });
            sums.sum::<f64>() / 1000.0
        };
        let (low, high) = (bound(0.0), bound(1.0) + zeros as f64 * 0.128);
        let sum = number("sum_us");
        assert!(low <= sum + 0.001 && sum <= high + 0.001, "{low} to {high}: {record}");
        assert_eq!(record["scale"], 3);
    }
    assert_eq!(total(&records, "getppid", "count"), 99_991);
    assert_eq!(total(&records, "getppid", "errors") + total(&records, "close", "errors"), 99_991);
    let sleep = summaries.iter().find(|record| record["syscall"] == "nanosleep").unwrap();
    assert_eq!(sleep["class"], "wait");
    assert!(sleep["max_us"].as_f64().unwrap() >= 50_000.0, "{sleep}");
}

#[test]
fn a_summary_is_the_distribution_of_its_events() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--summary", "--min", "0", "--syscall", "getppid", "--comm", comm(calls)]);
    run(calls, &["count", PRIME]);
    let records = tracer.finish();
    let mut events = Histogram::new(3);
    for event in of(&records, "syscall") {
        events.record((event["duration_us"].as_f64().unwrap() * 1000.0).round() as u64);
    }
    let mut buckets = BTreeMap::new();
    for summary in of(&records, "syscall_summary") {
        for (index, count) in summary["buckets"].as_object().unwrap() {
            *buckets.entry(index.parse().unwrap()).or_insert(0) += count.as_u64().unwrap();
        }
    }
    assert_eq!((events.count(), lost(&records)), (7919, 0));
    assert_eq!((total(&records, "getppid", "zero_count"), buckets), (events.zero_count(), events.sparse()));
}
