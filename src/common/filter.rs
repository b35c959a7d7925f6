//! `--filter` and `--map`: runs a jq program on each line, in a process of its own with limited CPU time, memory and
//! stack.
//!
//! A jq program can loop or recurse without end, inside functions that never return to their caller. Only a process
//! can be stopped at any point without harm to the rest. The process is this program again, under the name [`NAME`].
//! Lines go there in batches, so that a batch costs two context switches.
//!
//! To the process: frames of a length (u32, little endian) and that many bytes; the first is the options and the
//! program, each other one a line. From it: one frame with the message of a program that does not compile, empty if
//! it does; then for each line an answer: four u32 (outputs, outputs over the longest line, bytes of the outputs, and
//! bytes of the error plus one, or 0), the outputs, each with a newline, and the error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::common::diag::{excerpt, log};
use crate::common::helper;
use crate::common::jq::Query;
use crate::record::MAX_LINE;

/// The name of the process, its first argument and only one.
pub const NAME: &str = "telepipe-filter";

/// The CPU time that one record may take.
const BUDGET: Duration = Duration::from_secs(1);

/// The limit after one record was stopped, so that a program that always loops delays the run only a little.
const REDUCED: Duration = Duration::from_millis(100);

/// After this many stopped records in a row, the rest of the batch fails without a try.
const IN_A_ROW: u32 = 5;

/// Memory of the process, its stack included.
const MEMORY: u64 = 512 << 20;
const STACK: usize = 64 << 20;

/// Exit code of a process that used up its CPU time.
const OUT_OF_TIME: u8 = 3;

/// A jq program, and the lines that wait for it.
#[derive(Default)]
pub struct Filter {
    code: String,
    raw: bool,
    /// The most bytes of an output; a longer one is left out.
    longest: usize,
    /// Failures are not logged: they are only in the answers.
    silent: bool,
    worker: Option<Worker>,
    /// Frames, and the number of them.
    queue: Vec<u8>,
    queued: u64,
    filtered: u64,
    errors: u64,
    first_error: String,
    /// Whether the process was ever stopped.
    stopped: bool,
    stopped_in_a_row: u32,
}

/// The result of the program for one line.
pub struct Answer<'a> {
    /// The outputs, each with a newline.
    pub outputs: &'a [u8],
    /// The number of them.
    pub count: u64,
    /// Outputs that were left out, being over the longest line.
    pub too_long: u64,
    /// Why the program failed, if it did. `outputs` has those before the failure.
    pub error: Option<&'a [u8]>,
}

impl<'a> Answer<'a> {
    /// For a line that the program could not be run on.
    fn failed(error: &'a str) -> Self {
        Self { outputs: b"", count: 0, too_long: 0, error: Some(error.as_bytes()) }
    }
}

/// Why a filter could not be set up.
#[derive(Debug)]
pub enum Error {
    /// The program is not jq; the message underlines where.
    Program(String),
    /// The process could not be started.
    Process(anyhow::Error),
}

impl Filter {
    /// Compiles `code`; with `raw`, strings are written without quotes.
    ///
    /// # Errors
    /// If it does not compile, or the system starts no process.
    pub fn new(code: &str, raw: bool) -> Result<Self, Error> {
        Self { code: code.to_owned(), raw, longest: MAX_LINE, ..Self::default() }.compiled()
    }

    /// As [`Filter::new`], for outputs of up to `longest` bytes. Failures are not logged.
    ///
    /// # Errors
    /// As [`Filter::new`].
    pub fn silent(code: &str, longest: usize) -> Result<Self, Error> {
        Self { code: code.to_owned(), longest, silent: true, ..Self::default() }.compiled()
    }

    fn compiled(self) -> Result<Self, Error> {
        let mut filter = self;
        let (worker, message) = filter.start(BUDGET).map_err(Error::Process)?;
        if !message.is_empty() {
            return Err(Error::Program(message));
        }
        filter.worker = Some(worker);
        Ok(filter)
    }

    /// Adds a line to those that [`Filter::run`] takes.
    pub fn push(&mut self, line: &[u8]) {
        frame(&mut self.queue, line);
        self.queued += 1;
    }

    /// The number of bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue.len()
    }

    /// The number of lines that the program was to run on.
    pub fn filtered(&self) -> u64 {
        self.filtered
    }

    /// The number of lines that it failed on.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// The first failure.
    pub fn first_error(&self) -> &str {
        &self.first_error
    }

    /// Runs the program on all lines that wait, and passes one answer per line to `each`.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn run(&mut self, mut each: impl FnMut(Answer<'_>) -> Result<()>) -> Result<()> {
        let queue = std::mem::take(&mut self.queue);
        let mut left = std::mem::take(&mut self.queued);
        let mut rest = &queue[..];
        self.filtered += left;
        // All at once; after the process ended at one of them, one by one, to find which.
        let mut at_once = left;
        while left > 0 {
            let budget = if self.stopped { REDUCED } else { BUDGET };
            if self.worker.is_none() {
                match self.start(budget) {
                    Ok((worker, _)) => self.worker = Some(worker),
                    Err(error) => {
                        let reason = format!("{error:#}");
                        self.fail(left, &reason);
                        return (0..left).try_for_each(|_| each(Answer::failed(&reason)));
                    }
                }
            }
            let size = if at_once == left { rest.len() } else { frame_length(rest) };
            let answered = self.exchange(&rest[..size], at_once, &mut each)?;
            for _ in 0..answered {
                rest = &rest[frame_length(rest)..];
            }
            left -= answered;
            if answered == at_once {
                at_once = at_once.min(left);
                continue;
            }
            self.stopped = true;
            let reason = self.worker.take().map_or_else(String::new, Worker::reason);
            if std::mem::replace(&mut at_once, 1) == 1 {
                // This line was alone.
                rest = &rest[size..];
                left -= 1;
                self.stopped_in_a_row += 1;
                self.fail(1, &reason);
                each(Answer::failed(&reason))?;
                if self.stopped_in_a_row >= IN_A_ROW {
                    self.fail(left, &reason);
                    return (0..left).try_for_each(|_| each(Answer::failed(&reason)));
                }
            }
            at_once = at_once.min(left);
        }
        Ok(())
    }

    /// Sends frames and reads the answers; gives how many came, fewer than `lines` if the process ended.
    fn exchange(
        &mut self,
        frames: &[u8],
        lines: u64,
        each: &mut impl FnMut(Answer<'_>) -> Result<()>,
    ) -> Result<u64> {
        let Some(mut worker) = self.worker.take() else { return Ok(0) };
        let (mut unsent, mut answered, mut alive) = (frames, 0, true);
        while answered < lines && alive {
            alive = worker.transfer(&mut unsent).is_ok();
            let mut used = 0;
            while let Some((answer, length)) = parse(&worker.answers[used..]) {
                used += length;
                answered += 1;
                self.stopped_in_a_row = 0;
                if let Some(error) = answer.error {
                    self.fail(1, &String::from_utf8_lossy(error));
                }
                each(answer)?;
            }
            worker.answers.drain(..used);
        }
        self.worker = Some(worker);
        Ok(answered)
    }

    fn fail(&mut self, count: u64, error: &str) {
        if self.errors == 0 && count > 0 {
            self.first_error = excerpt(error.as_bytes());
            if !self.silent {
                log(format_args!("--filter: {} (further errors are counted, not shown)", self.first_error));
            }
        }
        self.errors += count;
    }

    fn start(&self, budget: Duration) -> Result<(Worker, String)> {
        let failed = || format!("cannot start the filter's process, {NAME}");
        let mut worker = Worker::start().with_context(failed)?;
        let mut options = vec![u8::from(self.raw)];
        options.extend_from_slice(&(budget.as_millis() as u32).to_le_bytes());
        options.extend_from_slice(&u32::try_from(self.longest).unwrap_or(u32::MAX).to_le_bytes());
        options.extend_from_slice(self.code.as_bytes());
        let mut first = Vec::new();
        frame(&mut first, &options);
        let mut unsent = &first[..];
        while worker.answers.len() < 4 || worker.answers.len() < frame_length(&worker.answers) {
            if worker.transfer(&mut unsent).is_err() {
                bail!("{}: {}", failed(), worker.reason());
            }
        }
        let length = frame_length(&worker.answers);
        let message = String::from_utf8_lossy(&worker.answers[4..length]).into_owned();
        worker.answers.drain(..length);
        Ok((worker, message))
    }
}

/// The process, seen from the program that uses it.
struct Worker {
    child: Child,
    /// Neither blocks.
    to: Option<OwnedFd>,
    from: OwnedFd,
    /// Bytes that were read but not used yet.
    answers: Vec<u8>,
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (child, to, from) = helper::start(NAME)?;
        let (to, from) = (OwnedFd::from(to), OwnedFd::from(from));
        rustix::io::ioctl_fionbio(&to, true)?;
        rustix::io::ioctl_fionbio(&from, true)?;
        Ok(Self { child, to: Some(to), from, answers: Vec::new() })
    }

    /// Waits until something can be sent or read, and does it. An error if the process has ended.
    fn transfer(&mut self, unsent: &mut &[u8]) -> io::Result<()> {
        let Some(to) = &self.to else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut fds = vec![PollFd::new(&self.from, PollFlags::IN)];
        if !unsent.is_empty() {
            fds.push(PollFd::new(to, PollFlags::OUT));
        }
        while let Err(error) = poll(&mut fds, None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        let (readable, writable) =
            (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|fd| !fd.revents().is_empty()));
        if writable {
            match rustix::io::write(to, unsent) {
                Ok(count) => *unsent = &unsent[count..],
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                // It has ended; what it answered before is still to be read.
                Err(_) => *unsent = &[],
            }
        }
        if readable {
            let start = self.answers.len();
            self.answers.resize(start + 64 * 1024, 0);
            let read = rustix::io::read(&self.from, &mut self.answers[start..]);
            self.answers.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Why it ended.
    fn reason(mut self) -> String {
        self.to = None;
        match self.child.wait() {
            Ok(status) if status.code() == Some(OUT_OF_TIME.into()) => {
                "stopped: a record took too much CPU time; does the program loop?".into()
            }
            Ok(status) if status.signal().is_some() => format!(
                "stopped: a record needs over {} MiB of memory, or recursion without end",
                MEMORY >> 20
            ),
            Ok(status) => format!("the process ended with {status}"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be blocked in a write to us; nothing that it still has is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The length of the frame at the start of `bytes`, with its header.
fn frame_length(bytes: &[u8]) -> usize {
    4 + number(bytes, 0).map_or(0, |length| length as usize)
}

fn number(bytes: &[u8], index: usize) -> Option<u32> {
    let bytes = bytes.get(4 * index..4 * index + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// An answer and its length; `None` if it is not complete.
fn parse(bytes: &[u8]) -> Option<(Answer<'_>, usize)> {
    let [count, too_long, length, error] = [0, 1, 2, 3].map(|index| number(bytes, index));
    let (outputs_end, error) = (16 + length? as usize, error?);
    let end = outputs_end + error.saturating_sub(1) as usize;
    let outputs = bytes.get(16..outputs_end)?;
    let message = bytes.get(outputs_end..end)?;
    let error = (error > 0).then_some(message);
    Some((Answer { outputs, count: count?.into(), too_long: too_long?.into(), error }, end))
}

/// Runs the filter for the program that started this process, until its input ends. Gives the exit code.
pub fn help() -> u8 {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(c"telepipe-filter");
    let limits = [(Resource::Core, 0), (Resource::Data, MEMORY)];
    for (resource, most) in limits {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    let serving = std::thread::Builder::new().stack_size(STACK).spawn(serve);
    let served = serving.map(|thread| thread.join().unwrap_or(Ok(())));
    u8::from(!matches!(served, Ok(Ok(()))))
}

fn serve() -> io::Result<()> {
    let mut input = BufReader::with_capacity(64 * 1024, file(rustix::stdio::stdin().as_fd())?);
    let mut output = BufWriter::with_capacity(64 * 1024, file(rustix::stdio::stdout().as_fd())?);
    let (mut line, mut answer) = (Vec::new(), Vec::new());
    if !read_frame(&mut input, &mut line)? || line.len() < 9 {
        return Ok(());
    }
    let budget = Duration::from_millis(number(&line[1..], 0).unwrap_or(0).into());
    let longest = number(&line[1..], 1).unwrap_or(0) as usize;
    let query = Query::new(&String::from_utf8_lossy(&line[9..]), line[0] == 1);
    frame(&mut answer, query.as_ref().err().map_or(b"", String::as_bytes));
    output.write_all(&answer)?;
    let Ok(mut query) = query else { return output.flush() };
    let watchdog = Watchdog::start(budget)?;
    loop {
        if input.buffer().is_empty() {
            output.flush()?;
            // Wait here, so that waiting does not count as work on a line.
            if input.fill_buf()?.is_empty() {
                return Ok(());
            }
        }
        if !read_frame(&mut input, &mut line)? {
            return output.flush();
        }
        watchdog.next();
        answer.clear();
        answer.resize(16, 0);
        let (mut count, mut too_long) = (0u32, 0u32);
        let ended = query.run(&line, |text| {
            if text.len() > longest {
                too_long += 1;
            } else {
                answer.extend_from_slice(text);
                answer.push(b'\n');
                count += 1;
            }
        });
        let length = (answer.len() - 16) as u32;
        let error = ended.err();
        answer.extend_from_slice(error.as_ref().map_or(b"", String::as_bytes));
        let error = error.map_or(0, |error| error.len() as u32 + 1);
        for (index, number) in [count, too_long, length, error].into_iter().enumerate() {
            answer[4 * index..4 * index + 4].copy_from_slice(&number.to_le_bytes());
        }
        watchdog.next();
        output.write_all(&answer)?;
    }
}

fn file(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<File> {
    Ok(fd.try_clone_to_owned()?.into())
}

/// Reads the bytes of a frame; false at the end.
fn read_frame(input: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut head = [0; 4];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        result => result?,
    }
    bytes.resize(u32::from_le_bytes(head) as usize, 0);
    input.read_exact(bytes)?;
    Ok(true)
}

/// Ends the process when one line takes more CPU time than the budget.
struct Watchdog {
    thread: std::thread::Thread,
    /// Odd while a line is being worked on.
    step: Arc<AtomicU64>,
}

impl Watchdog {
    fn start(budget: Duration) -> io::Result<Self> {
        let step = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&step);
        let watching = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            let (mut seen, mut since) = (0, cpu_time());
            loop {
                let step = watched.load(Ordering::Acquire);
                if step != seen {
                    (seen, since) = (step, cpu_time());
                } else if step.is_multiple_of(2) {
                    std::thread::park();
                } else if cpu_time() - since >= budget {
                    std::process::exit(OUT_OF_TIME.into());
                }
                std::thread::sleep(budget / 10);
            }
        })?;
        Ok(Self { thread: watching.thread().clone(), step })
    }

    /// A line begins or ends.
    fn next(&self) {
        self.step.fetch_add(1, Ordering::Release);
        self.thread.unpark();
    }
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_it_is_complete() {
        let numbers = [2u32, 1, 4, 3].map(u32::to_le_bytes).concat();
        let bytes = [&numbers[..], b"1\n2\nno", b"next"].concat();
        for length in 0..22 {
            assert!(parse(&bytes[..length]).is_none(), "{length}");
        }
        let (answer, length) = parse(&bytes).unwrap();
        assert_eq!((answer.outputs, answer.count, answer.too_long), (&b"1\n2\n"[..], 2, 1));
        assert_eq!((answer.error, length), (Some(&b"no"[..]), 22));
        let none = [0u32; 4].map(u32::to_le_bytes).concat();
        assert!(matches!(parse(&none), Some((Answer { error: None, .. }, 16))));
    }
}
