//! Where OTLP/HTTP requests go and what they carry: from the command line, then from the variables of the OTLP
//! exporter specification, then its defaults.
//!
//! `OTEL_EXPORTER_OTLP_METRICS_…`, `_LOGS_…` and `_TRACES_…` override `OTEL_EXPORTER_OTLP_…`. An empty variable
//! counts as unset. Messages never contain the value of a header.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::common::units::duration;
use crate::http::{Trust, public_name};
use crate::ship::otlp::{Signal, percent_decode};

/// The options of `--otlp`.
#[derive(Args, Clone, Debug, Default)]
pub struct OtlpArgs {
    /// Send to an OpenTelemetry server over HTTP
    ///
    /// Default: OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318.
    #[arg(long, value_name = "URL", num_args = 0..=1, help_heading = "Destinations")]
    pub otlp: Option<Option<String>>,

    /// Compress requests this way
    ///
    /// Default: OTEL_EXPORTER_OTLP_COMPRESSION, or gzip.
    #[arg(long, requires = "otlp", value_name = "METHOD", help_heading = "OTLP")]
    pub compression: Option<Compression>,

    /// Send the headers in this file, one `Name: value` per line
    #[arg(long, requires = "otlp", value_name = "FILE", help_heading = "OTLP")]
    pub header_file: Option<PathBuf>,

    /// Trust these certificates (PEM) in addition to the system's
    ///
    /// Default: OTEL_EXPORTER_OTLP_CERTIFICATE.
    #[arg(long, requires = "otlp", value_name = "FILE", help_heading = "OTLP")]
    pub ca_file: Option<PathBuf>,

    /// Retry a request that takes longer than this
    ///
    /// Default: OTEL_EXPORTER_OTLP_TIMEOUT, or 10s.
    #[arg(long, requires = "otlp", value_name = "TIME", value_parser = duration, help_heading = "OTLP")]
    pub timeout: Option<Duration>,
}

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// gzip
    Gzip,
    /// No compression
    None,
}

/// The endpoint for the requests of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL with its path.
    pub url: Url,
    /// Headers of every request, except those about the body.
    pub headers: HeaderMap,
    /// How bodies are compressed.
    pub compression: Compression,
    /// The time limit of a request.
    pub timeout: Duration,
    /// Certificates, for `https`.
    trust: Trust,
}

/// Looks up an environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Target {
    /// The target of one signal.
    ///
    /// # Errors
    /// If an option or a variable is wrong; the message names it.
    pub fn new(signal: Signal, options: &OtlpArgs, env: Env<'_>) -> Result<Self> {
        let setting = |name: &str| setting(signal, name, env);
        if let Some((variable, protocol)) = setting("PROTOCOL")
            && protocol != "http/protobuf"
        {
            bail!(
                "{variable}={protocol} is not supported; unset it or set it to http/protobuf, which servers \
                 accept on port 4318"
            );
        }
        let mut headers = HeaderMap::new();
        if let Some((variable, list)) = setting("HEADERS") {
            parse_list(&list, &mut headers).with_context(|| variable)?;
        }
        if let Some(path) = &options.header_file {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            parse_lines(&text, &mut headers).with_context(|| path.display().to_string())?;
        }
        let path = |name| setting(name).map(|(_, path)| PathBuf::from(path));
        Ok(Self {
            url: url(signal, options.otlp.as_ref().and_then(Option::as_deref), env)?,
            headers,
            compression: options.compression.map_or_else(|| compression(setting("COMPRESSION")), Ok)?,
            timeout: options.timeout.map_or_else(|| timeout(setting("TIMEOUT")), Ok)?,
            trust: Trust {
                ca: options.ca_file.clone().or_else(|| path("CERTIFICATE")),
                certificate: path("CLIENT_CERTIFICATE"),
                key: path("CLIENT_KEY"),
            },
        })
    }

    /// The server for messages: without user, password and query.
    pub fn server(&self) -> String {
        public_name(&self.url)
    }

    /// The certificates to use; `None` where the connection is not encrypted.
    pub fn tls(&self) -> Option<&Trust> {
        (self.url.scheme() == "https").then_some(&self.trust)
    }
}

/// The variable that is set and its value; the variable of the signal overrides the general one.
fn setting(signal: Signal, name: &str, env: Env<'_>) -> Option<(String, String)> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_{name}", format!("{signal:?}").to_uppercase());
    let of = |variable: String| {
        let value = env(&variable)?.trim().to_owned();
        (!value.is_empty()).then_some((variable, value))
    };
    of(own).or_else(|| of(format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// The endpoint variable of a signal is used unchanged; the signal's path is appended to any other URL.
fn url(signal: Signal, given: Option<&str>, env: Env<'_>) -> Result<Url> {
    if let Some(given) = given {
        if given.trim().is_empty() {
            bail!("--otlp= is empty: write --otlp http://HOST:PORT, or --otlp alone for the default");
        }
        return base(given, signal).with_context(|| format!("--otlp {}", harmless(given)));
    }
    let Some((variable, value)) = setting(signal, "ENDPOINT", env) else {
        return base("http://localhost:4318", signal);
    };
    let url = if variable == "OTEL_EXPORTER_OTLP_ENDPOINT" { base(&value, signal) } else { parse(&value) };
    url.with_context(|| format!("{variable}={}", harmless(&value)))
}

fn base(text: &str, signal: Signal) -> Result<Url> {
    let mut url = parse(text)?;
    if let Some(own) = Signal::ALL.iter().find(|own| url.path().trim_end_matches('/').ends_with(own.path())) {
        bail!("the path of each signal is appended; leave out /{}", own.path());
    }
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(signal.path().split('/'));
    }
    Ok(url)
}

fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.context("not a URL; write http://HOST:PORT or https://HOST:PORT")
}

/// A URL, which may contain a password or a token, for a message.
fn harmless(text: &str) -> &str {
    match text.split_once(['?', '#']) {
        // The part before it may be half a password, or the rest a query with an address.
        Some((_, rest)) if rest.contains('@') => "…",
        Some((start, _)) => harmless(start),
        None => text.rsplit_once('@').map_or(text, |(_, rest)| rest),
    }
}

/// Whether a URL contains a password. Every user of the host can read the command line.
pub fn shows_password(given: &str) -> bool {
    Url::parse(given).is_ok_and(|url| url.password().is_some())
}

fn compression(setting: Option<(String, String)>) -> Result<Compression> {
    match setting.as_ref().map(|(variable, value)| (variable, value.as_str())) {
        None | Some((_, "gzip")) => Ok(Compression::Gzip),
        Some((_, "none")) => Ok(Compression::None),
        Some((variable, other)) => bail!("{variable} is {other}; use gzip or none"),
    }
}

fn timeout(setting: Option<(String, String)>) -> Result<Duration> {
    let Some((variable, value)) = setting else { return Ok(Duration::from_secs(10)) };
    match value.parse() {
        Ok(0) => Ok(Duration::MAX), // the specification: no limit
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => bail!("{variable} is {value}; use a whole number of milliseconds"),
    }
}

/// `name=value,name=value`, values percent-encoded.
fn parse_list(list: &str, headers: &mut HeaderMap) -> Result<()> {
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').context("expected name=value")?;
        insert(headers, name, &percent_decode(value.trim()).ok().context("a value is not percent-encoded")?)?;
    }
    Ok(())
}

/// One `Name: value` per line; empty lines and lines that begin with `#` are skipped.
fn parse_lines(text: &str, headers: &mut HeaderMap) -> Result<()> {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once(':').context("expected `Name: value`")?;
        insert(headers, name, value.trim())?;
    }
    Ok(())
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let name: HeaderName = name.trim().parse().context("not a valid header name")?;
    let value = HeaderValue::from_str(value).ok();
    let mut value = value.with_context(|| format!("the value of {name} is not valid in a header"))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(options: &OtlpArgs, variables: &[(&str, &str)], signal: Signal) -> Result<Target> {
        let named = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Target::new(signal, options, &|name| named(name).map(|(_, value)| (*value).to_owned()))
    }

    fn urls(given: Option<&str>, variables: &[(&str, &str)]) -> [String; 3] {
        let options = OtlpArgs { otlp: Some(given.map(str::to_owned)), ..OtlpArgs::default() };
        Signal::ALL.map(|signal| target(&options, variables, signal).unwrap().url.to_string())
    }

    #[test]
    fn endpoints_as_the_specification_builds_them() {
        let paths = |base: &str| Signal::ALL.map(|signal| format!("{base}/{}", signal.path()));
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1/x/");
        assert_eq!(urls(None, &[]), paths("http://localhost:4318"));
        assert_eq!(urls(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), paths("http://localhost:4318"));
        assert_eq!(urls(None, &[general]), paths("http://a:1/x"));
        let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs:2");
        let mixed = urls(None, &[general, own]);
        assert_eq!(mixed[0], "http://a:1/x/v1/metrics");
        assert_eq!(mixed[1], "https://logs:2/");
        assert_eq!(urls(Some("https://b"), &[general, own]), paths("https://b"));
        assert_eq!(urls(Some("http://b:3/y?k=v"), &[])[2], "http://b:3/y/v1/traces?k=v");
    }

    #[test]
    fn headers_are_merged_and_kept_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\n\nX-Two: from file\r\nX-Three: a:b\n").unwrap();
        let options = OtlpArgs { header_file: Some(file.path().into()), ..OtlpArgs::default() };
        let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret%3D, x-two = 2 ,")];
        let headers = target(&options, &variables, Signal::Metrics).unwrap().headers;
        let get = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(
            (get("Authorization"), get("x-two"), get("x-three")),
            ("Bearer s3cret=", "from file", "a:b")
        );
        assert!(!format!("{headers:?}").contains("s3cret"));
        for bad in ["s3cret", "a=%zzs3cret", "a b=s3cret", "a=s3cret%0A"] {
            let error = target(&OtlpArgs::default(), &[("OTEL_EXPORTER_OTLP_HEADERS", bad)], Signal::Logs);
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn settings_and_their_mistakes() {
        let of = |name, value| target(&OtlpArgs::default(), &[(name, value)], Signal::Metrics);
        assert_eq!(of("A", "b").unwrap().compression, Compression::Gzip);
        assert_eq!(of("OTEL_EXPORTER_OTLP_COMPRESSION", "none").unwrap().compression, Compression::None);
        assert_eq!(of("A", "b").unwrap().timeout, Duration::from_secs(10));
        assert_eq!(of("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1500").unwrap().timeout.as_millis(), 1500);
        assert!(of("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").is_ok());
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/v1/metrics/"),
        ] {
            let error = format!("{:#}", of(name, value).unwrap_err());
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn passwords_in_urls_stay_out_of_messages() {
        let options = OtlpArgs {
            otlp: Some(Some("https://me:s3cret@h:1/p?token=s3cret".into())),
            ..OtlpArgs::default()
        };
        let target = target(&options, &[], Signal::Logs).unwrap();
        assert_eq!(target.server(), "https://h:1/p/v1/logs");
        for given in ["me:s3cret@h", "h:1/p?token=s3cret", "h#s3cret", "h?a=s3@s3cret", "me:s3cret?@h"] {
            let error = url(Signal::Logs, Some(given), &|_| None).unwrap_err();
            assert!(!format!("{error:#}").contains("s3"), "{error:#}");
        }
        assert!(shows_password("https://me:s3cret@h") && !shows_password("https://me@h:1/p?a:b@c"));
    }
}
