//! Tests the invariants of the spool with random operations, failures and crashes, on a disk in memory that loses,
//! tears and reorders what was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::cursor::{Cursor, OpenBatch, signal_of};
use super::disk::Disk;
use super::feeder::Feeder;
use super::progress::Progress;
use super::segment::{lines_name, parse_name};
use super::store::{Appender, Damage, Found, Lines, Reader, Spool};
use crate::common::time::Timestamp;
use crate::ship::account::{Outcome, Pending};
use crate::ship::dead_letter::Samples;
use crate::ship::line::Signal;
use crate::ship::queue::{Limits, Origin, Queued};
use crate::ship::worker::SinkWorker;

/// The disk, which the test keeps across restarts.
#[derive(Clone, Default)]
struct MemoryDisk(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    content: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<Change>,
    created: u64,
    /// The number of changes after which all fail, until the next crash or `heal`.
    fails_after: Option<u64>,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    writes: Vec<Write>,
}

#[derive(Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Size(usize),
}

#[derive(Clone)]
enum Change {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

fn apply(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Bytes(at, new) => {
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[*at..at + new.len()].copy_from_slice(new);
        }
        Write::Size(size) => bytes.resize(*size, 0),
    }
}

fn change(names: &mut BTreeMap<String, u64>, change: &Change) {
    match change {
        Change::Create(name, id) => drop(names.insert(name.clone(), *id)),
        Change::Remove(name) => drop(names.remove(name)),
        Change::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
    }
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap()
    }

    fn fail_after(&self, changes: Option<u64>) {
        self.lock().fails_after = changes;
    }

    /// What was synced stays; of the rest, `random` decides.
    fn crash(&self, random: &mut Random) {
        let files = &mut *self.lock();
        files.fails_after = None;
        let changes = std::mem::take(&mut files.name_changes);
        let mut names = files.durable_names.clone();
        changes.iter().filter(|_| random.below(2) == 0).for_each(|one| change(&mut names, one));
        (files.names, files.durable_names) = (names.clone(), names);
        for content in files.content.values_mut() {
            for mut write in std::mem::take(&mut content.writes) {
                match (random.below(3), &mut write) {
                    (0, _) => continue,
                    (1, Write::Bytes(_, bytes)) => {
                        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize)
                    }
                    _ => {}
                }
                apply(&mut content.durable, &write);
            }
            content.now = content.durable.clone();
        }
    }

    /// What a file has after a crash that loses everything that may be lost.
    fn durable(&self, name: &str) -> Option<Vec<u8>> {
        let files = self.lock();
        Some(files.content[files.durable_names.get(name)?].durable.clone())
    }
}

impl Files {
    /// Counts a change. False if it is to fail.
    fn may_change(&mut self) -> io::Result<()> {
        match &mut self.fails_after {
            Some(0) => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&mut self, name: &str) -> io::Result<&mut Content> {
        let id = self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        self.content.get_mut(id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename_or_remove(&mut self, one: Change) -> io::Result<()> {
        self.may_change()?;
        let (Change::Rename(name, _) | Change::Remove(name) | Change::Create(name, _)) = &one;
        self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        change(&mut self.names, &one);
        self.name_changes.push(one);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.lock().find(name)?.now.len() as u64)
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let files = &mut *self.lock();
        let rest = files.find(name)?.now.get(at as usize..).unwrap_or(&[]);
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let files = &mut *self.lock();
        let allowed = files.may_change();
        if !files.names.contains_key(name) {
            files.created += 1;
            let id = files.created;
            files.content.insert(id, Content::default());
            files.names.insert(name.to_owned(), id);
            files.name_changes.push(Change::Create(name.to_owned(), id));
        }
        // A failing write may write a part.
        let length = if allowed.is_ok() { bytes.len() } else { bytes.len() / 2 };
        let write = Write::Bytes(at as usize, bytes[..length].to_vec());
        let content = files.find(name)?;
        apply(&mut content.now, &write);
        content.writes.push(write);
        allowed
    }

    fn set_size(&self, name: &str, size: u64) -> io::Result<()> {
        let files = &mut *self.lock();
        files.may_change()?;
        let (content, write) = (files.find(name)?, Write::Size(size as usize));
        apply(&mut content.now, &write);
        content.writes.push(write);
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let files = &mut *self.lock();
        files.may_change()?;
        let content = files.find(name)?;
        content.durable = content.now.clone();
        content.writes.clear();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().rename_or_remove(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().rename_or_remove(Change::Remove(name.to_owned()))
    }

    fn sync_names(&self) -> io::Result<()> {
        let files = &mut *self.lock();
        files.may_change()?;
        files.durable_names = files.names.clone();
        files.name_changes.clear();
        Ok(())
    }

    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// Two that get every line, and two signals of a third. Those with a state are the first and the third.
const SINKS: [&str; 4] = ["a", "b", "c-traces", "c-logs"];
const MAX: u64 = 16 * 300;
const LIMITS: Limits = Limits { lines: 5, bytes: 60, age: Duration::ZERO };

/// The line with this offset: a span or a log.
fn line(offset: u64) -> Vec<u8> {
    if signal(offset) == Signal::Traces {
        return format!(r#"{{"kind":"span","n":{offset}}}"#).into_bytes();
    }
    format!("line {offset} {}", "x".repeat(offset as usize % 23)).into_bytes()
}

/// Single spans, and now and then a stretch of spans or logs.
fn signal(offset: u64) -> Signal {
    if matches!(offset % 50, 9 | 12 | 20..35) { Signal::Traces } else { Signal::Logs }
}

fn is_for(sink: &str, offset: u64) -> bool {
    signal_of(sink).is_none_or(|only| only == signal(offset))
}

fn has_state(sink: &str) -> bool {
    matches!(sink, "a" | "c-traces")
}

fn step(state: u32, line: &[u8]) -> u32 {
    crc32fast::hash(&[&state.to_le_bytes()[..], line].concat())
}

/// A sink of a running program.
struct Sink {
    name: &'static str,
    worker: Arc<SinkWorker>,
    progress: Arc<Progress>,
    feeder: Feeder,
    /// Batches that are sent and not answered.
    sent: Vec<(u64, Vec<u64>, Pending)>,
    state: u32,
}

/// A running program.
struct Running {
    appender: Appender,
    sinks: Vec<Sink>,
}

/// What must be true across restarts.
#[derive(Default)]
struct Model {
    disk: MemoryDisk,
    /// Lines that were committed.
    committed: u64,
    /// Lines of a commit that failed, in blocks; they are written again.
    failed: Vec<u64>,
    /// Lines that a crash tore out of a commit, which never succeeded.
    holes: BTreeSet<u64>,
    /// By sink and offset: how often it was delivered, and how often it may be.
    delivered: BTreeMap<(&'static str, u64), (u32, u32)>,
    /// The end of each batch that was begun, by sink and offset.
    begun: BTreeMap<(&'static str, u64), u64>,
}

impl Model {
    fn start(&mut self) -> Running {
        let (spool, damage) = Spool::open(Arc::new(self.disk.clone()), MAX).expect("opening succeeds");
        let end = spool.range().1;
        let possible: Vec<_> = (0..=self.failed.len())
            .map(|blocks| self.committed + self.failed[..blocks].iter().sum::<u64>())
            .collect();
        assert!(possible.contains(&end), "{end} is none of {possible:?}; {damage:?}");
        let spool = Arc::new(spool);
        let mut reader = Reader::new(spool.clone(), spool.range().0, None);
        loop {
            let at = reader.at();
            match reader.read().unwrap() {
                Found::End => break,
                Found::Block(..) => {}
                Found::Gap(to, _) => {
                    self.holes.extend(at.max(self.committed)..to);
                    let lost: Vec<_> = self.without_holes(at..to).collect();
                    assert!(lost.is_empty(), "the committed lines {lost:?} are lost");
                }
            }
        }
        (self.committed, self.failed) = (end, Vec::new());
        let mut sinks = Vec::new();
        for name in SINKS {
            let cursor = Cursor::load(&self.disk, name).unwrap_or_default();
            let open = cursor.open.iter().flat_map(|open| open.first..open.end);
            for offset in open.filter(|offset| is_for(name, *offset)) {
                self.delivered.entry((name, offset)).or_default().1 += 1;
            }
            let dead_letters = Arc::new(Samples::default());
            let mut worker = SinkWorker::new(name, true, LIMITS, usize::MAX, dead_letters.clone());
            let signal = signal_of(name);
            let sink = name.split('-').next().unwrap();
            let account = worker.account.clone();
            let progress =
                Progress::open(spool.clone(), (sink, signal), has_state(name), account, dead_letters);
            let progress = Arc::new(progress.expect("a cursor"));
            worker.progress = Some(progress.clone());
            let worker = Arc::new(worker);
            let feeder = Feeder::new(worker.clone(), progress.clone(), LIMITS);
            let stored = progress.encoder_state().map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
            let state = stored.unwrap_or(0);
            sinks.push(Sink { name, worker, progress, feeder, sent: Vec::new(), state });
        }
        let appender = Appender::new(spool);
        Running { appender, sinks }
    }

    /// Commits lines in blocks of these sizes, after those of a failed attempt.
    fn append(&mut self, running: &mut Running, blocks: &[u64]) -> bool {
        // Reading stops while the spool is full, so a commit is never as large as the spool.
        if self.failed.len() < 8 {
            self.failed.extend(blocks);
        }
        let mut next = self.committed;
        let mut block = |count: &u64| {
            let range = next..next + count;
            let lines: Vec<_> = range.clone().flat_map(|n| [&line(n)[..], b"\n"].concat()).collect();
            next += count;
            let signals = Signal::ALL.map(|one| range.clone().filter(|n| signal(*n) == one).count() as u32);
            Lines { bytes: lines, signals, received: Timestamp(next) }
        };
        let lines: Vec<_> = self.failed.iter().map(&mut block).collect();
        if running.appender.commit(&lines, || {}).is_err() {
            return false;
        }
        for sink in &running.sinks {
            let lines = (self.committed..next).filter(|offset| is_for(sink.name, *offset)).count() as u64;
            sink.worker.account.wait(signal_of(sink.name), std::time::Instant::now(), lines);
        }
        (self.committed, self.failed) = (next, Vec::new());
        true
    }

    /// Sends what the sink finds next. False if there was nothing.
    fn send(&mut self, sink: &mut Sink) -> bool {
        let more = sink.feeder.fill();
        if !more {
            sink.feeder.complete();
        }
        sink.feeder.release();
        let mut any = more;
        while let Some(Queued { batch, pending, origin, snapshot, .. }) = next(&sink.worker) {
            any = true;
            let state_before = |end| {
                let lines = self.without_holes(0..end).filter(|offset| is_for(sink.name, *offset));
                lines.fold(0, |state, offset| step(state, &line(offset)))
            };
            if let Some(at) = snapshot {
                assert_eq!(
                    (has_state(sink.name), sink.state),
                    (true, state_before(at)),
                    "{} {at} {:?}",
                    sink.name,
                    self.holes
                );
                sink.progress.snapshot(at, &sink.state.to_le_bytes());
            }
            if batch.is_empty() {
                continue;
            }
            let offsets: Vec<_> = (0..batch.len()).map(|index| batch.offset(index)).collect();
            let (first, end) = (offsets[0], offsets[offsets.len() - 1] + 1);
            let expected = self.without_holes(first..end).filter(|offset| is_for(sink.name, *offset));
            assert_eq!(offsets, expected.collect::<Vec<_>>());
            assert!((0..batch.len()).all(|index| batch.line(index) == line(offsets[index])));
            if has_state(sink.name) {
                assert_eq!(sink.state, state_before(first), "the encoder has the state that it had");
                sink.state = (0..batch.len()).fold(sink.state, |state, index| step(state, batch.line(index)));
            }
            match &origin {
                Origin::Rebuilt => continue,
                Origin::Fresh => drop(self.begun.insert((sink.name, first), end)),
                Origin::Repeated(open) => {
                    assert_eq!(self.begun[&(sink.name, first)], end, "the same batch");
                    assert_eq!((open.first, open.end), (first, end));
                }
            }
            let file = self.disk.durable(&format!("{}.cursor", sink.name)).expect("a durable cursor");
            let cursor = Cursor::parse(&file).expect("a whole cursor");
            let has = |open: &OpenBatch| (open.first, open.end) == (first, end);
            assert!(cursor.open.iter().any(has), "{first}..{end} is sent before it is durable: {cursor:?}");
            sink.sent.push((first, offsets, pending));
        }
        any
    }

    fn without_holes(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        range.filter(|offset| !self.holes.contains(offset))
    }

    /// The server accepts a batch.
    fn deliver(&mut self, sink: &mut Sink, index: usize) {
        if sink.sent.is_empty() {
            return;
        }
        let index = index % sink.sent.len();
        let (_, offsets, pending) = sink.sent.remove(index);
        for offset in offsets {
            self.delivered.entry((sink.name, offset)).or_default().0 += 1;
        }
        pending.settle(Outcome::Delivered);
    }

    /// Delivers everything and checks that nothing is lost, or delivered again without need.
    fn finish(&mut self, mut running: Running) -> Result<(), TestCaseError> {
        let mut appended = self.append(&mut running, &[1]);
        for _ in 0..3 {
            for sink in &mut running.sinks {
                while self.send(sink) || !sink.sent.is_empty() {
                    self.deliver(sink, 0);
                }
                sink.progress.save().unwrap();
            }
            // It was full.
            appended = appended || self.append(&mut running, &[]);
        }
        prop_assert!(appended);
        for name in SINKS {
            for offset in self.without_holes(0..self.committed).filter(|offset| is_for(name, *offset)) {
                let (times, repeats) = self.delivered.get(&(name, offset)).copied().unwrap_or_default();
                prop_assert!((1..=1 + repeats).contains(&times), "{}: {} {} times", name, offset, times);
            }
        }
        for sink in &running.sinks {
            let counts = sink.worker.account.counts();
            prop_assert_eq!((counts.pending, counts.rejected), (0, 0));
            prop_assert!(counts.dropped <= self.holes.len() as u64);
        }
        let names = self.disk.list().unwrap();
        let segments: Vec<_> = names.iter().filter_map(|name| parse_name(name, "ndjson")).collect();
        prop_assert!(segments.len() <= 4, "delivered segments are deleted: {:?}", names);
        Ok(())
    }
}

fn next(worker: &SinkWorker) -> Option<Queued> {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
    let next = async { tokio::time::timeout(Duration::ZERO, worker.queue.next()).await };
    RUNTIME.block_on(next).ok().flatten()
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u64>),
    /// Fails at the change with that number.
    FailingAppend(Vec<u64>, u64),
    Send(usize),
    Deliver(usize, usize),
    Save(usize),
    FailingSave(usize, u64),
    /// With the change at which the power fails, in a commit or while the cursor is stored.
    Crash(u64, bool, u64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let blocks = || prop::collection::vec(1..6u64, 1..4);
    let sink = 0..SINKS.len();
    prop::collection::vec(
        prop_oneof![
            6 => blocks().prop_map(Step::Append),
            2 => (blocks(), 0..12u64).prop_map(|(blocks, at)| Step::FailingAppend(blocks, at)),
            6 => sink.clone().prop_map(Step::Send),
            8 => (sink.clone(), any::<usize>()).prop_map(|(sink, index)| Step::Deliver(sink, index)),
            3 => sink.clone().prop_map(Step::Save),
            1 => (sink, 0..6u64).prop_map(|(sink, at)| Step::FailingSave(sink, at)),
            2 => (any::<u64>(), any::<bool>(), 0..12u64).prop_map(|(seed, commit, at)| Step::Crash(seed, commit, at)),
            1 => Just(Step::Restart),
        ],
        1..60,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_committed_line_is_lost_or_sent_again_without_need(steps in steps()) {
        let mut model = Model::default();
        let mut running = model.start();
        for step in steps {
            match step {
                Step::Append(blocks) => drop(model.append(&mut running, &blocks)),
                Step::FailingAppend(blocks, at) => {
                    model.disk.fail_after(Some(at));
                    model.append(&mut running, &blocks);
                    model.disk.fail_after(None);
                }
                Step::Send(sink) => drop(model.send(&mut running.sinks[sink])),
                Step::Deliver(sink, index) => model.deliver(&mut running.sinks[sink], index),
                Step::Save(sink) => prop_assert!(running.sinks[sink].progress.save().is_ok()),
                Step::FailingSave(sink, at) => {
                    model.disk.fail_after(Some(at));
                    let _ = running.sinks[sink].progress.save();
                    model.disk.fail_after(None);
                }
                Step::Crash(seed, commit, at) => {
                    model.disk.fail_after(Some(at));
                    if commit {
                        model.append(&mut running, &[2, 1]);
                    } else {
                        let _ = running.sinks[at as usize % SINKS.len()].progress.save();
                    }
                    model.disk.crash(&mut Random(seed));
                    // The program is gone: nothing that it does at its end counts.
                    std::mem::forget(std::mem::replace(&mut running, model.start()));
                }
                Step::Restart => {
                    running.sinks.iter().for_each(|sink| sink.progress.save().unwrap());
                    std::mem::forget(std::mem::replace(&mut running, model.start()));
                }
            }
        }
        model.finish(running)?;
    }

    /// Whatever the files contain, a spool opens, and gives what is left of the lines.
    #[test]
    fn any_damage_is_survived(
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8), 1..6)
    ) {
        let mut model = Model::default();
        let mut running = model.start();
        for _ in 0..12 {
            model.append(&mut running, &[3, 5]);
        }
        let sink = &mut running.sinks[0];
        model.send(sink);
        model.deliver(sink, 0);
        sink.progress.save().unwrap();
        {
            let files = &mut *model.disk.lock();
            let names: Vec<_> = files.names.keys().cloned().collect();
            for (file, place, damage) in damages {
                let name = file.get(&names);
                let Ok(content) = files.find(name) else { continue };
                let at = place.index(content.now.len().max(1)).min(content.now.len().saturating_sub(1));
                match damage {
                    0 => drop(files.names.remove(name)),
                    1 => content.now.truncate(at),
                    2 => content.now.extend_from_slice(b"{\"torn"),
                    _ => content.now.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 16),
                }
            }
        }
        let (spool, damage) = Spool::open(Arc::new(model.disk.clone()), 16 * MAX).unwrap();
        prop_assert!(damage == Damage::default() || damage.torn_bytes + damage.set_aside > 0);
        let (spool, account) = (Arc::new(spool), Arc::new(crate::ship::account::Account::new()));
        let end = spool.range().1;
        prop_assert!(end <= model.committed);
        let progress = Progress::open(spool.clone(), ("a", None), true, account.clone(), Arc::new(Samples::default()));
        let progress = progress.unwrap();
        let mut reader = Reader::new(spool.clone(), progress.low(), None);
        loop {
            let at = reader.at();
            match reader.read().unwrap() {
                Found::End => break,
                Found::Gap(to, lines) => prop_assert_eq!((to > at, lines), (true, to - at)),
                Found::Block(block, bytes) => {
                    let lines: Vec<_> = (block.first..block.end()).flat_map(|n| [&line(n)[..], b"\n"].concat()).collect();
                    prop_assert!(block.end() > at && bytes == lines);
                }
            }
            prop_assert_eq!(reader.at().max(at + 1), reader.at());
        }
        prop_assert_eq!(reader.at(), end.max(progress.low()));
        // New lines get offsets of their own.
        let mut appender = Appender::new(spool.clone());
        let new = Lines { bytes: b"new\n".to_vec(), signals: [0, 1, 0], received: Timestamp(0) };
        appender.commit(&[new], || {}).unwrap();
        prop_assert_eq!(spool.range().1, end + 1);
        prop_assert!(model.disk.list().unwrap().contains(&lines_name(end)));
    }
}
