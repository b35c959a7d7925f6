//! What a system call is about, and whether it waits by design.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::names::NUMBERS;
use super::shared;

/// The value of the field `class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Files, folders, descriptors.
    File,
    /// Sockets.
    Network,
    /// Address spaces.
    Memory,
    /// Processes, threads, their rights and limits.
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
    /// As it is written.
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

    /// The class of a call. Variants of a call for other sizes of its arguments are of its class.
    pub fn of(name: &str) -> Self {
        let base = name.strip_suffix("_time64").unwrap_or(name);
        let base = base.strip_suffix("64").or_else(|| base.strip_suffix("32")).unwrap_or(base);
        let found = LISTED.get(name).or_else(|| LISTED.get(base));
        found.copied().unwrap_or(Self::Other)
    }
}

/// Bits of `enum choice` in `bpf/syscall/choice.h`.
pub mod bit {
    /// Asked for.
    pub const CHOSEN: u8 = 1;
    /// Waits by design.
    pub const WAITS: u8 = 2;
    /// Waits where its file is one that makes readers and writers wait.
    pub const BY_FILE: u8 = 4;
    /// Replaces the registers that held its arguments.
    pub const EXEC: u8 = 8;
    /// Stands for several calls, and this times their place tells which of these wait.
    pub const SHARED: u8 = 16;
}

/// Bits of those that wait, always or sometimes.
pub const MAY_WAIT: u8 = bit::WAITS | bit::BY_FILE | (3 * bit::SHARED);

/// What the kernel program must know of a call.
pub fn bits(name: &str) -> u8 {
    match name {
        _ if Class::of(name) == Class::Wait => bit::WAITS,
        "read" | "readv" | "preadv2" | "write" | "writev" | "pwritev2" => bit::BY_FILE,
        "execve" | "execveat" => bit::EXEC,
        _ => shared::place(name) * bit::SHARED,
    }
}

/// The lists below, by name.
static LISTED: LazyLock<HashMap<&str, Class>> = LazyLock::new(|| {
    let names = |(class, names): &(Class, &'static str)| {
        let class = *class;
        names.split_ascii_whitespace().map(move |name| (name, class))
    };
    CLASSES.iter().flat_map(names).collect()
});

/// For both tables.
pub type Choice = [u8; 2 * NUMBERS];

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

    /// What is listed exists (a slip of the pen would put a call among the others), and once.
    #[test]
    fn lists_hold_calls_that_there_are() {
        let names = all_names();
        let mut seen = HashSet::new();
        for name in CLASSES.iter().flat_map(|(_, names)| names.split_ascii_whitespace()) {
            let variants = [name.to_owned(), format!("{name}64"), format!("{name}32")];
            assert!(variants.iter().any(|name| names.contains(name.as_str())), "{name}");
            assert!(seen.insert(name), "{name} twice");
        }
    }

    #[test]
    fn the_kernel_knows_which_wait() {
        assert_eq!((bits("poll"), bits("read"), bits("execve")), (bit::WAITS, bit::BY_FILE, bit::EXEC));
        assert_eq!((bits("openat"), bits("pread64")), (0, 0));
        assert_eq!((bits("socketcall"), bits("ipc")), (bit::SHARED, 2 * bit::SHARED));
    }
}
