//! Names of system calls, native and 32-bit, and of the errors that they return.

use std::borrow::Cow;
use std::sync::LazyLock;

use nix::errno::Errno;

use super::table::NUMBERS;

#[cfg(target_arch = "aarch64")]
use syscalls::{aarch64 as native, arm as compat};
#[cfg(not(target_arch = "aarch64"))]
use syscalls::{x86 as compat, x86_64 as native};

/// A bit in the call numbers of x32 programs (`__X32_SYSCALL_BIT`, arch/x86/include/uapi/asm/unistd.h).
const X32: i32 = 0x4000_0000;

/// The value of the field `arch` of a 32-bit call.
const COMPAT_ARCH: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "i386" };

/// The kernel's tables of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// For native programs.
    Native,
    /// For 32-bit programs.
    Compat,
}

impl Abi {
    /// The table of a call that is 32-bit, or not.
    pub fn from_kernel(compat: bool) -> Self {
        if compat { Self::Compat } else { Self::Native }
    }

    /// The index of its first number in arrays of both tables.
    pub fn offset(self) -> usize {
        if self == Self::Compat { NUMBERS } else { 0 }
    }

    /// The number in the table: x32 programs set a bit in native numbers.
    pub fn number(self, nr: i32) -> i32 {
        if nr > 0 { nr & !X32 } else { nr }
    }

    /// The name of a call; `None` if the table does not have the number.
    pub fn name(self, nr: i32) -> Option<&'static str> {
        let nr = usize::try_from(self.number(nr)).ok()?;
        let name = match self {
            Self::Native => native::Sysno::new(nr)?.name(),
            Self::Compat => compat::Sysno::new(nr)?.name(),
        };
        // `break` is a keyword of Rust.
        Some(name.strip_prefix("r#").unwrap_or(name))
    }

    /// The value of the field `arch`; `None` for native calls.
    pub fn arch(self, nr: i32) -> Option<&'static str> {
        match self {
            Self::Compat => Some(COMPAT_ARCH),
            Self::Native => (nr > 0 && nr & X32 != 0).then_some("x32"),
        }
    }
}

/// All calls of both tables.
pub fn all() -> impl Iterator<Item = (Abi, i32, &'static str)> {
    let numbers = (0..NUMBERS as i32).flat_map(|nr| [(Abi::Native, nr), (Abi::Compat, nr)]);
    numbers.filter_map(|(abi, nr)| Some((abi, nr, abi.name(nr)?)))
}

/// The highest errno (include/linux/err.h); larger values are addresses.
const MAX_ERRNO: i64 = 4095;

/// The errors that user space sees (include/uapi/asm-generic/errno.h), by number.
static ERRORS: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..=133).map(|number| format!("{:?}", Errno::from_raw(number))).collect());

/// The errors of a call that a signal interrupted, from 512 on, before the kernel decides whether to restart it
/// (include/linux/errno.h).
const RESTART: [&str; 5] =
    ["ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ENOIOCTLCMD", "ERESTART_RESTARTBLOCK"];

/// The name of the error that a call returned; `None` if it succeeded.
pub fn error(ret: i64) -> Option<Cow<'static, str>> {
    if !(-MAX_ERRNO..0).contains(&ret) {
        return None;
    }
    let number = -ret as usize;
    if let Some(name) = number.checked_sub(512).and_then(|above| RESTART.get(above)) {
        return Some(Cow::Borrowed(name));
    }
    let known = ERRORS.get(number).filter(|name| *name != "UnknownErrno");
    Some(known.map_or_else(|| Cow::Owned(format!("errno {number}")), |name| Cow::Borrowed(name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn numbers_have_names() {
        for (abi, nr, name) in [
            (Abi::Native, 0, "read"),
            (Abi::Native, 59, "execve"),
            (Abi::Native, 0x4000_0000, "read"),
            (Abi::Compat, 3, "read"),
            (Abi::Compat, 11, "execve"),
            (Abi::Compat, 17, "break"),
            (Abi::Compat, 162, "nanosleep"),
        ] {
            assert_eq!(abi.name(nr), Some(name));
        }
        assert_eq!((Abi::Native.name(-1), Abi::Native.name(511)), (None, None));
        assert_eq!(
            (Abi::Native.arch(0), Abi::Native.arch(-1), Abi::Native.arch(X32)),
            (None, None, Some("x32"))
        );
        assert_eq!(Abi::Compat.arch(3), Some("i386"));
        assert!(all().count() > 700 && all().all(|(_, nr, _)| nr < NUMBERS as i32 - 1));
    }

    #[test]
    fn errors_have_names() {
        for (ret, name) in [
            (0, None),
            (7, None),
            (-2, Some("ENOENT")),
            (-11, Some("EAGAIN")),
            (-133, Some("EHWPOISON")),
            (-512, Some("ERESTARTSYS")),
            (-514, Some("ERESTARTNOHAND")),
            (-516, Some("ERESTART_RESTARTBLOCK")),
            (-1000, Some("errno 1000")),
            (-41, Some("errno 41")),
            (-4096, None),
            (i64::MIN, None),
        ] {
            assert_eq!(error(ret).as_deref(), name, "{ret}");
        }
    }
}
