//! Loading eBPF programs: which way to attach works, and what to do about libbpf's errors.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow};
use libbpf_rs::{ErrorKind, PrintLevel, libbpf_sys, set_print};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::privilege::advice;
use crate::common::diag::program_name;
use crate::common::entry::is_file_limit;

/// The last warnings of libbpf.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// How many lines of them are shown: usually the verifier's last words are among them.
const SHOWN: usize = 12;

/// Collects libbpf's warnings for [`explain`], instead of printing them.
pub fn collect_warnings() {
    set_print(Some((PrintLevel::Warn, collect)));
}

fn collect(_: PrintLevel, text: String) {
    if let Ok(mut warnings) = WARNINGS.lock() {
        warnings.extend(text.lines().map(str::to_owned));
        let surplus = warnings.len().saturating_sub(SHOWN);
        warnings.drain(..surplus);
    }
}

/// The error of a program that could not be loaded or attached, with what to do about it.
pub fn explain(error: &libbpf_rs::Error, failed: &str) -> anyhow::Error {
    // EPERM is about privileges. EACCES, which has the same kind, comes from the verifier.
    let warnings = WARNINGS.lock().map(|kept| kept.join("\n")).unwrap_or_default();
    if error.kind() == ErrorKind::PermissionDenied && warnings.contains("-EPERM") {
        return anyhow!("{failed}: {error}\n{}", advice(program_name(), "A privilege is"));
    }
    // libbpf's own probing can fail first, and the error be about something else.
    if warnings.contains("-EMFILE") {
        return anyhow!(std::io::Error::from(Errno::MFILE)).context(failed.to_owned());
    }
    anyhow!("{failed}: {error:#}\n{warnings}")
}

/// Checks that this process may open so many more files. Without room, libbpf's probes of the kernel fail unnoticed, it
/// does without what they probe, and the error is about something else.
///
/// # Errors
/// If there is no room.
pub fn ensure_room_for_files(files: usize) -> Result<()> {
    let open = (0..files).map(|_| eventfd(0, EventfdFlags::CLOEXEC));
    let held: rustix::io::Result<Vec<_>> = open.collect();
    held.map(drop).map_err(std::io::Error::from).context("cannot load the eBPF programs")
}

/// Tries the ways in order and returns the first that works; only `only`, if given.
///
/// # Errors
/// Those of the last try; if there is nothing to try.
pub fn first<W: PartialEq, T>(
    ways: impl IntoIterator<Item = W>,
    only: Option<W>,
    mut load: impl FnMut(W) -> Result<T>,
) -> Result<T> {
    let mut refused = anyhow!("--attach: not supported by this program on this kernel");
    for way in ways.into_iter().filter(|way| only.as_ref().is_none_or(|only| only == way)) {
        match load(way) {
            Ok(loaded) => return Ok(loaded),
            Err(error) if is_file_limit(&error) => return Err(error),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// How often a program was not run because it was running on that CPU already; `None` if the kernel does not
/// report it (before 5.12, or without privileges before 5.19).
pub fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of::<libbpf_sys::bpf_prog_info>() as u32;
    // SAFETY: a valid descriptor, and a struct of the given length, which the kernel fills at most.
    let result = unsafe {
        libbpf_sys::bpf_obj_get_info_by_fd(program.as_raw_fd(), (&raw mut info).cast(), &raw mut len)
    };
    (result == 0).then_some(info.recursion_misses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_way_that_works() {
        let mut tried = Vec::new();
        let mut load = |way: u32| {
            tried.push(way);
            if way < 3 { Err(anyhow!("not {way}")) } else { Ok(way) }
        };
        assert_eq!(first([1, 2, 3, 4], None, &mut load).unwrap(), 3);
        assert_eq!(first([1, 2], None, &mut load).unwrap_err().to_string(), "not 2");
        assert_eq!(first([1, 2, 3, 4], Some(4), &mut load).unwrap(), 4);
        assert!(first([], None, &mut load).is_err());
        assert!(first([1], Some(3), &mut load).is_err());
        assert_eq!(tried, [1, 2, 3, 1, 2, 4]);
    }
}
