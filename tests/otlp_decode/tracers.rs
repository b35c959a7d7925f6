//! The records of the four tracers, from the kernel to the decoder: every bucket of each histogram, and every field and
//! the severity of each event.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::stored::{Point, integer, points};
use crate::support::tracer::{Tracer, of, ready};
use crate::support::{program, skip};
use crate::{attributes, by_host, nanos, shipped};

/// A tracer and the telemetry that its records become.
struct Case {
    program: &'static Path,
    options: &'static [&'static str],
    /// The kind of its events, the field that is compared with the threshold, and the threshold in microseconds.
    event: (&'static str, &'static str, f64),
    /// The kind of its interval records, and the metric of their `buckets`.
    summary: (&'static str, &'static str),
    /// The multiples of the threshold from which an event is WARN and ERROR.
    multiples: [f64; 2],
}

const TEN: [f64; 2] = [10.0, 100.0];

fn cases() -> [Case; 4] {
    [
        Case {
            program: program!("syscall-trace"),
            options: &["--summary", "--waits", "--min", "1ms"],
            event: ("syscall", "duration_us", 1000.0),
            summary: ("syscall_summary", "linux.syscall.duration"),
            multiples: TEN,
        },
        Case {
            program: program!("pagefault-trace"),
            options: &["--min", "500ns"],
            event: ("pagefault", "duration_us", 0.5),
            summary: ("pagefault_summary", "linux.page_fault.duration"),
            multiples: [100.0, 10_000.0],
        },
        Case {
            program: program!("schedlat"),
            options: &["--min", "500ns", "--per-cpu"],
            event: ("runq_event", "duration_us", 0.5),
            summary: ("runq", "linux.sched.run_queue.duration"),
            multiples: TEN,
        },
        Case {
            program: program!("iolat"),
            options: &["--events", "--min", "1us", "--who"],
            event: ("io_event", "total_us", 1.0),
            summary: ("io", "linux.block.duration"),
            multiples: TEN,
        },
    ]
}

/// Whether a folder is on a block device that queues requests.
fn on_a_disk(folder: &Path) -> bool {
    let dev = std::fs::metadata(folder).unwrap().dev();
    let link = format!("/sys/dev/block/{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let Ok(mut device) = std::fs::canonicalize(link) else { return false };
    if device.join("partition").exists() {
        device.pop();
    }
    device.join("mq").exists()
}

/// Sleeps 27 times, touches memory, and writes to a disk 15 times, in more than one interval. Each round touches more
/// memory than the one before, because perl keeps what it has.
fn work(comm: &str) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(comm);
    let script = r#"
        use Fcntl; use IO::Handle;
        $0 = $ARGV[0];
        open(my $file, ">", $ARGV[1]);
        for (1..3) {
            my $memory = "x" x ($_ * 1_000_000);
            for my $seconds ((0.002) x 7, 0.02, 0.15) { select(undef, undef, undef, $seconds) }
            for (1..5) { syswrite($file, "y" x 4096); $file->sync }
        }
        unlink $ARGV[1]"#;
    let status = Command::new("perl").args(["-e", script, comm]).arg(file).process_group(0).status();
    assert!(status.unwrap().success());
}

fn assert_histograms(lines: &[Value], requests: &[Value], (kind, metric): (&str, &str)) {
    let describe = |point: &Point, time: u64| {
        assert_eq!(
            (&*point.unit, &*point.shape, point.temporality),
            ("ns", "exponentialHistogram", 1),
            "{metric}"
        );
        format!("{time} {} {}", point.start, point.value)
    };
    let found = points(requests);
    let mut found: Vec<_> = found
        .iter()
        .filter(|(name, _)| name.metric == metric)
        .flat_map(|(name, points)| points.iter().map(|point| describe(point, name.time)))
        .collect();
    let counted = |record: &Value| {
        let ns = |field: &str| record[field].as_f64().map(|us| (us * 1000.0).round());
        let counts = record["buckets"].as_object().unwrap().values().map(|count| count.as_u64().unwrap());
        let zero_count = record["zero_count"].as_u64().unwrap();
        assert_eq!(zero_count + counts.sum::<u64>(), record["count"].as_u64().unwrap(), "{record}");
        let value = json!({
            "count": record["count"], "zero": (zero_count, 128.0), "scale": record["scale"].as_f64(),
            "sum": ns("sum_us"), "max": ns("max_us"), "buckets": record["buckets"],
        });
        format!("{} {} {value}", nanos(&record["ts"]), nanos(&record["start_ts"]))
    };
    let filled = of(lines, kind).into_iter().filter(|record| record["count"] != 0);
    let mut expected: Vec<_> = filled.map(counted).collect();
    assert!(expected.len() > 1, "{lines:?}");
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "{metric}");
}

fn assert_events(lines: &[Value], requests: &[Value], case: &Case) {
    let (kind, field, threshold) = case.event;
    let logs = by_host(requests, ["resourceLogs", "scopeLogs", "logRecords"]).into_values().flatten();
    let logs: Vec<_> = logs.filter(|log| log["eventName"] == kind).collect();
    let mut events = of(lines, kind);
    events.sort_by_key(|event| nanos(&event["ts"]));
    assert!(events.len() > 5 && logs.len() == events.len(), "{kind}: {} events", events.len());
    for (event, log) in events.into_iter().zip(logs) {
        assert_eq!(integer(&log["timeUnixNano"]), nanos(&event["ts"]), "{event}");
        let mut about = event.clone();
        about.as_object_mut().unwrap().retain(|name, _| !["ts", "kind", "host"].contains(&name.as_str()));
        assert_eq!(attributes(&log), about);
        let [warn, error] = case.multiples.map(|times| event[field].as_f64().unwrap() >= times * threshold);
        let severity = if error {
            "ERROR"
        } else if warn {
            "WARN"
        } else {
            "INFO"
        };
        assert_eq!(
            (&log["severityText"], event["threshold_us"].as_f64()),
            (&severity.into(), Some(threshold)),
            "{event}"
        );
    }
}

#[test]
fn buckets_and_events_arrive_as_measured() {
    let Some(_alone) = ready(&["perl"]) else { return };
    for case in cases() {
        if case.event.0 == "io_event" && !on_a_disk(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
            skip("the target folder is not on a disk with block requests");
            continue;
        }
        let comm = format!("decode-{}", std::process::id());
        let filter = if case.event.0 == "io_event" { &[][..] } else { &["--comm", &comm] };
        let tracer = Tracer::start_each("200ms", case.program, &[case.options, filter].concat());
        work(&comm);
        let lines = tracer.finish();
        let Some(requests) = shipped(&lines, &[]) else { return };
        assert_histograms(&lines, &requests, case.summary);
        assert_events(&lines, &requests, &case);
    }
}
