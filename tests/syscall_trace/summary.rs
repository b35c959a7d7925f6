//! Every call counted, once.

use serde_json::Value;

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
        // By name, so that nobody else is counted.
        let comm = comm(calls);
        let tracer = trace(&["--no-events", "--summary", way, "--comm", comm]);
        run(calls, &["count", PRIME]);
        let records = tracer.finish();
        assert_eq!(total(&records, "getppid", "count"), 7919, "{way}: {} lost", lost(&records));
        assert_eq!(total(&records, "getppid", "errors"), 0);
        assert_eq!(total(&records, "close", "errors"), 7919, "{way}");
        assert!(of(&records, "syscall").is_empty() && lost(&records) == 0, "{records:?}");
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
        let sum: u64 = buckets.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(sum, record["count"].as_u64().unwrap(), "{record}");
        assert!(["p50_us", "p95_us", "p99_us", "max_us"].map(number).is_sorted(), "{record}");
        assert!(number("mean_us") <= number("max_us"), "{record}");
        // What the buckets say of the sum: OTLP's bounds at scale 3.
        let bound = |shift: f64| {
            let sums = buckets.iter().map(|(index, count)| {
                ((index.parse::<f64>().unwrap() + shift) / 8.0).exp2() * count.as_f64().unwrap()
            });
            sums.sum::<f64>() / 1000.0
        };
        let low = if buckets.contains_key("56") { 0.0 } else { bound(0.0) };
        let sum = number("sum_us");
        assert!(low <= sum + 0.001 && sum <= bound(1.0) + 0.001, "{low} to {}: {record}", bound(1.0));
        assert_eq!(record["scale"], 3);
    }
    assert_eq!(total(&records, "getppid", "count"), 99_991);
    assert_eq!(total(&records, "getppid", "errors") + total(&records, "close", "errors"), 99_991);
    let sleep = summaries.iter().find(|record| record["syscall"] == "nanosleep").unwrap();
    assert_eq!(sleep["class"], "wait");
    assert!(sleep["max_us"].as_f64().unwrap() >= 50_000.0, "{sleep}");
}
