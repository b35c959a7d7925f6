//! What holds for any recording of `powermetrics` and `vm_stat`, whole, cut, joined, or with ends of lines of another
//! system; the fuzz targets check the same.

mod support;

#[path = "fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

use telepipe::collect::powermetrics::Output;

/// Every recording of our own, and of real machines where there are some: what of, its name, its bytes.
fn recordings() -> Vec<(&'static str, String, Vec<u8>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut all = Vec::new();
    for folder in [Some(own), support::samples()].into_iter().flatten() {
        for what in ["powermetrics", "vm_stat"] {
            for entry in fs::read_dir(folder.join(what)).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if !["source", "README", "help"].iter().any(|other| name.contains(other)) {
                    all.push((what, name, fs::read(&path).unwrap()));
                }
            }
        }
    }
    assert!(all.len() >= 12, "{}", all.len());
    all
}

fn check(what: &str, bytes: &[u8]) {
    match what {
        "powermetrics" => checks::powermetrics(bytes),
        _ => drop(checks::vm_stat(bytes)),
    }
}

#[test]
fn whole_or_cut_anywhere() {
    for (what, _, bytes) in recordings() {
        check(what, &bytes);
        let step = bytes.len().div_ceil(60);
        (0..bytes.len()).step_by(step).for_each(|end| check(what, &bytes[..end]));
    }
}

fn told(bytes: &[u8]) -> (Vec<Output>, Vec<Output>) {
    checks::told(bytes, 4096).into_iter().partition(|it| matches!(it, Output::Sample(_)))
}

#[test]
fn ends_of_lines_of_another_system_change_nothing() {
    for (what, name, bytes) in recordings() {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let other = text.replace('\n', "\r\n").into_bytes();
        match what {
            "powermetrics" => assert_eq!(told(&other).0, told(&bytes).0, "{name}"),
            _ => assert_eq!(checks::vm_stat(&other), checks::vm_stat(&bytes), "{name}"),
        }
    }
}

#[test]
fn recordings_one_after_another_give_the_samples_of_each() {
    let recordings = recordings();
    let (mut all, mut samples, mut unknown) = (Vec::new(), Vec::new(), 0);
    for (_, name, bytes) in recordings.iter().filter(|it| it.0 == "powermetrics") {
        // One without a header goes on with the sample before it.
        if name.contains("fragment") || name.contains("newest") {
            continue;
        }
        let (mut of_one, not) = told(bytes);
        samples.append(&mut of_one);
        unknown += not.len();
        all.extend_from_slice(bytes);
        all.push(b'\n');
    }
    let (found, not) = told(&all);
    assert_eq!((found.len(), not.len()), (samples.len(), unknown));
    assert!(found == samples, "a sample differs");
}
