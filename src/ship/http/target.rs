//! Where OTLP/HTTP requests go and what they carry: the command line, then the
//! environment of the OTLP exporter specification, then its defaults.
//!
//! `OTEL_EXPORTER_OTLP_METRICS_…`, `_LOGS_…` and `_TRACES_…` go before
//! `OTEL_EXPORTER_OTLP_…`. An empty variable is an unset one. No value of a
//! header is ever part of a message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::ship::destinations::{Compression, Destinations};
use crate::ship::otlp::{Signal, percent_decode};

/// Where the requests of one signal go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// With its path.
    pub url: Url,
    /// Beside those that say what the body is.
    pub headers: HeaderMap,
    /// How bodies are compressed.
    pub compression: Compression,
    /// How long a request may take.
    pub timeout: Duration,
    /// Whom to trust and who we are.
    pub trust: Trust,
}

/// The files of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificates that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Looks an environment variable up.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Target {
    /// For one signal.
    ///
    /// # Errors
    /// What is wrong with an option or a variable, and its name.
    pub fn new(signal: Signal, options: &Destinations, env: Env<'_>) -> Result<Self> {
        let setting = |name: &str| setting(signal, name, env);
        if let Some((variable, protocol)) = setting("PROTOCOL")
            && protocol != "http/protobuf"
        {
            bail!(
                "{variable} is {protocol}, which this version does not offer: unset it or set it to \
                 http/protobuf, which servers take on port 4318"
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
        let host = self.url.host_str().unwrap_or("");
        let port = self.url.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{host}{port}{}", self.url.scheme(), self.url.path())
    }
}

/// The variable that is set, the signal's own before the general one, and its value.
fn setting(signal: Signal, name: &str, env: Env<'_>) -> Option<(String, String)> {
    let own = format!("OTEL_EXPORTER_OTLP_{}_{name}", format!("{signal:?}").to_uppercase());
    let of = |variable: String| {
        let value = env(&variable)?.trim().to_owned();
        (!value.is_empty()).then_some((variable, value))
    };
    of(own).or_else(|| of(format!("OTEL_EXPORTER_OTLP_{name}")))
}

/// A signal's own endpoint is used as it is; to the others, the signal's path is appended.
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
        bail!("the path of each signal is appended to it: leave /{} out", own.path());
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

/// A URL that may hold a password or a token, for a message.
fn harmless(text: &str) -> &str {
    match text.split_once(['?', '#']) {
        // A password with one of these or a query with an address: what is secret cannot be told.
        Some((_, rest)) if rest.contains('@') => "…",
        Some((start, _)) => harmless(start),
        None => text.rsplit_once('@').map_or(text, |(_, rest)| rest),
    }
}

/// Whether a URL on the command line, which every user of the host can read, holds a password.
pub fn tells_password(given: &str) -> bool {
    Url::parse(given).is_ok_and(|url| url.password().is_some())
}

fn compression(setting: Option<(String, String)>) -> Result<Compression> {
    match setting.as_ref().map(|(variable, value)| (variable, value.as_str())) {
        None | Some((_, "gzip")) => Ok(Compression::Gzip),
        Some((_, "none")) => Ok(Compression::None),
        Some((variable, other)) => bail!("{variable} is {other}; it can be gzip or none"),
    }
}

fn timeout(setting: Option<(String, String)>) -> Result<Duration> {
    let Some((variable, value)) = setting else { return Ok(Duration::from_secs(10)) };
    match value.parse() {
        Ok(0) => Ok(Duration::MAX), // the specification: no limit
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => bail!("{variable} is {value}; it is a whole number of milliseconds"),
    }
}

/// `name=value,name=value`, values percent-encoded.
fn parse_list(list: &str, headers: &mut HeaderMap) -> Result<()> {
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').context("an entry is not name=value")?;
        insert(headers, name, &percent_decode(value.trim()).ok().context("a value is not percent-encoded")?)?;
    }
    Ok(())
}

/// `Name: value` per line; empty lines and those that begin with `#` do not count.
fn parse_lines(text: &str, headers: &mut HeaderMap) -> Result<()> {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.split_once(':').context("a line is not `Name: value`")?;
        insert(headers, name, value.trim())?;
    }
    Ok(())
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let name: HeaderName = name.trim().parse().context("not a name of a header")?;
    let value = HeaderValue::from_str(value).ok();
    let mut value = value.with_context(|| format!("the value of {name} cannot be one of a header"))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Reads a file that TLS needs.
///
/// # Errors
/// If it cannot be read; the message names it.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(options: &Destinations, variables: &[(&str, &str)], signal: Signal) -> Result<Target> {
        let named = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Target::new(signal, options, &|name| named(name).map(|(_, value)| (*value).to_owned()))
    }

    fn urls(given: Option<&str>, variables: &[(&str, &str)]) -> [String; 3] {
        let options = Destinations { otlp: Some(given.map(str::to_owned)), ..Destinations::default() };
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
        let options = Destinations { header_file: Some(file.path().into()), ..Destinations::default() };
        let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret%3D, x-two = 2 ,")];
        let headers = target(&options, &variables, Signal::Metrics).unwrap().headers;
        let get = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(
            (get("Authorization"), get("x-two"), get("x-three")),
            ("Bearer s3cret=", "from file", "a:b")
        );
        assert!(!format!("{headers:?}").contains("s3cret"));
        for bad in ["s3cret", "a=%zzs3cret", "a b=s3cret", "a=s3cret%0A"] {
            let error =
                target(&Destinations::default(), &[("OTEL_EXPORTER_OTLP_HEADERS", bad)], Signal::Logs);
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn settings_and_their_mistakes() {
        let of = |name, value| target(&Destinations::default(), &[(name, value)], Signal::Metrics);
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
        let options = Destinations {
            otlp: Some(Some("https://me:s3cret@h:1/p?token=s3cret".into())),
            ..Destinations::default()
        };
        let target = target(&options, &[], Signal::Logs).unwrap();
        assert_eq!(target.server(), "https://h:1/p/v1/logs");
        for given in ["me:s3cret@h", "h:1/p?token=s3cret", "h#s3cret", "h?a=s3@s3cret", "me:s3cret?@h"] {
            let error = url(Signal::Logs, Some(given), &|_| None).unwrap_err();
            assert!(!format!("{error:#}").contains("s3"), "{error:#}");
        }
        assert!(tells_password("https://me:s3cret@h") && !tells_password("https://me@h:1/p?a:b@c"));
    }
}
