//! The list of sinks: the options that select them, and how each is opened.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use clap::Args;

use super::check::{self, Report};
#[cfg(feature = "http")]
use super::clickhouse::{ClickHouse, ClickHouseArgs};
#[cfg(feature = "http")]
use super::monitor::{Monitor, MonitorArgs};
use super::otlp::{Encoder, Names, Options};
#[cfg(feature = "http")]
use super::otlp_exporter::{OtlpArgs, OtlpExporter};
use super::pipeline::Pipeline;
#[cfg(feature = "sqlite")]
use super::sqlite::SqliteArgs;
use super::stdout::Stdout;
use crate::common::program::Usage;
use crate::common::stdio_check;
#[cfg(feature = "http")]
use crate::http::Trust;

/// The destination options. Without any, lines go to a database in the user's data directory.
#[derive(Args, Clone, Debug, Default)]
pub struct Destinations {
    #[cfg(feature = "http")]
    #[command(flatten)]
    otlp: OtlpArgs,

    #[cfg(feature = "http")]
    #[command(flatten)]
    clickhouse: ClickHouseArgs,

    #[cfg(feature = "http")]
    #[command(flatten)]
    monitor: MonitorArgs,

    /// Write OTLP/JSON lines, one per batch and signal
    #[arg(long, help_heading = "Destinations")]
    stdout: bool,

    #[cfg(feature = "sqlite")]
    #[command(flatten)]
    sqlite: SqliteArgs,

    /// Use these names for metrics and attributes
    #[arg(long, value_name = "NAMES", default_value = "semconv", help_heading = "OTLP")]
    names: Names,

    /// Name this pipeline, to distinguish it from others on this host
    ///
    /// The name becomes part of service.instance.id.
    #[arg(
        long,
        hide_short_help = true,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true,
        help_heading = "OTLP"
    )]
    pipeline: String,
}

impl Destinations {
    /// Whether stdout is the only destination, so that the program ends when its reader leaves.
    pub fn only_stdout(&self) -> bool {
        let others = self.otlp() || self.clickhouse() || self.monitor() || self.sqlite();
        self.stdout && !others
    }

    /// Opens every destination that the options select.
    ///
    /// # Errors
    /// If a destination cannot be opened, or an option or variable is wrong.
    pub fn open(&self, pipeline: &mut Pipeline) -> Result<()> {
        #[cfg(feature = "http")]
        if !(self.otlp() || self.clickhouse() || self.monitor() || self.trust() == Trust::default()) {
            return Err(Usage(
                "--ca-file, --cert-file and --key-file need --otlp, --clickhouse or --monitor".to_owned(),
            )
            .into());
        }
        #[cfg(feature = "http")]
        if self.otlp() {
            pipeline.add(OtlpExporter::open(&self.otlp, self.encoder()?).map_err(usage)?)?;
        }
        #[cfg(feature = "http")]
        if self.clickhouse() {
            pipeline
                .add(ClickHouse::open(&self.clickhouse, self.trust(), self.encoder()?).map_err(usage)?)?;
        }
        #[cfg(feature = "http")]
        if self.monitor() {
            pipeline.add(Monitor::open(&self.monitor, self.trust()).map_err(usage)?)?;
        }
        if self.stdout {
            stdio_check::stdout()?;
            pipeline.add(Stdout::new(self.encoder()?))?;
        }
        if self.sqlite() || !(self.otlp() || self.clickhouse() || self.monitor() || self.stdout) {
            return self.open_sqlite(pipeline);
        }
        #[cfg(feature = "sqlite")]
        if self.sqlite.has_bounds() {
            return Err(Usage("--keep and --max-size need --sqlite, or no destination".to_owned()).into());
        }
        Ok(())
    }

    /// Tries every destination that the options select, and prints what works.
    ///
    /// # Errors
    /// If something does not work, or an option or variable is wrong.
    pub fn check(&self, spool: Option<&Path>, out: &mut dyn Write) -> Result<()> {
        let mut report = Report::new(out);
        if let Some(folder) = spool {
            check::spool(folder, &mut report);
        }
        #[cfg(feature = "http")]
        {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            if self.otlp() {
                let sink = OtlpExporter::open(&self.otlp, self.encoder()?).map_err(usage)?;
                runtime.block_on(sink.check(&mut report));
            }
            if self.clickhouse() {
                let sink =
                    ClickHouse::open(&self.clickhouse, self.trust(), self.encoder()?).map_err(usage)?;
                runtime.block_on(sink.check(&mut report));
            }
            if self.monitor() {
                let sink = Monitor::open(&self.monitor, self.trust()).map_err(usage)?;
                runtime.block_on(sink.check(&mut report));
            }
        }
        #[cfg(feature = "sqlite")]
        if self.sqlite() || !(self.otlp() || self.clickhouse() || self.monitor() || self.stdout) {
            self.sqlite.check(&mut report)?;
        }
        let (steps, failed) = report.end()?;
        ensure!(failed == 0, "{failed} of {steps} steps failed");
        Ok(())
    }

    /// The certificates of the options. OTLP also takes them from environment variables.
    #[cfg(feature = "http")]
    fn trust(&self) -> Trust {
        let OtlpArgs { ca_file, cert_file, key_file, .. } = &self.otlp;
        Trust { ca: ca_file.clone(), certificate: cert_file.clone(), key: key_file.clone() }
    }

    fn encoder(&self) -> Result<Encoder> {
        let options = Options::from_env().map_err(usage)?;
        Ok(Encoder::new(Options { names: self.names, pipeline: self.pipeline.clone(), ..options }))
    }

    #[cfg(feature = "http")]
    fn otlp(&self) -> bool {
        self.otlp.otlp.is_some()
    }

    #[cfg(not(feature = "http"))]
    fn otlp(&self) -> bool {
        false
    }

    #[cfg(feature = "http")]
    fn monitor(&self) -> bool {
        self.monitor.monitor.is_some()
    }

    #[cfg(not(feature = "http"))]
    fn monitor(&self) -> bool {
        false
    }

    #[cfg(feature = "http")]
    fn clickhouse(&self) -> bool {
        self.clickhouse.clickhouse.is_some()
    }

    #[cfg(not(feature = "http"))]
    fn clickhouse(&self) -> bool {
        false
    }

    #[cfg(feature = "sqlite")]
    fn sqlite(&self) -> bool {
        self.sqlite.sqlite.is_some()
    }

    #[cfg(not(feature = "sqlite"))]
    fn sqlite(&self) -> bool {
        false
    }

    #[cfg(feature = "sqlite")]
    fn open_sqlite(&self, pipeline: &mut Pipeline) -> Result<()> {
        pipeline.add(self.sqlite.open(pipeline.is_dry_run())?)
    }

    #[cfg(not(feature = "sqlite"))]
    fn open_sqlite(&self, _: &mut Pipeline) -> Result<()> {
        Err(Usage("no destination given; use --stdout".to_owned()).into())
    }
}

/// Reports a mistake in options or environment as a usage error.
fn usage(error: anyhow::Error) -> anyhow::Error {
    Usage(format!("{error:#}")).into()
}
