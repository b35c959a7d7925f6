//! Helper processes: the same program again, under another name, without arguments.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Whether this process is the helper of that name.
pub fn is(name: &str) -> bool {
    std::env::args_os().next().is_some_and(|own| own == name)
}

/// Starts a helper, and returns its stdin and stdout. Its stderr is closed.
///
/// # Errors
/// If the system refuses.
pub fn start(name: &str) -> io::Result<(Child, ChildStdin, ChildStdout)> {
    let own = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut child = Command::new(own)
        .arg0(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Ctrl-C must not reach it: it ends when its input does.
        .process_group(0)
        .spawn()?;
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (stdin, stdout) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
    Ok((child, stdin, stdout))
}
