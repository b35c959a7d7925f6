//! Tests that the records of `pmstat` and `vmstat-json` have values for all 30 metric names of existing dashboards.

mod support;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use support::records::{of, records};
use support::{program, samples};
use telepipe::record::{CPU_POWER, GPU, Kind, Mapping, POWER, TEMPERATURE, VMSTAT};

/// The values of metrics by name and labels, in the unit of the name.
fn metrics_of(records: &[Value]) -> HashMap<String, f64> {
    let kinds: [&Kind; 5] = [&POWER, &CPU_POWER, &GPU, &TEMPERATURE, &VMSTAT];
    let mut values = HashMap::new();
    for kind in kinds {
        let Mapping::Metrics { metrics, .. } = kind.mapping else { continue };
        for (record, metric) in of(records, kind.name)
            .iter()
            .flat_map(|record| metrics.iter().map(move |metric| (record, metric)))
        {
            let (Some(established), Some(value)) = (metric.prometheus, record[metric.field].as_f64()) else {
                continue;
            };
            let mut name = established.name.to_owned();
            for field in ["domain", "component"] {
                name = name.replace(&format!("{{{field}}}"), record[field].as_str().unwrap_or(""));
            }
            let label = |(field, label): &(&str, &str)| Some(format!("{label}={}", record[field].as_str()?));
            let labels: Vec<_> = kind.labels.iter().filter_map(label).collect();
            if !labels.is_empty() {
                name = format!("{name}{{{}}}", labels.join(","));
            }
            values.insert(name, value * established.factor);
        }
    }
    values
}

/// The metrics of three recordings: an Apple processor, the sensors of an Intel machine, and memory.
fn metrics_of_recordings(apple: &Path, intel: &Path, memory: &Path) -> HashMap<String, f64> {
    let input =
        |program: &Path, file: &Path| records(program, &["--input", file.to_str().unwrap(), "-n", "1"]);
    let mut all = metrics_of(&input(program!("pmstat"), apple));
    assert!(!all.keys().any(|name| name.starts_with("powermetrics_cpu_") && name.contains("Cluster")));
    let sensors = metrics_of(&input(program!("pmstat"), intel)).into_iter();
    all.extend(sensors.filter(|(name, _)| name.starts_with("powermetrics_cpu_temperature")));
    all.extend(metrics_of(&input(program!("vmstat-json"), memory)));
    all
}

/// Checks that every name has its expected value.
fn all_thirty(found: &HashMap<String, f64>, cpu: &str, expected: [f64; 30]) {
    let names = [
        "powermetrics_cpu_power_milliwatts",
        "powermetrics_gpu_power_milliwatts",
        &format!("powermetrics_cpu_frequency_hertz{{core={cpu}}}"),
        "powermetrics_cpu_temperature_celsius{sensor_id=cpu_die}",
        &format!("powermetrics_cpu_active_residency_percent{{core={cpu}}}"),
        &format!("powermetrics_cpu_idle_residency_percent{{core={cpu}}}"),
        "powermetrics_gpu_active_residency_percent{gpu=gpu0}",
        "powermetrics_gpu_idle_residency_percent{gpu=gpu0}",
        "vmstat_page_size_bytes",
        "vmstat_pages_free_count",
        "vmstat_pages_active_count",
        "vmstat_pages_inactive_count",
        "vmstat_pages_speculative_count",
        "vmstat_pages_throttled_count",
        "vmstat_pages_wired_count",
        "vmstat_pages_purgeable_count",
        "vmstat_pages_file_backed_count",
        "vmstat_pages_anonymous_count",
        "vmstat_pages_compressor_count",
        "vmstat_pages_cow_faults_total",
        "vmstat_pages_zero_filled_total",
        "vmstat_pages_reactivated_total",
        "vmstat_pages_purged_total",
        "vmstat_pages_decompressed_total",
        "vmstat_pages_compressed_total",
        "vmstat_page_ins_total",
        "vmstat_page_outs_total",
        "vmstat_faults_total",
        "vmstat_swap_ins_total",
        "vmstat_swap_outs_total",
    ];
    for (name, value) in names.iter().zip(expected) {
        let found = found.get(*name).unwrap_or_else(|| panic!("no value for {name}: {found:?}"));
        assert!((found - value).abs() < 1e-9 * value.max(1.0), "{name}: {found}, not {value}");
    }
}

#[test]
fn own_recordings_have_all_names() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let found = metrics_of_recordings(
        &fixtures.join("powermetrics/apple.txt"),
        &fixtures.join("powermetrics/intel.txt"),
        &fixtures.join("vm_stat/one_shot.txt"),
    );
    let powers = [500.0, 120.0, 0.6e9, 74.8, 10.0, 90.0, 25.0, 75.0];
    let pages = [
        16_384.0, 10_000.0, 400_000.0, 390_000.0, 5000.0, 10.0, 120_000.0, 11_000.0, 295_000.0, 500_000.0,
        110_000.0,
    ];
    let totals = [
        170_000_002.0,
        4_000_000_003.0,
        21_000_004.0,
        2_000_005.0,
        7_000_006.0,
        16_000_007.0,
        49_000_008.0,
        1_000_009.0,
        6_000_000_001.0,
        11.0,
        12.0,
    ];
    all_thirty(&found, "cpu1", [&powers[..], &pages, &totals].concat().try_into().unwrap());
}

/// The expected values were read from the files by hand.
#[test]
fn recordings_of_real_machines_have_all_names() {
    let Some(samples) = samples() else { return };
    let found = metrics_of_recordings(
        &samples.join("powermetrics/m4max_macos15.5_text_default.txt"),
        &samples.join("powermetrics/intel_mbp15,1_macos11.5_text_smc.txt"),
        &samples.join("vm_stat/macos_16384_macmini_2026-05.txt"),
    );
    let powers = [954.0, 28.0, 3.256e9, 74.8, 30.48, 55.49, 1.63, 98.37];
    let pages = [
        16_384.0,
        15_160.0,
        892_723.0,
        889_884.0,
        2084.0,
        0.0,
        142_222.0,
        11_748.0,
        516_277.0,
        1_268_414.0,
        120_555.0,
    ];
    let totals = [
        172_620_941.0,
        4_157_960_280.0,
        21_783_294.0,
        2_142_750.0,
        7_047_053.0,
        16_186_727.0,
        49_449_896.0,
        1_289_523.0,
        6_256_987_137.0,
        0.0,
        0.0,
    ];
    all_thirty(&found, "cpu11", [&powers[..], &pages, &totals].concat().try_into().unwrap());
}
