//! `--generate`: man page, JSON Schema and completions, from the declarations
//! of the command line and of the kinds.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::roff::{Roff, bold, italic, roman};
use serde_json::{Map, Value, json};

use crate::common::program::{Generate, Program};
use crate::record::{Generic, Kind, Mapping, body_schema, json_type};

/// The program's command line, examples included.
pub fn command<P: Program>() -> Command {
    let mut examples = String::from("Examples:\n");
    for (what, line) in P::EXAMPLES {
        let _ = writeln!(examples, "  {line}\n      {what}");
    }
    P::command().after_help(examples).version(env!("CARGO_PKG_VERSION"))
}

/// Prints it on stdout.
///
/// # Errors
/// If stdout fails.
pub fn write<P: Program>(what: Generate) -> Result<()> {
    let mut out = Vec::new();
    match what {
        Generate::Man => man::<P>(&mut out)?,
        Generate::Schema => {
            serde_json::to_writer_pretty(&mut out, &schema(P::KINDS))?;
            out.push(b'\n');
        }
        Generate::CompletionsBash => complete::<P>(clap_complete::Shell::Bash, &mut out),
        Generate::CompletionsZsh => complete::<P>(clap_complete::Shell::Zsh, &mut out),
        Generate::CompletionsFish => complete::<P>(clap_complete::Shell::Fish, &mut out),
    }
    io::stdout().write_all(&out).context("cannot write to stdout")?;
    Ok(())
}

fn complete<P: Program>(shell: clap_complete::Shell, out: &mut Vec<u8>) {
    let mut command = command::<P>();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, out);
}

/// One JSON Schema of any line that these kinds write: `$defs` has one entry per
/// kind, envelope included; `x-opentelemetry` in each lists its metrics.
pub fn schema(kinds: &[&Kind]) -> Value {
    let defs: Map<_, _> = kinds.iter().map(|kind| (kind.name.to_owned(), line_schema(kind))).collect();
    let any: Vec<_> = kinds.iter().map(|kind| json!({ "$ref": format!("#/$defs/{}", kind.name) })).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": any,
        "$defs": defs,
    })
}

fn line_schema(kind: &Kind) -> Value {
    let mut schema = body_schema(kind);
    let body = schema["properties"].take();
    let mut properties = Map::new();
    properties.insert("ts".into(), json!({ "type": "string", "format": "date-time" }));
    properties.insert("kind".into(), json!({ "const": kind.name }));
    properties.insert("host".into(), json!({ "type": "string" }));
    if let Value::Object(body) = body {
        properties.extend(body);
    }
    schema["properties"] = Value::Object(properties);
    schema["description"] = kind.title.into();
    let mut required = vec![json!("ts"), json!("kind"), json!("host")];
    if let Value::Array(more) = schema["required"].take() {
        required.extend(more);
    }
    schema["required"] = Value::Array(required);
    schema["x-opentelemetry"] = telemetry(kind);
    schema
}

fn telemetry(kind: &Kind) -> Value {
    match &kind.mapping {
        Mapping::Log { .. } => json!({ "signal": "log", "event_name": kind.name }),
        Mapping::Generic(Generic::Metric) => json!({ "signal": "metrics" }),
        Mapping::Generic(Generic::Log) => json!({ "signal": "log" }),
        Mapping::Generic(Generic::Span) => json!({ "signal": "span" }),
        Mapping::Generic(Generic::Snapshot) => json!({ "signal": "log", "event_name": kind.name }),
        Mapping::Metrics { temporality, metrics } => {
            let list = metrics.iter().map(|metric| {
                let mut entry = json!({
                    "field": metric.field,
                    "name": metric.name,
                    "unit": metric.unit,
                    "instrument": format!("{:?}", metric.instrument).to_lowercase(),
                });
                if !metric.attributes.is_empty() {
                    let attributes: Map<_, _> = metric
                        .attributes
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), json!(value)))
                        .collect();
                    entry["attributes"] = Value::Object(attributes);
                }
                if let Some(name) = metric.hostmetrics {
                    entry["hostmetrics"] = name.into();
                }
                if let Some(established) = metric.prometheus {
                    entry["prometheus"] = established.name.into();
                }
                entry
            });
            let about: Map<_, _> =
                kind.attributes.iter().map(|(field, key)| ((*field).to_owned(), json!(key))).collect();
            let mut entry = json!({
                "signal": "metrics",
                "temporality": format!("{temporality:?}").to_lowercase(),
                "attributes": about,
                "metrics": list.collect::<Vec<_>>(),
            });
            if !kind.labels.is_empty() {
                let labels = kind.labels.iter().map(|(field, label)| ((*field).to_owned(), json!(label)));
                entry["prometheus_labels"] = Value::Object(labels.collect());
            }
            entry
        }
    }
}

fn man<P: Program>(out: &mut Vec<u8>) -> io::Result<()> {
    let page = clap_mangen::Man::new(P::command().version(env!("CARGO_PKG_VERSION"))).manual("telepipe");
    page.render_title(out)?;
    page.render_name_section(out)?;
    synopsis(&P::command(), out)?;
    page.render_description_section(out)?;
    options(&page, out)?;
    let mut roff = Roff::default();
    if !P::KINDS.is_empty() {
        fields(&mut roff, P::KINDS);
    }
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in P::EXAMPLES {
        roff.control("TP", []).text([bold(*line)]).text([roman(*what)]);
    }
    sections(&mut roff, P::NOTES);
    // What a program says itself replaces what is said of all.
    let own = |heading: &str| P::NOTES.iter().any(|(own, _)| *own == heading);
    let shared: Vec<_> = SHARED.iter().filter(|(heading, _)| !own(heading)).copied().collect();
    sections(&mut roff, &shared);
    roff.to_writer(out)
}

/// Groups of options are parts of the one section: another may have the name of a group.
fn options(page: &clap_mangen::Man, out: &mut Vec<u8>) -> io::Result<()> {
    let mut text = Vec::new();
    page.render_options_section(&mut text)?;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b".SH ") {
            Some(group) if group != b"OPTIONS\n" => {
                out.extend(b".SS ");
                out.extend(group);
            }
            _ => out.extend(line),
        }
    }
    Ok(())
}

/// What holds for every program.
const SHARED: &[(&str, &str)] = &[
    (
        "EXIT STATUS",
        "0: done; also when the reader of stdout has left, or after a first SIGINT or SIGTERM.\n\n\
         1: failed; stderr says what, why and what to do.\n\n2: wrong usage.\n\n130: ended by a second signal.",
    ),
    (
        "SIGNALS",
        "At the first SIGINT or SIGTERM the program writes what is pending and ends; if the reader of stdout does not \
         read, it ends after 1.5 s (tele-ship: after --drain) and says how much was not written. A second one ends \
         it at once.",
    ),
    (
        "SEE ALSO",
        "scrape(1), vmstat-json(1), pmstat(1), iolat(1), schedlat(1), pagefault-trace(1), syscall-trace(1), tele-ship(1), jq(1)",
    ),
];

fn sections(roff: &mut Roff, list: &[(&str, &str)]) {
    for (heading, paragraphs) in list {
        roff.control("SH", [*heading]);
        for (index, paragraph) in paragraphs.split("\n\n").enumerate() {
            if index > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(paragraph.trim().replace('\n', " "))]);
        }
    }
}

/// Options with the names of their values, and `...` where they may be repeated.
fn synopsis(command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::default();
    let mut line = vec![bold(command.get_name())];
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = arg.get_long() else { continue };
        let short = arg.get_short().map_or(String::new(), |short| format!("-{short}|"));
        line.extend([roman(" ["), bold(format!("{short}--{long}"))]);
        if arg.get_action().takes_values() {
            let may_lack = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
            let (open, close) = if may_lack { (" [", "]") } else { (" ", "") };
            let names = arg.get_value_names().unwrap_or_default();
            line.extend(names.iter().flat_map(|name| [roman(open), italic(name.as_str()), roman(close)]));
        }
        let repeats = matches!(arg.get_action(), clap::ArgAction::Append);
        line.push(roman(if repeats { "]..." } else { "]" }));
    }
    roff.control("SH", ["SYNOPSIS"]);
    roff.text(line);
    roff.to_writer(out)
}

fn fields(roff: &mut Roff, kinds: &[&Kind]) {
    roff.control("SH", ["FIELDS"]);
    roff.text([
        roman("Every record has "),
        italic("ts"),
        roman(" (RFC 3339, UTC), "),
        italic("kind"),
        roman(" and "),
        italic("host"),
        roman(". A field that could not be measured is absent. Totals of the kernel count from "),
        italic("start_ts"),
        roman(" on. What was measured over an interval has its length, as measured, in "),
        italic("interval_s"),
        roman("; rates appear from the second sample on."),
    ]);
    for kind in kinds {
        roff.control("SS", [kind.name]);
        roff.text([roman(format!("{}.", kind.title))]);
        let schema = body_schema(kind);
        let Some(properties) = schema["properties"].as_object() else { continue };
        for (name, property) in properties {
            let text = property["description"].as_str().unwrap_or("").replace('\n', " ");
            roff.control("TP", []).text([bold(name.as_str()), roman(format!(" ({})", json_type(property)))]);
            roff.text([roman(text)]);
            let becomes = metric_names(kind, name);
            if !becomes.is_empty() {
                roff.control("br", []).text([roman("Metric: "), italic(becomes)]);
            }
        }
    }
}

/// The metrics that a field feeds, with what tells them apart: `system.disk.io{disk.io.direction=read}`.
fn metric_names(kind: &Kind, field: &str) -> String {
    let Mapping::Metrics { metrics, .. } = &kind.mapping else { return String::new() };
    let fed = metrics.iter().filter(|metric| metric.field == field).map(|metric| {
        let pairs: Vec<_> = metric.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if pairs.is_empty() {
            metric.name.to_owned()
        } else {
            format!("{}{{{}}}", metric.name, pairs.join(", "))
        }
    });
    fed.collect::<Vec<_>>().join(", ")
}
