//! The names of what a failed call returns.

use std::borrow::Cow;
use std::sync::LazyLock;

use nix::errno::Errno;

/// The highest errno (`MAX_ERRNO`, include/linux/err.h): what is above it is an address.
const MAX: i64 = 4095;

/// Those that leave the kernel (include/uapi/asm-generic/errno.h), by number.
static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| (0..=133).map(|number| format!("{:?}", Errno::from_raw(number))).collect());

/// Of a call that a signal interrupted, until the kernel has decided whether to enter it again
/// (include/linux/errno.h): no library has these.
const RESTART: [&str; 5] =
    ["ERESTARTSYS", "ERESTARTNOINTR", "ERESTARTNOHAND", "ENOIOCTLCMD", "ERESTART_RESTARTBLOCK"];

/// The error that a call returned; `None` if it went well.
pub fn error(ret: i64) -> Option<Cow<'static, str>> {
    if !(-MAX..0).contains(&ret) {
        return None;
    }
    let number = -ret as usize;
    if let Some(name) = number.checked_sub(512).and_then(|above| RESTART.get(above)) {
        return Some(Cow::Borrowed(name));
    }
    let known = NAMES.get(number).filter(|name| *name != "UnknownErrno");
    Some(known.map_or_else(|| Cow::Owned(format!("errno {number}")), |name| Cow::Borrowed(name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

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
