//! `tele-ship`: delivers JSON lines from stdin to a server, a database or stdout.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use telepipe::common::diag::log;
use telepipe::common::options::GenerateArg;
use telepipe::common::program::Program;
use telepipe::common::stdio_check;
use telepipe::common::stop::Stop;
use telepipe::common::units::{duration, size};
use telepipe::record::{Kind, SHIP_STATS};
use telepipe::ship::LimitOptions;
use telepipe::ship::destinations::Destinations;
use telepipe::ship::pipeline::{Pipeline, Settings};
use telepipe::ship::spool;

/// Deliver JSON lines to an OpenTelemetry server, ClickHouse, SQLite or stdout
#[derive(Parser)]
#[command(name = "tele-ship", args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct TeleShip {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    delivery: Delivery,

    /// Read these files, one after the other, instead of stdin
    #[arg(long, help_heading = "Input", value_name = "FILE", num_args = 1..)]
    input: Vec<PathBuf>,

    /// Keep lines in this directory until they are delivered
    ///
    /// They survive a crash or a power failure, and each destination gets them at its own pace. One tele-ship at a time can
    /// use a directory. See SPOOL in the man page.
    #[arg(long, help_heading = "Delivery", value_name = "DIR")]
    spool: Option<PathBuf>,

    #[command(flatten)]
    generate: GenerateArg,
}

#[derive(Subcommand)]
enum Command {
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
    #[arg(long, help_heading = "Delivery", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
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
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    queue_bytes: usize,

    /// Give up after this long without progress at the end of input
    ///
    /// Also the time to deliver pending lines after a signal.
    #[arg(long, help_heading = "Delivery", value_name = "TIME", default_value = "30s", value_parser = duration)]
    drain: Duration,

    /// Write ship_stats records to stderr at this interval, and at the end
    #[arg(long, help_heading = "Delivery", value_name = "TIME", value_parser = duration)]
    stats: Option<Duration>,

    /// Stop reading while the spool has this size
    #[arg(long, hide_short_help = true, help_heading = "Delivery", value_name = "SIZE", default_value = "10GiB", value_parser = size)]
    spool_max: usize,

    /// Append lines that cannot be delivered to this file
    ///
    /// The reasons go to FILE.reasons. SIGHUP opens both files again.
    #[arg(long, help_heading = "Delivery", value_name = "FILE")]
    dead_letter: Option<PathBuf>,

    /// Refuse longer lines
    #[arg(long, help_heading = "Input", value_name = "SIZE", default_value = "16MiB", value_parser = size)]
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
        (
            "Send over gRPC, compressed with zstd",
            "scrape | tele-ship --otlp grpc://localhost:4317 --compression zstd",
        ),
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
            "Insert into ClickHouse, into the tables that HyperDX and Grafana read, for 90 days",
            "scrape | tele-ship --clickhouse http://clickhouse:8123 --create --ttl 90d",
        ),
        (
            "Insert into a table for each kind, with a column for each field",
            "scrape | tele-ship --clickhouse http://clickhouse:8123 --table 'telepipe_{kind}' --create",
        ),
        ("Show what would be sent", "scrape --once | tele-ship --stdout | jq ."),
        (
            "In a crontab: one sample a minute, giving up after 20 s if the server is down",
            "scrape --once -i 1s | tele-ship --otlp --drain 20s",
        ),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[
        ("INPUT", INPUT),
        ("DELIVERY", DELIVERY),
        ("SPOOL", SPOOL),
        ("DATABASE", DATABASE),
        ("CLICKHOUSE", CLICKHOUSE),
        ("MONITORING SERVER", MONITORING),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXIT STATUS", EXIT_STATUS),
        ("OVERHEAD", OVERHEAD),
        ("CAVEATS", CAVEATS),
    ];

    fn run(self) -> Result<()> {
        match self.command {
            None => self.delivery.run(self.spool.as_deref(), Some(self.input)),
            Some(Command::Spool(SpoolCommand::Status { dir })) => inspect(&dir, false),
            Some(Command::Spool(SpoolCommand::Verify { dir })) => inspect(&dir, true),
            Some(Command::Spool(SpoolCommand::Drain { dir, delivery })) => {
                ensure!(dir.is_dir(), "{} is not a directory", dir.display());
                delivery.run(Some(&dir), None)
            }
        }
    }
}

fn inspect(dir: &Path, verify: bool) -> Result<()> {
    stdio_check::stdout()?;
    spool::inspect::print(dir, verify, &mut std::io::stdout())
}

impl Delivery {
    /// Delivers what is in the spool, and then the input: these files, stdin if there are none, or nothing.
    fn run(self, spool: Option<&Path>, input: Option<Vec<PathBuf>>) -> Result<()> {
        let limits = LimitOptions {
            lines: self.batch_lines.map(|lines| lines.try_into().unwrap_or(usize::MAX)),
            bytes: self.batch_bytes,
            age: self.batch_age,
        };
        let Self { drain, stats, queue_bytes, in_flight, max_line, .. } = self;
        let only_stdout = self.destinations.only_stdout();
        let stop = Stop::install(drain + Duration::from_secs(1), only_stdout);
        let stop = stop.context("cannot watch for signals")?;
        let in_flight = in_flight.into();
        let mut pipeline = Pipeline::new(Settings { limits, max_line, queue_bytes, in_flight, drain, stats });
        if let Some(path) = &self.dead_letter {
            pipeline.keep_dead_letters(path)?;
        }
        if let Some(path) = spool {
            pipeline.keep_spool(path, self.spool_max as u64)?;
        }
        self.destinations.open(&mut pipeline)?;
        match input {
            Some(files) if files.is_empty() => {
                if rustix::termios::isatty(rustix::stdio::stdin()) {
                    log(format_args!("reading from the terminal; end the input with Ctrl-D"));
                }
            }
            files => pipeline.read_files(files.unwrap_or_default()),
        }
        pipeline.run(&stop)
    }
}

const INPUT: &str = "\
Each line is one JSON object of at most 16 MiB (--max-line). Records of telepipe's programs become metrics and log records, as \
their kinds declare. `metric`, `log` and `span` records, from any program, describe themselves. Lines of OTLP/JSON \
are taken unchanged. Any other object becomes a log record with the object as its body.

Blank lines are skipped and not counted. A byte order mark before a line is ignored. A line with nothing to send, such \
as a record with no field that is a metric, counts as `empty`.

A line that a destination cannot accept is rejected: it is counted, and the first few are shown on stderr with the \
reason. With --dead-letter FILE it is appended to FILE as it came and counts as `dead_lettered`. The reason is appended \
to FILE.reasons, as a JSON object with `ts`, `sink`, `reason` and `line`, the number of the line in FILE. A line that \
several destinations refuse is in FILE once. Both files are created readable for their owner only. SIGHUP opens them \
again under their names, so that they can be moved away. If a line cannot be written there, it counts as rejected. To \
deliver the lines again, read FILE with --input.

Every destination rejects lines over --max-line, and lines that are not UTF-8 or not a JSON object (a string with half a \
surrogate pair, such as `\\ud800`, is not JSON). SQLite accepts everything else. For OTLP, a record is also rejected if \
a field has the wrong type; the reason names the field: `ts`, `start_ts` or `begin_ts` that is not an RFC 3339 time; a \
metric that is not a number; a histogram with inconsistent fields; a `metric` without `name` or `value`, or with an \
unknown `type` or `temporality`; a `span` without ids, `name` or `begin_ts`, or that ends before it begins; a `log` with an \
unknown `severity`; OTLP/JSON that does not follow the specification.

Fields that have no counterpart in OTLP are not sent there: unknown fields of `metric`, `span` and of telepipe's metric \
kinds. An integer that does not fit 64 signed bits is sent as a string of its digits, or, as the value of a metric, as \
the nearest double.";

const DELIVERY: &str = "\
Every destination gets every line, independently of the others. The signals of OTLP (metrics, logs, traces) are \
independent too: one that fails does not delay the others while there is memory (--queue-bytes).

A request is sent again if the server cannot be reached, does not answer in time, answers 429, 502, 503 or 504, or \
answers with a redirect or a web page instead of OTLP, and if the proxy answers 407; over gRPC, if it answers CANCELLED, \
DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS, or RESOURCE_EXHAUSTED with RetryInfo. The \
delay is random, up to half a second at first, and doubles up to half a minute; it is never shorter than the server's \
Retry-After or RetryInfo. While an endpoint fails, one request at a time is tried, oldest first. Any other error is final. A request \
that is too large (413) is split; over gRPC a request has at most 4 MiB, which is what servers take by default. Items that a server refuses in a request that it accepts (partial success) are \
counted and not sent again.

Nothing is dropped to save memory: when --queue-bytes are pending for a destination, tele-ship stops reading, and \
the programs that write to it wait. A request whose answer is lost is sent again, so a server can get it twice. Up to --in-flight \
requests are sent at a time, so they can arrive out of order.

At the end of input, tele-ship delivers what is pending, and with --spool keeps the rest. It gives up on a destination to which nothing could be \
delivered for --drain. After the first SIGINT or SIGTERM it reads for two more seconds at most, so that the \
producers in the same pipeline can finish, and ends --drain after the signal at the latest. A second signal ends it at once. In each case \
stderr reports the outcome of every line, per destination; with --stats, so does a `ship_stats` record.";

const MONITORING: &str = "\
--monitor posts one JSON object for each host and sample (the records of a host with the same `ts`): `hostname`, `cpu`, \
`ram` and `disk` in percent, `timestamp` in whole seconds, `disk_read` and `disk_write` in MB/s (a million bytes), and \
`details`, which has the latest of everything else; what is not known is null. It needs the records of \
`scrape`; those of `pmstat` add frequencies. A first sample has no rates and is not posted. With `scrape --url \
http://HOST:5001/system` as input, that object is the `details`.

`disk` is the file system at SYSTEM_STATS_DISK_PATH, by default /. Errors of the server (408, 425, 429 and 5xx) are \
retried; other errors are final.";

const SPOOL: &str = "\
With --spool DIR, lines are stored in DIR before they are delivered, and deleted when every destination has them. A line \
is safe from a crash or a power failure once it is committed, within some 25 ms of its arrival. Each destination has a \
cursor of its own: one that is down does not hold up the others while the spool has room. At --spool-max, or when the \
disk is full, tele-ship stops reading, reports it every 10 s, and goes on when there is room.

What is not delivered at the end stays in the spool, and the exit status is 1. The next start with the same DIR goes on \
from there, and repeats the batches that were on their way, byte for byte. So after a crash a line can arrive twice \
only if it was in one of these. A new destination begins with the oldest line in the spool. A destination that is not \
among the options any more keeps its cursor, and its lines, until the file DESTINATION.cursor is removed.

The lines are in files of up to 64 MiB (`jq . DIR/*.ndjson`), with checksums in a second file each. Damage never prevents \
a start: an unfinished write is cut off, a block with a wrong checksum is set aside in a file that ends in `.damaged`, and \
its lines count as `dropped`. Lines over --max-line are not stored; they are rejected when they are read.

`tele-ship spool status DIR` prints a JSON line about the lines in DIR, and one for each destination with the number of \
lines that it still gets. `tele-ship spool verify DIR` reads every line, too, and exits 1 if there is damage. Both can run \
while the spool is in use. `tele-ship spool drain DIR` delivers what is left and reads nothing; it takes the same \
destinations and options.

When tele-ship is killed, up to 8 MiB that it has read and not yet committed are lost.";

const DATABASE: &str = "\
Each kind has a table of its name with a column per field and an index on `ts`; `kind` is not a column. New fields \
become new columns. Booleans are stored as 0 and 1, arrays and objects as JSON text. Lines without `kind` or `ts` go \
unchanged to the table `other`.

A value that its column cannot store exactly, such as a string in a column of numbers, goes to a second column, \
`^text:NAME`, `^number:NAME` or `^json:NAME`. So does a field whose name differs from another's only in case. An \
integer above 2^63-1 or below -2^63 is stored as text.

A table has at most 1000 columns; further fields are stored as an object in the column `^more`. A database has at most \
500 tables; lines of further kinds go to `other`.

If the directory of a new database does not exist, it is created, for its owner only; its parent must exist. The database \
is in WAL mode, so others can read it while it is written. A batch is one transaction. After a power failure the last \
transactions can be missing, but the database is consistent. If the file is moved away, tele-ship begins a new one.

The database has the `PRAGMA application_id` 1953524080 (\"tpip\"). tele-ship does not write to a database that has tables and \
another id. To add its tables to such a database anyway, set that id.";

const CLICKHOUSE: &str = "\
Without --table, data points, log records and spans go to the tables of the OpenTelemetry Collector's ClickHouse \
exporter: otel_logs, otel_traces, and otel_metrics_gauge, _sum, _histogram, _exponential_histogram and _summary. They \
are those that --otlp would send. Columns are filled by name, in the type that they have; a column with another name \
keeps its default.

With --table NAME, each line is a row, and each field a column. A line without `ts` gets the time at which it was read. If \
NAME contains {kind}, each kind has a table, and lines without `kind` or `ts` go unchanged to the column `json` of the \
table with `other` for the kind.

--create creates databases and tables that are missing, and with --table also columns. The columns of telepipe's fields \
have the types of their schemas, and null for a field that is absent; those of other fields have the type of their \
first values, and strings take everything. Tables have a partition for each day. Without --create, a field \
without a column is reported once and not stored.

An insert has up to 100,000 rows of one table and one day. Its `insert_deduplication_token` is made of its lines and \
their position in the input, and async_insert is off. An insert that is repeated because its answer was lost is \
stored once if the table remembers inserts, as replicated tables and those of --create do; for others, set \
`non_replicated_deduplication_window`. For the same reason, a file that is sent twice within that window is stored once.

If the server refuses the data, the insert is divided until the line at fault is alone, which is rejected. So is an \
integer that its column would store as another one. Any other error is retried and reported once a minute, also a wrong \
password or a missing table.";

const ENVIRONMENT: &str = "\
OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _COMPRESSION, _TIMEOUT, _CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY and \
_PROTOCOL (grpc, http/protobuf or http/json), and the same with METRICS_, LOGS_ or TRACES_ after OTLP_ for one signal, \
whose HTTP endpoint is then used as it is, without /v1/…; \
OTEL_SERVICE_NAME; OTEL_RESOURCE_ATTRIBUTES; CLICKHOUSE_URL, _USER, _PASSWORD and _DATABASE; \
MONITORING_SERVER_METRICS_URL; SYSTEM_STATS_DISK_PATH; XDG_DATA_HOME. Options override variables.

CLICKHOUSE_URL, CLICKHOUSE_USER, CLICKHOUSE_PASSWORD and CLICKHOUSE_DATABASE. A user, password or database in the URL \
(`http://USER:PASSWORD@HOST:8123/?database=NAME`) overrides them.

OTEL_EXPORTER_OTLP_HEADERS is a list, `name=value,name=value`, with percent-encoded values. Servers that take a bare \
key, such as HyperDX, get it with `authorization=KEY`. Headers that belong to the transport, such as Content-Length, are \
refused.

HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name HTTP proxies. NO_PROXY lists hosts to reach directly, as in curl: `*`, \
domains (with their subdomains), addresses and networks such as 10.0.0.0/8, each with an optional port. Loopback \
addresses never go through a proxy.

`host.name` is always the `host` of the record. A host.name in OTEL_RESOURCE_ATTRIBUTES applies to lines without \
`host`. Other attributes in that variable that begin with `host.` or `os.` apply to records of this host only; the rest apply to every host.";

const EXIT_STATUS: &str = "\
0 if every destination has every line that was read, or the reader of stdout left; 1 if a line was rejected or \
dropped, or is still pending, or the program failed; 2 for a mistake on the command line or in the environment; \
130 after a second signal.";

const OVERHEAD: &str = "\
Measured by `scripts/bench ship` on two virtual CPUs of an AMD EPYC under Linux 6.18, to an HTTP server on loopback, \
without compression: a million data points of scrape took 0.24 s of CPU time, a million of iolat, most of them \
histograms of a busy disk, 1.6 s; gzip adds 20 % to the first and 13 % to the second. It encodes on one thread: 3.6 million points of \
scrape a second, 0.6 million of iolat.

Memory: up to --queue-bytes per destination for pending lines and requests, and up to 8 MiB more.";

const CAVEATS: &str = "\
Several programs can write to the pipe that tele-ship reads. Telepipe's programs write whole lines, and lines of up to \
4096 bytes (PIPE_BUF) stay whole. A longer line, or one that another program passes on in pieces, as ssh does, can be \
mixed with another program's, and is then rejected. After ssh, `grep --line-buffered .` makes the lines whole again.

Without --spool, pending lines are in memory: they are lost if the program is killed or the machine stops.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<TeleShip>()
}
