//! The HTTP client of all programs: TLS, proxies, bounded answers, and errors that name what failed.
//!
//! Nothing in an error repeats a URL in full, since it may hold a password.

pub mod probe;
mod tls;

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crc_fast::CrcAlgorithm;
use flate2::{Compress, Compression, FlushCompress, Status};
use http_body_util::BodyExt as _;
use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use reqwest::header::HeaderMap;
use reqwest::{Body, RequestBuilder, Response, redirect};

pub use self::tls::Trust;
pub use reqwest::{Method, Request, StatusCode, Url, header};

/// The longest time that an HTTP/2 connection may be silent before it is checked.
const MAX_SILENCE: Duration = Duration::from_secs(3600);

use crate::common::diag::{excerpt, log};

/// How a [`Client`] connects.
#[derive(Clone, Default)]
pub struct Settings {
    /// Certificates for `https`; `None` for a client that speaks only `http` and reads no certificates.
    pub tls: Option<Trust>,
    /// The proxies to use.
    pub proxies: Proxies,
    /// How many redirects to follow.
    pub redirects: usize,
    /// Speak HTTP/2 only, without asking the server first, and ping a connection that has been silent for this long
    /// although an answer is due.
    pub http2: Option<Duration>,
    /// Headers of every request.
    pub headers: HeaderMap,
}

/// An HTTP client. It keeps its connections open; clones share them.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    proxies: Arc<Proxies>,
    /// Speaks HTTP/2 only.
    is_http2: bool,
}

/// A response, read up to a limit.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// True if the body was longer than the limit.
    pub truncated: bool,
    /// The headers that followed the body.
    pub trailers: HeaderMap,
}

impl Answer {
    /// A header as text; `None` if it is missing or not ASCII.
    pub fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The time limit passed.
    Timeout,
    /// There is no connection to the server or the proxy.
    Connect,
    /// The connection failed later, or what came is not HTTP.
    Other,
}

/// A request without an answer. Displays as the cause, and names the proxy if there is one.
#[derive(Debug)]
pub struct Error {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    text: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl Client {
    /// Makes a client. It connects when it is used.
    ///
    /// # Errors
    /// If a certificate file cannot be read or used, or the system has no root certificates.
    pub fn new(settings: Settings) -> Result<Self> {
        // An error only means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Settings { tls, proxies, redirects, http2, headers } = settings;
        let proxies = Arc::new(proxies);
        let lookup = proxies.clone();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("telepipe/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .no_proxy()
            .proxy(reqwest::Proxy::custom(move |url| lookup.of(url).cloned()))
            .redirect(redirects_to(redirects, tls.is_some()));
        if let Some(silence) = http2 {
            builder = builder.http2_prior_knowledge().http2_keep_alive_interval(silence.min(MAX_SILENCE));
        }
        let is_http2 = http2.is_some();
        builder = match tls {
            Some(trust) => builder.tls_backend_preconfigured(trust.config(protocols(is_http2))?),
            // An empty list: by default reqwest reads the system's certificates and fails if there are none.
            None => builder.tls_certs_only([]),
        };
        Ok(Self { http: builder.build().context("cannot start HTTP")?, proxies, is_http2 })
    }

    /// Begins a request. A user name and password in the URL become an `Authorization` header.
    pub fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request and reads at most `limit` bytes of the body.
    ///
    /// # Errors
    /// If there is no complete answer.
    pub async fn send(&self, request: Request, limit: usize) -> Result<Answer, Error> {
        let via = self.proxies.of(request.url()).map(origin);
        let answer = async { read(self.http.execute(request).await?, limit).await };
        answer.await.map_err(|error| explain(&error, via.as_deref()))
    }

    /// Whether a proxy is asked for a tunnel to `url` (CONNECT), instead of forwarding requests.
    fn tunnels(&self, url: &Url) -> bool {
        url.scheme() == "https" || self.is_http2
    }

    /// The protocols that are offered to a server, the preferred one first.
    fn protocols(&self) -> &'static [&'static str] {
        protocols(self.is_http2)
    }

    /// The proxy between this client and `url`, without its password.
    pub fn proxy(&self, url: &Url) -> Option<String> {
        self.proxies.of(url).map(origin)
    }
}

fn protocols(is_http2: bool) -> &'static [&'static str] {
    if is_http2 { &["h2"] } else { &["h2", "http/1.1"] }
}

async fn read(response: Response, limit: usize) -> reqwest::Result<Answer> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer =
        Answer { status, headers, body: Vec::new(), truncated: false, trailers: HeaderMap::new() };
    let mut incoming = Body::from(response);
    while let Some(frame) = incoming.frame().await.transpose()? {
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => {
                answer.trailers.extend(frame.into_trailers().unwrap_or_default());
                continue;
            }
        };
        let room = limit - answer.body.len();
        answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            answer.truncated = true;
            break;
        }
    }
    Ok(answer)
}

fn redirects_to(limit: usize, secure: bool) -> redirect::Policy {
    match limit {
        0 => redirect::Policy::none(),
        _ if secure => redirect::Policy::limited(limit),
        _ => redirect::Policy::custom(move |attempt| {
            if attempt.url().scheme() == "https" {
                let message = format!("it redirects to {}; give that URL", without_user(attempt.url()));
                return attempt.error(message);
            }
            redirect::Policy::limited(limit).redirect(attempt)
        }),
    }
}

/// The innermost cause; the outer ones repeat the URL.
fn explain(error: &reqwest::Error, via: Option<&str>) -> Error {
    let kind = match error {
        error if error.is_timeout() => ErrorKind::Timeout,
        error if error.is_connect() => ErrorKind::Connect,
        _ => ErrorKind::Other,
    };
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    let text = cause.map_or_else(|| "cannot send".into(), ToString::to_string);
    let text = match text.as_str() {
        _ if kind == ErrorKind::Timeout => "no answer in time",
        text if text.contains("InvalidContentType") => "the server does not speak TLS there; is it http://?",
        text if text.contains("CaUsedAsEndEntity") => {
            "the server's certificate is that of a CA (CA:TRUE) and was not given itself, as by --ca-file"
        }
        text if text.contains("invalid HTTP version") => {
            "the server does not speak HTTP/1.1 there; is it grpc://?"
        }
        text if text.contains("frame with invalid size") => "the server does not speak HTTP/2 there",
        text => text,
    };
    let text = via.map_or_else(|| text.to_owned(), |proxy| format!("through the proxy {proxy}: {text}"));
    Error { kind, text }
}

/// `scheme://host:port` of a URL: nothing secret.
pub fn origin(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

/// A URL without user name and password.
pub fn without_user(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail only for a URL that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// A URL without user name, password and query, for messages.
pub fn public_name(url: &Url) -> String {
    format!("{}{}", origin(url), url.path())
}

/// The host of a URL, an IPv6 address without its brackets.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_matches(['[', ']'])
}

/// User and password in a URL, decoded.
fn credentials(url: &Url) -> Option<(String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let is_set = !url.username().is_empty() || url.password().is_some();
    is_set.then(|| (decode(url.username()), decode(url.password().unwrap_or_default())))
}

/// Whether a URL names this host by its loopback interface.
pub fn is_loopback(url: &Url) -> bool {
    let host = host(url);
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The proxies that the environment names. The default is none.
///
/// The rules of NO_PROXY are curl's: `*`, domains with their subdomains, addresses and networks, each with an
/// optional port. Loopback addresses are never reached through a proxy.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// The entries of NO_PROXY: a host, and the port it is limited to.
    direct: Vec<(String, Option<u16>)>,
}

impl Proxies {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, or the same in lower case.
    ///
    /// # Errors
    /// If one of them is not the URL of an HTTP proxy; the message names the variable.
    pub fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let get = |name: &str| {
            let set =
                |name: String| env(&name).filter(|value| !value.trim().is_empty()).map(|value| (name, value));
            set(name.to_owned()).or_else(|| set(name.to_lowercase()))
        };
        // Under CGI, HTTP_PROXY is a header that the client sent (httpoxy, CVE-2016-5385).
        let cgi = env("REQUEST_METHOD").is_some();
        let all = get("ALL_PROXY");
        let http = if cgi { None } else { get("HTTP_PROXY") };
        let direct = get("NO_PROXY").map_or_else(String::new, |(_, list)| list);
        Ok(Self {
            http: http.or_else(|| all.clone()).map(proxy_url).transpose()?,
            https: get("HTTPS_PROXY").or(all).map(proxy_url).transpose()?,
            direct: direct
                .split([',', ' '])
                .filter(|entry| !entry.is_empty())
                .filter_map(host_and_port)
                .collect(),
        })
    }

    /// The proxy to use for `url`.
    fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !self.bypassed(url))
    }

    fn bypassed(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let hosts = self.direct.iter().filter(|(_, only)| only.is_none() || *only == port);
        let hosts: Vec<_> = hosts.map(|(host, _)| host.as_str()).collect();
        // hyper-util's matcher knows domains and networks, but takes `*` for names only, and no ports.
        let matcher = Matcher::builder().all("http://proxy").no(hosts.join(",")).build();
        is_loopback(url)
            || hosts.contains(&"*")
            || origin(url).parse().is_ok_and(|destination| matcher.intercept(&destination).is_none())
    }
}

fn proxy_url((variable, value): (String, String)) -> Result<Url> {
    let value = value.trim();
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&text).ok().filter(|url| url.has_host());
    let url = url.with_context(|| format!("{variable} is not a URL; write http://HOST:PORT"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("{variable}: {} proxies are not supported; use an HTTP proxy", url.scheme());
    }
    Ok(url)
}

/// Splits an entry of NO_PROXY: `host`, `host:port`, `[address]:port`, or an IPv6 address. `None` if the port is not one.
fn host_and_port(entry: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => {
                log(format_args!(
                    "NO_PROXY: {} is left out: its port is not a number",
                    excerpt(entry.as_bytes())
                ));
                return None;
            }
        },
        _ => (entry, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.strip_prefix("*.").unwrap_or(host).to_owned(), port))
}

/// Compresses a body with gzip, at the fastest level.
///
/// Not by `flate2::GzEncoder`, of which the checksum takes a quarter of the time.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / 8 + 64);
    out.extend_from_slice(b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"); // RFC 1952: deflate, no time, fastest, unknown system
    let mut compress = Compress::new(Compression::fast(), false);
    let mut read = 0;
    // It cannot fail, only run out of room.
    while let Ok(Status::Ok | Status::BufError) =
        compress.compress_vec(&bytes[read..], &mut out, FlushCompress::Finish)
    {
        read = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        out.reserve(bytes.len() / 8 + 64);
    }
    let checksum = crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, bytes) as u32;
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn gzip_is_read_by_another_decoder() {
        let mixed: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for bytes in [&b""[..], b"x", &[7; 2_000_000], &mixed] {
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&*gzip(bytes)).read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{} bytes", bytes.len());
        }
    }

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        Proxies::from_env(&|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    fn proxy(variables: &[(&str, &str)], url: &str) -> Option<String> {
        proxies(variables).unwrap().of(&Url::parse(url).unwrap()).map(origin)
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both =
            [("HTTP_PROXY", "plain:1"), ("https_proxy", "http://me:secret@tls:2/"), ("ALL_PROXY", "all:3")];
        assert_eq!(proxy(&both, "http://a.example").as_deref(), Some("http://plain:1"));
        assert_eq!(proxy(&both, "https://a.example").as_deref(), Some("http://tls:2"));
        assert_eq!(proxy(&both[2..], "https://a.example").as_deref(), Some("http://all:3"));
        assert_eq!(proxy(&[("HTTP_PROXY", "p:1"), ("REQUEST_METHOD", "GET")], "http://a.example"), None);
        assert_eq!(proxy(&[("HTTP_PROXY", "")], "http://a.example"), None);
        for (variable, value) in [("HTTP_PROXY", "http://"), ("ALL_PROXY", "socks5://me:secret@p:1")] {
            let error = format!("{:#}", proxies(&[(variable, value)]).unwrap_err());
            assert!(error.contains(variable) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_proxy_by_curls_rules() {
        for (list, url, direct) in [
            ("*", "http://192.0.2.1:4318", true),
            ("*", "http://a.example", true),
            ("*", "http://[2001:db8::1]:4318", true),
            ("192.0.2.1:4318", "http://192.0.2.1:4318", true),
            ("192.0.2.1:4318", "http://192.0.2.1:80", false),
            ("a.example:80", "http://a.example/x", true),
            ("a.example:443", "http://a.example/x", false),
            ("a.example:443", "https://a.example/x", true),
            ("[2001:db8::1]:4318", "http://[2001:db8::1]:4318", true),
            ("[2001:db8::1]:4318", "http://[2001:db8::1]:80", false),
            ("2001:db8::1", "http://[2001:db8::1]:80", true),
            ("example", "http://A.Example", true),
            (".example", "http://a.example", true),
            ("*.example", "http://a.example", true),
            ("example", "http://aexample", false),
            ("b.example, 192.0.2.0/24", "http://192.0.2.77", true),
            ("b.example 192.0.2.0/24", "http://192.0.3.77", false),
            ("", "http://localhost:4318", true),
            ("", "http://127.0.0.53", true),
            ("", "http://[::1]:1", true),
            ("", "http://192.0.2.1", false),
        ] {
            let variables = [("ALL_PROXY", "http://p:1"), ("NO_PROXY", list)];
            assert_eq!(proxy(&variables, url).is_none(), direct, "{list:?} {url}");
        }
    }

    #[test]
    fn messages_name_a_url_without_its_secrets() {
        let url = Url::parse("https://me:secret@h:1/p?token=secret").unwrap();
        assert_eq!(public_name(&url), "https://h:1/p");
    }
}
