//! One request and its answer, both limited in time and size.
//!
//! Answers are requested uncompressed: exporters are near, and decompression would cost
//! both sides more than it saves.

use std::time::Duration;

use anyhow::Result;

use super::answer::Answer;
use crate::collect::Failure;
use crate::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use crate::http::{self, Client, ErrorKind, Method, Proxies, Settings, StatusCode, Trust, Url};
use crate::record::Reason;

/// The longest body that is read.
const MAX_BODY: usize = 64 << 20;

/// The limit of redirects.
const MAX_REDIRECTS: usize = 4;

/// Prefers OpenMetrics, which has units and start times.
const FORMATS: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.8,\
    application/json;q=0.7,*/*;q=0.1";

/// Makes a client. `secure` if it needs TLS; `wait` is the time limit in the request headers.
///
/// # Errors
/// If a proxy variable is malformed, or TLS is needed and the system has no root certificates.
pub fn client(secure: bool, wait: Duration) -> Result<Client> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(FORMATS));
    let seconds = HeaderValue::from_str(&wait.as_secs_f64().to_string())?;
    headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
    let proxies = Proxies::from_env(&|name| std::env::var(name).ok())?;
    Client::new(Settings {
        tls: secure.then(Trust::default),
        proxies,
        redirects: MAX_REDIRECTS,
        headers,
        http2: None,
    })
}

/// Sends one request and waits up to `wait` for the whole answer.
///
/// # Errors
/// If there is no answer, or none of use.
pub async fn fetch(client: &Client, url: Url, wait: Duration) -> Result<Answer, Failure> {
    let request = client.request(Method::GET, url).timeout(wait).build();
    let request = request.map_err(|error| Failure::new(Reason::Invalid, error.to_string()))?;
    let answer = client.send(request, MAX_BODY).await.map_err(|error| failure(&error))?;
    check(answer.status, answer.header(CONTENT_ENCODING).unwrap_or_default())?;
    if answer.truncated {
        return Err(Failure::new(Reason::Unsupported, "the answer is longer than 64 MiB"));
    }
    let content_type = answer.header(CONTENT_TYPE).unwrap_or_default().to_owned();
    Ok(Answer { content_type, body: answer.body })
}

fn check(status: StatusCode, encoding: &str) -> Result<(), Failure> {
    let (reason, hint) = match status {
        StatusCode::OK if encoding.is_empty() || encoding == "identity" => return Ok(()),
        StatusCode::OK => {
            let detail =
                format!("the answer is compressed ({encoding}), although the request did not allow it");
            return Err(Failure::new(Reason::Unsupported, detail));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (Reason::Denied, "; add a user name and password: http://USER:PASSWORD@HOST")
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            (Reason::Absent, "; check the path, which is /metrics for most exporters")
        }
        _ => (Reason::Invalid, ""),
    };
    Err(Failure::new(reason, format!("HTTP {status}{hint}")))
}

fn failure(error: &http::Error) -> Failure {
    match error.kind {
        ErrorKind::Timeout => {
            let detail = format!("{error}; a longer --interval waits longer, up to 10s");
            Failure::new(Reason::Absent, detail)
        }
        ErrorKind::Connect => Failure::new(Reason::Absent, format!("cannot connect: {error}")),
        ErrorKind::Other => Failure::new(Reason::Invalid, error.to_string()),
    }
}
