//! `tele-ship`: delivers JSON lines from stdin to a server, a database or stdout.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};

use telepipe::common::diag::log;
use telepipe::common::filter;
use telepipe::common::options::GenerateArg;
use telepipe::common::program::{Program, Usage};
use telepipe::common::stdio_check;
use telepipe::common::stop::Stop;
use telepipe::common::units::{age, duration, size};
use telepipe::record::{Kind, SHIP_STATS};
use telepipe::ship::destinations::Destinations;
use telepipe::ship::follow::Follow;
use telepipe::ship::input::Files;
use telepipe::ship::map::{Map, Preset};
use telepipe::ship::pipeline::{Pipeline, Settings};
use telepipe::ship::replay::Replay;
use telepipe::ship::spool;
use telepipe::ship::{LimitOptions, ReportOptions};

/// What --spool keeps without --spool-max.
const SPOOL_MAX: u64 = 10 << 30;

/// Deliver JSON lines to an OpenTelemetry server, ClickHouse, SQLite or stdout
#[derive(Parser)]
#[command(name = "tele-ship", args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct TeleShip {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    delivery: Delivery,

    #[command(flatten)]
    input: InputArgs,

    /// Show what would be sent, as JSON lines on stdout, and send nothing
    ///
    /// Shows the first batch of each destination. No connection is made, and no file or table is created.
    #[arg(long, hide_short_help = true, help_heading = "Delivery")]
    dry_run: bool,

    /// Keep lines in this directory until they are delivered
    ///
    /// They survive a crash or a power failure, and each destination gets them at its own pace. One tele-ship at a time can
    /// use a directory. See SPOOL in the man page.
    #[arg(long, help_heading = "Delivery", value_name = "DIR")]
    spool: Option<PathBuf>,

    #[command(flatten)]
    generate: GenerateArg,
}

#[derive(Args)]
struct InputArgs {
    /// Read these files, one after the other (- is stdin), instead of stdin
    #[arg(long, help_heading = "Input", value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,

    /// Keep reading the --input files as they grow, through log rotation
    ///
    /// As tail -n +1 -F does. With --spool, a restart continues where the last run ended. See FILES in the man page.
    #[arg(long, hide_short_help = true, help_heading = "Input", requires = "input")]
    follow: bool,

    /// Read this directory once: a spool, or files of OTLP/JSON, oldest first
    ///
    /// A spool is left unchanged, and its damaged lines are left out. Other directories: *.json, *.jsonl and *.ndjson,
    /// also compressed (.gz, .zst).
    #[arg(
        long,
        hide_short_help = true,
        help_heading = "Input",
        value_name = "DIR",
        conflicts_with = "input"
    )]
    replay: Option<PathBuf>,

    /// Convert each line to records with this jq program
    ///
    /// The outputs of the program are delivered instead of the line. See MAPPING in the man page.
    #[arg(long, hide_short_help = true, help_heading = "Input", value_name = "JQ")]
    map: Option<String>,

    /// Convert each line to a record with a built-in mapping
    #[arg(long, hide_short_help = true, help_heading = "Input", value_name = "NAME", conflicts_with = "map")]
    preset: Option<Preset>,
}

impl InputArgs {
    /// Makes `pipeline` read what the options name, and map it to lines of up to `max_line` bytes.
    fn open(self, pipeline: &mut Pipeline, max_line: usize) -> Result<()> {
        let map = self.map.map(|code| Map::jq(&code, max_line)).transpose().map_err(|error| match error {
            filter::Error::Program(message) => Usage(format!("--map: {message}")).into(),
            filter::Error::Process(error) => error,
        })?;
        if let Some(map) = map.or_else(|| self.preset.map(|preset| Map::preset(preset, max_line))) {
            pipeline.map(map);
        }
        if let Some(folder) = self.replay {
            pipeline.read_from(Replay::new(&folder)?);
        } else if self.follow {
            pipeline.read_from(Follow::new(self.input));
        } else if !self.input.is_empty() {
            pipeline.read_from(Files::new(self.input));
        } else if rustix::termios::isatty(rustix::stdio::stdin()) {
            log(format_args!("reading from the terminal; end the input with Ctrl-D"));
        }
        Ok(())
    }
}

#[derive(Subcommand)]
enum Command {
    /// Test each destination, and print how to fix what fails
    ///
    /// Prints a line for each step: resolve, connect, proxy, TLS, and then an empty request for each signal, or a
    /// query. Stores nothing. Exits 1 if a step fails.
    Check {
        #[command(flatten)]
        destinations: Box<Destinations>,

        /// Also check this directory, for --spool
        #[arg(long, help_heading = "Delivery", value_name = "DIR")]
        spool: Option<PathBuf>,
    },
    /// Show, check or empty a spool
    #[command(subcommand, disable_help_subcommand = true)]
    Spool(SpoolCommand),
}

#[derive(Subcommand)]
enum SpoolCommand {
    /// Print what is in a spool, as JSON lines
    Status {
        /// The directory that was given to --spool
        dir: PathBuf,
    },
    /// Check every line of a spool; exit 1 if there is damage
    Verify {
        /// The directory that was given to --spool
        dir: PathBuf,
    },
    /// Deliver what is left in a spool, without reading new lines
    Drain {
        /// The directory that was given to --spool
        dir: PathBuf,

        #[command(flatten)]
        delivery: Box<Delivery>,
    },
}

#[derive(Args)]
struct Delivery {
    #[command(flatten)]
    destinations: Destinations,

    /// Complete a batch at this many lines
    ///
    /// Default: 10000; for ClickHouse 20000, or 50000 with --table.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_lines: Option<u32>,

    /// Complete a batch at this many bytes
    ///
    /// Default: 1MiB; for ClickHouse 2MiB, or 8MiB with --table.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "SIZE", value_parser = size)]
    batch_bytes: Option<usize>,

    /// Complete a batch this long after its first line
    ///
    /// Default: 1s; for ClickHouse 5s.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "TIME", value_parser = duration)]
    batch_age: Option<Duration>,

    /// Send up to this many requests at a time to each endpoint
    ///
    /// 1 keeps requests in order.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    in_flight: u8,

    /// Stop reading while this much is pending for a destination
    ///
    /// With --spool, at most 12MiB are used. Further lines wait on disk, and reading goes on.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    queue_bytes: usize,

    /// Give up after this long without progress at the end of input
    ///
    /// Also the time to deliver pending lines after a signal.
    #[arg(long, help_heading = "Delivery", value_name = "TIME", visible_alias = "drain-timeout", default_value = "30s", value_parser = duration)]
    drain: Duration,

    /// Give up a line that cannot be delivered this long after it was read
    ///
    /// It is rejected, and kept with --dead-letter. Default: try for ever.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "TIME", value_parser = age)]
    max_age: Option<Duration>,

    /// Write ship_stats records to stderr at this interval, and at the end
    #[arg(long, help_heading = "Delivery", value_name = "TIME", value_parser = duration)]
    stats: Option<Duration>,

    /// Deliver the ship_stats records instead of writing them to stderr
    ///
    /// They count like other lines. The last ones, written at the end, still go to stderr.
    #[arg(long = "self", requires = "stats", hide_short_help = true, help_heading = "Delivery")]
    deliver_stats: bool,

    /// Show no status line, and no final counts if everything was delivered
    #[arg(long, short, hide_short_help = true, help_heading = "Delivery")]
    quiet: bool,

    /// Stop reading while the spool has this size
    ///
    /// Default: 10GiB.
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "SIZE", value_parser = size)]
    spool_max: Option<usize>,

    /// Append lines that cannot be delivered to this file
    ///
    /// The reasons go to FILE.reasons. SIGHUP opens both files again.
    #[arg(long, help_heading = "Delivery", value_name = "FILE")]
    dead_letter: Option<PathBuf>,

    /// Refuse longer lines
    #[arg(long, hide_short_help = true, help_heading = "Input", value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    max_line: usize,
}

impl Program for TeleShip {
    const KINDS: &'static [&'static Kind] = &[&SHIP_STATS];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Send to the OpenTelemetry Collector on this host", "scrape | tele-ship --otlp"),
        (
            "Send to another host, with a secret that is not on the command line",
            "scrape | tele-ship --otlp https://otel.example.com --header-file ~/.otlp-headers",
        ),
        ("Send over gRPC", "scrape | tele-ship --otlp grpc://localhost:4317"),
        ("Store a day in a database", "scrape --duration 24h | tele-ship --sqlite today.db"),
        (
            "Print the latest load averages",
            "sqlite3 today.db 'select ts, load_1m from load order by ts desc limit 5'",
        ),
        ("Deliver to two destinations", "scrape | tele-ship --otlp --sqlite today.db"),
        (
            "Keep the lines that the server refuses, and deliver them again later",
            "scrape | tele-ship --otlp --dead-letter refused; tele-ship --otlp --input refused",
        ),
        (
            "Keep lines on disk until the server has them, through outages and restarts",
            "scrape | tele-ship --otlp --spool /var/spool/tele-ship",
        ),
        (
            "Deliver a log of JSON lines as it grows, through log rotation and restarts",
            "tele-ship --otlp --follow --input app.log --map '{kind: \"log\", ts: .time, body: .msg}'",
        ),
        ("Deliver the systemd journal", "journalctl -o json -f | tele-ship --preset journald --otlp"),
        (
            "Insert into ClickHouse, into the tables that HyperDX and Grafana read, for 90 days",
            "scrape | tele-ship --clickhouse http://clickhouse:8123 --create --ttl 90d",
        ),
        (
            "Insert into a table for each kind, with a column for each field",
            "scrape | tele-ship --clickhouse http://clickhouse:8123 --table 'telepipe_{kind}' --create",
        ),
        ("Show what would be sent, without sending it", "scrape --once | tele-ship --otlp --dry-run | jq ."),
        (
            "In a crontab: one sample a minute, giving up after 20 s if the server is down",
            "scrape --once -i 1s | tele-ship -q --otlp --drain 20s",
        ),
    ];
    const NOTES: &'static str = include_str!("tele-ship.md");

    fn run(self) -> Result<()> {
        match self.command {
            None => {
                let same = |a: &Path, b: &Path| {
                    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
                };
                if let (Some(spool), Some(replay)) = (&self.spool, &self.input.replay)
                    && same(spool, replay)
                {
                    bail!(Usage(
                        "--replay and --spool name the same directory; use tele-ship spool drain".to_owned()
                    ));
                }
                if self.input.follow && self.input.input.iter().any(|path| path.as_os_str() == "-") {
                    bail!(Usage("--input - is stdin, which --follow cannot read; name files".to_owned()));
                }
                self.delivery.run(self.spool.as_deref(), Some(self.input), self.dry_run)
            }
            Some(Command::Check { destinations, spool }) => {
                stdio_check::stdout()?;
                destinations.check(spool.as_deref(), &mut std::io::stdout())
            }
            Some(Command::Spool(SpoolCommand::Status { dir })) => inspect(&dir, false),
            Some(Command::Spool(SpoolCommand::Verify { dir })) => inspect(&dir, true),
            Some(Command::Spool(SpoolCommand::Drain { dir, delivery })) => {
                let is_spool = spool::inspect::is_spool(&dir);
                let is_spool = is_spool.with_context(|| format!("cannot read {}", dir.display()))?;
                ensure!(
                    is_spool,
                    "{} is not a spool: it has no *.index or *.cursor file; give the directory of --spool",
                    dir.display()
                );
                delivery.run(Some(&dir), None, false)
            }
        }
    }
}

fn inspect(dir: &Path, verify: bool) -> Result<()> {
    stdio_check::stdout()?;
    spool::inspect::print(dir, verify, &mut std::io::stdout())
}

impl Delivery {
    /// Delivers what is in the spool, and then the input, if any.
    fn run(self, spool: Option<&Path>, input: Option<InputArgs>, dry_run: bool) -> Result<()> {
        if self.spool_max.is_some() && spool.is_none() {
            bail!(Usage("--spool-max needs --spool".to_owned()));
        }
        let limits = LimitOptions {
            lines: self.batch_lines.map(|lines| lines.try_into().unwrap_or(usize::MAX)),
            bytes: self.batch_bytes,
            age: self.batch_age,
        };
        let Self { drain, max_age, queue_bytes, in_flight, max_line, .. } = self;
        let report = ReportOptions { stats: self.stats, deliver: self.deliver_stats, quiet: self.quiet };
        let only_stdout = dry_run || self.destinations.only_stdout();
        let stop = Stop::install(drain + Duration::from_secs(1), only_stdout);
        let stop = stop.context("cannot watch for signals")?;
        let in_flight = in_flight.into();
        let mut pipeline =
            Pipeline::new(Settings { limits, max_line, queue_bytes, in_flight, drain, max_age, report });
        if dry_run {
            stdio_check::stdout()?;
            pipeline.dry_run();
        }
        if let Some(path) = self.dead_letter.as_ref().filter(|_| !dry_run) {
            pipeline.keep_dead_letters(path)?;
        }
        if let Some(path) = spool.filter(|_| !dry_run) {
            pipeline.keep_spool(path, self.spool_max.map_or(SPOOL_MAX, |max| max as u64))?;
        }
        self.destinations.open(&mut pipeline)?;
        match input {
            Some(input) => input.open(&mut pipeline, max_line)?,
            None => pipeline.read_from(Files::new(Vec::new())),
        }
        pipeline.run(&stop)
    }
}

fn main() -> ExitCode {
    telepipe::common::entry::main::<TeleShip>()
}
