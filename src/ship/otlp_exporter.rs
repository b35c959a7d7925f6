//! Sends OTLP over HTTP: protobuf bodies, gzip by default, on connections that stay open.

mod answer;
mod target;

use std::future::ready;

use anyhow::Result;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};

pub use self::target::OtlpArgs;

use self::answer::Answer;
use self::target::{Compression, Target, shows_password};
use super::otlp::{self, Encoder, Signal};
use super::{Batch, Encoded, Request, Sending, Sink, Verdict};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::http::{Client, Method, Proxies, Settings, gzip};

/// How much of a response's body is read.
const MAX_ANSWER: usize = 64 * 1024;

/// The sink.
pub struct OtlpHttp {
    encoder: Encoder,
    /// By signal.
    targets: Vec<(Target, Client)>,
}

/// A request, built once and sent as often as needed.
pub struct Post {
    signal: Signal,
    request: reqwest::Request,
}

impl OtlpHttp {
    /// Prepares to send what `encoder` makes. Nothing connects yet.
    ///
    /// # Errors
    /// If an option, a variable, or a file that one of them names is wrong.
    pub fn open(options: &OtlpArgs, encoder: Encoder) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        if options.otlp.as_ref().and_then(Option::as_deref).is_some_and(shows_password) {
            log(format_args!(
                "every user of this host can see the password in --otlp; use --header-file or \
                 OTEL_EXPORTER_OTLP_HEADERS"
            ));
        }
        let proxies = Proxies::from_env(&env)?;
        let mut targets: Vec<(Target, Client)> = Vec::new();
        for signal in Signal::ALL {
            let target = Target::new(signal, options, &env)?;
            let same = |(other, _): &&(Target, Client)| other.tls() == target.tls();
            let client = match targets.iter().find(same) {
                Some((_, client)) => client.clone(),
                // No redirects: a redirected POST becomes a GET, or goes where nobody allowed it to.
                None => Client::new(Settings {
                    tls: target.tls().cloned(),
                    proxies: proxies.clone(),
                    redirects: 0,
                    headers: HeaderMap::new(),
                })?,
            };
            targets.push((target, client));
        }
        Ok(Self { encoder, targets })
    }

    fn post(&self, body: otlp::Body) -> reqwest::Result<Post> {
        let signal = body.signal;
        let (target, client) = &self.targets[signal as usize];
        let post = client.request(Method::POST, target.url.clone());
        let post = post.headers(target.headers.clone()).timeout(target.timeout);
        let post = post.header(CONTENT_TYPE, "application/x-protobuf");
        let post = match target.compression {
            Compression::Gzip => post.header(CONTENT_ENCODING, "gzip").body(gzip(&body.bytes)),
            Compression::None => post.body(body.bytes),
        };
        Ok(Post { signal, request: post.build()? })
    }
}

/// Sends once. The server's name opens every reason.
async fn attempt(client: Client, request: reqwest::Request, server: String) -> Verdict {
    let proxy = client.proxy(request.url());
    let answer = match client.send(request, MAX_ANSWER).await {
        Ok(answer) => answer,
        Err(error) => return Verdict::Retry { after: None, reason: format!("{server}: {error}") },
    };
    let server = proxy.map_or(server.clone(), |proxy| format!("{server}, through the proxy {proxy},"));
    let json = answer.header(CONTENT_TYPE).is_some_and(|value| value.starts_with("application/json"));
    let retry_after = answer.header(RETRY_AFTER);
    let status = answer.status.as_u16();
    Answer { status, retry_after, json, body: &answer.body }.verdict(&server, Timestamp::now())
}

impl Sink for OtlpHttp {
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
        let Encoded { requests, mut rejected, empty } = self.encoder.encode(batch);
        let mut posts = Vec::with_capacity(requests.len());
        for Request { body, lines, items } in requests {
            match self.post(body) {
                Ok(body) => posts.push(Request { body, lines, items }),
                Err(_) => rejected.extend(lines.iter().map(|&line| (line, "no valid request".to_owned()))),
            }
        }
        Encoded { requests: posts, rejected, empty }
    }

    fn send(&mut self, post: &Post) -> Sending {
        let (target, client) = &self.targets[post.signal as usize];
        match post.request.try_clone() {
            Some(request) => Box::pin(attempt(client.clone(), request, target.server())),
            None => Box::pin(ready(Verdict::Reject { reason: "the request cannot be sent again".into() })),
        }
    }
}
