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

/// Wipes the status line.
const CLEAR: &str = "\r\x1b[K";

/// Writes a message: a line that begins with the program's name. Control characters are escaped, since messages
/// repeat what servers and files contain.
pub fn log(message: fmt::Arguments<'_>) {
    put(&message_line(message), false);
}

/// Writes a message that may have several lines.
pub fn log_lines(message: &str) {
    let lines: Vec<_> = message.lines().map(|line| escaped(line, MAX_MESSAGE)).collect();
    put(&format!("{}: {}\n", program_name(), lines.join("\n")), false);
}

fn message_line(message: fmt::Arguments<'_>) -> String {
    format!("{}: {}\n", program_name(), escaped(&message.to_string(), MAX_MESSAGE))
}

/// The longest message, in characters.
const MAX_MESSAGE: usize = 4096;

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
    let clear = if *shown { CLEAR } else { "" };
    let _ = std::io::stderr().write_all(format!("{clear}{text}").as_bytes());
    *shown = shown_after;
}

/// Writes a message unless that could block: for use just before the program is ended.
pub fn log_if_ready(message: fmt::Arguments<'_>) {
    if ready() {
        let is_shown = SHOWN.try_lock().is_ok_and(|shown| *shown);
        let text = format!("{}{}", if is_shown { CLEAR } else { "" }, message_line(message));
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
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
    // 81 characters of UTF-8 are at most 324 bytes.
    escaped(&String::from_utf8_lossy(&line[..line.len().min(324)]), 80)
}

/// At most `most` characters of a text, with those escaped that a terminal acts on: control characters, line breaks,
/// and those that change the direction of text.
pub fn escaped(text: &str, most: usize) -> String {
    let acts = |char: char| {
        char.is_control()
            || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len().min(most));
    for (index, char) in text.chars().enumerate() {
        match char {
            _ if index == most => {
                out.push('…');
                break;
            }
            '\n' | '\r' | '\t' => out.extend(char.escape_default()),
            char if acts(char) => out.extend(char.escape_unicode()),
            char => out.push(char),
        }
    }
    out
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
        assert_eq!(excerpt(&[b'a'; 80]), "a".repeat(80));
        assert_eq!(excerpt("é".repeat(81).as_bytes()), "é".repeat(80) + "…");
    }

    #[test]
    fn messages_cannot_control_a_terminal() {
        let foreign = "a\x1b]0;title\x07\u{9b}2J\u{7f}\u{202e}z\r\nscrape: forged \"\\\"";
        let line = message_line(format_args!("{foreign}{}", "b".repeat(10_000)));
        assert!(line.ends_with("…\n") && line.chars().count() < 4200, "{line}");
        let kept: String = line.chars().filter(|char| char.is_control() || *char == '\u{202e}').collect();
        assert_eq!(kept, "\n");
        assert!(line.contains("forged \"\\\"b"), "what is harmless stays: {line}");
    }
}
