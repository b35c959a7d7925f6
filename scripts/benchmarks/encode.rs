//! Lines to OTLP on one core, JSON parsing included: data points per second of
//! CPU time, so that what else the machine does counts little.
//!
//! `cargo bench --bench encode`

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

use telepipe::ship::Batch;
use telepipe::ship::line::Line;
use telepipe::ship::otlp::{Encoder, Names, Options};

/// The time that this thread was on a core.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }
    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// What a line of that second begins with.
fn head(second: usize, kind: &str) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!(r#"{{"ts":"2026-11-20T20:{minute:02}:{second:02}.123456789Z","kind":"{kind}","host":"bench""#)
}

/// Every field that a `disk` line can have: seventeen of them are points.
fn disk(device: &str, second: usize) -> String {
    let (count, time) = (100_000 + 37 * second, 1234.56 + 0.25 * second as f64);
    format!(
        r#"{},"device":"{device}","type":"disk","whole":true,"start_ts":"2026-11-01T00:00:00.000000000Z","reads":{count},"reads_merged":{},"read_bytes":{},"read_time_s":{time},"writes":{},"writes_merged":{},"write_bytes":{},"write_time_s":{},"in_flight":{},"io_time_s":{},"weighted_io_time_s":{},"discards":{},"discards_merged":0,"discard_bytes":{},"discard_time_s":0.125,"flushes":{},"flush_time_s":12.75,"interval_s":1.000012345,"read_bytes_per_s":2424832.5,"write_bytes_per_s":1818624.25,"read_mean_us":123.457,"write_mean_us":456.789,"utilization_ratio":0.123456789}}"#,
        head(second, "disk"),
        count / 7,
        count * 65_536,
        count * 3,
        count / 3,
        count * 16_384,
        time * 2.5,
        second % 5,
        time / 2.0,
        time * 4.0,
        count / 100,
        count * 4096,
        count / 50,
    )
}

fn disks() -> Batch {
    let mut batch = Batch::new();
    for second in 0..250 {
        for device in ["sda", "nvme0n1", "dm-0", "md127"] {
            batch.push(batch.len() as u64, disk(device, second).as_bytes());
        }
    }
    batch
}

/// Few points per line.
fn loads() -> Batch {
    let mut batch = Batch::new();
    for second in 0..1000 {
        let load = r#""load_1m":0.25,"load_5m":1.5,"running_tasks":3,"total_tasks":400,"last_pid":4321"#;
        let line = format!(r#"{},"load_15m":{},{load}}}"#, head(second, "load"), second as f64 / 100.0);
        batch.push(second as u64, line.as_bytes());
    }
    batch
}

fn encode(criterion: &mut Criterion<CpuTime>) {
    let options = Options {
        names: Names::Semconv,
        service: "telepipe".into(),
        pipeline: String::new(),
        host: "bench".into(),
        default_host: "bench".into(),
        host_id: None,
        attributes: Vec::new(),
    };
    for (name, batch) in [("disk", disks()), ("load", loads())] {
        let mut encoder = Encoder::new(options.clone());
        let points = encoder.encode(&batch).requests.iter().map(|request| request.items).sum();
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(batch.bytes() as u64));
        group.bench_function("parse", |bencher| {
            bencher.iter(|| (0..batch.len()).all(|index| black_box(Line::parse(batch.line(index))).is_ok()));
        });
        group.throughput(Throughput::Elements(points));
        group.bench_function("encode", |bencher| bencher.iter(|| black_box(encoder.encode(&batch))));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = encode
}
criterion_main!(benches);
