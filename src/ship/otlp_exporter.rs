//! Sends OTLP: protobuf or JSON over HTTP, or gRPC, on connections that stay open. Each signal has an endpoint.
//! What the server's answers mean is in `http_answer` and `grpc`; the delays between attempts are in `super::endpoint`.

mod grpc;
mod headers;
mod http_answer;
mod target;

use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    TE,
};

pub use self::target::OtlpArgs;

use self::http_answer::{HttpAnswer, strange};
use self::target::{Protocol, Target, shows_password};
use super::check::Report;
use super::compression::Compression;
use super::otlp::{self, Encoder, Signal};
use super::{Batch, Encoded, Request, Sending, Sink, Traffic, Verdict};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::http::{
    Answer, Client, Error, ErrorKind, Method, Proxies, Settings, StatusCode, Trust, Url, origin, public_name,
};

/// How much of a response's body is read.
const MAX_ANSWER: usize = 64 * 1024;

/// The sink.
pub struct OtlpExporter {
    encoder: Encoder,
    /// By signal.
    targets: Vec<(Target, Client)>,
    methods: Arc<Methods>,
    traffic: Arc<Traffic>,
}

/// A request, built once and sent as often as needed.
pub struct Post {
    signal: Signal,
    request: reqwest::Request,
    /// The size of the body before compression.
    plain: usize,
}

impl OtlpExporter {
    /// Prepares to send what `encoder` makes. Nothing connects yet.
    ///
    /// # Errors
    /// If an option, a variable, or a file that one of them names is wrong.
    pub fn open(options: &OtlpArgs, encoder: Encoder) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let proxies = Proxies::from_env(&env)?;
        let mut targets: Vec<(Target, Client)> = Vec::new();
        for signal in Signal::ALL {
            let target = Target::new(signal, options, &env)?;
            let is_grpc = target.protocol == Protocol::Grpc;
            let same = |(other, _): &&(Target, Client)| {
                other.tls() == target.tls() && is_grpc == (other.protocol == Protocol::Grpc)
            };
            let client = match targets.iter().find(same) {
                Some((_, client)) => client.clone(),
                // No redirects: a redirected POST becomes a GET, or goes where nobody allowed it to.
                None => Client::new(Settings {
                    tls: target.tls().cloned(),
                    proxies: proxies.clone(),
                    // A request without an answer in time may be due to a connection that is dead.
                    http2: is_grpc.then_some(target.timeout),
                    ..Settings::default()
                })?,
            };
            if let Some(proxy) = client.proxy(&target.url).filter(|_| is_grpc && target.tls().is_none()) {
                bail!(
                    "gRPC without TLS cannot go through the proxy {proxy}; use grpcs://, or add the host to NO_PROXY"
                );
            }
            targets.push((target, client));
        }
        for warning in warnings(options, &targets) {
            log(format_args!("{warning}"));
        }
        let methods = targets.iter().map(|(target, _)| (origin(&target.url), target.compression)).collect();
        let methods = Arc::new(Methods(Mutex::new(methods)));
        Ok(Self { encoder, targets, methods, traffic: Arc::default() })
    }

    fn post(&self, body: otlp::Body) -> Result<Post> {
        let signal = body.signal;
        let (target, client) = &self.targets[signal as usize];
        let post = client.request(Method::POST, target.url.clone()).headers(target.headers.clone());
        let mut post = post.timeout(target.timeout);
        let mut plain =
            if target.protocol == Protocol::HttpJson { body.to_json().into() } else { body.bytes };
        let mut size = plain.len();
        let method = self.methods.of(signal);
        let encoding = method.name();
        if target.protocol == Protocol::Grpc && encoding.is_none() {
            // In the same memory, since a copy would double it.
            plain.splice(..0, grpc::frame_head(false, size));
        }
        let packed = method.apply(plain).context("cannot compress the request")?;
        post = match target.protocol {
            Protocol::Grpc => {
                if let Some(encoding) = encoding {
                    post = post.header("grpc-encoding", encoding);
                }
                if let Some(limit) = grpc::timeout(target.timeout) {
                    post = post.header("grpc-timeout", limit);
                }
                size += grpc::FRAME;
                post = post.header(TE, "trailers").header(CONTENT_TYPE, "application/grpc");
                if encoding.is_some() {
                    post.body([&grpc::frame_head(true, packed.len()), &*packed].concat())
                } else {
                    post.body(packed)
                }
            }
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                if let Some(encoding) = encoding {
                    post = post.header(CONTENT_ENCODING, encoding);
                }
                let is_json = target.protocol == Protocol::HttpJson;
                let kind = if is_json { "application/json" } else { "application/x-protobuf" };
                post.header(CONTENT_TYPE, kind).header(ACCEPT, kind).body(packed)
            }
        };
        Ok(Post { signal, request: post.build()?, plain: size })
    }

    fn route(&self, signal: Signal) -> Route {
        let (target, client) = &self.targets[signal as usize];
        Route {
            client: client.clone(),
            signal,
            protocol: target.protocol,
            methods: self.methods.clone(),
            server: target.server(),
        }
    }

    /// Reaches each server, and sends an empty request for each signal.
    pub async fn check(&self, report: &mut Report<'_>) {
        let mut reached: Vec<(String, Option<&Trust>, bool)> = Vec::new();
        for signal in Signal::ALL {
            let (target, client) = &self.targets[signal as usize];
            let server = (origin(&target.url), target.tls());
            let what = format!("{} {}", self.name(), server.0);
            let is_up = match reached.iter().find(|(name, tls, _)| (name, *tls) == (&server.0, server.1)) {
                Some((_, _, is_up)) => *is_up,
                None => {
                    let is_up = report.reach(&what, client, &target.url, target.tls());
                    reached.push((server.0, server.1, is_up));
                    is_up
                }
            };
            if !is_up {
                continue;
            }
            let empty = otlp::Body { signal, bytes: Vec::new().into() };
            let post = self.post(empty).map_err(|error| format!("{error:#}"));
            let outcome = match post {
                Ok(post) => self.check_signal(post).await,
                Err(error) => Err(error),
            };
            report.step(&what, signal.path().rsplit('/').next().unwrap_or_default(), outcome);
        }
    }

    async fn check_signal(&self, post: Post) -> Result<String, String> {
        let route = self.route(post.signal);
        let url = post.request.url().clone();
        let answer = route.exchange(post.request).await;
        let status = answer.as_ref().ok().map(|answer| (answer.status.as_u16(), grpc::code(answer)));
        let advice = match status {
            Some((407, _)) => "; set user and password in the URL of the proxy",
            Some((401 | 403, _) | (_, Some(7 | 16))) => {
                "; check the credentials in --header-file or OTEL_EXPORTER_OTLP_HEADERS"
            }
            Some((404 | 405, _) | (_, Some(12))) => {
                "; check the path in the URL, and that the server takes this signal"
            }
            _ => "",
        };
        match route.verdict(&url, answer) {
            Verdict::Delivered { rejected_items: 0, message: None } => {
                Ok("takes an empty request".to_owned())
            }
            Verdict::Delivered { message, .. } => Err(message.unwrap_or_default()),
            Verdict::Retry { reason, .. } | Verdict::Split { reason } | Verdict::Reject { reason } => {
                Err(reason + advice)
            }
            Verdict::Gone { reason } => Err(reason.unwrap_or_default()),
        }
    }

    /// The most bytes that a body for this signal may have before compression.
    fn limit(&self, signal: Signal) -> usize {
        match self.targets[signal as usize].0.protocol {
            Protocol::Grpc => grpc::MAX_MESSAGE,
            Protocol::HttpProtobuf | Protocol::HttpJson => usize::MAX,
        }
    }

    /// Encodes the lines of a batch, in halves where a request would be too large.
    fn requests(&mut self, batch: &Batch) -> Encoded<otlp::Body> {
        let Encoded { requests, mut rejected, mut empty } = self.encoder.encode(batch);
        let mut fitting = Vec::with_capacity(requests.len());
        for request in requests {
            let (size, limit) = (request.body.bytes.len(), self.limit(request.body.signal));
            match &*request.lines {
                _ if size <= limit => fitting.push(request),
                [line] => rejected.push((*line, format!("{size} bytes of gRPC; servers take {limit}"))),
                lines => {
                    let (first, second) = lines.split_at(lines.len() / 2);
                    for half in [first, second] {
                        let part = self.requests(&batch.select(half));
                        empty.extend(part.empty.iter().map(|&index| half[index]));
                        rejected.extend(part.rejected.into_iter().map(|(index, why)| (half[index], why)));
                        fitting.extend(part.requests.into_iter().map(|request| Request {
                            lines: request.lines.iter().map(|&index| half[index]).collect(),
                            ..request
                        }));
                    }
                }
            }
        }
        Encoded { requests: fitting, rejected, empty }
    }
}

/// What is unsafe about the options and the environment; each once.
fn warnings(options: &OtlpArgs, targets: &[(Target, Client)]) -> Vec<String> {
    let mut all = Vec::new();
    if options.otlp.as_ref().and_then(Option::as_deref).is_some_and(shows_password) {
        all.push(
            "every user of this host can see the password in --otlp; use --header-file or \
             OTEL_EXPORTER_OTLP_HEADERS"
                .to_owned(),
        );
    }
    if let Some(path) = options.header_file.as_ref().filter(|path| headers::others_can_read(path)) {
        let path = path.display();
        all.push(format!("other users of this host can read {path}; run chmod 600 on it"));
    }
    for warning in targets.iter().filter_map(|(target, _)| target.warning()) {
        if !all.contains(&warning) {
            all.push(warning);
        }
    }
    all
}

/// For each signal, the origin of its server and the compression in use there: the configured one, unless the server
/// has refused that.
struct Methods(Mutex<Vec<(String, Compression)>>);

impl Methods {
    fn of(&self, signal: Signal) -> Compression {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[signal as usize].1
    }

    /// Replaces `refused` for every signal that goes to the server of `signal`.
    fn replace(&self, signal: Signal, refused: Compression, by: Compression) {
        let mut methods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let server = methods[signal as usize].0.clone();
        let mut changed = false;
        for (_, method) in methods.iter_mut().filter(|(other, method)| *other == server && *method == refused)
        {
            (*method, changed) = (by, true);
        }
        if changed {
            let name = |method: Compression| method.name().unwrap_or("no");
            log(format_args!(
                "otlp: {server} does not accept {} compression; using {} compression",
                name(refused),
                name(by)
            ));
        }
    }
}

/// What an attempt needs.
#[derive(Clone)]
struct Route {
    client: Client,
    signal: Signal,
    protocol: Protocol,
    methods: Arc<Methods>,
    /// For messages.
    server: String,
}

impl Route {
    /// Sends once, or again at once if the server refuses the compression and another can be used.
    async fn exchange(&self, mut request: reqwest::Request) -> Result<Answer, Error> {
        loop {
            repack(&mut request, self.protocol, self.methods.of(self.signal));
            let (used, again) = (method(&request, self.protocol), request.try_clone());
            let answer = self.client.send(request, MAX_ANSWER).await?;
            match (again, another_method(&answer, self.protocol, used)) {
                (Some(again), Some(by)) => {
                    self.methods.replace(self.signal, used, by);
                    request = again;
                }
                _ => return Ok(answer),
            }
        }
    }

    async fn attempt(self, request: reqwest::Request) -> Verdict {
        let url = request.url().clone();
        let answer = self.exchange(request).await;
        self.verdict(&url, answer)
    }

    /// What an answer means. The server's name opens every reason.
    fn verdict(&self, url: &Url, answer: Result<Answer, Error>) -> Verdict {
        let Self { server, protocol, .. } = self;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // A server without gRPC may just close the connection.
                let closes = *protocol == Protocol::Grpc && error.kind == ErrorKind::Other;
                let hint = if closes { "; is that a gRPC server?" } else { "" };
                return Verdict::Retry { after: None, reason: format!("{server}: {error}{hint}") };
            }
        };
        let proxy = self.client.proxy(url);
        let server = proxy.map_or(server.clone(), |proxy| format!("{server}, through the proxy {proxy},"));
        match protocol {
            Protocol::Grpc => {
                grpc::verdict(&answer, &server).unwrap_or_else(|| no_grpc(&answer, url, &server))
            }
            Protocol::HttpProtobuf | Protocol::HttpJson => http_verdict(&answer, url, &server),
        }
    }
}

fn encoding_header(protocol: Protocol) -> HeaderName {
    match protocol {
        Protocol::Grpc => HeaderName::from_static("grpc-encoding"),
        Protocol::HttpProtobuf | Protocol::HttpJson => CONTENT_ENCODING,
    }
}

/// How the body of a request is compressed.
fn method(request: &reqwest::Request, protocol: Protocol) -> Compression {
    let name = request.headers().get(encoding_header(protocol));
    Compression::named(name.and_then(|name| name.to_str().ok()))
}

/// Compresses the body by the method `wanted`, unless it already is.
fn repack(request: &mut reqwest::Request, protocol: Protocol, wanted: Compression) {
    let used = method(request, protocol);
    if used == wanted {
        return;
    }
    let header = if protocol == Protocol::Grpc { grpc::FRAME } else { 0 };
    let body = request.body().and_then(|body| body.as_bytes()).and_then(|body| body.get(header..));
    let plain = body.and_then(|body| used.undo(body).ok());
    let Some(packed) = plain.and_then(|plain| wanted.apply(plain.into()).ok()) else { return };
    let packed: Bytes = match protocol {
        Protocol::Grpc => {
            [&grpc::frame_head(wanted.name().is_some(), packed.len()), &*packed].concat().into()
        }
        Protocol::HttpProtobuf | Protocol::HttpJson => packed,
    };
    *request.body_mut() = Some(packed.into());
    let name = encoding_header(protocol);
    match wanted.name() {
        Some(value) => drop(request.headers_mut().insert(name, HeaderValue::from_static(value))),
        None => drop(request.headers_mut().remove(name)),
    }
}

/// The compression to use instead, if the server refuses `used`.
fn another_method(answer: &Answer, protocol: Protocol, used: Compression) -> Option<Compression> {
    let used = used.name()?;
    let text =
        |name: &HeaderName| answer.headers.get(name).or_else(|| answer.trailers.get(name))?.to_str().ok();
    let (accepted, refuses) = match protocol {
        Protocol::Grpc => {
            // "Compression", in the description of gRPC over HTTP/2. grpc-go leaves out the header; grpcio answers
            // INTERNAL.
            let message = text(&HeaderName::from_static("grpc-message")).unwrap_or_default().to_lowercase();
            let is_named = ["grpc-encoding", "compress"].iter().any(|word| message.contains(word));
            let accepted = text(&HeaderName::from_static("grpc-accept-encoding"));
            let refuses = match grpc::code(answer) {
                Some(12) => accepted.is_some() || is_named,
                Some(13) => is_named,
                _ => false,
            };
            (accepted, refuses)
        }
        Protocol::HttpProtobuf | Protocol::HttpJson => {
            // RFC 9110, section 15.5.16. The Collector answers 400 and names the header.
            let body = String::from_utf8_lossy(&answer.body).to_lowercase();
            let accepted = text(&ACCEPT_ENCODING);
            let by_header = answer.status == StatusCode::UNSUPPORTED_MEDIA_TYPE && accepted.is_some();
            (
                accepted,
                by_header
                    || (matches!(answer.status.as_u16(), 400 | 415) && body.contains("content-encoding")),
            )
        }
    };
    let accepted: Vec<_> = accepted.unwrap_or_default().split([',', ';']).map(str::trim).collect();
    if !refuses || accepted.contains(&used) {
        return None;
    }
    let gzip = Compression::Gzip;
    Some(if used != "gzip" && accepted.contains(&"gzip") { gzip } else { Compression::None })
}

fn http_verdict(answer: &Answer, url: &Url, server: &str) -> Verdict {
    let location = answer.header(LOCATION).and_then(|text| url.join(text).ok());
    let answer = HttpAnswer {
        status: answer.status.as_u16(),
        retry_after: answer.header(RETRY_AFTER),
        location: location.as_ref().map(public_name),
        json: answer.header(CONTENT_TYPE).is_some_and(|value| value.starts_with("application/json")),
        body: &answer.body,
    };
    answer.verdict(server, Timestamp::now())
}

/// An answer without a gRPC status comes from something in between, which may answer in HTTP. A success is none then.
fn no_grpc(answer: &Answer, url: &Url, server: &str) -> Verdict {
    match http_verdict(answer, url, server) {
        Verdict::Delivered { .. } => {
            let status = format!("{} without a gRPC status", answer.status.as_u16());
            Verdict::Retry { after: None, reason: format!("{server}: {}", strange(&status, &answer.body)) }
        }
        other => other,
    }
}

impl Sink for OtlpExporter {
    type Body = Post;

    fn name(&self) -> &'static str {
        "otlp"
    }

    /// One per signal: a server can lack one of the paths, and each signal can have a server of its own.
    fn endpoints(&self) -> usize {
        Signal::ALL.len()
    }

    fn endpoint(&self, post: &Post) -> usize {
        post.signal as usize
    }

    fn keeps_order(&self) -> bool {
        false
    }

    fn size(&self, post: &Post) -> usize {
        post.request.body().and_then(|body| body.as_bytes()).map_or(0, <[u8]>::len)
    }

    fn sibling(&self) -> Option<Self> {
        Some(Self {
            encoder: self.encoder.fresh(),
            targets: self.targets.clone(),
            methods: self.methods.clone(),
            traffic: self.traffic.clone(),
        })
    }

    fn traffic(&self) -> Option<&Traffic> {
        Some(&self.traffic)
    }

    fn evicted_series(&self) -> u64 {
        self.encoder.series().evicted()
    }

    fn state(&self) -> Option<Vec<u8>> {
        self.encoder.state()
    }

    fn restore_state(&mut self, state: &[u8]) -> Result<(), String> {
        self.encoder.restore_state(state)
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Post> {
        let Encoded { requests, mut rejected, empty } = self.requests(batch);
        let mut posts = Vec::with_capacity(requests.len());
        for Request { body, lines, items } in requests {
            match self.post(body) {
                Ok(body) => posts.push(Request { body, lines, items }),
                Err(error) => rejected.extend(lines.iter().map(|&line| (line, format!("{error:#}")))),
            }
        }
        Encoded { requests: posts, rejected, empty }
    }

    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let (name, encoded) = (self.name(), self.requests(batch));
        encoded.map(|body| body.preview(name, &public_name(&self.targets[body.signal as usize].0.url)))
    }

    fn send(&mut self, post: &Post) -> Sending {
        self.traffic.add(post.plain, self.size(post));
        match post.request.try_clone() {
            Some(request) => Box::pin(self.route(post.signal).attempt(request)),
            None => Box::pin(ready(Verdict::Reject { reason: "the request cannot be sent again".into() })),
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    /// Answers that grpcio, the server in tests/, does not give.
    #[test]
    fn grpc_servers_that_refuse_a_compression() {
        let (gzip, none) = (Some(Compression::Gzip), Some(Compression::None));
        for (used, code, message, accepted, expected) in [
            (Compression::Zstd, "12", "", Some("identity, gzip"), gzip),
            (Compression::Zstd, "12", "", Some("identity"), none),
            (Compression::Gzip, "12", "", Some("identity,deflate"), none),
            (Compression::Gzip, "12", "", Some("identity,deflate,gzip"), None),
            (Compression::Gzip, "12", "unknown service", None, None),
            (
                Compression::Zstd,
                "12",
                "grpc: Decompressor is not installed for grpc-encoding \"zstd\"",
                None,
                none,
            ),
            (Compression::Gzip, "13", "panic", Some("identity"), None),
            (Compression::Gzip, "3", "", Some("identity"), None),
            (Compression::None, "12", "", Some("identity"), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers.insert("grpc-message", message.parse().unwrap());
            if let Some(accepted) = accepted {
                headers.insert("grpc-accept-encoding", accepted.parse().unwrap());
            }
            let (body, trailers) = (Vec::new(), HeaderMap::new());
            let answer = Answer { status: StatusCode::OK, headers, body, truncated: false, trailers };
            assert_eq!(
                another_method(&answer, Protocol::Grpc, used),
                expected,
                "{used:?} {code} {message} {accepted:?}"
            );
        }
    }
}
