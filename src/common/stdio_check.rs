//! Whether stdout was open when the program was started.
//!
//! Before `main`, Rust's runtime opens /dev/null for every standard descriptor that is closed. A program started with
//! `>&-` would then write its records to /dev/null and report success, so the check runs before the runtime.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

static CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    let closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    CLOSED.store(closed, Ordering::Relaxed);
}

// SAFETY: the section is the platform's list of functions that are called before `main`, without a
// contract but the C calling convention; `look` makes one system call and does not use the runtime.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK: extern "C" fn() = look;

/// Whether what is written to stdout goes anywhere.
///
/// # Errors
/// If stdout was closed when the program was started.
pub fn stdout() -> Result<()> {
    if CLOSED.load(Ordering::Relaxed) {
        bail!("cannot write to stdout: it was closed when the program was started");
    }
    Ok(())
}
