//! Reads /proc/vmstat into `paging` records.

use super::file::FileRecord;
use super::netstat::pairs;
use crate::collect::{Sample, rate};
use crate::record::Paging;

impl FileRecord for Paging {
    const FILE: &'static str = "vmstat";
    const EXPECTED: &'static str = "the lines of vmstat";

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut paging = Self::default();
        pairs(bytes, |name, value| {
            // `pgpgin` and `pgpgout` count KiB, whatever the page size (kernel `mm/vmstat.c`).
            let (field, factor) = match name {
                b"pgfault" => (&mut paging.faults, 1),
                b"pgmajfault" => (&mut paging.major_faults, 1),
                b"pgpgin" => (&mut paging.page_in_bytes, 1024),
                b"pgpgout" => (&mut paging.page_out_bytes, 1024),
                b"pswpin" => (&mut paging.swap_in_pages, 1),
                b"pswpout" => (&mut paging.swap_out_pages, 1),
                b"oom_kill" => (&mut paging.oom_kills, 1),
                _ => return,
            };
            *field = value.checked_mul(factor);
        });
        if paging == Self::default() {
            return None;
        }
        // The kernel sums the two over the CPUs at different moments, so the difference is not exact.
        paging.minor_faults =
            paging.faults.zip(paging.major_faults).map(|(all, major)| all.saturating_sub(major));
        Some(paging)
    }

    fn complete(&mut self, before: Option<&Self>, sample: &Sample<'_>) {
        self.start_ts = sample.boot;
        self.interval_s = sample.interval_s();
        let Some(before) = before else { return };
        let per_s = |now, before| rate(now, before, sample.interval);
        self.faults_per_s = per_s(self.faults, before.faults);
        self.major_faults_per_s = per_s(self.major_faults, before.major_faults);
        self.page_in_bytes_per_s = per_s(self.page_in_bytes, before.page_in_bytes);
        self.page_out_bytes_per_s = per_s(self.page_out_bytes, before.page_out_bytes);
        self.swap_in_pages_per_s = per_s(self.swap_in_pages, before.swap_in_pages);
        self.swap_out_pages_per_s = per_s(self.swap_out_pages, before.swap_out_pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faults_by_type_and_kibibytes() {
        let text = b"nr_free_pages 1\npgpgin 10\npgpgout 3\npswpin 4\npswpout 5\npgfault 100\npgmajfault 7\n";
        let paging = Paging::parse(text).unwrap();
        assert_eq!((paging.faults, paging.minor_faults, paging.major_faults), (Some(100), Some(93), Some(7)));
        assert_eq!((paging.page_in_bytes, paging.page_out_bytes), (Some(10_240), Some(3072)));
        assert_eq!((paging.swap_in_pages, paging.swap_out_pages, paging.oom_kills), (Some(4), Some(5), None));
    }

    #[test]
    fn malformed_lines_are_absent() {
        for text in
            [&b""[..], b"nr_free_pages 1\n", b"pgfault", b"pgfault x\n", b"pgpgin 18446744073709551615"]
        {
            assert_eq!(Paging::parse(text), None, "{text:?}");
        }
        let paging = Paging::parse(b"pgmajfault 7").unwrap();
        assert_eq!((paging.major_faults, paging.minor_faults, paging.faults), (Some(7), None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text in "((pgfault|pgmajfault|pgpgin|x) ?[0-9]{0,21}\n?|.){0,6}") {
            Paging::parse(text.as_bytes());
        }
    }
}
