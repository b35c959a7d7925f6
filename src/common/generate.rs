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
    sections(&mut roff, P::NOTES);
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
    sections(&mut roff, &[("DESCRIPTION", DESCRIPTION)]);
    roff.control("SH", ["PROGRAMS"]);
    for (name, about) in PROGRAMS {
        roff.control("TP", []).text([bold(format!("{name}(1)"))]).text([roman(*about)]);
    }
    sections(&mut roff, &[("RECORDS", RECORDS)]);
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
    sections(&mut roff, OVERVIEW);
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

const DESCRIPTION: &str = "\
Each program measures one thing and writes one JSON object per line to stdout. tele-ship(1) reads such lines and \
delivers them. Combine programs with pipes: sudo iolat | tele-ship --otlp. This page describes what all programs \
share; the page of each program has its options and fields.";

const RECORDS: &str = "\
Every record has ts, when it was measured or when the measured interval ended (RFC 3339, UTC, nine decimals); kind, \
one of the names below; and host, the host that it was measured on. A field that could not be measured is absent.

Names end in the unit: _bytes, _s, _us, _hz, _joules, _watts, _celsius; _ratio is from 0 to 1; plain counts have none. \
Cumulative counts are the kernel's own totals since start_ts. A record of an interval has its measured length in \
interval_s, and start_ts is its start. Rates appear from the second sample on.

A status record reports, once, why a source cannot be read (reason: denied, absent, unsupported or invalid) or how it \
is measured (reason active, and method). A lost record counts what was measured and then dropped. With --filter and \
without --filter-all these two go to stderr.";

/// The sections after the options.
const OVERVIEW: &[(&str, &str)] = &[
    (
        "FILTER",
        "The program given to --filter is run on each record, and each of its outputs is one line. The language is \
         that of jq(1), with the formats (@csv, @tsv, @json, @text, @html, @uri, @sh, @base64, @base64d), $ENV and \
         env. Not supported: functions that read or write elsewhere or end the program: input, inputs, input_filename, \
         input_line_number, debug, stderr, halt and halt_error; also modules, @base32 and @base32d.\n\n\
         With --raw-output, an output that is a string is written without quotes.\n\n\
         status and lost records do not pass the filter: they go to stderr, so that a cron job whose filter selects \
         alerts writes nothing to stdout where nothing matches. --filter-all runs the filter on them as well.\n\n\
         An error ends the outputs of that record. The first error is logged, all are counted, and the run goes on; \
         if every record failed, the exit status is 1. The filter runs in a process of its own (telepipe-filter). A \
         record that needs more than one second of CPU time, 512 MiB of memory or 64 MiB of stack is an error; after \
         the first such record the limit is 0.1 seconds.",
    ),
    (
        "EXIT STATUS",
        "0: done; also if the reader of stdout left, or after a first SIGINT or SIGTERM.\n\n\
         1: failed; stderr has the reason. Also if nothing was obtained: the filter failed on every record, nothing in \
         the file given to --input was understood, or the endpoint given to --url is down.\n\n\
         2: usage error.\n\n\
         130: ended by a second signal.",
    ),
    (
        "SIGNALS",
        "At the first SIGINT or SIGTERM a program writes what is pending and ends. If the reader of stdout does not \
         read, it ends after 1.5 seconds (tele-ship: after --drain) and logs how many lines were not written. A second \
         signal, at least 0.2 seconds after the first, ends it at once.",
    ),
    (
        "ENVIRONMENT",
        "tele-ship(1): OTEL_EXPORTER_OTLP_*, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, CLICKHOUSE_*, \
         MONITORING_SERVER_METRICS_URL, SYSTEM_STATS_DISK_PATH, XDG_DATA_HOME.\n\n\
         HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY: proxies for HTTP requests, where the program's page names them.\n\n\
         SSL_CERT_FILE: certificate authorities to trust instead of the system's.",
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
