//! Reads /proc/vmstat into `paging` records.

use anyhow::Result;

use super::text::{lines, number, split_word};
use super::{Collector, Roots, Sample, Source, rate};
use crate::common::emit::Emitter;
use crate::record::{Kind, PAGING, Paging};

/// Reads /proc/vmstat (kernel `mm/vmstat.c`).
pub struct PagingCollector {
    source: Source,
    before: Paging,
}

impl PagingCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        Self { source: Source::new(roots.proc.join("vmstat")), before: Paging::default() }
    }
}

impl Collector for PagingCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&PAGING]
    }

    fn method(&self) -> String {
        self.source.path().display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        // A sample that failed leaves nothing to compare the next one with.
        let before = std::mem::take(&mut self.before);
        let Some(bytes) = self.source.read_or_report(sample.ts, out)? else { return Ok(()) };
        let Some(now) = parse(bytes) else {
            return self.source.report_invalid(sample.ts, out, "the lines of vmstat");
        };
        self.before = now.clone();
        if !sample.wants(&PAGING) {
            return Ok(());
        }
        let per_s = |now, before| rate(now, before, sample.interval);
        let record = Paging {
            start_ts: sample.boot,
            interval_s: sample.interval_s(),
            faults_per_s: per_s(now.faults, before.faults),
            major_faults_per_s: per_s(now.major_faults, before.major_faults),
            page_in_bytes_per_s: per_s(now.page_in_bytes, before.page_in_bytes),
            page_out_bytes_per_s: per_s(now.page_out_bytes, before.page_out_bytes),
            swap_in_pages_per_s: per_s(now.swap_in_pages, before.swap_in_pages),
            swap_out_pages_per_s: per_s(now.swap_out_pages, before.swap_out_pages),
            ..now
        };
        out.emit(sample.ts, &record)
    }
}

/// The totals; `None` if no line is known.
fn parse(bytes: &[u8]) -> Option<Paging> {
    let mut paging = Paging::default();
    for line in lines(bytes) {
        let (name, rest) = split_word(line);
        // `pgpgin` and `pgpgout` count KiB, whatever the page size (kernel `mm/vmstat.c`).
        let (field, factor) = match name {
            b"pgfault" => (&mut paging.faults, 1),
            b"pgmajfault" => (&mut paging.major_faults, 1),
            b"pgpgin" => (&mut paging.page_in_bytes, 1024),
            b"pgpgout" => (&mut paging.page_out_bytes, 1024),
            b"pswpin" => (&mut paging.swap_in_pages, 1),
            b"pswpout" => (&mut paging.swap_out_pages, 1),
            b"oom_kill" => (&mut paging.oom_kills, 1),
            _ => continue,
        };
        *field = number(rest.trim_ascii()).and_then(|value| value.checked_mul(factor));
    }
    if paging == Paging::default() {
        return None;
    }
    // The kernel sums the two over the CPUs at different moments, so the difference is not exact.
    paging.minor_faults =
        paging.faults.zip(paging.major_faults).map(|(all, major)| all.saturating_sub(major));
    Some(paging)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_by_type_and_kibibytes() {
        let text = b"nr_free_pages 1\npgpgin 10\npgpgout 3\npswpin 4\npswpout 5\npgfault 100\npgmajfault 7\n";
        let paging = parse(text).unwrap();
        assert_eq!((paging.faults, paging.minor_faults, paging.major_faults), (Some(100), Some(93), Some(7)));
        assert_eq!((paging.page_in_bytes, paging.page_out_bytes), (Some(10_240), Some(3072)));
        assert_eq!((paging.swap_in_pages, paging.swap_out_pages, paging.oom_kills), (Some(4), Some(5), None));
    }

    #[test]
    fn malformed_lines_are_absent() {
        for text in
            [&b""[..], b"nr_free_pages 1\n", b"pgfault", b"pgfault x\n", b"pgpgin 18446744073709551615"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let paging = parse(b"pgmajfault 7").unwrap();
        assert_eq!((paging.major_faults, paging.minor_faults, paging.faults), (Some(7), None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text in "((pgfault|pgmajfault|pgpgin|x) ?[0-9]{0,21}\n?|.){0,6}") {
            parse(text.as_bytes());
        }
    }
}
