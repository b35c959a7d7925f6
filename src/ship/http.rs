//! OTLP over HTTP: protobuf, compressed by gzip, on connections that stay open.

mod answer;
mod target;

use std::error::Error as _;
use std::io::Write as _;

use anyhow::{Context, Result, bail};
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response, redirect};

use self::answer::Answer;
use self::target::{Target, Trust, read, tells_password};
use super::destinations::{Compression, Destinations};
use super::otlp::{self, Encoder, Signal};
use super::{Batch, Encoded, Request, Sink, Verdict};
use crate::common::diag::log;
use crate::common::time::Timestamp;

/// Of an answer's body, no more than this is read.
const MAX_ANSWER: usize = 64 * 1024;

/// The sink.
pub struct Http {
    encoder: Encoder,
    /// By signal.
    targets: Vec<(Target, Client)>,
}

/// A request, made once and sent as often as need be.
pub struct Post {
    signal: Signal,
    request: reqwest::Request,
}

impl Http {
    /// Prepares to send what `encoder` makes.
    ///
    /// # Errors
    /// What is wrong with the options, the environment, or a file that they name.
    pub fn open(options: &Destinations, encoder: Encoder) -> Result<Self> {
        // An error only says that there is a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        if options.otlp.as_ref().and_then(Option::as_deref).is_some_and(tells_password) {
            log(format_args!(
                "every user of this host can see the password in --otlp: use --header-file, or \
                 OTEL_EXPORTER_OTLP_HEADERS"
            ));
        }
        let mut targets: Vec<(Target, Client)> = Vec::new();
        for signal in Signal::ALL {
            let target = Target::new(signal, options, &|name| std::env::var(name).ok())?;
            let same = |(other, _): &&(Target, Client)| {
                (&other.trust, other.url.scheme()) == (&target.trust, target.url.scheme())
            };
            let client = match targets.iter().find(same) {
                Some((_, client)) => client.clone(),
                None => connect(&target)?,
            };
            targets.push((target, client));
        }
        Ok(Self { encoder, targets })
    }

    fn post(&self, body: otlp::Body) -> reqwest::Result<Post> {
        let signal = body.signal;
        let (target, client) = &self.targets[signal as usize];
        let post = client.post(target.url.clone()).headers(target.headers.clone()).timeout(target.timeout);
        let post = post.header(CONTENT_TYPE, "application/x-protobuf");
        let post = match target.compression {
            Compression::Gzip => post.header(CONTENT_ENCODING, "gzip").body(gzip(&body.bytes)),
            Compression::None => post.body(body.bytes),
        };
        Ok(Post { signal, request: post.build()? })
    }
}

async fn attempt(client: &Client, request: reqwest::Request, server: &str) -> reqwest::Result<Verdict> {
    let response = client.execute(request).await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = read_body(response).await?;
    let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let json = header(CONTENT_TYPE).is_some_and(|value| value.starts_with("application/json"));
    let answer = Answer { status, retry_after: header(RETRY_AFTER), json, body: &body };
    Ok(answer.verdict(server, Timestamp::now()))
}

/// What lies at the bottom of an error; what lies above repeats the URL, which may hold a password.
fn root(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    let text = cause.map_or_else(|| "cannot send".into(), ToString::to_string);
    // What rustls says, and what it means to who runs the server.
    match text.as_str() {
        text if text.contains("InvalidContentType") => {
            "the server does not speak TLS there; is it http://?".into()
        }
        text if text.contains("CaUsedAsEndEntity") => {
            "the server's certificate is one of an authority (CA:TRUE); a server needs one of its own".into()
        }
        _ => text,
    }
}

async fn read_body(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())]);
    }
    Ok(body)
}

/// A client, which keeps its connections.
fn connect(target: &Target) -> Result<Client> {
    let agent = concat!("telepipe/", env!("CARGO_PKG_VERSION"));
    // A POST that is redirected becomes a GET, or goes where nobody said that it may.
    let builder = Client::builder().user_agent(agent).redirect(redirect::Policy::none());
    let builder = if target.url.scheme() == "https" {
        trust(builder, &target.trust)?
    } else {
        // Without this, certificates would be read that nobody asks for, and their absence be an error.
        let none = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        builder.tls_backend_preconfigured(none.with_no_client_auth())
    };
    let files = [&target.trust.ca, &target.trust.certificate].into_iter().flatten();
    let files: Vec<_> = files.map(|path| path.display().to_string()).collect();
    builder.build().with_context(|| format!("cannot prepare for TLS {}", files.join(", ")))
}

fn trust(builder: ClientBuilder, trust: &Trust) -> Result<ClientBuilder> {
    let Trust { ca, certificate, key } = trust;
    let mut roots = Vec::new();
    if let Some(path) = ca {
        roots = Certificate::from_pem_bundle(&read(path)?).with_context(|| path.display().to_string())?;
        if roots.is_empty() {
            bail!("{}: no certificate in it, in PEM", path.display());
        }
    }
    let builder = builder.tls_certs_merge(roots);
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let pem = [read(certificate)?, b"\n".to_vec(), read(key)?].concat();
            let identity = Identity::from_pem(&pem).with_context(|| certificate.display().to_string())?;
            Ok(builder.identity(identity))
        }
        (None, None) => Ok(builder),
        _ => bail!("a client's certificate and its key go together: one of the two variables is not set"),
    }
}

impl Sink for Http {
    type Body = Post;

    fn name(&self) -> &'static str {
        "otlp"
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Post> {
        let Encoded { requests, mut rejected } = self.encoder.encode(batch);
        let mut posts = Vec::with_capacity(requests.len());
        for Request { body, lines, items } in requests {
            match self.post(body) {
                Ok(body) => posts.push(Request { body, lines, items }),
                Err(error) => rejected.extend(lines.iter().map(|&line| (line, root(&error)))),
            }
        }
        Encoded { requests: posts, rejected }
    }

    async fn send(&mut self, post: &Post) -> Verdict {
        let (target, client) = &self.targets[post.signal as usize];
        let server = target.server();
        let Some(request) = post.request.try_clone() else {
            return Verdict::Reject { reason: "a request that can be sent only once".into() };
        };
        attempt(client, request, &server).await.unwrap_or_else(|error| {
            let reason = format!("{server}: {}", root(&error));
            Verdict::Retry { after: None, reason }
        })
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), flate2::Compression::fast());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}
