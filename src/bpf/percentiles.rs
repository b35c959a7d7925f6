//! From a histogram to the fields that latency records share.

use crate::common::hist::Histogram;
use crate::common::time::Micros;
use crate::record::{Distribution, Times};

const THOUSANDTHS: [u64; 5] = [500, 900, 950, 990, 999];

/// Sum, mean, percentiles and maximum. A maximum below the highest bucket in use is raised to it.
pub fn times(histogram: &Histogram, sum_ns: u64, max_ns: u64) -> Times {
    let count = histogram.count();
    let max_ns = max_ns.max(histogram.floor_of_max());
    let known = |ns| (count > 0).then_some(Micros(ns));
    let [p50_us, p90_us, p95_us, p99_us, p999_us] = histogram.percentiles(THOUSANDTHS, max_ns).map(known);
    Times {
        sum_us: Micros(sum_ns),
        mean_us: sum_ns.checked_div(count).map(Micros),
        p50_us,
        p90_us,
        p95_us,
        p99_us,
        p999_us,
        max_us: known(max_ns),
    }
}

/// The histogram itself.
pub fn distribution(histogram: &Histogram) -> Distribution {
    Distribution {
        scale: histogram.scale() as i32,
        zero_count: histogram.zero_count(),
        buckets: histogram.sparse(),
    }
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ProgramInput;
    use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};

    use crate::common::hist::{CELLS, index};

    #[expect(
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        clippy::undocumented_unsafe_blocks,
        reason = "generated"
    )]
    mod selftest {
        include!(concat!(env!("OUT_DIR"), "/selftest.skel.rs"));
    }

    #[test]
    fn the_kernel_finds_the_same_counters() {
        if let Err(reason) = crate::bpf::privilege::check("this test") {
            eprintln!("skipped: {reason}");
            return;
        }
        let mut storage = std::mem::MaybeUninit::uninit();
        let mut open = selftest::SelftestSkelBuilder::default().open(&mut storage).unwrap();
        open.maps.rodata_data.as_deref_mut().unwrap().hist_cells = CELLS;
        let skel = open.load().unwrap();
        let in_kernel = |ns: u64| {
            let mut words = [0u8; 8 * 12];
            words[..8].copy_from_slice(&ns.to_ne_bytes());
            let input = ProgramInput { context_in: Some(&mut words), ..ProgramInput::default() };
            skel.progs.selftest_index.test_run(input).unwrap().return_value as usize
        };
        // Around each boundary of a bucket, and beyond the range.
        for step in 0..38 * 32 {
            let boundary = (f64::from(step) / 32.0).exp2() as u64;
            for ns in boundary.saturating_sub(1)..=boundary + 1 {
                assert_eq!(in_kernel(ns), index(ns), "{ns} ns");
            }
        }
        assert_eq!(in_kernel(u64::MAX), index(u64::MAX));
    }
}
