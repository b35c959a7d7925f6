//! A jq program, compiled and run by jaq: the language of `--filter`.
//!
//! Left out are jq's input handling (`input`, `inputs`, `input_line_number`) and what ends the program or writes past
//! its output (`halt`, `halt_error`, `debug`, `stderr`). Every output is strict JSON, although jaq's values are
//! more: NaN becomes null and infinity the largest number, as in jq; bytes become text; an object key that is not a
//! string is an error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, compile, data, unwrap_valr};
use jaq_json::{Num, Val, read, write};

type Data = data::JustLut<Val>;

/// Definitions and functions of jaq's library that are left out.
const ABSENT: [&str; 7] = ["halt", "halt_error", "debug", "stderr", "debug_empty", "stderr_empty", "input"];

/// Functions of jq that jaq's library lacks.
const MORE: &str = r#"
def toarray: if isarray then . else [.] end;
def _cells(name; text): [.[] |
    if . == null then "" elif isstring then text
    elif isarray or isobject then error("\(tojson) cannot be a cell of \(name)") else tojson end];
def @csv: _cells("@csv"; "\"\(split("\"") | join("\"\""))\"") | join(",");
def @tsv: _cells("@tsv"; split("\\") | join("\\\\") | split("\t") | join("\\t") | split("\n") | join("\\n")
    | split("\r") | join("\\r")) | join("\t");
"#;

/// A compiled jq program.
pub struct Query {
    program: jaq_core::Filter<Data>,
    /// The value of `$ENV`.
    env: Val,
    /// Whether strings are written without quotes.
    raw: bool,
    style: write::Pp,
    text: Vec<u8>,
}

impl Query {
    /// Compiles `code`. With `raw`, an output that is a string is written as it is, without quotes.
    ///
    /// # Errors
    /// A message of several lines: what is wrong, and the line of the program with the part underlined.
    pub fn new(code: &str, raw: bool) -> Result<Self, String> {
        // As in jq, an empty program is the identity.
        let code = if code.trim().is_empty() { "." } else { code };
        let more = load::parse(MORE, |parser| parser.defs()).unwrap_or_default();
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let defs = defs.filter(|def| !ABSENT.contains(&def.name)).chain(more);
        let funs = funs.filter(|(name, ..)| !ABSENT.contains(name));
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code, path: () })
            .map_err(|errors| syntax_message(code, &errors))?;
        let program = Compiler::default()
            .with_funs(funs)
            .with_global_vars(["$ENV"])
            .compile(modules)
            .map_err(|errors| undefined_message(code, &errors))?;
        Ok(Self { program, env: environment(), raw, style: write::Pp::default(), text: Vec::new() })
    }

    /// Runs the program on one line and passes each output, without a newline, to `each`.
    ///
    /// # Errors
    /// The message of the error that ended the outputs.
    pub fn run(&mut self, line: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), String> {
        let input = read::parse_single(line).map_err(|error| error.to_string())?;
        let ctx = Ctx::<Data>::new(&self.program.lut, Vars::new([self.env.clone()]));
        for output in self.program.id.run((ctx, input)).map(unwrap_valr) {
            match output.map_err(|error| error.to_string())? {
                Val::TStr(text) | Val::BStr(text) if self.raw => {
                    each(String::from_utf8_lossy(&text).as_bytes());
                }
                value => {
                    self.text.clear();
                    json(&mut self.text, &self.style, &value)?;
                    each(&self.text);
                }
            }
        }
        Ok(())
    }
}

/// The environment as an object; bytes that are not UTF-8 become U+FFFD.
fn environment() -> Val {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let all: BTreeMap<_, _> = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let bytes = serde_json::to_vec(&all).unwrap_or_default();
    read::parse_single(&bytes).unwrap_or(Val::Null)
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
                    return Err("an object key is not a string".into());
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
    let mut marks = Vec::new();
    for (_, error) in errors {
        match error {
            load::Error::Io(list) => {
                marks.extend(list.iter().map(|(at, why)| (*at, format!("cannot be loaded: {why}"))));
            }
            load::Error::Lex(list) => {
                marks.extend(list.iter().map(|(want, at)| (*at, format!("expected {}", want.as_str()))));
            }
            load::Error::Parse(list) => {
                marks.extend(list.iter().map(|(want, at)| (*at, format!("expected {}", want.as_str()))));
            }
        }
    }
    marked(code, &marks)
}

fn undefined_message(code: &str, errors: &compile::Errors<&str, ()>) -> String {
    let undefined = errors.iter().flat_map(|(_, list)| list);
    let marks: Vec<_> = undefined.map(|(at, what)| (*at, format!("undefined {}", what.as_str()))).collect();
    marked(code, &marks)
}

/// For each mark the line of `code` that holds it, with the marked part underlined by carets.
fn marked(code: &str, marks: &[(&str, String)]) -> String {
    let mut text = String::from("not a jq program");
    for (at, why) in marks {
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

    /// How the run ended, and the outputs, each with a newline.
    fn outcome(code: &str, line: &str, raw: bool) -> (Result<(), String>, String) {
        let mut out = Vec::new();
        let ended = Query::new(code, raw).unwrap().run(line.as_bytes(), |text| {
            out.extend_from_slice(text);
            out.push(b'\n');
        });
        (ended, String::from_utf8(out).unwrap())
    }

    fn outputs(code: &str, line: &str) -> String {
        outcome(code, line, false).1
    }

    #[test]
    fn selects_maps_and_multiplies() {
        assert_eq!(outputs(".", r#"{"b":1,"a":2}"#), "{\"b\":1,\"a\":2}\n");
        assert_eq!(outputs("select(.a > 2)", r#"{"a":2}"#), "");
        assert_eq!(outputs(".a, .b", r#"{"a":2,"b":"x"}"#), "2\n\"x\"\n");
        let seconds = outputs(r#".ts[:19]+"Z" | fromdate"#, r#"{"ts":"2026-11-20T20:45:00.123456789Z"}"#);
        assert_eq!(seconds, "1795207500\n");
    }

    #[test]
    fn large_integers_stay_exact() {
        assert_eq!(outputs(".a", r#"{"a":18446744073709551615}"#), "18446744073709551615\n");
    }

    /// The expected texts are what jq 1.7 prints with -r.
    #[test]
    fn formats_are_those_of_jq() {
        for (code, expected) in [
            ("@text", r#"[1,"a\"b\t\\",null,true,"<&'>",1.5]"#),
            ("@json", r#"[1,"a\"b\t\\",null,true,"<&'>",1.5]"#),
            ("@csv", "1,\"a\"\"b\t\\\",,true,\"<&'>\",1.5"),
            ("@tsv", "1\ta\"b\\t\\\\\t\ttrue\t<&'>\t1.5"),
            ("@sh", "1 'a\"b\t\\' null true '<&'\\''>' 1.5"),
            (".[4] | @html", "&lt;&amp;&#39;&gt;"),
            (".[4] | @uri", "%3C%26%27%3E"),
            (".[4] | @base64", "PCYnPg=="),
            (".[4] | @base64 | @base64d", "<&'>"),
            ("@csv \"x \\([.[0], .[5]])\"", "x 1,1.5"),
            (".[0] | toarray | @json", "[1]"),
            ("toarray | length", "6"),
        ] {
            let (ended, text) = outcome(code, r#"[1,"a\"b\t\\",null,true,"<&'>",1.5]"#, true);
            let text = text.replace("&apos;", "&#39;");
            assert_eq!((ended, text.trim_end_matches('\n')), (Ok(()), expected), "{code}");
        }
        for code in ["[[1]] | @csv", "[{}] | @tsv"] {
            assert!(outcome(code, "null", false).0.is_err(), "{code}");
        }
    }

    #[test]
    fn the_environment_is_there() {
        let path = format!("{}\n", serde_json::to_string(&std::env::var("PATH").unwrap()).unwrap());
        assert_eq!((outputs("$ENV.PATH", "1"), outputs("env.PATH", "1")), (path.clone(), path));
    }

    #[test]
    fn raw_strings_have_no_quotes() {
        let line = r#"{"s":"a\"b","l":["x"]}"#;
        assert_eq!(outcome(".s, .l, .l[0], 1", line, true).1, "a\"b\n[\"x\"]\nx\n1\n");
    }

    #[test]
    fn an_error_in_the_program_is_underlined() {
        let error = |code| Query::new(code, false).err().unwrap();
        assert!(error(".a | nosuch(1)").contains("\n       ^^^^^^ undefined"));
        assert!(error("select(.a").contains("select(.a\n"));
        assert!(error("select(.a").contains("^ expected"));
    }

    #[test]
    fn a_run_time_error_keeps_the_outputs_before_it() {
        let (ended, text) = outcome(".a, (.a | error)", r#"{"a":1}"#, false);
        assert_eq!((ended.is_err(), text.as_str()), (true, "1\n"));
    }

    #[test]
    fn every_output_is_json() {
        let line = r#"{"a":0,"s":"x\u0000\"y"}"#;
        assert_eq!(
            outputs("{n:(.a/.a), p:(1/.a), m:(-1/.a)}", line),
            format!("{{\"n\":null,\"p\":{0},\"m\":-{0}}}\n", serde_json::to_string(&f64::MAX).unwrap())
        );
        assert_eq!(outputs("{(1|tostring):2}, {(1):2}, 3", line), "{\"1\":2}\n");
        assert_eq!(outputs("\"a\\u00e9\" | tobytes | .[0:2]", line), "\"a\u{fffd}\"\n");
        assert_eq!(outputs("", line), outputs(".", line));
        for code in [".", ".s", "[.s, [], {}, 12345678901234567890123, 1.50, true]"] {
            let text = outputs(code, line);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{code}: {text}");
        }
    }

    #[test]
    fn functions_past_the_output_are_absent() {
        for code in
            ["halt", "halt_error", "halt_error(2)", "debug", "stderr", "input", "inputs", "input_line_number"]
        {
            assert!(Query::new(code, false).is_err(), "{code}");
        }
    }
}
