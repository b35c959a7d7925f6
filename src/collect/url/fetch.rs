//! One request and its answer.
//!
//! Time and size are bounded. Nothing is asked for in compressed form: exporters
//! are near, and decompression would cost both sides more than it saves. Proxies
//! of the environment are not used, as in Prometheus.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::Failure;
use super::answer::Answer;
use crate::record::Reason;

/// The longest answer that is read.
const MAX_BODY: usize = 64 << 20;

/// How often an endpoint may send us elsewhere.
const MAX_REDIRECTS: usize = 4;

/// OpenMetrics is preferred, for it has units and start times.
const FORMATS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.8,\
    application/json;q=0.7,*/*;q=0.1";

/// A client that gives up after `wait`; `secure` if it is to speak TLS.
///
/// # Errors
/// Where TLS is wanted, if the system has no roots of trust.
pub fn client(secure: bool, wait: Duration) -> Result<Client> {
    // Fails only if there is one already, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(FORMATS));
    let seconds = HeaderValue::from_str(&wait.as_secs_f64().to_string())?;
    headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
    let mut builder = Client::builder()
        .user_agent(concat!("telepipe/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .timeout(wait)
        .redirect(redirect::Policy::limited(MAX_REDIRECTS))
        .no_proxy();
    if !secure {
        // Without roots none need to be on this machine, and none are read.
        builder = builder.tls_certs_only([]).redirect(redirect::Policy::custom(only_plain));
    }
    builder.build().context("cannot use TLS; are the system's CA certificates installed?")
}

fn only_plain(attempt: redirect::Attempt<'_>) -> redirect::Action {
    if attempt.url().scheme() == "https" {
        let message = format!("it redirects to {}; give that URL", attempt.url());
        return attempt.error(message);
    }
    redirect::Policy::limited(MAX_REDIRECTS).redirect(attempt)
}

/// Asks once.
///
/// # Errors
/// Why there is no answer, or none that is of use.
pub async fn fetch(client: &Client, url: Url) -> Result<Answer, Failure> {
    let response = client.get(url).send().await.map_err(|error| failure(&error))?;
    check(response.status(), response.headers())?;
    let content_type = text_of(response.headers().get(CONTENT_TYPE));
    let body = body(response).await?;
    Ok(Answer { content_type, body })
}

async fn body(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(Failure::new(Reason::Unsupported, "the answer is longer than 64 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    let encoding = text_of(headers.get(CONTENT_ENCODING));
    let (reason, hint) = match status {
        StatusCode::OK if encoding.is_empty() || encoding == "identity" => return Ok(()),
        StatusCode::OK => {
            let detail = format!("the answer is compressed ({encoding}), which was not asked for");
            return Err(Failure::new(Reason::Unsupported, detail));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (Reason::Denied, "; it wants a login"),
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            (Reason::Absent, "; most exporters answer at the path /metrics")
        }
        _ => (Reason::Invalid, ""),
    };
    Err(Failure::new(reason, format!("HTTP {status}{hint}")))
}

fn text_of(header: Option<&HeaderValue>) -> String {
    header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// What went wrong on the way, by its innermost cause.
fn failure(error: &reqwest::Error) -> Failure {
    if error.is_timeout() {
        let detail = "no complete answer in time; a longer --interval waits longer, up to 10s";
        return Failure::new(Reason::Absent, detail);
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() {
        return Failure::new(Reason::Absent, format!("cannot connect: {cause}"));
    }
    Failure::new(Reason::Invalid, cause.to_string())
}
