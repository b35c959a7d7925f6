//! Where the requests of a signal go and how: from the command line, then from the variables of the OTLP exporter
//! specification, then its defaults.
//!
//! `OTEL_EXPORTER_OTLP_METRICS_…`, `_LOGS_…` and `_TRACES_…` override `OTEL_EXPORTER_OTLP_…`. An empty variable
//! counts as unset. Messages never contain the value of a header.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use reqwest::Url;
use reqwest::header::HeaderMap;

use super::{grpc, headers};
use crate::common::units::duration;
use crate::http::{Trust, is_loopback, public_name};
use crate::ship::compression::Compression;
use crate::ship::otlp::Signal;

/// The options of `--otlp`.
#[derive(Args, Clone, Debug, Default)]
pub struct OtlpArgs {
    /// Send to an OpenTelemetry server over HTTP or gRPC
    ///
    /// http://HOST:4318 and https:// are OTLP over HTTP, to which the path of each signal is appended (/v1/metrics,
    /// /v1/logs, /v1/traces); grpc://HOST:4317 and grpcs:// are gRPC without and with TLS. Default:
    /// OTEL_EXPORTER_OTLP_ENDPOINT, or http://localhost:4318 (4317 with --protocol grpc).
    #[arg(long, value_name = "URL", num_args = 0..=1, help_heading = "Destinations")]
    pub otlp: Option<Option<String>>,

    /// Speak this protocol
    ///
    /// Default: what the scheme of the URL says, OTEL_EXPORTER_OTLP_PROTOCOL, or http/protobuf.
    #[arg(long, requires = "otlp", value_name = "PROTOCOL", help_heading = "OTLP")]
    pub protocol: Option<Protocol>,

    /// Compress requests with this method
    ///
    /// Default: OTEL_EXPORTER_OTLP_COMPRESSION, or gzip.
    #[arg(long, requires = "otlp", value_name = "METHOD", help_heading = "OTLP")]
    pub compression: Option<Compression>,

    /// Send the headers in this file, one `Name: value` per line
    #[arg(long, requires = "otlp", value_name = "FILE", help_heading = "OTLP")]
    pub header_file: Option<PathBuf>,

    /// Trust these certificates (PEM) in addition to the system's
    ///
    /// Certificates of CAs, or that of the server itself. Default: OTEL_EXPORTER_OTLP_CERTIFICATE.
    #[arg(long, value_name = "FILE", help_heading = "OTLP")]
    pub ca_file: Option<PathBuf>,

    /// Present this client certificate (PEM) to servers that ask for one
    ///
    /// Default: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE.
    #[arg(long, requires = "key_file", hide_short_help = true, value_name = "FILE", help_heading = "OTLP")]
    pub cert_file: Option<PathBuf>,

    /// Use this private key (PEM) with --cert-file
    ///
    /// Default: OTEL_EXPORTER_OTLP_CLIENT_KEY.
    #[arg(long, requires = "cert_file", hide_short_help = true, value_name = "FILE", help_heading = "OTLP")]
    pub key_file: Option<PathBuf>,

    /// Retry a request that takes longer than this
    ///
    /// Default: OTEL_EXPORTER_OTLP_TIMEOUT, or 10s.
    #[arg(long, requires = "otlp", value_name = "TIME", value_parser = duration, help_heading = "OTLP")]
    pub timeout: Option<Duration>,
}

/// How requests are encoded and transported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// gRPC
    Grpc,
    /// Protobuf over HTTP
    #[value(name = "http/protobuf")]
    HttpProtobuf,
    /// JSON over HTTP
    #[value(name = "http/json")]
    HttpJson,
}

impl Protocol {
    fn is_http(self) -> bool {
        self != Self::Grpc
    }
}

/// The endpoint for the requests of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The URL with its path, `http` or `https`.
    pub url: Url,
    /// How requests are encoded and transported.
    pub protocol: Protocol,
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
        let mut headers = HeaderMap::new();
        if let Some((variable, list)) = setting("HEADERS") {
            headers::read_list(&list, &mut headers).with_context(|| variable)?;
        }
        if let Some(path) = &options.header_file {
            headers::read_file(path, &mut headers)?;
        }
        let endpoint = Endpoint::new(signal, options.otlp.as_ref().and_then(Option::as_deref), env)?;
        let protocol = match (options.protocol, endpoint.scheme()) {
            (Some(protocol), Some("grpc" | "grpcs")) if protocol.is_http() => {
                bail!("{} is gRPC; leave out --protocol, or write http:// or https://", endpoint.shown())
            }
            (_, Some("grpc" | "grpcs")) => Protocol::Grpc,
            (Some(protocol), _) => protocol,
            (None, _) => protocol(setting("PROTOCOL"))?,
        };
        let path = |name| setting(name).map(|(_, path)| PathBuf::from(path));
        Ok(Self {
            url: endpoint.url(signal, protocol)?,
            protocol,
            headers,
            compression: options.compression.map_or_else(|| compression(setting("COMPRESSION")), Ok)?,
            timeout: options.timeout.map_or_else(|| timeout(setting("TIMEOUT")), Ok)?,
            trust: Trust {
                ca: options.ca_file.clone().or_else(|| path("CERTIFICATE")),
                certificate: options.cert_file.clone().or_else(|| path("CLIENT_CERTIFICATE")),
                key: options.key_file.clone().or_else(|| path("CLIENT_KEY")),
            },
        })
    }

    /// What the user should know about it before anything is sent.
    pub fn warning(&self) -> Option<String> {
        let secret = headers::has_secret(&self.headers) || self.url.password().is_some();
        (secret && self.tls().is_none() && !is_loopback(&self.url)).then(|| {
            let host = self.url.host_str().unwrap_or_default();
            format!("credentials are sent to {host} unencrypted; use https:// or grpcs://")
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

/// Where an endpoint was set, and to what.
struct Endpoint {
    /// The option or variable; `None` for the default.
    source: Option<String>,
    /// Whether it is the endpoint of one signal, to which no path is appended.
    is_own: bool,
    text: String,
}

impl Endpoint {
    fn new(signal: Signal, given: Option<&str>, env: Env<'_>) -> Result<Self> {
        if given.is_some_and(|given| given.trim().is_empty()) {
            bail!("--otlp= is empty: write --otlp http://HOST:PORT, or --otlp alone for the default");
        }
        Ok(match (given, setting(signal, "ENDPOINT", env)) {
            (Some(given), _) => {
                Self { source: Some("--otlp ".into()), is_own: false, text: given.trim().to_owned() }
            }
            (None, Some((variable, text))) => {
                let is_own = variable != "OTEL_EXPORTER_OTLP_ENDPOINT";
                Self { source: Some(variable + "="), is_own, text }
            }
            (None, None) => Self { source: None, is_own: false, text: String::new() },
        })
    }

    fn scheme(&self) -> Option<&str> {
        self.text.split_once("://").map(|(scheme, _)| scheme)
    }

    /// The option or variable with its value, without secrets.
    fn shown(&self) -> String {
        format!("{}{}", self.source.as_deref().unwrap_or_default(), harmless(&self.text))
    }

    /// The URL for requests of `signal`.
    fn url(&self, signal: Signal, protocol: Protocol) -> Result<Url> {
        let text = match (&self.source, protocol) {
            (None, Protocol::Grpc) => "grpc://localhost".to_owned(),
            (None, _) => "http://localhost:4318".to_owned(),
            // Variables may name a gRPC server without a scheme, as gRPC itself does; that means TLS.
            (Some(_), Protocol::Grpc) if self.scheme().is_none() => format!("grpcs://{}", self.text),
            _ => self.text.clone(),
        };
        let url = if protocol == Protocol::Grpc { grpc_url(&text) } else { parse(&text) };
        url.and_then(|url| with_path(url, signal, protocol, self.is_own)).with_context(|| self.shown())
    }
}

fn parse(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.context("not a URL; write http://HOST:PORT or https://HOST:PORT, or grpc://HOST:PORT for gRPC")
}

/// Replaces the scheme, since only `http` and `https` have a host and a port by the URL standard. Without a port, `grpc`
/// means 4317.
fn grpc_url(text: &str) -> Result<Url> {
    let wrong = "not a URL; write grpc://HOST:PORT, or grpcs://HOST:PORT for TLS";
    let (scheme, rest) = text.split_once("://").context(wrong)?;
    let (http, is_grpc) = match scheme {
        "grpc" => ("http", true),
        "grpcs" => ("https", true),
        other => (other, false),
    };
    let mut url = parse(&format!("{http}://{rest}")).ok().context(wrong)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    if is_grpc && !has_port {
        // Fails only for URLs without a host.
        let _ = url.set_port(Some(4317));
    }
    Ok(url)
}

/// Appends the path of a signal, except to a signal's own HTTP endpoint, which is used as it is.
fn with_path(mut url: Url, signal: Signal, protocol: Protocol, is_own: bool) -> Result<Url> {
    let path = match protocol {
        Protocol::Grpc => grpc::method(signal),
        _ if is_own => return Ok(url),
        _ => signal.path(),
    };
    if let Some(own) = Signal::ALL.iter().find(|own| url.path().trim_end_matches('/').ends_with(own.path())) {
        bail!("the path of each signal is appended; leave out /{}", own.path());
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    Ok(url)
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
        Some((_, "zstd")) => Ok(Compression::Zstd),
        Some((_, "none")) => Ok(Compression::None),
        Some((variable, other)) => bail!("{variable} is {other}; use gzip, zstd or none"),
    }
}

fn protocol(setting: Option<(String, String)>) -> Result<Protocol> {
    let Some((variable, value)) = setting else { return Ok(Protocol::HttpProtobuf) };
    let known = Protocol::from_str(&value, false).ok();
    known.with_context(|| format!("{variable} is {value}; use grpc, http/protobuf or http/json"))
}

fn timeout(setting: Option<(String, String)>) -> Result<Duration> {
    let Some((variable, value)) = setting else { return Ok(Duration::from_secs(10)) };
    match value.parse() {
        Ok(0) => Ok(Duration::MAX), // the specification: no limit
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => bail!("{variable} is {value}; use a whole number of milliseconds"),
    }
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
    fn endpoints_of_grpc() {
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let endpoint = |url| ("OTEL_EXPORTER_OTLP_ENDPOINT", url);
        let export = "opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
        for (given, variables, base) in [
            (None, &[protocol][..], "http://localhost:4317"),
            (None, &[protocol, endpoint("http://a:1")], "http://a:1"),
            (None, &[protocol, endpoint("https://a")], "https://a"),
            (None, &[protocol, endpoint("a:1")], "https://a:1"),
            (None, &[endpoint("grpc://a")], "http://a:4317"),
            (Some("grpc://a:1"), &[], "http://a:1"),
            (Some("grpcs://a"), &[endpoint("http://b")], "https://a:4317"),
            (Some("grpcs://a:443/prefix/"), &[], "https://a/prefix"),
            (Some("grpc://[::1]"), &[], "http://[::1]:4317"),
        ] {
            assert_eq!(urls(given, variables)[0], format!("{base}/{export}"), "{given:?} {variables:?}");
        }
        // A protocol for one signal.
        let own = ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc");
        let of = |signal| target(&OtlpArgs::default(), &[own], signal).unwrap().protocol;
        assert_eq!(Signal::ALL.map(of), [Protocol::HttpProtobuf, Protocol::Grpc, Protocol::HttpProtobuf]);
        let options = OtlpArgs {
            otlp: Some(Some("grpc://a:1".into())),
            protocol: Some(Protocol::HttpJson),
            ..OtlpArgs::default()
        };
        let error = target(&options, &[], Signal::Logs).unwrap_err().to_string();
        assert!(error.contains("--otlp grpc://a:1") && error.contains("--protocol"), "{error}");
    }

    #[test]
    fn credentials_without_tls_are_noticed() {
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret");
        for (url, variables, warns) in [
            ("http://a:1", &[headers][..], true),
            ("grpc://192.0.2.1", &[headers], true),
            ("http://me:s3cret@a:1", &[], true),
            ("https://a:1", &[headers], false),
            ("grpcs://a:1", &[headers], false),
            ("http://a:1", &[], false),
            ("http://localhost:1", &[headers], false),
            ("http://127.0.0.2:1", &[headers], false),
            ("http://[::1]:1", &[headers], false),
        ] {
            let options = OtlpArgs { otlp: Some(Some(url.into())), ..OtlpArgs::default() };
            let warning = target(&options, variables, Signal::Logs).unwrap().warning();
            assert_eq!(warning.is_some(), warns, "{url}");
            assert!(!warning.unwrap_or_default().contains("s3cret"));
        }
    }

    #[test]
    fn headers_of_one_signal_replace_the_general_ones() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=%2B2"),
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/ca"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "/certificate"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/key"),
        ];
        let [metrics, _, traces] =
            Signal::ALL.map(|signal| target(&OtlpArgs::default(), &variables, signal).unwrap());
        assert!(metrics.headers["a"] == "1" && traces.headers["b"] == "+2");
        assert_eq!(traces.headers.len(), 1);
        assert_eq!((metrics.compression, traces.compression), (Compression::Gzip, Compression::Zstd));
        let path = |path: &str| Some(PathBuf::from(path));
        let expected = Trust { ca: path("/ca"), certificate: path("/certificate"), key: path("/key") };
        assert_eq!((&traces.trust, &metrics.trust), (&expected, &Trust::default()));
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
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http"),
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "GRPC"),
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
            let endpoint = Endpoint::new(Signal::Logs, Some(given), &|_| None).unwrap();
            let error = endpoint.url(Signal::Logs, Protocol::HttpProtobuf).unwrap_err();
            assert!(!format!("{error:#}").contains("s3"), "{error:#}");
        }
        assert!(shows_password("https://me:s3cret@h") && !shows_password("https://me@h:1/p?a:b@c"));
    }
}
