//! Classes of system calls, which calls wait by design, and which calls the user asks for.

use std::collections::HashMap;
use std::sync::LazyLock;

use anyhow::Result;
use clap::Args;

use super::names::all;
use super::table::{CallFlags, NUMBERS};
use crate::bail_usage;

const CHOSEN: u8 = CallFlags::CHOSEN.0 as u8;
const WAITS: u8 = CallFlags::WAITS.0 as u8;
const WAITS_BY_FILE: u8 = CallFlags::WAITS_BY_FILE.0 as u8;
const WAITS_BY_ARG: u8 = CallFlags::WAITS_BY_ARG.0 as u8;
const EXEC: u8 = CallFlags::EXEC.0 as u8;

/// The value of the field `class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Files, directories, descriptors.
    File,
    /// Sockets.
    Network,
    /// Address spaces.
    Memory,
    /// Processes and threads, their privileges and limits.
    Process,
    /// Signals.
    Signal,
    /// Waits by design: for an event, another task, or a time.
    Wait,
    /// Clocks and timers.
    Time,
    /// Everything else.
    Other,
}

impl Class {
    /// The value of the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Network => "network",
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Signal => "signal",
            Self::Wait => "wait",
            Self::Time => "time",
            Self::Other => "other",
        }
    }

    /// The class of a call; variants with other sizes of arguments have the same.
    pub fn of(name: &str) -> Self {
        let base = name.strip_suffix("_time64").unwrap_or(name);
        let base = base.strip_suffix("64").or_else(|| base.strip_suffix("32")).unwrap_or(base);
        let found = LISTED.get(name).or_else(|| LISTED.get(base));
        found.copied().unwrap_or(Self::Other)
    }
}

/// Flags of calls that wait by design, always or sometimes.
const MAY_WAIT: u8 = WAITS | WAITS_BY_FILE | (3 * WAITS_BY_ARG);

/// The facts about a call that the eBPF programs need.
fn flags(name: &str) -> u8 {
    match name {
        _ if Class::of(name) == Class::Wait => WAITS,
        "read" | "readv" | "preadv2" | "write" | "writev" | "pwritev2" => WAITS_BY_FILE,
        "execve" | "execveat" => EXEC,
        _ => multiplexer(name) * WAITS_BY_ARG,
    }
}

/// Calls that stand for several, and the first arguments of those that wait by design.
const MULTIPLEXERS: [(&str, &[u32]); 3] = [
    // accept, recv, recvfrom, recvmsg, accept4, recvmmsg (include/uapi/linux/net.h).
    ("socketcall", &[5, 10, 12, 17, 18, 19]),
    // semop, semtimedop, msgrcv (include/uapi/linux/ipc.h).
    ("ipc", &[1, 4, 12]),
    // SYSLOG_ACTION_READ (include/linux/syslog.h).
    ("syslog", &[2]),
];

/// A bit for each first argument.
const fn bits(arguments: &[u32]) -> u32 {
    let (mut bits, mut i) = (0, 0);
    while i < arguments.len() {
        bits |= 1 << arguments[i];
        i += 1;
    }
    bits
}

/// `waiting_args` of `bpf/syscall.h`, by [`multiplexer`].
pub const WAITING_ARGS: [u32; 4] =
    [0, bits(MULTIPLEXERS[0].1), bits(MULTIPLEXERS[1].1), bits(MULTIPLEXERS[2].1)];

/// The index of a call in [`WAITING_ARGS`]; 0 for calls that stand for one.
pub fn multiplexer(name: &str) -> u8 {
    MULTIPLEXERS.iter().position(|(multiplexer, _)| *multiplexer == name).map_or(0, |at| at as u8 + 1)
}

/// Whether a call waits by design, by its [`multiplexer`] and first argument.
pub fn waits_by_arg(multiplexer: u8, arg: u64) -> bool {
    WAITING_ARGS[usize::from(multiplexer)] >> (arg & 31) & 1 != 0
}

/// [`CLASSES`] by name.
static LISTED: LazyLock<HashMap<&str, Class>> = LazyLock::new(|| {
    let names = |(class, names): &(Class, &'static str)| {
        let class = *class;
        names.split_ascii_whitespace().map(move |name| (name, class))
    };
    CLASSES.iter().flat_map(names).collect()
});

/// `flags_of_calls` of `bpf/syscall.h`: both tables.
pub type FlagsOfCalls = [u8; 2 * NUMBERS];

const CLASSES: [(Class, &str); 7] = [
    (
        Class::Wait,
        "accept accept4 clock_nanosleep epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old futex futex_wait \
         futex_waitv io_getevents io_pgetevents io_uring_enter mq_timedreceive msgrcv nanosleep _newselect pause \
         poll ppoll pselect6 recv recvfrom recvmmsg recvmsg restart_syscall rt_sigsuspend rt_sigtimedwait select \
         semop semtimedop sigsuspend wait4 waitid waitpid",
    ),
    (
        Class::File,
        "access acct arm_fadvise64_64 arm_sync_file_range cachestat chdir chmod chown chroot close close_range \
         copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old eventfd eventfd2 \
         faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat \
         fchmodat2 fchown fchownat fcntl fdatasync fgetxattr file_getattr file_setattr flistxattr flock \
         fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat fstatat fstatfs fsync ftruncate futimesat \
         getcwd getdents getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
         io_cancel io_destroy io_setup io_submit io_uring_register io_uring_setup ioctl lchown lgetxattr link \
         linkat listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat memfd_create \
         memfd_secret mkdir mkdirat mknod mknodat mount mount_setattr move_mount mq_getsetattr mq_notify mq_open \
         mq_timedsend mq_unlink name_to_handle_at newfstatat oldfstat oldlstat oldstat open open_by_handle_at \
         open_tree open_tree_attr openat openat2 pipe pipe2 pivot_root pread preadv preadv2 pwrite pwritev \
         pwritev2 quotactl quotactl_fd read readahead readdir readlink readlinkat readv removexattr removexattrat \
         rename renameat renameat2 rmdir sendfile setxattr setxattrat signalfd signalfd4 splice stat statfs \
         statmount statx swapoff swapon symlink symlinkat sync sync_file_range syncfs tee truncate umask umount \
         umount2 unlink unlinkat ustat utime utimensat utimes vmsplice write writev",
    ),
    (
        Class::Network,
        "bind connect getpeername getsockname getsockopt listen send sendmmsg sendmsg sendto setsockopt shutdown \
         socket socketcall socketpair",
    ),
    (
        Class::Memory,
        "brk get_mempolicy madvise map_shadow_stack mbind migrate_pages mincore mlock mlock2 mlockall mmap mmap2 \
         move_pages mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect \
         process_madvise process_mrelease process_vm_readv process_vm_writev remap_file_pages set_mempolicy \
         set_mempolicy_home_node shmat shmctl shmdt shmget userfaultfd",
    ),
    (
        Class::Process,
        "arch_prctl capget capset clone clone3 execve execveat exit exit_group fork getegid geteuid getgid \
         getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid \
         gettid getuid ioprio_get ioprio_set kcmp nice personality pidfd_getfd pidfd_open prctl prlimit ptrace \
         sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
         sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam \
         sched_setscheduler sched_yield setfsgid setfsuid setgid setgroups setns setpgid setpriority setregid \
         setresgid setresuid setreuid setrlimit setsid setuid set_thread_area set_tid_address ugetrlimit unshare \
         vfork",
    ),
    (
        Class::Signal,
        "kill pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn \
         rt_tgsigqueueinfo sgetmask sigaction sigaltstack signal sigpending sigprocmask sigreturn ssetmask tgkill \
         tkill",
    ),
    (
        Class::Time,
        "adjtimex alarm clock_adjtime clock_getres clock_gettime clock_settime ftime getitimer gettimeofday \
         setitimer settimeofday stime time timer_create timer_delete timer_getoverrun timer_gettime timer_settime \
         timerfd_create timerfd_gettime timerfd_settime times",
    ),
];

/// The options that choose system calls.
#[derive(Args, Clone, Debug, Default)]
pub struct Calls {
    /// Trace only these system calls, such as openat,fsync
    ///
    /// Names of calls that wait by design imply --waits. The 32-bit calls of the same name are included.
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Filters")]
    pub syscall: Vec<String>,

    /// Trace all system calls but these
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "syscall")]
    #[arg(help_heading = "Filters")]
    pub except_syscall: Vec<String>,
}

impl Calls {
    /// The flags of all calls.
    ///
    /// # Errors
    /// [`Usage`] for a name that does not exist, with the most similar one.
    pub fn flags(&self) -> Result<FlagsOfCalls> {
        for (option, names) in [("--syscall", &self.syscall), ("--except-syscall", &self.except_syscall)] {
            names.iter().try_for_each(|name| known(option, name))?;
        }
        let listed = |list: &[String], name: &str| list.iter().any(|listed| listed == name);
        let chosen = |name: &str| {
            (self.syscall.is_empty() || listed(&self.syscall, name)) && !listed(&self.except_syscall, name)
        };
        // Numbers without a name are traced, unless only some names are.
        let mut by_number = [u8::from(self.syscall.is_empty()) * CHOSEN; 2 * NUMBERS];
        for (abi, nr, name) in all() {
            by_number[abi.offset() + nr as usize] = flags(name) | if chosen(name) { CHOSEN } else { 0 };
        }
        Ok(by_number)
    }

    /// Whether `--syscall` names a call that waits by design, always or sometimes.
    pub fn names_waits(&self) -> bool {
        self.syscall.iter().any(|name| flags(name) & MAY_WAIT != 0)
    }
}

fn known(option: &str, name: &str) -> Result<()> {
    if all().any(|(.., known)| known == name) {
        return Ok(());
    }
    let nearest = all()
        .map(|(.., known)| (strsim::jaro_winkler(&name.to_lowercase(), known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7);
    let advice = nearest.map_or(String::new(), |(_, known)| format!("; did you mean '{known}'?"));
    bail_usage!("{option}: no system call is called '{name}'{advice}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The calls of all four tables.
    fn all_names() -> HashSet<&'static str> {
        let names = (0..NUMBERS).flat_map(|nr| {
            [
                syscalls::x86_64::Sysno::new(nr).map(|call| call.name()),
                syscalls::x86::Sysno::new(nr).map(|call| call.name()),
                syscalls::aarch64::Sysno::new(nr).map(|call| call.name()),
                syscalls::arm::Sysno::new(nr).map(|call| call.name()),
            ]
        });
        names.flatten().collect()
    }

    #[test]
    fn calls_have_their_class() {
        for (name, class) in [
            ("read", Class::File),
            ("pread64", Class::File),
            ("futex_time64", Class::Wait),
            ("clock_nanosleep_time64", Class::Wait),
            ("clock_gettime64", Class::Time),
            ("setuid32", Class::Process),
            ("fadvise64_64", Class::File),
            ("connect", Class::Network),
            ("mmap2", Class::Memory),
            ("rt_sigaction", Class::Signal),
            ("bpf", Class::Other),
        ] {
            assert_eq!(Class::of(name), class, "{name}");
        }
    }

    /// A misspelled name would silently be in class `other`.
    #[test]
    fn listed_names_exist_and_are_listed_once() {
        let names = all_names();
        let mut seen = HashSet::new();
        for name in CLASSES.iter().flat_map(|(_, names)| names.split_ascii_whitespace()) {
            let variants = [name.to_owned(), format!("{name}64"), format!("{name}32")];
            assert!(variants.iter().any(|name| names.contains(name.as_str())), "{name}");
            assert!(seen.insert(name), "{name} twice");
        }
    }

    #[test]
    fn flags_mark_calls_that_wait() {
        assert_eq!((flags("poll"), flags("read"), flags("execve")), (WAITS, WAITS_BY_FILE, EXEC));
        assert_eq!((flags("openat"), flags("pread64")), (0, 0));
        assert_eq!((flags("socketcall"), flags("ipc")), (WAITS_BY_ARG, 2 * WAITS_BY_ARG));
    }

    #[test]
    fn the_first_argument_decides_whether_a_multiplexer_waits() {
        let of = |name, arg| waits_by_arg(multiplexer(name), arg);
        assert!(of("socketcall", 10) && of("ipc", 12) && of("ipc", 1 << 16 | 4) && of("syslog", 2));
        assert!(!of("socketcall", 3) && !of("ipc", 14) && !of("syslog", 10) && !of("read", 2));
    }

    fn calls(only: &[&str], except: &[&str]) -> Calls {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Calls { syscall: owned(only), except_syscall: owned(except) }
    }

    fn chosen(calls: &Calls) -> usize {
        calls.flags().unwrap().iter().filter(|flags| **flags & CHOSEN != 0).count()
    }

    #[test]
    fn names_choose_in_both_tables() {
        assert_eq!(chosen(&calls(&[], &[])), 2 * NUMBERS);
        assert_eq!(chosen(&calls(&["read"], &[])), 2);
        assert_eq!(chosen(&calls(&[], &["read", "write"])), 2 * NUMBERS - 4);
        let waits = |name: &str| calls(&["openat", name], &[]).names_waits();
        assert!(waits("futex") && waits("read") && waits("writev") && waits("ipc") && !waits("pread64"));
    }

    #[test]
    fn a_wrong_name_has_a_suggestion() {
        let error = |name: &str| calls(&[], &[name]).flags().unwrap_err().to_string();
        assert_eq!(
            error("opennat"),
            "--except-syscall: no system call is called 'opennat'; did you mean 'openat'?"
        );
        assert!(error("READ").ends_with("did you mean 'read'?"));
        assert_eq!(error("123"), "--except-syscall: no system call is called '123'");
        assert!(calls(&[""], &[]).flags().unwrap_err().is::<crate::common::program::Usage>());
    }
}
