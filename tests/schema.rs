//! Every line a program writes fits the JSON Schema that the same program generates.

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

/// The schema, closed: a field that it does not name is an error too.
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
        // Against the kind's own definition: `oneOf` would only say that none fits.
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
fn scrape_writes_what_its_schema_says() {
    check("scrape", &["--once", "-i", "200ms", "--per-cpu", "--processes"]);
}

#[test]
fn vmstat_writes_what_its_schema_says() {
    check("vmstat-json", &["-n", "2", "-i", "100ms"]);
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vm_stat");
    for name in ["tagged.txt", "eleven_columns.txt"] {
        check("vmstat-json", &["-i", "1s", "--input", &format!("{fixtures}/{name}")]);
    }
}

#[test]
fn pmstat_writes_what_its_schema_says() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/powermetrics");
    for name in ["apple.txt", "intel.txt", "old.txt", "apple.plist"] {
        check("pmstat", &["--tasks", "--input", &format!("{fixtures}/{name}")]);
    }
    check("pmstat", &["-n", "2", "-i", "100ms", "--per-process"]);
}

#[test]
fn endpoints_become_what_the_schema_says() {
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
fn a_wrong_record_would_be_seen() {
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
