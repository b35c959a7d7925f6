//! When to stop: a signal, or a reader of stdout that left.
//!
//! The first SIGINT or SIGTERM asks the program to finish, which gives it a grace period to write what is pending; a
//! second one ends it at once. A thread watches for both and for the far end of stdout, so that a program that is
//! blocked in a write, or quiet, stops too. One per process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::common::diag;

/// How long a producer may take to finish once asked.
pub const GRACE: Duration = Duration::from_millis(1500);

/// Signals closer together count as one: timeout(1) sends its signal to the program and then to the group.
const APART: Duration = Duration::from_millis(200);

/// Lines that are complete and not yet written: what is lost if the program ends now.
pub static PENDING_LINES: AtomicU64 = AtomicU64::new(0);

/// Whether all output is written without an error. If the time to end runs out after that, the program ends with
/// success: what is left, such as detaching eBPF programs, the kernel does when the process exits.
pub static COMPLETE: AtomicBool = AtomicBool::new(false);

/// A handle to ask whether to go on. Cheap to clone.
#[derive(Clone)]
pub struct Stop(Arc<Shared>);

struct Shared {
    asked: AtomicBool,
    reader_gone: AtomicBool,
    /// Readable from the first request on; never read.
    wake: OwnedFd,
    waker: OwnedFd,
    last_words: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

static STOP: OnceLock<Stop> = OnceLock::new();

/// Makes each of the two signals write a byte to `to`. They are blocked meanwhile: a signal that arrived after its
/// handler was installed and before the action was registered would be lost.
fn register(to: &UnixStream) -> std::io::Result<()> {
    let both: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    let before = both.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let write = |number| signal_hook::low_level::pipe::register(number, to.try_clone()?).map(drop);
    let registered = [SIGINT, SIGTERM].into_iter().try_for_each(write);
    before.thread_set_mask()?;
    registered
}

impl Stop {
    /// Starts watching. `grace` is the time between the first request and the forced end; `watch_stdout` is false
    /// for a program that writes nothing to stdout. Call it before any other thread is started, so that no signal is
    /// lost.
    ///
    /// # Errors
    /// If the system refuses a socket pair, a signal handler or a thread.
    pub fn install(grace: Duration, watch_stdout: bool) -> std::io::Result<Self> {
        let (signal, signal_in) = UnixStream::pair()?;
        register(&signal_in)?;
        let (wake, waker) = UnixStream::pair()?;
        let shared = Shared {
            asked: AtomicBool::new(false),
            reader_gone: AtomicBool::new(false),
            wake: wake.into(),
            waker: waker.into(),
            last_words: OnceLock::new(),
        };
        let stop = STOP.get_or_init(|| Self(Arc::new(shared))).clone();
        let watched = stop.clone();
        std::thread::Builder::new()
            .name("stop".into())
            .stack_size(64 * 1024)
            .spawn(move || watched.watch(grace, watch_stdout, &signal.into()))?;
        Ok(stop)
    }

    /// Whether the program is to finish, for either reason.
    pub fn asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Whether the reader of stdout has left.
    pub fn reader_gone(&self) -> bool {
        self.0.reader_gone.load(Ordering::Acquire)
    }

    /// A descriptor that becomes readable when the program is to finish, for use in a poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    /// Sleeps until `deadline`; true if asked to stop before.
    pub fn sleep_until(&self, deadline: Instant) -> bool {
        while !self.asked() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut fds = [PollFd::new(&self.0.wake, PollFlags::IN)];
            // An interrupted wait ends early, and the loop looks again.
            let _ = poll(&mut fds, Timespec::try_from(left).ok().as_ref());
        }
        true
    }

    /// Sets what to log when the program is ended by force, instead of how many lines were not written. Only the
    /// first call has an effect.
    pub fn on_forced_end(&self, words: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.last_words.set(Box::new(words));
    }

    /// Asks the program to finish, as a signal would.
    pub fn ask(&self) {
        if !self.0.asked.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.0.waker, b"!");
        }
    }

    fn watch(&self, grace: Duration, stdout: bool, signal: &OwnedFd) {
        let out = rustix::stdio::stdout();
        let mut fds = vec![PollFd::new(signal, PollFlags::IN)];
        if stdout {
            fds.push(PollFd::new(&out, PollFlags::empty()));
        }
        while poll(&mut fds, None).is_err() {}
        let gone = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if fds[0].revents().is_empty() && !gone {
            return;
        }
        self.0.reader_gone.store(gone, Ordering::Release);
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(signal, &mut [0u8; 16][..]);
        }
        self.ask();
        self.enforce(grace, signal, gone);
    }

    /// The program has been asked to finish: a second signal or the end of the grace period ends it.
    fn enforce(&self, grace: Duration, signal: &OwnedFd, gone: bool) -> ! {
        let asked_at = Instant::now();
        let mut second = false;
        while let left = grace.saturating_sub(asked_at.elapsed())
            && !left.is_zero()
            && !second
        {
            let mut fds = [PollFd::new(signal, PollFlags::IN)];
            if poll(&mut fds, Timespec::try_from(left).ok().as_ref()).is_ok_and(|ready| ready > 0) {
                let _ = rustix::io::read(signal, &mut [0u8; 16][..]);
                second = asked_at.elapsed() >= APART;
            }
        }
        if COMPLETE.load(Ordering::Acquire) && !second {
            std::process::exit(0);
        }
        let unwritten = PENDING_LINES.load(Ordering::Acquire);
        if let Some(words) = self.0.last_words.get()
            && diag::ready()
        {
            words();
        }
        let lossy = !gone || self.0.last_words.get().is_some();
        if lossy && unwritten > 0 {
            diag::log_if_ready(format_args!("ended before all was written: {unwritten} lines not written"));
        } else if lossy && self.0.last_words.get().is_none() {
            diag::log_if_ready(format_args!("stopped within a record, which is not written"));
        }
        std::process::exit(if second { 130 } else { i32::from(lossy) });
    }
}
