//! The processes that a tracer leaves out: itself, and those that read its output through pipes. Without this,
//! `syscall-trace --min 0 | jq .` would trace what its own output causes, without end.
//!
//! A reader is found by the pipe: who holds the read end of our stdout, then of the pipes that this process writes, and
//! so on. An eBPF iterator lists the pipe ends, since /proc/PID/fd of other users' processes is closed to us once
//! privileges are dropped.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use libbpf_rs::skel::OpenSkel as _;
use libbpf_rs::{Iter, Link, ProgramInput};
use rustix::fs::{FileType, Mode, fstat, lstat, major, minor, stat};

use super::kernel::{Kernel, KernelTypes};
use super::load::explain;
use super::map::{load, store};
use super::task::TaskFilter;
use crate::common::diag::log;

/// The code that libbpf-cargo generates from `bpf/pipeline.bpf.c`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/pipeline.skel.rs"));
}
use skeleton::types::pipe_end as PipeEnd;
use skeleton::{PipelineSkel, PipelineSkelBuilder};

/// The size of the kernel's table, `own_pids` in `bpf/task.h`.
pub const SLOTS: usize = 256;
/// `OWN_PROBES` in `bpf/task.h`.
const PROBES: usize = 8;
/// A slot from which a process was removed, while later slots may still be in use.
const REMOVED: u32 = u32::MAX;

const READ: u32 = 1;
const WRITE: u32 = 2;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// A pipeline is often still being built when the tracer starts, so the first looks follow each other fast.
const FIRST: Duration = Duration::from_millis(25);
const EVERY: Duration = Duration::from_secs(1);
/// A look may take at most this share of the time.
const SHARE: u32 = 100;

/// Keeps the kernel's table of processes to leave out up to date.
#[derive(Default)]
pub struct SelfFilter {
    table: Option<PidTable>,
    /// This process and its ancestors, by the kernel's numbers.
    family: Vec<u32>,
    iterator: Option<(PipelineSkel<'static>, Link)>,
    next: Option<Instant>,
    wait: Duration,
    /// Processes of `--pid` that were not found among those left out so far.
    asked_for: Vec<u32>,
}

impl SelfFilter {
    /// A filter that leaves out nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Fills the table for the first time. Needs the privileges of loading; call it before attaching.
    ///
    /// # Errors
    /// If the kernel refuses the programs that find this process and its readers.
    ///
    /// # Safety
    /// `table` is `own_pids` of a loaded skeleton that is never freed.
    pub unsafe fn start(filter: &TaskFilter, types: &KernelTypes, table: *mut [u32; SLOTS]) -> Result<Self> {
        if filter.include_self {
            return Ok(Self::off());
        }
        let piped = is_pipe();
        let kernel = Kernel::read(types)?;
        let (skel, iterator) = load_pipeline(&kernel, piped)?;
        let ran = skel.progs.know_self.test_run(ProgramInput::default());
        ran.map_err(|error| explain(&error, "cannot find out this process's number in the kernel"))?;
        let data = skel.maps.bss_data.as_deref().context("the eBPF programs have no data")?;
        let family = data.ancestors.iter().copied().take_while(|pid| *pid != 0).collect();
        // SAFETY: by the caller.
        let table = Some(unsafe { PidTable::new(table) });
        let asked_for = filter.pid.clone();
        let iterator = iterator.map(|link| (skel, link));
        let mut this = Self { table, family, iterator, next: None, wait: FIRST, asked_for };
        this.look();
        // From /proc, other users' processes can be seen only before privileges are dropped.
        this.next = (piped && this.iterator.is_some()).then(|| Instant::now() + FIRST);
        Ok(this)
    }

    /// Whether later looks are possible with the privileges that are left.
    pub fn works(&self) -> bool {
        self.iterator.as_ref().is_none_or(|(_, link)| Iter::new(link).is_ok())
    }

    /// When [`Self::look_if_due`] should be called; `None` for never.
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Looks for processes that have joined or left the pipeline.
    pub fn look_if_due(&mut self) {
        let began = Instant::now();
        if self.next.is_some_and(|next| next <= began) {
            self.look();
            self.wait = (self.wait * 2).min(EVERY);
            self.next = Some(Instant::now() + self.wait.max(began.elapsed() * SHARE));
        }
    }

    fn look(&mut self) {
        let Some(table) = &mut self.table else { return };
        let ends = match &self.iterator {
            Some((_, link)) => ends_by_iterator(link),
            None => Some(ends_by_proc(&self.family)),
        };
        // A look that failed changes nothing.
        let Some(ends) = ends else { return };
        let left_out = downstream(&ends, &self.family);
        table.replace(&left_out);
        self.asked_for.retain(|pid| {
            let found = left_out.contains(pid);
            if found {
                log(format_args!(
                    "--pid {pid}: this process reads the output of this program, so it is left out; to trace it \
                     add --include-self"
                ));
            }
            !found
        });
    }
}

fn is_pipe() -> bool {
    fstat(rustix::stdio::stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Loads the programs, without the iterator where the kernel has none or none is needed.
fn load_pipeline(kernel: &Kernel, piped: bool) -> Result<(PipelineSkel<'static>, Option<Link>)> {
    let load = |with_iterator: bool| {
        let mut open = kernel.open::<PipelineSkelBuilder>()?;
        open.progs.pipe_ends.set_autoload(with_iterator);
        open.load().map_err(|error| explain(&error, "cannot load the eBPF programs"))
    };
    if piped
        && kernel.has_btf()
        && let Ok(skel) = load(true)
        && let Ok(link) = skel.progs.pipe_ends.attach()
    {
        return Ok((skel, Some(link)));
    }
    Ok((load(false)?, None))
}

fn ends_by_iterator(link: &Link) -> Option<Vec<PipeEnd>> {
    let mut bytes = Vec::new();
    Iter::new(link).ok()?.read_to_end(&mut bytes).ok()?;
    let size = size_of::<PipeEnd>();
    // SAFETY: each chunk is a whole struct that the kernel program wrote, of integers only.
    Some(
        bytes
            .chunks_exact(size)
            .map(|chunk| unsafe { chunk.as_ptr().cast::<PipeEnd>().read_unaligned() })
            .collect(),
    )
}

/// The same from /proc/PID/fd, as far as it is readable. In a PID namespace its process IDs are not the kernel's, so
/// only this process is found.
fn ends_by_proc(family: &[u32]) -> Vec<PipeEnd> {
    if family.first() != Some(&std::process::id()) {
        return Vec::new();
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let fds = pids.flat_map(|pid| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(move |entry| pipe_end(pid, &entry))
    });
    fds.collect()
}

fn pipe_end(pid: u32, entry: &std::fs::DirEntry) -> Option<PipeEnd> {
    let path = entry.path();
    // Only anonymous pipes: stat() could hang on a file of a network file system without its server.
    if !std::fs::read_link(&path).ok()?.as_os_str().as_encoded_bytes().starts_with(b"pipe:") {
        return None;
    }
    let (link, pipe) = (lstat(&path).ok()?, stat(&path).ok()?);
    let allowed = Mode::from_raw_mode(link.st_mode);
    Some(PipeEnd {
        inode: pipe.st_ino,
        device: major(pipe.st_dev) << 20 | minor(pipe.st_dev),
        pid,
        fd: entry.file_name().to_str()?.parse().ok()?,
        mode: u32::from(allowed.contains(Mode::RUSR)) * READ
            + u32::from(allowed.contains(Mode::WUSR)) * WRITE,
    })
}

/// This process, the first of `family`, and all that read its stdout, directly or through others.
fn downstream(ends: &[PipeEnd], family: &[u32]) -> BTreeSet<u32> {
    let Some(own) = family.first() else { return BTreeSet::new() };
    let pipe = |end: &PipeEnd| (end.device, end.inode);
    let mut readers: HashMap<_, Vec<u32>> = HashMap::new();
    for end in ends.iter().filter(|end| end.mode & READ != 0) {
        readers.entry(pipe(end)).or_default().push(end.pid);
    }
    let writes = |pid: u32| {
        // An ancestor, such as sshd or a CI runner, may also write to our own shell's stdin.
        let ancestor = family.contains(&pid);
        ends.iter().filter(move |end| {
            let output = if ancestor { end.fd == STDOUT } else { end.fd != STDERR };
            end.pid == pid && end.mode & WRITE != 0 && output
        })
    };
    let mut found = BTreeSet::from([*own]);
    let mut left = vec![*own];
    while let Some(pid) = left.pop() {
        for readers in writes(pid).filter_map(|end| readers.get(&pipe(end))) {
            // A process that holds both ends of a pipe does not pass on output by it: it wakes itself, or hands
            // out the tokens of a job server, which all of a build's processes share.
            if !readers.contains(&pid) {
                left.extend(readers.iter().filter(|reader| found.insert(**reader)));
            }
        }
    }
    found
}

/// The kernel's table: a hash of process numbers with linear probing, read by the hooks while it changes.
struct PidTable {
    slots: *mut [u32; SLOTS],
    /// That there is no room was logged.
    is_full: bool,
}

impl PidTable {
    /// # Safety
    /// `slots` stays valid, and only this writes to it.
    unsafe fn new(slots: *mut [u32; SLOTS]) -> Self {
        Self { slots, is_full: false }
    }

    fn get(&self, at: usize) -> u32 {
        // SAFETY: valid by `new`, and the index is taken modulo the length.
        unsafe { load(&raw const (*self.slots)[at % SLOTS]) }
    }

    fn set(&mut self, at: usize, pid: u32) {
        // SAFETY: as above.
        unsafe { store(&raw mut (*self.slots)[at % SLOTS], pid) }
    }

    /// Makes the table hold these and no others. No entry that stays is out of reach at any moment.
    fn replace(&mut self, wanted: &BTreeSet<u32>) {
        let mut missing = wanted.clone();
        for at in 0..SLOTS {
            let pid = self.get(at);
            if pid != 0 && !missing.remove(&pid) {
                self.set(at, REMOVED);
            }
        }
        // A removed slot that no search has to pass becomes a free one.
        for at in (0..2 * SLOTS).rev() {
            if self.get(at) == REMOVED && self.get(at + 1) == 0 {
                self.set(at, 0);
            }
        }
        for pid in missing {
            let home = pid as usize;
            // Beyond the last probe the hooks would not find it.
            match (home..home + PROBES).find(|at| matches!(self.get(*at), 0 | REMOVED)) {
                Some(at) => self.set(at, pid),
                None if !std::mem::replace(&mut self.is_full, true) => log(format_args!(
                    "too many processes read the output of this program: process {pid} is traced too"
                )),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(pid: u32, fd: u32, pipe: u64, mode: u32) -> PipeEnd {
        let mut end = PipeEnd::default();
        (end.pid, end.fd, end.inode, end.mode) = (pid, fd, pipe, mode);
        end
    }

    /// The processes that are left out, where the tracer is process 10 and its parents are 9 and 8.
    fn found(ends: &[PipeEnd]) -> Vec<u32> {
        downstream(ends, &[10, 9, 8]).into_iter().collect()
    }

    #[test]
    fn a_pipeline_is_followed_to_its_end() {
        // 10 | 11 | 12, and 13 reads from 11 by another descriptor; 20 | 21 is a pipeline of others.
        let ends = [
            end(10, 1, 100, WRITE),
            end(11, 0, 100, READ),
            end(11, 1, 101, WRITE),
            end(11, 63, 102, WRITE),
            end(12, 0, 101, READ),
            end(13, 0, 102, READ),
            end(20, 1, 103, WRITE),
            end(21, 0, 103, READ),
        ];
        assert_eq!(found(&ends), [10, 11, 12, 13]);
        assert_eq!(found(&[]), [10]);
    }

    #[test]
    fn pipes_that_carry_no_output_are_not_followed() {
        let pipeline = [end(10, 1, 100, WRITE), end(11, 0, 100, READ)];
        let more = |ends: &[PipeEnd]| found(&[&pipeline, ends].concat());
        assert_eq!(more(&[end(11, 2, 101, WRITE), end(30, 0, 101, READ)]), [10, 11], "stderr");
        let jobs = [3, 4].map(|fd| end(11, fd, 101, if fd == 3 { READ } else { WRITE }));
        assert_eq!(more(&[&jobs[..], &[end(30, 3, 101, READ)]].concat()), [10, 11], "a job server's pipe");
        // The parent reads the output, and writes to the stdin of the shell, which the workload has too.
        let shell = [end(9, 5, 101, WRITE), end(8, 0, 101, READ), end(30, 0, 101, READ)];
        assert_eq!(more(&[&[end(9, 4, 100, READ)], &shell[..]].concat()), [9, 10, 11], "an ancestor");
        let passed_on = [end(9, 4, 100, READ), end(9, 1, 101, WRITE), end(30, 0, 101, READ)];
        assert_eq!(more(&passed_on), [9, 10, 11, 30], "an ancestor's stdout");
    }

    #[test]
    fn a_circle_ends() {
        let ends =
            [end(10, 1, 100, WRITE), end(11, 0, 100, READ), end(11, 1, 101, WRITE), end(10, 0, 101, READ)];
        assert_eq!(found(&ends), [10, 11]);
    }

    /// Searches the table as the hooks do.
    fn holds(table: &PidTable, pid: u32) -> bool {
        let probes = (pid as usize..pid as usize + PROBES).map(|at| table.get(at));
        probes.take_while(|slot| *slot != 0).any(|slot| slot == pid)
    }

    #[test]
    fn the_table_holds_what_was_last_asked_for() {
        let memory = Box::leak(Box::new([0; SLOTS]));
        // SAFETY: never freed, and written by the table only.
        let mut table = unsafe { PidTable::new(memory) };
        // Neighbours, those of one home slot, and those around the end of the table.
        let all: Vec<u32> = (1000..1006).chain([1256, 1512, 255, 511, 767, 256]).collect();
        for round in 0u32..400 {
            let wanted: BTreeSet<u32> = all
                .iter()
                .copied()
                .filter(|pid| (pid ^ round).wrapping_mul(0x9e37_79b1) >> 30 != 0)
                .collect();
            table.replace(&wanted);
            for pid in &all {
                assert_eq!(holds(&table, *pid), wanted.contains(pid), "{pid} in round {round}");
            }
        }
        table.replace(&BTreeSet::new());
        assert!((0..SLOTS).all(|at| table.get(at) == 0), "no slot stays marked as removed");
    }

    #[test]
    fn pipes_are_found_in_proc() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(reader)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let own = std::process::id();
        let pipe = fstat(&writer).unwrap().st_ino;
        let mut seen: Vec<_> = ends_by_proc(&[own])
            .into_iter()
            .filter(|end| end.inode == pipe)
            .map(|end| (end.pid, end.mode))
            .collect();
        seen.sort_unstable();
        let mut expected = [(own, WRITE), (child.id(), READ)];
        expected.sort_unstable();
        assert_eq!(seen, expected);
        drop(writer);
        child.wait().unwrap();
        assert!(ends_by_proc(&[own + 1]).is_empty(), "these are not the kernel's numbers");
    }
}
