//! Properties of every recording of `powermetrics` and `vm_stat`: whole, cut, joined, or with CRLF line ends. The fuzz
//! targets check the same ones.

mod support;

#[path = "fuzz/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

use telepipe::collect::powermetrics::Parsed;

/// The program, name and bytes of every recording: our own, and those of real machines if there are some.
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
fn recordings_may_be_cut_anywhere() {
    for (what, _, bytes) in recordings() {
        check(what, &bytes);
        let step = bytes.len().div_ceil(60);
        (0..bytes.len()).step_by(step).for_each(|end| check(what, &bytes[..end]));
    }
}

/// The samples of a recording, and what was not understood.
fn parsed(bytes: &[u8]) -> (Vec<Parsed>, Vec<Parsed>) {
    checks::powermetrics_parsed(bytes, 4096).into_iter().partition(|it| matches!(it, Parsed::Sample(_)))
}

#[test]
fn crlf_line_ends_change_nothing() {
    for (what, name, bytes) in recordings() {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let other = text.replace('\n', "\r\n").into_bytes();
        match what {
            "powermetrics" => assert_eq!(parsed(&other).0, parsed(&bytes).0, "{name}"),
            _ => assert_eq!(checks::vm_stat(&other), checks::vm_stat(&bytes), "{name}"),
        }
    }
}

#[test]
fn joined_recordings_give_the_samples_of_each() {
    let recordings = recordings();
    let (mut all, mut samples, mut unknown) = (Vec::new(), Vec::new(), 0);
    for (_, name, bytes) in recordings.iter().filter(|it| it.0 == "powermetrics") {
        // Without a header, it would continue the sample before.
        if name.contains("fragment") || name.contains("newest") {
            continue;
        }
        let (mut of_one, not) = parsed(bytes);
        samples.append(&mut of_one);
        unknown += not.len();
        all.extend_from_slice(bytes);
        all.push(b'\n');
    }
    let (found, not) = parsed(&all);
    assert_eq!((found.len(), not.len()), (samples.len(), unknown));
    assert!(found == samples, "a sample differs");
}
