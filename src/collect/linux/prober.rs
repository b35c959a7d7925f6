//! Queries mounts that may hang (NFS, FUSE) on a thread, so that scrape does not hang.
//!
//! When a call takes too long, its thread is abandoned, a new thread queries the other
//! mounts, and the mount is skipped until the call returns. A mount that hangs costs
//! one thread and one wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Duration;

use super::mountinfo::Mount;

/// The space of a file system (statvfs(3)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The block size in bytes.
    pub block: u64,
    /// The size in blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for unprivileged users.
    pub available: u64,
    /// The number of inodes.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

/// The answer of a mount; `None` if another mount covers it.
pub type Answer = io::Result<Option<Space>>;

/// The system call, with the state that a thread keeps for it.
pub type Call = Box<dyn FnMut(&Mount) -> Answer + Send>;

/// The limit of abandoned calls.
const MOST_STUCK: usize = 16;

/// Queries mounts with a time limit.
pub struct Prober {
    make: fn() -> Call,
    patience: Duration,
    worker: Option<Worker>,
    stuck: Vec<Stuck>,
}

/// A thread that queries mounts in turn.
struct Worker {
    batches: Sender<Vec<Arc<Mount>>>,
    answers: Receiver<Answer>,
    /// A message at the end of each batch: waiting for that wakes this thread once, not for each answer.
    ended: Receiver<()>,
    /// The answers to the rest of the mounts are not needed any more.
    abandoned: Arc<AtomicBool>,
}

/// A call that has not returned in time.
struct Stuck {
    mount: u64,
    /// Stays empty until the call returns.
    answers: Receiver<Answer>,
}

impl Prober {
    /// Waits for each call between `patience` and twice that. Calls `make` once per thread.
    pub fn new(make: fn() -> Call, patience: Duration) -> Self {
        Self { make, patience, worker: None, stuck: Vec::new() }
    }

    /// The answer of each mount; `None` for those that hang.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn ask(&mut self, mounts: &[Arc<Mount>]) -> io::Result<Vec<Option<Answer>>> {
        self.stuck.retain(|stuck| matches!(stuck.answers.try_recv(), Err(TryRecvError::Empty)));
        let mut answers: Vec<Option<Answer>> = mounts.iter().map(|_| None).collect();
        let is_stuck = |mount: &Mount| self.stuck.iter().any(|stuck| stuck.mount == mount.id);
        let mut rest: Vec<usize> = (0..mounts.len()).filter(|&index| !is_stuck(&mounts[index])).collect();
        while !rest.is_empty() && self.stuck.len() < MOST_STUCK {
            let worker = self.worker.take().map_or_else(|| Worker::start(self.make), Ok)?;
            // Fails only if the call panicked; then there is no answer either.
            let _ = worker.batches.send(rest.iter().map(|&index| Arc::clone(&mounts[index])).collect());
            let mut answered = Vec::new();
            loop {
                let (ended, before) = (worker.ended.recv_timeout(self.patience).is_ok(), answered.len());
                answered.extend(worker.answers.try_iter());
                if ended || answered.len() == before {
                    break;
                }
            }
            let count = answered.len();
            rest.iter().zip(answered).for_each(|(&index, answer)| answers[index] = Some(answer));
            match rest.get(count) {
                None => self.worker = Some(worker),
                Some(&index) => {
                    worker.abandoned.store(true, Ordering::Release);
                    self.stuck.push(Stuck { mount: mounts[index].id, answers: worker.answers });
                }
            }
            rest.drain(..rest.len().min(count + 1));
        }
        Ok(answers)
    }
}

impl Worker {
    fn start(make: fn() -> Call) -> io::Result<Self> {
        let (batches, asked) = channel::<Vec<Arc<Mount>>>();
        let ((sender, answers), (end, ended)) = (channel(), channel());
        let abandoned = Arc::new(AtomicBool::new(false));
        let given_up = Arc::clone(&abandoned);
        std::thread::Builder::new().name("statvfs".into()).stack_size(64 * 1024).spawn(move || {
            let mut call = make();
            for batch in asked {
                for mount in batch {
                    if sender.send(call(&mount)).is_err() || given_up.load(Ordering::Acquire) {
                        return;
                    }
                }
                let _ = end.send(());
            }
        })?;
        Ok(Self { batches, answers, ended, abandoned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Condvar, Mutex};
    use std::time::Instant;

    fn mounts(names: &str) -> Vec<Arc<Mount>> {
        let line =
            |(index, name): (usize, &str)| format!("{index} 0 9:{index} / /{name} rw - ext4 {name} rw\n");
        let text: String = names.split_whitespace().enumerate().map(line).collect();
        super::super::mountinfo::worthwhile(text.as_bytes())
    }

    /// One letter per answer: `-` none, `u` space used, `h` hidden, `e` error.
    fn shape(answers: &[Option<Answer>]) -> String {
        let letter = |answer: &Option<Answer>| match answer {
            None => '-',
            Some(Ok(Some(_))) => 'u',
            Some(Ok(None)) => 'h',
            Some(Err(_)) => 'e',
        };
        answers.iter().map(letter).collect()
    }

    #[test]
    fn a_mount_that_hangs_is_skipped_until_it_answers() {
        static RELEASED: Mutex<bool> = Mutex::new(false);
        static RELEASE: Condvar = Condvar::new();
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        fn call(mount: &Mount) -> Answer {
            if mount.mountpoint == "/hangs" {
                CALLS.fetch_add(1, Ordering::SeqCst);
                let guard = RELEASED.lock().unwrap();
                let limit = Duration::from_secs(20);
                drop(RELEASE.wait_timeout_while(guard, limit, |released| !*released).unwrap());
            }
            Ok(None)
        }
        let mounts = mounts("a hangs b");
        let mut prober = Prober::new(|| Box::new(call), Duration::from_millis(100));
        assert_eq!(shape(&prober.ask(&mounts).unwrap()), "h-h");
        let begin = Instant::now();
        for _ in 0..100 {
            assert_eq!(shape(&prober.ask(&mounts).unwrap()), "h-h");
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "a mount known to hang is waited for");
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
        *RELEASED.lock().unwrap() = true;
        RELEASE.notify_all();
        let begin = Instant::now();
        while shape(&prober.ask(&mounts).unwrap()) != "hhh" {
            assert!(begin.elapsed() < Duration::from_secs(10), "it answered, and is not queried again");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn several_that_hang() {
        fn call(mount: &Mount) -> Answer {
            if mount.mountpoint.starts_with("/x") {
                std::thread::sleep(Duration::from_secs(5));
            }
            Err(io::ErrorKind::PermissionDenied.into())
        }
        let mut prober = Prober::new(|| Box::new(call), Duration::from_millis(50));
        assert_eq!(shape(&prober.ask(&mounts("x1 a x2 x3 b c x4")).unwrap()), "-e--ee-");
        let many: Vec<_> = (0..MOST_STUCK + 9).map(|index| format!("x{index}")).collect();
        let many = mounts(&many.join(" "));
        prober.ask(&many).unwrap();
        assert_eq!(prober.stuck.len(), MOST_STUCK);
    }

    #[test]
    fn slow_is_not_stuck() {
        fn call(_: &Mount) -> Answer {
            std::thread::sleep(Duration::from_millis(150));
            Ok(None)
        }
        let mut prober = Prober::new(|| Box::new(call), Duration::from_secs(1));
        assert_eq!(shape(&prober.ask(&mounts("a b c d e f g h")).unwrap()), "hhhhhhhh");
        assert!(prober.stuck.is_empty());
    }
}
