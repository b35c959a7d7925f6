//! System calls by number and by name, native and 32-bit.
//!
//! The tables are those of the crate `syscalls`, which takes them from the kernel.

#[cfg(target_arch = "aarch64")]
use syscalls::{aarch64 as native, arm as compat};
#[cfg(not(target_arch = "aarch64"))]
use syscalls::{x86 as compat, x86_64 as native};

/// The calls of one table; the last stands for all that are beyond: `NUMBERS` of `bpf/syscall/choice.h`.
pub const NUMBERS: usize = 512;

/// A bit in the numbers of x32 programs (`__X32_SYSCALL_BIT`, arch/x86/include/uapi/asm/unistd.h).
const X32: i32 = 0x4000_0000;

/// The value of the field `arch` of a 32-bit call.
const COMPAT_ARCH: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "i386" };

/// Which of the kernel's tables a number is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// The machine's own.
    Native,
    /// That of 32-bit programs.
    Compat,
}

impl Abi {
    /// By the kernel program's flag.
    pub fn from_kernel(compat: bool) -> Self {
        if compat { Self::Compat } else { Self::Native }
    }

    /// Where its numbers begin in tables of both.
    pub fn offset(self) -> usize {
        if self == Self::Compat { NUMBERS } else { 0 }
    }

    /// The number in the table: x32 programs use the native one, with a bit.
    pub fn number(self, nr: i32) -> i32 {
        if nr > 0 { nr & !X32 } else { nr }
    }

    /// The name of a number; `None` if the table has none.
    pub fn name(self, nr: i32) -> Option<&'static str> {
        let nr = usize::try_from(self.number(nr)).ok()?;
        let name = match self {
            Self::Native => native::Sysno::new(nr)?.name(),
            Self::Compat => compat::Sysno::new(nr)?.name(),
        };
        // `break` is a word of Rust too.
        Some(name.strip_prefix("r#").unwrap_or(name))
    }

    /// The value of the field `arch`; `None` for the machine's own calls.
    pub fn arch(self, nr: i32) -> Option<&'static str> {
        match self {
            Self::Compat => Some(COMPAT_ARCH),
            Self::Native => (nr > 0 && nr & X32 != 0).then_some("x32"),
        }
    }
}

/// Every call of both tables.
pub fn all() -> impl Iterator<Item = (Abi, i32, &'static str)> {
    let numbers = (0..NUMBERS as i32).flat_map(|nr| [(Abi::Native, nr), (Abi::Compat, nr)]);
    numbers.filter_map(|(abi, nr)| Some((abi, nr, abi.name(nr)?)))
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
}
