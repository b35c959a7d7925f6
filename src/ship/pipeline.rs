//! Reads the input, hands the lines to every sink, and ends in an orderly way.
//!
//! Reading happens on the thread that calls [`Pipeline::run`]; each sink has a thread of its own. When the queue of
//! one is full, reading stops, and the pipe makes its writers wait. With a spool, lines go to the spool, and a second
//! thread feeds each queue from there, so that reading stops only when the spool is full. A sink with signals then
//! has a queue and a thread for each of them.
//!
//! After the first SIGINT or SIGTERM, reading goes on briefly: in a pipeline the producer got the signal too, and
//! writes its last lines. Then the sinks have the drain time to deliver what is pending. After the end of input they
//! have as long as they make progress, and the drain time without any.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;

use super::Sink;
use super::account::{Account, DropReason, Outcome};
use super::dead_letter::{DeadLetter, DeadLetterFile, DeadLetters, Samples};
use super::deliver;
use super::dry_run::DryRun;
use super::input::{Chunk, Event, Lines, Source, Stdin, Wait};
use super::line::{BySignal, Signal};
use super::map::Map;
use super::pool::Pool;
use super::queue::{Intake, LimitOptions};
use super::report::{OwnLines, ReportOptions, Reporter};
use super::spool::cursor::sink_name;
use super::spool::disk::{Folder, read_all, replace};
use super::spool::feeder::Feeder;
use super::spool::progress::Progress;
use super::spool::store::{Damage, MIN_SPOOL, Spool};
use super::spool::writer::{Writer, WriterIntake};
use super::worker::{Shared, SinkWorker};
use crate::common::diag::log;
use crate::common::program::Usage;
use crate::common::stop::Stop;

/// How long lines are still read after a signal: longer than a producer takes to end.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How often to look for a signal while waiting for something else.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
const CHUNK: usize = 256 * 1024;
/// The most memory for a sink's pending data if there is a spool. It is enough for requests in flight; the rest waits
/// on disk.
const SPOOL_QUEUE: usize = 12 << 20;
/// The file in the spool with the positions in followed files, and how often it is written.
const POSITIONS: &str = "input.positions";
const POSITIONS_INTERVAL: Duration = Duration::from_secs(1);

/// How a pipeline works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// When a batch is complete.
    pub limits: LimitOptions,
    /// The length of the longest line that is delivered.
    pub max_line: usize,
    /// The memory that a sink's pending data may take.
    pub queue_bytes: usize,
    /// How many requests an endpoint may have in flight.
    pub in_flight: usize,
    /// How long pending lines may still be delivered after a signal, or without progress after the end of input.
    pub drain: Duration,
    /// How old a line may become while attempts to deliver it fail.
    pub max_age: Option<Duration>,
    /// What to report.
    pub report: ReportOptions,
}

/// The sinks and what feeds them.
pub struct Pipeline {
    settings: Settings,
    is_dry_run: bool,
    workers: Vec<Arc<SinkWorker>>,
    dead_letters: Arc<dyn DeadLetters>,
    source: Box<dyn Source>,
    spool: Option<Arc<Spool>>,
    writer: Option<Writer>,
    positions: Positions,
    lines: Lines,
    /// The offset of the next line. Every line has one, blank and refused ones too.
    next: u64,
    /// `ship_stats` records to deliver (`--self`).
    own: Arc<OwnLines>,
    ended: (Sender<()>, Receiver<()>),
    asked_at: Option<Instant>,
}

impl Pipeline {
    /// A pipeline without sinks.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            is_dry_run: false,
            workers: Vec::new(),
            dead_letters: Arc::new(Samples::default()),
            source: Box::new(Stdin),
            spool: None,
            writer: None,
            positions: Positions { end: 0, noted: None, noted_at: Instant::now(), stored: Vec::new() },
            lines: Lines::new(settings.max_line),
            next: 0,
            own: Arc::default(),
            ended: channel(),
            asked_at: None,
        }
    }

    /// Shows on stdout what the first batch of each sink would send, instead of sending anything. Call it before any
    /// sink is added.
    pub fn dry_run(&mut self) {
        self.is_dry_run = true;
    }

    /// Whether requests are only shown.
    pub fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Keeps lines that cannot be delivered in this file. Call it before any sink is added.
    ///
    /// # Errors
    /// If the file cannot be used.
    pub fn keep_dead_letters(&mut self, path: &Path) -> Result<()> {
        self.dead_letters = Arc::new(DeadLetterFile::open(path)?);
        Ok(())
    }

    /// Keeps lines on disk until every sink has delivered them. Call it before any sink is added.
    ///
    /// # Errors
    /// If the folder cannot be used, or `max` is too small.
    pub fn keep_spool(&mut self, path: &Path, max: u64) -> Result<()> {
        if max < MIN_SPOOL.max(self.settings.max_line.saturating_mul(4) as u64) {
            bail!(Usage("--spool-max must be at least 16 MiB, and four times --max-line".to_owned()));
        }
        let open = || Spool::open(Arc::new(Folder::create(path)?), max);
        let (spool, damage) = open().with_context(|| format!("--spool {}", path.display()))?;
        let Damage { torn_bytes, set_aside } = damage;
        if damage != Damage::default() {
            log(format_args!(
                "{}: cut off {torn_bytes} bytes that a crash left unfinished; set aside {set_aside} damaged files or \
                 parts (*.damaged)",
                path.display()
            ));
        }
        self.spool = Some(Arc::new(spool));
        Ok(())
    }

    /// Reads from here instead of stdin.
    pub fn read_from(&mut self, source: impl Source + 'static) {
        self.source = Box::new(source);
    }

    /// Maps each line before it is delivered.
    pub fn map(&mut self, map: Map) {
        self.lines.map(map);
    }

    /// Adds a sink and starts its thread, or one for each signal.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn add<S: Sink + Send + 'static>(&mut self, sink: S) -> Result<()> {
        // Look for I/O after every task: encoding a batch takes milliseconds, and sockets wait meanwhile.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build();
        // The signals share it, as they share connections, which end with the runtime that opened them.
        let runtime = Arc::new(runtime.context("cannot start delivery")?);
        if self.is_dry_run {
            return self.start(DryRun::new(sink), None, runtime);
        }
        // Without a spool, the signals would share the memory for what waits, so that queues of their own gain nothing.
        let siblings = self.spool.is_some().then(|| sink.sibling().zip(sink.sibling())).flatten();
        let Some((logs, traces)) = siblings else { return self.start(sink, None, runtime) };
        let shared = Shared { account: Arc::new(Account::new()), pool: Pool::default() };
        for (signal, sink) in Signal::ALL.into_iter().zip([sink, logs, traces]) {
            self.start(sink, Some((signal, shared.clone())), runtime.clone())?;
        }
        Ok(())
    }

    /// Starts the thread of a sink, or of a signal of it.
    fn start<S: Sink + Send + 'static>(
        &mut self,
        sink: S,
        only: Option<(Signal, Shared)>,
        runtime: Arc<Runtime>,
    ) -> Result<()> {
        let Settings { limits, mut queue_bytes, in_flight, max_age, .. } = self.settings;
        if self.spool.is_some() {
            queue_bytes = queue_bytes.min(SPOOL_QUEUE);
        }
        if only.is_some() {
            queue_bytes /= Signal::ALL.len();
        }
        let dead_letters = self.dead_letters.clone();
        let mut worker = SinkWorker::new(
            sink.name(),
            sink.is_bounded(),
            limits.or(sink.limits()),
            queue_bytes,
            dead_letters.clone(),
        );
        if let Some((signal, shared)) = only {
            worker = worker.only(signal, shared);
        }
        worker.max_age = max_age;
        if let Some(spool) = &self.spool {
            let (name, account) = ((worker.name, worker.signal), worker.account.clone());
            // Only counters have a state.
            let has_state =
                sink.state().is_some() && worker.signal.is_none_or(|signal| signal == Signal::Metrics);
            let progress = Progress::open(spool.clone(), name, has_state, account, dead_letters);
            worker.progress = Some(Arc::new(progress.context("cannot use the cursor in the spool")?));
        }
        worker.fit(1);
        let worker = Arc::new(worker);
        let guard = Ending(worker.clone(), self.ended.0.clone());
        std::thread::Builder::new()
            .name(worker.name.into())
            .spawn(move || deliver::run(&runtime, sink, &guard.0, in_flight))
            .context("cannot start a thread")?;
        self.workers.push(worker);
        Ok(())
    }

    /// Delivers the input until it ends or `stop` is asked.
    ///
    /// # Errors
    /// If the input cannot be read, or not everything that was read was delivered.
    pub fn run(mut self, stop: &Stop) -> Result<()> {
        let reported = if self.is_dry_run { Vec::new() } else { self.sinks() };
        let reporter = Arc::new(Reporter::new(reported, self.settings.report, self.own.clone()));
        let (forced, watching) = (reporter.clone(), reporter.clone());
        stop.on_forced_end(move || forced.summary());
        let (running, ended) = channel();
        let watcher = std::thread::Builder::new().name("report".into()).spawn(move || watching.run(&ended));
        let feeders = self.start_spool()?;
        let read = self.read_all(stop);
        self.finish(read.as_ref().is_ok_and(|eof| *eof));
        self.drain(stop);
        self.end_spool(feeders);
        if stop.reader_gone() {
            self.workers.iter().for_each(|worker| worker.reader_left());
        }
        drop(running);
        let _ = watcher.context("cannot start a thread")?.join();
        reporter.summary();
        read?;
        if self.workers.iter().any(|worker| worker.has_failed()) {
            bail!("not everything was delivered");
        }
        Ok(())
    }

    fn sinks(&self) -> Vec<Arc<SinkWorker>> {
        one_per_sink(&self.workers)
    }

    /// Starts the threads that write to the spool and read from it.
    fn start_spool(&mut self) -> Result<Vec<JoinHandle<()>>> {
        let Some(spool) = &self.spool else { return Ok(Vec::new()) };
        self.positions.end = spool.range().1;
        if let Ok(positions) = read_all(spool.disk(), POSITIONS) {
            self.source.resume(&positions);
        }
        let name = |worker: &Arc<SinkWorker>| sink_name(worker.name, worker.signal);
        let used = |sink: &String| self.workers.iter().any(|worker| name(worker) == *sink);
        for sink in spool.sinks().iter().filter(|sink| !used(sink)) {
            log(format_args!(
                "the spool keeps lines for {sink}, which is no destination now; remove {sink}.cursor to let go of them"
            ));
        }
        let (workers, ended) = (self.workers.clone(), self.ended.0.clone());
        let committed = move |since, lines: BySignal<u64>| {
            for worker in &workers {
                let lines = worker.signal.map_or_else(|| lines.iter().sum(), |signal| lines[signal as usize]);
                worker.account.wait(worker.signal, since, lines);
            }
        };
        let writer = Writer::start(spool.clone(), committed, move || {
            let _ = ended.send(());
        });
        self.writer = Some(writer.context("cannot start a thread")?);
        let feed = |worker: &Arc<SinkWorker>| {
            let progress = worker.progress.clone()?;
            let feeder = Feeder::new(worker.clone(), progress, worker.queue.limits);
            Some(std::thread::Builder::new().name("feed".into()).spawn(move || feeder.run()))
        };
        self.workers.iter().filter_map(feed).collect::<Result<_, _>>().context("cannot start a thread")
    }

    /// Stores the cursors.
    fn end_spool(&mut self, feeders: Vec<JoinHandle<()>>) {
        self.end_writer();
        self.note_positions();
        self.store_positions();
        self.workers
            .iter()
            .filter_map(|worker| worker.progress.as_ref())
            .for_each(|progress| progress.stop());
        for feeder in feeders {
            let _ = feeder.join();
        }
        for worker in self.sinks().iter().filter(|worker| worker.progress.is_some()) {
            let lines = worker.account.counts().pending;
            if lines > 0 {
                log(format_args!("{}: {lines} lines stay in the spool for the next start", worker.name));
            }
        }
    }

    /// Ends the thread that writes to the spool. Lines that it could not write are dropped.
    fn end_writer(&mut self) {
        let (Some(mut writer), Some(spool)) = (self.writer.take(), &self.spool) else { return };
        let lines = writer.end();
        if lines > 0 {
            log(format_args!("{lines} lines are lost: they were read, but the spool could not be written"));
        }
        for worker in self.sinks() {
            worker
                .account
                .read(u64::MAX, Instant::now(), lines)
                .settle(Outcome::Dropped(DropReason::Unspooled));
        }
        spool.close();
    }

    /// Reads to the end of the input (true), or until the program must end (false).
    fn read_all(&mut self, stop: &Stop) -> Result<bool> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let asked = self.asked(stop);
            let enough = asked.map(|at| at + LAST_LINES.min(self.settings.drain / 2));
            // A dry run ends with the first batch, even if no more lines come.
            let look =
                (self.is_dry_run || self.settings.report.deliver).then(|| Instant::now() + CHECK_INTERVAL);
            if enough.is_some_and(|time| Instant::now() >= time) || stop.reader_gone() || self.is_deserted() {
                return Ok(false);
            }
            let room = match &self.writer {
                Some(writer) => writer.wait(CHECK_INTERVAL),
                None => self.workers.iter().all(|worker| worker.budget.wait(CHECK_INTERVAL)),
            };
            if !room {
                continue;
            }
            self.take_own();
            let wait =
                Wait { stop: asked.is_none().then_some(stop), until: enough.into_iter().chain(look).min() };
            match self.source.read(&mut buffer, &wait)? {
                Chunk::Bytes(length) => self.take(&buffer[..length], false),
                Chunk::FileEnd => self.take(b"", true),
                Chunk::Nothing => {}
                Chunk::End => return Ok(true),
            }
            self.store_positions();
            if self.spool.is_some()
                && self.positions.noted.is_none()
                && self.positions.noted_at.elapsed() >= POSITIONS_INTERVAL
            {
                self.note_positions();
            }
        }
    }

    /// Notes how far the input was read.
    fn note_positions(&mut self) {
        if !self.lines.is_within_line() {
            self.positions.noted = self.source.positions().map(|positions| (self.positions.end, positions));
        }
        self.positions.noted_at = Instant::now();
    }

    /// Stores what was noted, once the lines up to there are in the spool.
    fn store_positions(&mut self) {
        let (Some(spool), Some((end, noted))) = (&self.spool, &self.positions.noted) else { return };
        if spool.range().1 < *end {
            return;
        }
        // What fails is tried again; a disk that is full is reported by the writer.
        if *noted == self.positions.stored || replace(spool.disk(), POSITIONS, noted).is_ok() {
            self.positions.stored.clone_from(noted);
            self.positions.noted = None;
        }
    }

    /// When the program noticed that it was asked to end.
    fn asked(&mut self, stop: &Stop) -> Option<Instant> {
        if stop.asked() && self.asked_at.is_none() {
            self.asked_at = Some(Instant::now());
        }
        self.asked_at
    }

    /// Whether no sink accepts lines any more.
    fn is_deserted(&self) -> bool {
        self.workers.iter().all(|worker| worker.queue.abandoned())
    }

    /// Adds the records of `--self`, even in the middle of a line of the input.
    fn take_own(&mut self) {
        // The offset of a line that arrives in parts must not change.
        let lines = if self.lines.is_within_long() { Vec::new() } else { self.own.take() };
        if lines.is_empty() {
            return;
        }
        let mut intake = Destination::of(&self.workers, self.writer.as_ref());
        for line in &lines {
            intake.push(self.next, line);
            self.next += 1;
            self.positions.end += 1;
        }
        drop(intake);
        let bytes = lines.iter().map(|line| line.len() + 1).sum();
        self.sinks().iter().for_each(|worker| worker.account.read_bytes(bytes));
    }

    /// Adds the lines that `chunk` completes, and the last one at the end of input, to the spool, or to the queue of
    /// every sink.
    fn take(&mut self, chunk: &[u8], eof: bool) {
        let Self { settings, workers, dead_letters, writer, lines, next, positions, .. } = self;
        one_per_sink(workers).iter().for_each(|worker| worker.account.read_bytes(chunk.len()));
        let (workers, writer) = (&*workers, writer.as_ref());
        let (mut intake, mut empty, mut refused) = (None, 0, Vec::new());
        let mut each = |event: Event<'_>| {
            match event {
                Event::Line(line) => {
                    let intake = intake.get_or_insert_with(|| Destination::of(workers, writer));
                    intake.push(*next, line);
                    positions.end += 1;
                }
                Event::Blank => {}
                Event::Empty => empty += 1,
                Event::Part(bytes) => return dead_letters.part(*next, bytes),
                Event::Long(start) => {
                    let reason = format!("longer than {} bytes (--max-line)", settings.max_line);
                    refused.push((*next, start.to_vec(), true, reason));
                }
                Event::Refused(line, reason) => refused.push((*next, line.to_vec(), false, reason)),
            }
            *next += 1;
        };
        if eof {
            lines.end(&mut each)
        } else {
            lines.feed(chunk, &mut each)
        };
        drop(intake);
        if empty > 0 {
            for worker in self.sinks() {
                worker.account.read(u64::MAX, Instant::now(), empty).settle(Outcome::Empty);
            }
        }
        for (offset, line, is_part, reason) in &refused {
            for worker in self.sinks() {
                let pending = worker.account.read(u64::MAX, Instant::now(), 1);
                let (offset, is_part) = (*offset, *is_part);
                worker.refuse_line(&DeadLetter { sink: worker.name, offset, line, is_part, reason }, pending);
            }
        }
    }

    /// Passes on the last lines and closes the queues.
    fn finish(&mut self, eof: bool) {
        if eof {
            self.take(b"", true);
        } else if self.lines.is_partial() {
            for worker in self.sinks() {
                worker.account.read(u64::MAX, Instant::now(), 1).settle(Outcome::Dropped(DropReason::CutOff));
            }
        }
        match &self.writer {
            // The queues are closed when the rest of the spool is in them.
            Some(writer) => writer.close(),
            None => self.workers.iter().for_each(|worker| worker.queue.close()),
        }
    }

    /// Waits until every sink has finished, or the drain time is over.
    fn drain(&mut self, stop: &Stop) {
        let (closed, drain) = (Instant::now(), self.settings.drain);
        self.workers.iter().for_each(|worker| worker.hurry());
        let is_stalled = |worker: &Arc<SinkWorker>| {
            worker.is_bounded && worker.account.settled_at().max(closed).elapsed() >= drain
        };
        loop {
            if self.writer.as_ref().is_some_and(Writer::has_ended) {
                self.end_writer();
            }
            let running: Vec<_> =
                self.workers.iter().filter(|worker| !worker.is_finished()).cloned().collect();
            if running.is_empty() {
                return;
            }
            if let Some(asked) = self.asked(stop) {
                if asked.elapsed() >= drain || stop.reader_gone() {
                    return;
                }
            } else if running.iter().all(is_stalled) {
                for worker in one_per_sink(&running) {
                    let (name, lines) = (worker.name, worker.account.counts().pending);
                    if self.spool.is_some() {
                        log(format_args!("{name}: giving up: nothing delivered for {drain:?} (--drain)"));
                        continue;
                    }
                    let first = worker.account.cursor().map_or(0, |offset| offset + 1);
                    log(format_args!(
                        "{name}: giving up: nothing delivered for {drain:?} (--drain); undelivered lines: {lines}, \
                         from line {first} on"
                    ));
                }
                return;
            }
            let _ = self.ended.1.recv_timeout(CHECK_INTERVAL);
        }
    }
}

/// One worker of each sink: the signals of a sink share its account.
fn one_per_sink(workers: &[Arc<SinkWorker>]) -> Vec<Arc<SinkWorker>> {
    let mut sinks = workers.to_vec();
    sinks.dedup_by(|next, one| Arc::ptr_eq(&next.account, &one.account));
    sinks
}

/// How far the input was read, for the next start.
struct Positions {
    /// The offset in the spool of the next line.
    end: u64,
    /// The positions after the line before that offset.
    noted: Option<(u64, Vec<u8>)>,
    noted_at: Instant,
    stored: Vec<u8>,
}

/// Where lines go.
enum Destination<'a> {
    Queues(Vec<Intake<'a>>),
    Spool(WriterIntake<'a>),
}

impl<'a> Destination<'a> {
    fn of(workers: &'a [Arc<SinkWorker>], writer: Option<&'a Writer>) -> Self {
        match writer {
            Some(writer) => Self::Spool(writer.intake()),
            None => Self::Queues(workers.iter().map(|worker| worker.queue.intake()).collect()),
        }
    }

    fn push(&mut self, offset: u64, line: &[u8]) {
        match self {
            Self::Queues(queues) => queues.iter_mut().for_each(|queue| queue.push(offset, line)),
            Self::Spool(spool) => spool.push(line),
        }
    }
}

/// Reports that the thread of a sink has ended, even by a panic.
struct Ending(Arc<SinkWorker>, Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.queue.abandon();
        }
        self.0.finish();
        let _ = self.1.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MAX_LINE;
    use crate::ship::Limits;
    use crate::ship::input::START;
    use std::sync::Mutex;

    /// Keeps every letter and every part.
    #[derive(Default)]
    struct Kept(Mutex<(Vec<u8>, Vec<Letter>)>);

    /// The offset of a line, and its bytes.
    type Letter = (u64, Vec<u8>);

    impl DeadLetters for Kept {
        fn part(&self, _: u64, bytes: &[u8]) {
            self.0.lock().unwrap().0.extend_from_slice(bytes);
        }

        fn keep(&self, letter: &DeadLetter<'_>) -> bool {
            self.0.lock().unwrap().1.push((letter.offset, letter.line.to_vec()));
            true
        }
    }

    #[test]
    fn lines_that_are_too_long_reach_the_dead_letters_whole() {
        let limits = Limits { lines: 10, bytes: 1 << 20, age: Duration::from_secs(3600) };
        let settings = Settings {
            limits: LimitOptions::default(),
            max_line: MAX_LINE,
            queue_bytes: usize::MAX,
            in_flight: 1,
            drain: Duration::from_secs(1),
            max_age: None,
            report: ReportOptions::default(),
        };
        let kept = Arc::new(Kept::default());
        let mut pipeline = Pipeline::new(settings);
        let worker = Arc::new(SinkWorker::new("x", true, limits, usize::MAX, kept.clone()));
        (pipeline.dead_letters, pipeline.workers) = (kept.clone(), vec![worker.clone()]);

        let long: Vec<u8> = (0..MAX_LINE + 5).map(|n| b'a' + (n % 26) as u8).collect();
        let input = [b"\xef\xbb\xbf{}\n \n", &long[..], b"\n{}\n", &long[..]].concat();
        input.chunks(100_000).for_each(|chunk| pipeline.take(chunk, false));
        pipeline.take(b"", true);

        let (parts, letters) = &*kept.0.lock().unwrap();
        assert!(*parts == [&long[..], &long[..]].concat(), "{} bytes", parts.len());
        let letters: Vec<_> = letters.iter().map(|(offset, line)| (*offset, &line[..])).collect();
        assert_eq!(letters, [(2, &long[..START]), (4, &long[..START])]);
        let counts = worker.account.counts();
        assert_eq!((counts.read, counts.pending, counts.dead_lettered, counts.rejected), (4, 2, 2, 0));
    }
}
