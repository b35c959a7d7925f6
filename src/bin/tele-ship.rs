//! `tele-ship`: from JSON lines on stdin to a database or a server.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;

use telepipe::common::diag::log;
use telepipe::common::options::GenerateArg;
use telepipe::common::program::Generate;
use telepipe::common::program::Program;
use telepipe::common::stop::Stop;
use telepipe::common::units::{duration, size};
use telepipe::record::{Kind, SHIP_STATS};
use telepipe::ship::Limits;
use telepipe::ship::destinations::Destinations;
use telepipe::ship::pipeline::{Pipeline, Settings};

/// Deliver JSON lines from stdin to an OpenTelemetry server, a SQLite database or stdout
#[derive(Parser)]
#[command(name = "tele-ship")]
struct TeleShip {
    #[command(flatten)]
    destinations: Destinations,

    /// Send when this many lines have come together
    #[arg(long, help_heading = "Delivery", value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..))]
    batch_lines: u32,

    /// Send when they have this many bytes
    #[arg(long, help_heading = "Delivery", value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    batch_bytes: usize,

    /// Send when the first of them is this old
    #[arg(long, help_heading = "Delivery", value_name = "TIME", default_value = "1s", value_parser = duration)]
    batch_age: Duration,

    /// Stop reading when this much waits for a destination
    #[arg(long, help_heading = "Delivery", value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    queue_bytes: usize,

    /// Send up to N requests at a time to each endpoint; 1 keeps them in order
    #[arg(long, help_heading = "Delivery", value_name = "N", default_value = "8", value_parser = clap::value_parser!(u8).range(1..=64))]
    in_flight: u8,

    /// Give up this long after a signal, or after the end of input when nothing more is delivered
    #[arg(long, help_heading = "Delivery", value_name = "TIME", default_value = "30s", value_parser = duration)]
    drain: Duration,

    /// Write a ship_stats record per destination to stderr this often, and at the end
    #[arg(long, help_heading = "Delivery", value_name = "TIME", value_parser = duration)]
    stats: Option<Duration>,

    #[command(flatten)]
    generate: GenerateArg,
}

impl Program for TeleShip {
    const KINDS: &'static [&'static Kind] = &[&SHIP_STATS];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Send to the OpenTelemetry Collector on this host", "scrape | tele-ship --otlp"),
        (
            "Send to another one, with a secret that is on no command line",
            "scrape | tele-ship --otlp https://otel.example.com --header-file ~/.otlp-headers",
        ),
        ("Keep a day in a database, and look into it", "scrape --duration 24h | tele-ship --sqlite today.db"),
        (
            "The newest load averages",
            "sqlite3 today.db 'select ts, load_1m from load order by ts desc limit 5'",
        ),
        ("Several destinations at once", "scrape | tele-ship --otlp --sqlite today.db"),
        ("See what would be sent", "scrape --once | tele-ship --stdout | jq ."),
        ("From cron: give up after a minute", "scrape --once -i 1s | timeout 1m tele-ship --otlp"),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[
        ("INPUT", INPUT),
        ("DELIVERY", DELIVERY),
        ("DATABASE", DATABASE),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXIT STATUS", EXIT_STATUS),
        ("OVERHEAD", OVERHEAD),
        ("CAVEATS", CAVEATS),
    ];

    fn generate(&self) -> Option<Generate> {
        self.generate.what
    }

    fn run(self) -> Result<()> {
        let limits = Limits {
            lines: self.batch_lines.try_into().unwrap_or(usize::MAX),
            bytes: self.batch_bytes,
            age: self.batch_age,
        };
        let Self { drain, stats, queue_bytes, in_flight, .. } = self;
        let only_stdout = self.destinations.only_stdout();
        let stop = Stop::install(drain + Duration::from_secs(1), only_stdout);
        let stop = stop.context("cannot watch for signals")?;
        let in_flight = in_flight.into();
        let mut pipeline = Pipeline::new(Settings { limits, queue_bytes, in_flight, drain, stats });
        self.destinations.open(&mut pipeline)?;
        if rustix::termios::isatty(rustix::stdio::stdin()) {
            log(format_args!("reading from the terminal; end with Ctrl-D"));
        }
        pipeline.run(&stop)
    }
}

const INPUT: &str = "\
Each line is one JSON object of at most 1 MiB. Records of telepipe's programs become the metrics and log records \
that their declarations say; `metric`, `log` and `span` records, from any program, describe themselves; a line of \
OTLP/JSON is taken as it is; any other object becomes a log record whose body it is.

Lines of nothing but white space are passed over and not counted, and a byte order mark before a line is no part of \
it. A line that a destination can never take is rejected: it is counted, and the first few are shown on stderr with \
the reason. No destination takes what is longer than 1 MiB, not UTF-8, not JSON (half a surrogate pair such as \
`\\ud800` in a string is not), or not an object. SQLite takes everything else. For OTLP, a record is rejected too if a \
field that has a place there holds something else, and the reason names the field: `ts`, `start_ts` or `begin_ts` that \
is not an RFC 3339 time; a field of one of our metrics that is not a number, or buckets that make no sense; a `metric` \
without `name` or `value`, of an unknown `type` or `temporality`, whose `unit` is not a string or `attributes` not a \
map, or whose `bounds`, `bucket_counts` and `count` do not fit together; a `span` without ids, `name` or `begin_ts`, \
or that begins after its end; a `log` whose `severity` is neither a name nor a number from 1 to 24; a line of OTLP/JSON \
that is not as the specification has it. Fields of a `metric` or `span`, or of a kind of ours that is metrics, that have \
no place are not sent to OTLP. There an integer that does not fit 64 signed bits is its digits as a string, or as the \
value of a metric the nearest double.";

const DELIVERY: &str = "\
Every destination gets every line, at its own pace. A request that fails because the server cannot be reached, \
takes too long or answers 429, 502, 503 or 504 is tried again until it succeeds, after a random time of up to half \
a second that doubles up to half a minute, and not before the server's Retry-After. Any other refusal is final. A \
request that is too large (413) is split. Items that a server refuses within a request that it accepts (partial \
success) are counted and not sent again.

Nothing is dropped to make room: when --queue-bytes wait for a destination, reading stops, and the pipe makes the \
producers wait. A request whose answer was lost is sent again, so that a server may see it twice.

After the first SIGINT or SIGTERM input is read until its end, for two seconds at most, and what waits has --drain \
to arrive; a second signal ends the program at once.

At the end stderr tells per destination what became of every line, and, with --stats, so does a `ship_stats` record.";

const DATABASE: &str = "\
The table of a kind has its name, a column per field, and an index on `ts`; `kind` itself is not a column. New \
fields become new columns. Booleans are 0 and 1, arrays and objects JSON text. Lines without `kind` and `ts` go whole \
into the table `other`. A value that its column cannot hold exactly, such as a string among numbers, goes to a column \
`^text:NAME`, `^number:NAME` or `^json:NAME` beside it, and so does a field whose name differs from another's only in \
case. An integer above 2^63-1 or below -2^63, however long, is kept as text, in its digits.

Names that are data do not make tables and columns without end: a table has at most 1000 columns, and the fields for \
which there is none are together an object in the column `^more`; beyond 500 tables, lines of further kinds go whole \
into `other`, which stderr says once.

The database is in WAL mode: others can read it while it is written. A batch is one transaction. After a power cut \
the last transactions may be missing, and the database is consistent. If the file is moved away, a new one is begun.

Its `PRAGMA application_id` is 1953524080 (\"tpip\"). A database that is not empty and does not have it is another \
program's: tele-ship leaves it as it is and fails, or, if it comes in place of the one that is being written, waits \
until it is gone. Who wants the tables in it all the same sets that number.";

const ENVIRONMENT: &str = "\
OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, _COMPRESSION, _TIMEOUT, _CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY and \
_PROTOCOL (http/protobuf), and the same with METRICS_, LOGS_ or TRACES_ after OTLP_ for one signal; \
OTEL_SERVICE_NAME; OTEL_RESOURCE_ATTRIBUTES; HTTP_PROXY, HTTPS_PROXY and NO_PROXY; XDG_DATA_HOME. Options go before \
variables.

A record's own `host` is always its `host.name`: one in OTEL_RESOURCE_ATTRIBUTES is for lines that name no host, so \
that streams of several hosts stay apart. Of the other attributes there, those that begin with `host.` or `os.` are \
said of this host only, all others of every host.";

const EXIT_STATUS: &str = "\
0 if every destination has every line that was read, or the reader of stdout left; 1 if something was rejected, is \
still pending or was dropped, or the program failed; 2 for a mistake on the command line or in the environment; \
130 after a second signal.";

const OVERHEAD: &str = "\
Measured by `scripts/bench ship` on two virtual CPUs of an AMD EPYC under Linux 6.18, to an HTTP server on loopback, \
without compression: a million data points of scrape took 0.2 s of CPU time, a million of iolat, most of them \
histograms of a busy disk, 1.5 s; gzip adds half of that and 14 %. It encodes on one thread: 4.4 million points of \
scrape a second, 0.65 million of iolat.

Memory: what waits, up to --queue-bytes per destination, and the batches that are being encoded and sent.";

const CAVEATS: &str = "\
Several programs can write into the pipe that tele-ship reads: those of telepipe write whole lines, and lines of up to \
4096 bytes (PIPE_BUF) stay whole. A longer one, or one that another program passes on in pieces, as ssh does, can get \
another's line in its middle, and then is rejected; after ssh, grep --line-buffered . makes whole lines again.

Waiting lines are in memory: they are lost if the program is killed or the machine stops. At the end of input \
tele-ship goes on trying for as long as a server is away; bound that with timeout(1), which leaves --drain for the rest.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<TeleShip>()
}
