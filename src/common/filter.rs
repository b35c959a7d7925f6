//! `--filter`: a jq program, run in process on each record by jaq.
//!
//! It has jq's language and library, less what makes no sense here: jq's own input
//! handling (`input`, `inputs`, `input_line_number`) and what ends or talks past the
//! program (`halt`, `halt_error`, `debug`, `stderr`). Every output is one line of JSON,
//! although jaq's values are more than that: NaN becomes null and infinity the largest
//! number, as in jq; bytes become text; an object with a key that is no string is an error.

use std::fmt::Write as _;
use std::io;

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, compile, data, unwrap_valr};
use jaq_json::{Num, Val, read, write};

use crate::common::diag::{excerpt, log};

type Data = data::JustLut<Val>;

/// Definitions and functions of jaq's library that are left out.
const ABSENT: [&str; 7] = ["halt", "halt_error", "debug", "stderr", "debug_empty", "stderr_empty", "input"];

/// A compiled jq program.
pub struct Filter {
    program: jaq_core::Filter<Data>,
    style: write::Pp,
    text: Vec<u8>,
    errors: u64,
}

impl Filter {
    /// Compiles `code`.
    ///
    /// # Errors
    /// A text of several lines: what is wrong, and the program with the place marked.
    pub fn new(code: &str) -> Result<Self, String> {
        // As in jq, an empty program is the identity.
        let code = if code.trim().is_empty() { "." } else { code };
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let defs = defs.filter(|def| !ABSENT.contains(&def.name));
        let funs = funs.filter(|(name, ..)| !ABSENT.contains(name));
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code, path: () })
            .map_err(|errors| syntax_message(code, &errors))?;
        let program = Compiler::default()
            .with_funs(funs)
            .compile(modules)
            .map_err(|errors| undefined_message(code, &errors))?;
        Ok(Self { program, style: write::Pp::default(), text: Vec::new(), errors: 0 })
    }

    /// Runs the program on one line and hands each output, as JSON without a newline, to `each`.
    /// An error ends the outputs of this line; it is counted, and the first is told on stderr.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn run<E>(&mut self, line: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let input = match read::parse_single(line) {
            Ok(input) => input,
            Err(error) => {
                self.fail(&error.to_string());
                return Ok(());
            }
        };
        let ctx = Ctx::<Data>::new(&self.program.lut, Vars::new([]));
        let mut failure = None;
        for output in self.program.id.run((ctx, input)).map(unwrap_valr) {
            self.text.clear();
            let written = output.map_err(|error| error.to_string());
            match written.and_then(|value| json(&mut self.text, &self.style, &value)) {
                Ok(()) => each(&self.text)?,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failure {
            self.fail(&error);
        }
        Ok(())
    }

    fn fail(&mut self, error: &str) {
        self.errors += 1;
        if self.errors == 1 {
            let error = excerpt(error.as_bytes());
            log(format_args!("--filter: {error} (told once; the run goes on)"));
        }
    }

    /// How many lines the program failed on.
    pub fn errors(&self) -> u64 {
        self.errors
    }
}

/// Appends a value as strict JSON.
fn json(out: &mut Vec<u8>, style: &write::Pp, value: &Val) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    match value {
        Val::Num(Num::Float(number)) if number.is_nan() => out.extend_from_slice(b"null"),
        Val::Num(Num::Float(number)) if number.is_infinite() => {
            let largest = f64::MAX.copysign(*number);
            serde_json::to_writer(out, &largest).map_err(|error| error.to_string())?;
        }
        Val::Null | Val::Bool(_) | Val::Num(_) => write::write(out, style, 0, value).map_err(failed)?,
        Val::TStr(text) | Val::BStr(text) => {
            let text = String::from_utf8_lossy(text);
            serde_json::to_writer(out, &text).map_err(|error| error.to_string())?;
        }
        Val::Arr(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                json(out, style, item)?;
            }
            out.push(b']');
        }
        Val::Obj(fields) => {
            out.push(b'{');
            for (index, (key, item)) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                if !matches!(key, Val::TStr(_)) {
                    return Err("an object key that is no string".into());
                }
                json(out, style, key)?;
                out.push(b':');
                json(out, style, item)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn syntax_message(code: &str, errors: &load::Errors<&str, ()>) -> String {
    let mut places = Vec::new();
    for (_, error) in errors {
        match error {
            load::Error::Io(list) => {
                places.extend(list.iter().map(|(at, why)| (*at, format!("cannot be loaded: {why}"))));
            }
            load::Error::Lex(list) => {
                places.extend(list.iter().map(|(want, at)| (*at, format!("expected {}", want.as_str()))));
            }
            load::Error::Parse(list) => {
                places.extend(list.iter().map(|(want, at)| (*at, format!("expected {}", want.as_str()))));
            }
        }
    }
    marked(code, &places)
}

fn undefined_message(code: &str, errors: &compile::Errors<&str, ()>) -> String {
    let undefined = errors.iter().flat_map(|(_, list)| list);
    let places: Vec<_> = undefined.map(|(at, what)| (*at, format!("undefined {}", what.as_str()))).collect();
    marked(code, &places)
}

/// The line of `code` that holds each place, with a caret under it.
fn marked(code: &str, places: &[(&str, String)]) -> String {
    let mut text = String::from("not a jq program");
    for (at, why) in places {
        let offset = (at.as_ptr() as usize).wrapping_sub(code.as_ptr() as usize).min(code.len());
        let start = code[..offset].rfind('\n').map_or(0, |newline| newline + 1);
        let line = code[start..].lines().next().unwrap_or("");
        let column = code[start..offset].chars().count();
        let width = at.lines().next().map_or(1, |first| first.chars().count()).max(1);
        let width = width.min(line.chars().count().saturating_sub(column).max(1));
        let _ = write!(text, "\n  {line}\n  {:column$}{} {why}", "", "^".repeat(width));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(code: &str, line: &str) -> (u64, String) {
        let (mut out, mut count) = (Vec::new(), 0);
        let mut filter = Filter::new(code).unwrap();
        filter.run(line.as_bytes(), |text| collect(text, &mut out, &mut count)).unwrap();
        (count, String::from_utf8(out).unwrap())
    }

    fn collect(text: &[u8], out: &mut Vec<u8>, count: &mut u64) -> Result<(), std::convert::Infallible> {
        out.extend_from_slice(text);
        out.push(b'\n');
        *count += 1;
        Ok(())
    }

    #[test]
    fn selects_maps_and_multiplies() {
        assert_eq!(outputs(".", r#"{"b":1,"a":2}"#), (1, "{\"b\":1,\"a\":2}\n".into()));
        assert_eq!(outputs("select(.a > 2)", r#"{"a":2}"#), (0, String::new()));
        assert_eq!(outputs(".a, .b", r#"{"a":2,"b":"x"}"#), (2, "2\n\"x\"\n".into()));
        let seconds = outputs(r#".ts[:19]+"Z" | fromdate"#, r#"{"ts":"2026-11-20T20:45:00.123456789Z"}"#);
        assert_eq!(seconds.1, "1795207500\n");
    }

    #[test]
    fn large_integers_stay_exact() {
        assert_eq!(outputs(".a", r#"{"a":18446744073709551615}"#).1, "18446744073709551615\n");
    }

    #[test]
    fn marks_the_place() {
        let message = Filter::new(".a | nosuch(1)").err().unwrap();
        assert!(message.contains("\n       ^^^^^^ undefined"), "{message}");
        let message = Filter::new("select(.a").err().unwrap();
        assert!(message.contains("select(.a\n"), "{message}");
        assert!(message.contains("^ expected"), "{message}");
        assert!(Filter::new("input_line_number").is_err());
    }

    #[test]
    fn a_run_time_error_is_counted_and_ends_only_its_line() {
        let mut filter = Filter::new(".a, (.a | error)").unwrap();
        let (mut out, mut count) = (Vec::new(), 0);
        for line in [br#"{"a":1}"#, br#"{"a":2}"#] {
            filter.run(line, |text| collect(text, &mut out, &mut count)).unwrap();
        }
        assert_eq!((out.as_slice(), count, filter.errors()), (&b"1\n2\n"[..], 2, 2));
    }

    #[test]
    fn every_output_is_json() {
        let line = r#"{"a":0,"s":"x\u0000\"y"}"#;
        assert_eq!(
            outputs("{n:(.a/.a), p:(1/.a), m:(-1/.a)}", line).1,
            format!("{{\"n\":null,\"p\":{0},\"m\":-{0}}}\n", serde_json::to_string(&f64::MAX).unwrap())
        );
        assert_eq!(outputs("{(1|tostring):2}, {(1):2}, 3", line), (1, "{\"1\":2}\n".into()));
        assert_eq!(outputs("\"a\\u00e9\" | tobytes | .[0:2]", line).1, "\"a\u{fffd}\"\n");
        assert_eq!(outputs("", line).1, outputs(".", line).1);
        for code in [".", ".s", "[.s, [], {}, 12345678901234567890123, 1.50, true]"] {
            let text = outputs(code, line).1;
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{code}: {text}");
        }
    }

    #[test]
    fn nothing_ends_the_program() {
        for code in ["halt", "halt_error", "halt_error(2)", "debug", "stderr", "input"] {
            assert!(Filter::new(code).is_err(), "{code}");
        }
    }
}
