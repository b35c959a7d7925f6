//! Every line that a program writes is valid by the JSON Schema that it generates.

mod support;

use assert_cmd::Command;
use serde_json::Value;

fn output(program: &str, args: &[&str]) -> Vec<u8> {
    let run =
        Command::cargo_bin(program).unwrap().args(args).timeout(std::time::Duration::from_secs(20)).output();
    let run = run.unwrap();
    assert!(run.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&run.stderr));
    run.stdout
}

/// The schema, in which a field that is not listed is an error.
fn schema_of(program: &str) -> Value {
    let mut schema: Value = serde_json::from_slice(&output(program, &["--generate", "schema"])).unwrap();
    for definition in schema["$defs"].as_object_mut().unwrap().values_mut() {
        definition["additionalProperties"] = Value::Bool(false);
    }
    schema
}

fn check(program: &str, args: &[&str]) {
    let schema = schema_of(program);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let lines = output(program, args);
    let mut kinds = std::collections::BTreeSet::new();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line).unwrap();
        let kind = record["kind"].as_str().unwrap().to_owned();
        // By the kind's own definition, for a useful error: `oneOf` only reports that none is valid.
        let own = jsonschema::validator_for(&schema["$defs"][&kind]).unwrap();
        if let Err(error) = own.validate(&record) {
            panic!("{program}: {error} at {} in {}", error.instance_path(), String::from_utf8_lossy(line));
        }
        assert!(validator.is_valid(&record), "{}", String::from_utf8_lossy(line));
        kinds.insert(kind);
    }
    assert!(!kinds.is_empty(), "{program} {args:?} wrote nothing");
}

#[test]
fn scrape_fits_its_schema() {
    check("scrape", &["--once", "-i", "200ms", "--per-cpu", "--processes"]);
}

#[test]
fn vmstat_fits_its_schema() {
    check("vmstat-json", &["-n", "2", "-i", "100ms"]);
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vm_stat");
    for name in ["tagged.txt", "eleven_columns.txt"] {
        check("vmstat-json", &["-i", "1s", "--input", &format!("{fixtures}/{name}")]);
    }
}

#[test]
fn pmstat_fits_its_schema() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/powermetrics");
    for name in ["apple.txt", "intel.txt", "old.txt", "apple.plist"] {
        check("pmstat", &["--tasks", "--input", &format!("{fixtures}/{name}")]);
    }
    check("pmstat", &["-n", "2", "-i", "100ms", "--per-process"]);
}

#[test]
fn endpoints_fit_the_schema() {
    let metrics = "# TYPE a counter\n# UNIT a seconds\na_total{b=\"c\"} 1\na_created{b=\"c\"} 1\n# TYPE h histogram\n\
        h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 1.5\n# TYPE s summary\n# HELP s t\n\
        s{quantile=\"0.5\"} 1\nn NaN\nbad\n# EOF\n";
    let server = support::Capture::with(move |request| {
        support::Answer::ok().body(if request.path == "/json" { "{\"a\": [{}]}" } else { metrics })
    });
    let url = server.url();
    check("scrape", &["--once", "--url", &format!("{url}/json"), "--url", &url]);
}

#[test]
fn a_wrong_record_is_invalid() {
    let schema = schema_of("scrape");
    let own = jsonschema::validator_for(&schema["$defs"]["load"]).unwrap();
    let line = output("scrape", &["--once", "--only", "load"]);
    let mut record: Value = serde_json::from_slice(&line).unwrap();
    assert!(own.is_valid(&record));
    record["load_2m"] = 1.into();
    assert!(!own.is_valid(&record));
    record.as_object_mut().unwrap().remove("load_2m");
    record["load_1m"] = "high".into();
    assert!(!own.is_valid(&record));
}
