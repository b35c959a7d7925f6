//! The properties of the fuzz targets of `tele-ship`, for random bytes and for text near to what is read.

#[path = "fuzz/ship_checks.rs"]
mod ship_checks;

use proptest::prelude::*;

/// Some of the bytes replaced, removed or repeated.
fn near(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let piece = (any::<prop::sample::Index>(), 0usize..8, prop::collection::vec(any::<u8>(), 0..4));
    prop::collection::vec(piece, 0..5).prop_map(move |changes| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, length, new) in changes {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + length);
            bytes.splice(at..end, new);
        }
        bytes
    })
}

const LINE: &str = r#"{"ts":"2026-11-20T20:45:00.5Z","kind":"log","a":[1,-2.5e3,true,null,{"b":"x\u00e9\n"}],"m":{"1":2,"3":4}}"#;
const METRICS: &str = include_str!("fixtures/otlp_json/metrics.json");
const LOGS: &str = include_str!("fixtures/otlp_json/logs.json");
const TRACES: &str = include_str!("fixtures/otlp_json/traces.json");
const TEXT: &str = include_str!("fixtures/prometheus/histogram.txt");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn lines(near in near(LINE), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        ship_checks::line(&near);
        ship_checks::line(&bytes);
    }

    #[test]
    fn otlp_json(bytes in prop_oneof![near(METRICS), near(LOGS), near(TRACES), near(LINE)]) {
        ship_checks::otlp_json(&bytes);
    }

    #[test]
    fn spools(changes in prop::collection::vec(any::<u8>(), 0..24)) {
        ship_checks::spool(&changes);
    }

    #[test]
    fn retry_after(bytes in prop_oneof![near("Sun, 06 Nov 1994 08:49:37 GMT"), near("18446744073709551615")]) {
        ship_checks::retry(&bytes);
    }

    #[test]
    fn prometheus_text(bytes in near(TEXT)) {
        ship_checks::exposition(&bytes);
    }
}
