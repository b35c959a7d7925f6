//! `--generate`: man pages, JSON Schema and completions, made from the declarations of options and kinds.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::{Context, Result};
use clap::{Args as _, Command};
use clap_mangen::roff::{Roff, bold, italic, roman};
use serde_json::{Map, Value, json};

use crate::common::options::Common;
use crate::common::program::{Generate, Program};
use crate::record::{Generic, KINDS, Kind, Mapping, body_schema, json_type};

/// The program's command line, examples included.
pub fn command<P: Program>() -> Command {
    let mut examples = String::from("Examples:\n");
    for (what, line) in P::EXAMPLES {
        let _ = writeln!(examples, "  {line}\n      {what}");
    }
    let command = P::command();
    let more =
        format!("{0} --help has all options and examples; man {0} has the fields.", command.get_name());
    command.after_help(more).after_long_help(examples).version(env!("CARGO_PKG_VERSION"))
}

/// Writes it to stdout.
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
        Generate::Overview => overview(&mut out).context("cannot write the overview")?,
    }
    io::stdout().write_all(&out).context("cannot write to stdout")?;
    Ok(())
}

fn complete<P: Program>(shell: clap_complete::Shell, out: &mut Vec<u8>) {
    let mut command = command::<P>();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, out);
}

/// The JSON Schema of every line of these kinds: `$defs` has one entry per
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

fn object(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<Map<_, _>>().into()
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
                    entry["attributes"] = object(metric.attributes);
                }
                if let Some(name) = metric.hostmetrics {
                    entry["hostmetrics"] = name.into();
                }
                if let Some(established) = metric.prometheus {
                    entry["prometheus"] = established.name.into();
                }
                entry
            });
            let mut entry = json!({
                "signal": "metrics",
                "temporality": format!("{temporality:?}").to_lowercase(),
                "attributes": object(kind.attributes),
                "metrics": list.collect::<Vec<_>>(),
            });
            if !kind.labels.is_empty() {
                entry["prometheus_labels"] = object(kind.labels);
            }
            entry
        }
    }
}

/// Gives every option a long help: clap_mangen prints nothing for one that is hidden from `-h` and has none.
fn with_long_help(command: Command) -> Command {
    command.mut_args(|arg| match (arg.get_long_help(), arg.get_help().cloned()) {
        (None, Some(help)) => arg.long_help(help),
        _ => arg,
    })
}

fn man<P: Program>(out: &mut Vec<u8>) -> io::Result<()> {
    let command = with_long_help(P::command().version(env!("CARGO_PKG_VERSION")));
    let page = clap_mangen::Man::new(command).manual("telepipe");
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
    sections(&mut roff, Some(P::NOTES));
    let own = format!("{}(1)", P::command().get_name());
    see_also(&mut roff, "telepipe(7)", &own);
    roff.to_writer(out)
}

/// Makes the groups of options subsections, so that no group has the name of another section.
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

/// The programs, and what each is for.
const PROGRAMS: &[(&str, &str)] = &[
    ("scrape", "CPU, memory, disks, file systems, network and processes; Prometheus and JSON endpoints"),
    ("vmstat-json", "virtual memory: /proc/vmstat and /proc/meminfo on Linux, vm_stat on macOS"),
    ("pmstat", "power, energy, frequency, temperature and battery; powermetrics on macOS"),
    ("iolat", "latency of block I/O, by device and operation"),
    ("schedlat", "run-queue latency, and scheduling by process"),
    ("pagefault-trace", "page faults and their latency"),
    ("syscall-trace", "slow system calls, and those that have not returned"),
    ("tele-ship", "delivers records to OpenTelemetry, SQLite or stdout"),
];

fn see_also(roff: &mut Roff, first: &str, except: &str) {
    let pages = PROGRAMS.iter().map(|(name, _)| format!("{name}(1)")).filter(|page| page != except);
    let pages: Vec<_> = std::iter::once(first.to_owned()).chain(pages).chain(["jq(1)".to_owned()]).collect();
    roff.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
}

/// The page telepipe(7). The programs are asked for the kinds that they write.
fn overview(out: &mut Vec<u8>) -> Result<()> {
    let mut roff = Roff::default();
    roff.control("TH", ["telepipe", "7", "", &format!("telepipe {}", env!("CARGO_PKG_VERSION"))]);
    roff.control("SH", ["NAME"]).text([roman("telepipe - system telemetry as JSON lines")]);
    let mut prose = OVERVIEW.split("\n---\n");
    sections(&mut roff, prose.next());
    roff.control("SH", ["PROGRAMS"]);
    for (name, about) in PROGRAMS {
        roff.control("TP", []).text([bold(format!("{name}(1)"))]).text([roman(*about)]);
    }
    sections(&mut roff, prose.next());
    let written =
        PROGRAMS.iter().map(|(name, _)| Ok((*name, kinds_of(name)?))).collect::<Result<Vec<_>>>()?;
    for kind in KINDS {
        let by = written.iter().filter(|(_, kinds)| kinds.iter().any(|name| name == kind.name));
        let by: Vec<_> = by.map(|(program, _)| format!("{program}(1)")).collect();
        let by = if by.is_empty() { "other programs, read by tele-ship(1)".into() } else { by.join(", ") };
        roff.control("TP", []).text([bold(kind.name), roman(format!(" ({by})"))]);
        roff.text([roman(format!("{}. OpenTelemetry: {}.", kind.title, becomes(kind)))]);
    }
    roff.control("SH", ["SHARED OPTIONS"]);
    roff.to_writer(out)?;
    // All have a heading, and so are subsections.
    let shared = clap_mangen::Man::new(with_long_help(Common::augment_args(
        Command::new("telepipe").disable_help_flag(true),
    )));
    options(&shared, out)?;
    let mut roff = Roff::default();
    sections(&mut roff, prose.next());
    see_also(&mut roff, "sqlite3(1)", "");
    roff.to_writer(out)?;
    Ok(())
}

/// The names of the kinds that a program writes, by its schema; the program is in the folder of this one.
fn kinds_of(program: &str) -> Result<Vec<String>> {
    let path = std::env::current_exe()?.with_file_name(program);
    let output = std::process::Command::new(&path).args(["--generate", "schema"]).output();
    let output = output.with_context(|| format!("cannot run {}", path.display()))?;
    let schema: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("schema of {program}"))?;
    Ok(schema["$defs"].as_object().into_iter().flat_map(Map::keys).cloned().collect())
}

/// What a kind becomes in OpenTelemetry: its first metrics, or a log record.
fn becomes(kind: &Kind) -> String {
    let Mapping::Metrics { metrics, .. } = &kind.mapping else {
        return match kind.mapping {
            Mapping::Generic(Generic::Metric) => "the metric that it describes".into(),
            Mapping::Generic(Generic::Span) => "a span".into(),
            _ => "a log record".into(),
        };
    };
    let mut names: Vec<_> = metrics.iter().map(|metric| metric.name).collect();
    names.dedup();
    match names.len() {
        0..5 => names.join(", "),
        more => format!("{}, and {} more", names[..3].join(", "), more - 3),
    }
}

/// The prose of telepipe(7). A rule stands where generated sections come.
const OVERVIEW: &str = include_str!("overview.md");

fn sections(roff: &mut Roff, prose: Option<&str>) {
    let mut begins = false;
    for block in prose.unwrap_or_default().split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        if let Some(heading) = block.strip_prefix("# ") {
            roff.control("SH", [heading]);
        } else {
            if !begins {
                roff.control("PP", []);
            }
            roff.text([roman(block.replace('\n', " "))]);
        }
        begins = block.starts_with("# ");
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
        roman(", "),
        italic("kind"),
        roman(" and "),
        italic("host"),
        roman("; telepipe(7) describes these and the meaning of "),
        italic("start_ts"),
        roman(" and "),
        italic("interval_s"),
        roman(". A field that could not be measured is absent."),
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

/// The metrics made from a field, with their attributes: `system.disk.io{disk.io.direction=read}`.
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
