use std::collections::BTreeMap;

use super::*;
use crate::record::HISTOGRAM_BOUNDS_LOG2_NS;

fn line(second: u32, kind: &str, fields: &str) -> String {
    format!(
        r#"{{"ts":"2026-11-20T20:{:02}:{:02}Z","kind":"{kind}","host":"h",{fields}}}"#,
        second / 60,
        second % 60
    )
}

fn options(names: Names) -> Options {
    Options { names, host: false, ..Options::default() }
}

fn add(exposition: &mut Exposition, line: &str) {
    exposition.add(&Line::parse(line.as_bytes()).unwrap(), Timestamp(0)).unwrap();
}

/// The samples by name and labels.
fn samples(exposition: &mut Exposition) -> BTreeMap<String, f64> {
    let mut text = String::new();
    exposition.render(Timestamp(0), &mut text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let split =
        |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    let all: Vec<_> = lines.map(|line| split(line).unwrap()).collect();
    let count = all.len();
    let samples: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(samples.len(), count, "a series occurs twice:\n{text}");
    samples
}

fn expose(options: Options, lines: &[String]) -> BTreeMap<String, f64> {
    let mut exposition = Exposition::new(options);
    lines.iter().for_each(|line| add(&mut exposition, line));
    samples(&mut exposition)
}

fn expected(samples: &[(&str, f64)]) -> BTreeMap<String, f64> {
    samples.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

#[test]
fn both_names_have_their_labels_units_and_values() {
    let found = expose(
        options(Names::Both),
        &[
            line(0, "cpu", r#""cpu":3,"irq_s":1.5,"user_ratio":0.25"#),
            line(0, "cpu", r#""per_cpu":true,"irq_s":9"#),
            line(0, "filesystem", r#""mountpoint":"/a \"b\"","device":"d\\e","type":"ext4","total_bytes":7"#),
            line(0, "tcp", r#""ipv4_sockets":{"fin_wait_1":2,"listen":1},"ipv6_sockets":{"fin_wait_1":3}"#),
            line(0, "paging", r#""faults":12"#),
        ],
    );
    let tcp = |state: &str, of: &str| {
        format!(
            r#"system_network_connections{{network_connection_state="{state}",network_transport="tcp",network_type="{of}"}}"#
        )
    };
    let mut wanted = expected(&[
        (r#"system_cpu_time_seconds_total{cpu_logical_number="3",cpu_mode="interrupt"}"#, 1.5),
        (r#"node_cpu_seconds_total{cpu="3",mode="irq"}"#, 1.5),
        (r#"system_cpu_utilization_ratio{cpu_logical_number="3",cpu_mode="user"}"#, 0.25),
        (
            r#"system_filesystem_limit_bytes{system_device="d\\e",system_filesystem_mountpoint="/a \"b\"",system_filesystem_type="ext4"}"#,
            7.0,
        ),
        (r#"node_filesystem_size_bytes{device="d\\e",fstype="ext4",mountpoint="/a \"b\""}"#, 7.0),
        (r#"node_tcp_connection_states{state="fin_wait1"}"#, 5.0),
        (r#"node_tcp_connection_states{state="listen"}"#, 1.0),
        ("telepipe_paging_faults_total", 12.0),
        ("node_vmstat_pgfault", 12.0),
    ]);
    for (state, of, value) in
        [("fin_wait_1", "ipv4", 2.0), ("listen", "ipv4", 1.0), ("fin_wait_1", "ipv6", 3.0)]
    {
        wanted.insert(tcp(state, of), value);
    }
    assert_eq!(found, wanted);
    let only = |names| expose(options(names), &[line(0, "cpu", r#""irq_s":1.5,"irq_ratio":0.5"#)]);
    let ratio = (r#"system_cpu_utilization_ratio{cpu_mode="interrupt"}"#, 0.5);
    assert_eq!(only(Names::Established), expected(&[(r#"node_cpu_seconds_total{mode="irq"}"#, 1.5), ratio]));
    let time = (r#"system_cpu_time_seconds_total{cpu_mode="interrupt"}"#, 1.5);
    assert_eq!(only(Names::OpenTelemetry), expected(&[time, ratio]));
}

#[test]
fn deltas_are_accumulated_and_totals_replaced() {
    let lost = |second, count| line(second, "lost", &format!(r#""source":"a","count":{count}"#));
    let forks = |second, count| line(second, "kernel", &format!(r#""forks":{count}"#));
    let found = expose(
        options(Names::OpenTelemetry),
        &[lost(0, 3), forks(5, 10), lost(2, 4), forks(7, 15), lost(1, 5), forks(6, 12)],
    );
    let name = r#"telepipe_lost_total{telepipe_source="a"}"#;
    assert_eq!(found, expected(&[(name, 12.0), ("system_process_created_total", 15.0)]));
}

/// Each bound has the observations of the exponential buckets that end at or below it.
#[test]
fn histograms_have_explicit_bounds_in_seconds() {
    let io = |scale: i32, zero: u64, buckets: &BTreeMap<i32, u64>| {
        let buckets = serde_json::to_string(buckets).unwrap();
        line(
            0,
            "runq",
            &format!(r#""sum_us":2500000.5,"scale":{scale},"zero_count":{zero},"buckets":{buckets}"#),
        )
    };
    for scale in [5, 2, 0, -1] {
        let buckets: BTreeMap<i32, u64> = (0..60)
            .map(|n| ((f64::from(n * 20 + 1) * f64::from(scale - 5).exp2()).floor() as i32, 1 + n as u64))
            .collect();
        let found = expose(options(Names::OpenTelemetry), &[io(scale, 7, &buckets), io(scale, 7, &buckets)]);
        let name = "linux_sched_run_queue_duration_seconds";
        for log2 in HISTOGRAM_BOUNDS_LOG2_NS {
            let bound = f64::exp2(log2.into()) / 1e9;
            let ends_below = |index: i32| f64::from(index + 1) * f64::from(-scale).exp2() <= log2.into();
            let below: u64 =
                buckets.iter().filter(|(index, _)| ends_below(**index)).map(|(_, count)| count).sum();
            let found = found[&format!("{name}_bucket{{le=\"{bound}\"}}")];
            assert_eq!(found, 2.0 * (7 + below) as f64, "scale {scale}, 2^{log2} ns");
        }
        let count = 2.0 * (7 + buckets.values().sum::<u64>()) as f64;
        assert_eq!(found[&format!("{name}_bucket{{le=\"+Inf\"}}")], count);
        assert_eq!((found[&format!("{name}_count")], found[&format!("{name}_sum")]), (count, 5.000_001));
    }
}

#[test]
fn metric_records_have_their_own_names_and_types() {
    let metric = |second, fields: &str| line(second, "metric", fields);
    let found = expose(
        options(Names::Both),
        &[
            metric(
                0,
                r#""name":"http.server.duration","unit":"ms","type":"histogram","bounds":[5,10],"bucket_counts":[1,0,2],"sum":40,"attributes":{"le":"x","a.b":1,"a_b":true}"#,
            ),
            metric(0, r#""name":"queue.count","unit":"{box}","value":3"#),
            metric(0, r#""name":"node_memory_MemFree_bytes","unit":"By","value":4"#),
            metric(0, r#""name":"wait_milliseconds","unit":"ms","value":4"#),
            metric(0, r#""name":"requests_total","type":"counter","temporality":"delta","value":4"#),
            metric(1, r#""name":"requests_total","type":"counter","temporality":"delta","value":5"#),
            metric(
                1,
                r#""name":"rtt","unit":"us","type":"summary","count":2,"sum":30,"quantiles":[0.5],"values":[10]"#,
            ),
            metric(1, r#""name":"requests.total","value":1"#),
        ],
    );
    let with = |labels: &str| format!(r#"http_server_duration_seconds_{labels}"#);
    let mut wanted = expected(&[
        ("queue_boxes", 3.0),
        ("node_memory_MemFree_bytes", 4.0),
        ("wait_milliseconds", 4.0),
        ("requests_total", 9.0),
        (r#"rtt_seconds{quantile="0.5"}"#, 10.0 * 1e-6),
        ("rtt_seconds_sum", 30.0 * 1e-6),
        ("rtt_seconds_count", 2.0),
    ]);
    let labels = r#"a_b="1;true",exported_le="x""#;
    for (bound, count) in [("0.005", 1.0), ("0.01", 1.0), ("+Inf", 3.0)] {
        wanted.insert(with(&format!("bucket{{{labels},le=\"{bound}\"}}")), count);
    }
    wanted.insert(with(&format!("sum{{{labels}}}")), 0.04);
    wanted.insert(with(&format!("count{{{labels}}}")), 3.0);
    assert_eq!(found, wanted);
    let mut exposition = Exposition::new(options(Names::Both));
    for wrong in [r#""value":1"#, r#""name":"x""#, r#""name":"x","type":"set","value":1"#] {
        let text = metric(0, wrong);
        assert!(exposition.add(&Line::parse(text.as_bytes()).unwrap(), Timestamp(0)).is_err(), "{wrong}");
    }
}

#[test]
fn a_name_has_one_type_and_other_values_are_counted() {
    let mut exposition = Exposition::new(options(Names::Both));
    add(&mut exposition, &line(0, "metric", r#""name":"a_total","type":"counter","value":1"#));
    add(&mut exposition, &line(0, "metric", r#""name":"a_total","value":2"#));
    assert_eq!(samples(&mut exposition), expected(&[("a_total", 1.0)]));
    assert_eq!(exposition.conflicts(), 1);
}

#[test]
fn hosts_are_kept_apart_by_a_label() {
    let load = |host: &str| line(0, "load", r#""load_1m":1"#).replace("\"h\"", &format!("\"{host}\""));
    let options = Options { names: Names::OpenTelemetry, ..Options::default() };
    let found = expose(options, &[load("a"), load("b")]);
    let name = |host: &str| format!("system_cpu_load_average_1m{{host_name=\"{host}\"}}");
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [name("a"), name("b")]);
}

#[test]
fn series_become_stale() {
    let mut exposition = Exposition::new(options(Names::OpenTelemetry));
    let process = |second, pid: u32| line(second, "process", &format!(r#""pid":{pid},"threads":1"#));
    add(&mut exposition, &process(0, 1));
    add(&mut exposition, &process(0, 2));
    add(&mut exposition, &line(0, "lost", r#""source":"a","count":1"#));
    let late = Timestamp(301_000_000_000);
    exposition.add(&Line::parse(process(0, 2).as_bytes()).unwrap(), late).unwrap();
    let mut text = String::new();
    exposition.render(late, &mut text);
    let found: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(
        found,
        [r#"process_threads{process_pid="2"} 1"#, r#"telepipe_lost_total{telepipe_source="a"} 1"#]
    );
    assert_eq!(exposition.evicted(), 0);
}

#[test]
fn the_number_of_series_is_bounded_and_evictions_are_counted() {
    let mut exposition = Exposition::new(Options { max_series: 100, ..options(Names::OpenTelemetry) });
    for n in 0..1000 {
        add(&mut exposition, &line(n / 100, "process", &format!(r#""pid":{n},"threads":1"#)));
        add(&mut exposition, &line(n / 100, "load", r#""load_1m":1"#));
    }
    let found = samples(&mut exposition);
    assert!((50..=100).contains(&found.len()), "{}", found.len());
    assert_eq!(exposition.evicted(), 1001 - found.len() as u64);
    assert!(
        found.contains_key("system_cpu_load_average_1m") && found.keys().any(|name| name.contains("\"999\""))
    );
}
