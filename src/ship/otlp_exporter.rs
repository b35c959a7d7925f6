//! Sends OTLP: protobuf or JSON over HTTP, or gRPC, on connections that stay open. Each signal has an endpoint.
//! What the server's answers mean is in `http_answer` and `grpc`; the delays between attempts are in `super::endpoint`.

mod grpc;
mod headers;
mod http_answer;
mod target;

use std::future::ready;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER, TE};

pub use self::target::OtlpArgs;

use self::http_answer::{HttpAnswer, strange};
use self::target::{Protocol, Target, shows_password};
use super::otlp::{self, Encoder, Signal};
use super::{Batch, Encoded, Request, Sending, Sink, Traffic, Verdict};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::http::{Answer, Client, ErrorKind, Method, Proxies, Settings, Url, public_name};

/// How much of a response's body is read.
const MAX_ANSWER: usize = 64 * 1024;

/// The sink.
pub struct OtlpExporter {
    encoder: Encoder,
    /// By signal.
    targets: Vec<(Target, Client)>,
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
        Ok(Self { encoder, targets, traffic: Arc::default() })
    }

    fn post(&self, body: otlp::Body) -> Result<Post> {
        let signal = body.signal;
        let (target, client) = &self.targets[signal as usize];
        let post = client.request(Method::POST, target.url.clone()).headers(target.headers.clone());
        let mut post = post.timeout(target.timeout);
        let mut plain =
            if target.protocol == Protocol::HttpJson { body.to_json().into() } else { body.bytes };
        let mut size = plain.len();
        let encoding = target.compression.name();
        if target.protocol == Protocol::Grpc && encoding.is_none() {
            // In the same memory: a copy would take as much again.
            plain.splice(..0, grpc::frame_head(false, size));
        }
        let packed = target.compression.apply(plain).context("cannot compress the request")?;
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

/// Sends once. The server's name opens every reason.
async fn attempt(client: Client, request: reqwest::Request, server: String, protocol: Protocol) -> Verdict {
    let (proxy, url) = (client.proxy(request.url()), request.url().clone());
    let answer = match client.send(request, MAX_ANSWER).await {
        Ok(answer) => answer,
        Err(error) => {
            // A server without gRPC may just close the connection.
            let closes = protocol == Protocol::Grpc && error.kind == ErrorKind::Other;
            let hint = if closes { "; is that a gRPC server?" } else { "" };
            return Verdict::Retry { after: None, reason: format!("{server}: {error}{hint}") };
        }
    };
    let server = proxy.map_or(server.clone(), |proxy| format!("{server}, through the proxy {proxy},"));
    match protocol {
        Protocol::Grpc => grpc::verdict(&answer, &server).unwrap_or_else(|| no_grpc(&answer, &url, &server)),
        Protocol::HttpProtobuf | Protocol::HttpJson => http_verdict(&answer, &url, &server),
    }
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
        let (target, client) = &self.targets[post.signal as usize];
        match post.request.try_clone() {
            Some(request) => Box::pin(attempt(client.clone(), request, target.server(), target.protocol)),
            None => Box::pin(ready(Verdict::Reject { reason: "the request cannot be sent again".into() })),
        }
    }
}
