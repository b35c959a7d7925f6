//! Messages on stderr, and on a terminal a status line below them. A stderr that cannot be written is ignored.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};

static NAME: OnceLock<String> = OnceLock::new();

/// Sets the name that begins every message. Only the first call has an effect.
pub fn set_program_name(name: &str) {
    let _ = NAME.set(name.to_owned());
}

/// The program's name; `telepipe` until it is set.
pub fn program_name() -> &'static str {
    NAME.get().map_or("telepipe", String::as_str)
}

/// Whether the status line is on the screen.
static SHOWN: Mutex<bool> = Mutex::new(false);

/// Writes a message: a line that begins with the program's name.
pub fn log(message: fmt::Arguments<'_>) {
    put(&format!("{}: {message}\n", program_name()), false);
}

/// Writes a line as it is.
pub fn line(text: &str) {
    put(&format!("{text}\n"), false);
}

/// Shows `text` as the status line, replacing the previous one.
pub fn status(text: &str) {
    put(text, true);
}

/// One write each, so that the messages of threads do not mix.
fn put(text: &str, shown_after: bool) {
    let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let clear = if *shown { "\r\x1b[K" } else { "" };
    let _ = std::io::stderr().write_all(format!("{clear}{text}").as_bytes());
    *shown = shown_after;
}

/// Writes a message unless that could block: for use just before the program is ended.
pub fn log_if_ready(message: fmt::Arguments<'_>) {
    if ready() {
        let _ =
            rustix::io::write(rustix::stdio::stderr(), format!("{}: {message}\n", program_name()).as_bytes());
    }
}

/// Whether stderr takes a line without blocking.
pub fn ready() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let err = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&err, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents() == PollFlags::OUT
}

/// The start of a line, for a message: at most 80 characters, control characters escaped.
pub fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(320)]);
    let mut excerpt: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() || line.len() > 320 {
        excerpt.push('…');
    }
    excerpt.replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_harmless() {
        assert_eq!(excerpt(br#"{"a":1}"#), r#"{"a":1}"#);
        assert_eq!(excerpt(b"\x1b[2Jx\xff\r"), "\\u{1b}[2Jx\u{fffd}\\r");
        let long = excerpt(&[b'a'; 5000]);
        assert_eq!(long.chars().count(), 81);
        assert!(long.ends_with('…'));
    }
}
