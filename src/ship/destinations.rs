//! The list of sinks: the options that choose them, and how each is opened.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::otlp::{Encoder, Names, Options};
use super::pipeline::Pipeline;
use super::stdout::Stdout;
use crate::common::duration::duration;
use crate::common::program::Usage;

/// Where lines go. Without any of the first three, to a database in the user's own folder.
#[derive(Args, Clone, Debug, Default)]
pub struct Destinations {
    /// Send to an OpenTelemetry server over HTTP [default: OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318]
    #[arg(long, value_name = "URL", num_args = 0..=1, help_heading = "Destinations")]
    pub otlp: Option<Option<String>>,

    /// Write OTLP/JSON lines, one per batch and signal
    #[arg(long, help_heading = "Destinations")]
    pub stdout: bool,

    /// Write to a SQLite database, one table per kind [default without any destination: $XDG_DATA_HOME/telepipe/telemetry.db]
    #[arg(long, value_name = "FILE", help_heading = "Destinations")]
    pub sqlite: Option<PathBuf>,

    /// Which names metrics and attributes get
    #[arg(long, value_name = "NAMES", default_value = "semconv", help_heading = "OTLP")]
    pub names: Names,

    /// Tells this pipeline from others of the host, in service.instance.id
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true, help_heading = "OTLP")]
    pub pipeline: String,

    /// How requests are compressed [default: OTEL_EXPORTER_OTLP_COMPRESSION, or gzip]
    #[arg(long, requires = "otlp", value_name = "HOW", help_heading = "OTLP")]
    pub compression: Option<Compression>,

    /// Send the headers in this file, a `Name: value` per line
    #[arg(long, requires = "otlp", value_name = "FILE", help_heading = "OTLP")]
    pub header_file: Option<PathBuf>,

    /// Trust the certificates in this file (PEM) beside the system's [default: OTEL_EXPORTER_OTLP_CERTIFICATE]
    #[arg(long, requires = "otlp", value_name = "FILE", help_heading = "OTLP")]
    pub ca_file: Option<PathBuf>,

    /// How long a request may take [default: OTEL_EXPORTER_OTLP_TIMEOUT, or 10s]
    #[arg(long, requires = "otlp", value_name = "TIME", value_parser = duration, help_heading = "OTLP")]
    pub timeout: Option<Duration>,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// By gzip
    Gzip,
    /// Not at all
    None,
}

impl Destinations {
    /// Whether nothing but stdout is written, so that it is all over when its reader leaves.
    pub fn only_stdout(&self) -> bool {
        self.stdout && self.otlp.is_none() && self.sqlite.is_none()
    }

    /// Opens every destination that was asked for.
    ///
    /// # Errors
    /// If one of them cannot be opened, or an option or variable is wrong.
    pub fn open(&self, pipeline: &mut Pipeline) -> Result<()> {
        if self.otlp.is_some() {
            self.open_otlp(pipeline)?;
        }
        if self.stdout {
            crate::common::stdio_check::stdout()?;
            pipeline.add(Stdout::new(self.encoder()?))?;
        }
        if self.sqlite.is_some() || (self.otlp.is_none() && !self.stdout) {
            self.open_sqlite(pipeline)?;
        }
        Ok(())
    }

    fn encoder(&self) -> Result<Encoder> {
        let options = Options::from_env().map_err(usage)?;
        Ok(Encoder::new(Options { names: self.names, pipeline: self.pipeline.clone(), ..options }))
    }

    #[cfg(feature = "http")]
    fn open_otlp(&self, pipeline: &mut Pipeline) -> Result<()> {
        pipeline.add(super::http::Http::open(self, self.encoder()?).map_err(usage)?)
    }

    #[cfg(not(feature = "http"))]
    fn open_otlp(&self, _: &mut Pipeline) -> Result<()> {
        Err(Usage(format!(
            "this {} was built without --otlp (feature http)",
            crate::common::diag::program_name()
        ))
        .into())
    }

    #[cfg(feature = "sqlite")]
    fn open_sqlite(&self, pipeline: &mut Pipeline) -> Result<()> {
        use super::sqlite::{Sqlite, default_path};
        if let Some(path) = &self.sqlite {
            return pipeline.add(Sqlite::open(path)?);
        }
        let path = default_path()?;
        crate::common::diag::log(format_args!("no destination was named: writing to {}", path.display()));
        pipeline.add(Sqlite::open(&path)?)
    }

    #[cfg(not(feature = "sqlite"))]
    fn open_sqlite(&self, _: &mut Pipeline) -> Result<()> {
        let text = "was built without --sqlite (feature sqlite): name another destination, such as --stdout";
        Err(Usage(format!("this {} {text}", crate::common::diag::program_name())).into())
    }
}

/// A mistake in options or environment, rather than a failure.
fn usage(error: anyhow::Error) -> anyhow::Error {
    Usage(format!("{error:#}")).into()
}
