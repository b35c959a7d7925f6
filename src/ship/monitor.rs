//! Posts to a monitoring server: one JSON object for each host and sample, with use of CPU, memory and disk in percent,
//! disk throughput, and the whole [`System`] object as details.
//!
//! A sample is the records of a host with the same `ts`. It ends where the next one begins, or with the batch; if a
//! batch ends within a sample, the sample is posted again when its other records have come.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use reqwest::header::{ALLOW, LOCATION, RETRY_AFTER};
use serde_json::{Value as Json, json};

use super::check::Report;
use super::line::Line;
use super::retry_after::retry_after;
use super::{Batch, Encoded, Request, Sending, Sink, Traffic, Verdict, dry_run};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::http::{Answer, Client, Error, Method, Proxies, Settings, Trust, Url, is_loopback, public_name};
use crate::system::System;

const DEFAULT_URL: &str = "http://127.0.0.1:5050/metrics";
const TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is read: the beginning of an error message.
const MAX_ANSWER: usize = 4096;
/// Hosts whose records are kept. Beyond that, the one not heard of for longest is forgotten.
const MAX_HOSTS: usize = 1024;

/// Variables of the service that this replaces, and what replaces them.
const REPLACED: [(&str, &str); 3] = [
    ("SYSTEM_STATS_URL", "scrape --url URL"),
    ("SYSTEM_STATS_FORWARD_INTERVAL", "scrape --interval TIME"),
    ("SYSTEM_STATS_FORWARD_LOG_LEVEL", "--stats TIME"),
];

/// The options of `--monitor`.
#[derive(Args, Clone, Debug, Default)]
pub struct MonitorArgs {
    /// Post the use of CPU, memory and disk to a monitoring server
    ///
    /// Default: MONITORING_SERVER_METRICS_URL, or http://127.0.0.1:5050/metrics.
    #[arg(long, value_name = "URL", num_args = 0..=1, help_heading = "Destinations")]
    pub monitor: Option<Option<String>>,
}

/// The sink.
pub struct Monitor {
    client: Client,
    trust: Trust,
    url: Url,
    disk_path: String,
    hosts: HashMap<String, Host>,
    traffic: Traffic,
}

struct Host {
    system: System,
    ts: Timestamp,
    /// Lines of the current sample, by their index in the batch.
    lines: Vec<usize>,
}

impl Monitor {
    /// Prepares to post. Nothing connects yet.
    ///
    /// # Errors
    /// If the URL or a variable is wrong.
    pub fn open(args: &MonitorArgs, trust: Trust) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let option = args.monitor.clone().flatten();
        let is_option = option.is_some();
        let text = option.or_else(|| env("MONITORING_SERVER_METRICS_URL"));
        let text = text.as_deref().unwrap_or(DEFAULT_URL);
        let url = Url::parse(text).context("--monitor: not a URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("--monitor: the URL must begin with http:// or https://");
        }
        if url.password().is_some() {
            if is_option {
                log(format_args!(
                    "every user of this host can see the password in --monitor; use MONITORING_SERVER_METRICS_URL"
                ));
            }
            if url.scheme() == "http" && !is_loopback(&url) {
                let host = url.host_str().unwrap_or_default();
                log(format_args!("credentials are sent to {host} unencrypted; use https://"));
            }
        }
        for (variable, instead) in REPLACED {
            if env(variable).is_some() {
                log(format_args!("{variable} is not used; instead of it use {instead}"));
            }
        }
        let tls = (url.scheme() == "https").then(|| trust.clone());
        let client = Client::new(Settings { tls, proxies: Proxies::from_env(&env)?, ..Settings::default() })?;
        let disk_path = env("SYSTEM_STATS_DISK_PATH").unwrap_or_else(|| "/".to_owned());
        Ok(Self { client, trust, url, disk_path, hosts: HashMap::new(), traffic: Traffic::default() })
    }

    /// Reaches the server, and asks by OPTIONS whether the path takes POST. Nothing is posted.
    pub async fn check(&self, report: &mut Report<'_>) {
        let server = public_name(&self.url);
        let what = format!("{} {server}", self.name());
        let tls = (self.url.scheme() == "https").then_some(&self.trust);
        if !report.reach(&what, &self.client, &self.url, tls) {
            return;
        }
        let request = self.client.request(Method::OPTIONS, self.url.clone()).timeout(TIMEOUT).build();
        let answer = match request {
            Ok(request) => self.client.send(request, MAX_ANSWER).await.map_err(|error| error.to_string()),
            Err(_) => Err("no valid request; correct the URL".to_owned()),
        };
        let outcome = answer.and_then(|answer| {
            let takes_post = answer.header(ALLOW).is_none_or(|methods| methods.contains("POST"));
            let advice = match answer.status.as_u16() {
                200..300 if !takes_post => "which does not allow POST; correct the path in the URL",
                // A server need not know OPTIONS.
                200..300 | 405 | 501 => return Ok(format!("OPTIONS answers {}", answer.status.as_u16())),
                300..=399 => "a redirect, which is not followed; give the URL that it leads to",
                401 | 403 => "check user and password in the URL",
                404 => "correct the path in the URL",
                407 => "set user and password in the URL of the proxy",
                _ => "check the server",
            };
            Err(format!("OPTIONS answers {}; {advice}", answer.status.as_u16()))
        });
        report.step(&what, "request", outcome);
    }

    /// The state of a host, at the beginning of a sample or within it.
    fn host(&mut self, name: &str) -> &mut Host {
        if !self.hosts.contains_key(name)
            && self.hosts.len() >= MAX_HOSTS
            && let Some(oldest) =
                self.hosts.iter().filter(|(_, host)| host.lines.is_empty()).min_by_key(|(_, host)| host.ts)
        {
            let oldest = oldest.0.clone();
            self.hosts.remove(&oldest);
        }
        self.hosts.entry(name.to_owned()).or_insert_with(|| Host {
            system: System::new(&self.disk_path),
            ts: Timestamp(0),
            lines: Vec::new(),
        })
    }
}

/// Ends a sample: its request, or its lines among the empty ones if the first rates are still to come.
fn end(name: &str, host: &mut Host, encoded: &mut Encoded<Vec<u8>>) {
    let lines = std::mem::take(&mut host.lines);
    if lines.is_empty() {
        return;
    }
    match post(name, host.ts, &host.system.object()) {
        Some(object) => {
            let body = object.to_string().into_bytes();
            encoded.requests.push(Request { body, lines, items: 1 });
        }
        None => encoded.empty.extend(lines),
    }
}

/// What is posted; `None` without the use of the CPU, which takes two samples.
fn post(host: &str, ts: Timestamp, details: &Json) -> Option<Json> {
    let cpu = details["cpu"]["percent"].as_f64()?;
    let megabytes = |field: &str| details["throughput"][field].as_f64().map(|bytes| bytes / 1e6);
    Some(json!({
        "hostname": details["system"]["hostname"].as_str().unwrap_or(host),
        "cpu": cpu,
        "ram": details["memory"]["percent"],
        "disk": details["disk"]["percent"],
        "timestamp": ts.0 / 1_000_000_000,
        "disk_read": megabytes("disk_read_bytes_per_sec"),
        "disk_write": megabytes("disk_write_bytes_per_sec"),
        "details": details,
    }))
}

impl Sink for Monitor {
    type Body = Vec<u8>;

    fn name(&self) -> &'static str {
        "monitor"
    }

    fn size(&self, body: &Vec<u8>) -> usize {
        body.len()
    }

    fn traffic(&self) -> Option<&Traffic> {
        Some(&self.traffic)
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let mut encoded = Encoded { requests: Vec::new(), rejected: Vec::new(), empty: Vec::new() };
        let mut names: Vec<String> = Vec::new();
        for index in 0..batch.len() {
            let line = match Line::parse(batch.line(index)) {
                Ok(line) => line,
                Err(reason) => {
                    encoded.rejected.push((index, reason));
                    continue;
                }
            };
            let (Some(name), Some(ts)) = (line.host(), line.ts()) else {
                encoded.empty.push(index);
                continue;
            };
            let host = self.host(name);
            if host.ts < ts {
                end(name, host, &mut encoded);
            }
            if ts < host.ts || !host.system.take(&line) {
                encoded.empty.push(index);
                continue;
            }
            host.ts = ts;
            host.lines.push(index);
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        for name in names {
            if let Some(host) = self.hosts.get_mut(&name) {
                end(&name, host, &mut encoded);
            }
        }
        encoded
    }

    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let (name, to) = (self.name(), public_name(&self.url));
        self.encode(batch).map(|body| {
            let mut out = Vec::new();
            dry_run::show(&mut out, name, &to, &body);
            out
        })
    }

    fn send(&mut self, body: &Vec<u8>) -> Sending {
        let post = self.client.request(Method::POST, self.url.clone()).timeout(TIMEOUT);
        let post = post.header("content-type", "application/json").body(body.clone());
        self.traffic.add(body.len(), body.len());
        let (client, url) = (self.client.clone(), self.url.clone());
        Box::pin(async move {
            let server = public_name(&url);
            let request = match post.build() {
                Ok(request) => request,
                Err(_) => return Verdict::Reject { reason: format!("{server}: no valid request") },
            };
            client
                .send(request, MAX_ANSWER)
                .await
                .map_or_else(|error| no_answer(&server, &error), |answer| verdict(&url, &server, &answer))
        })
    }
}

fn no_answer(server: &str, error: &Error) -> Verdict {
    Verdict::Retry { after: None, reason: format!("{server}: {error}") }
}

/// Errors of the server and of proxies can go away; an error that blames the request cannot. A redirect is not
/// followed but retried, since the URL is at fault and not the lines; so are a web page and wrong credentials.
fn verdict(url: &Url, server: &str, answer: &Answer) -> Verdict {
    let after = answer.header(RETRY_AFTER).and_then(|text| retry_after(text, Timestamp::now()));
    let status = answer.status.as_u16();
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(200).collect();
    let reason = format!("{server} answers {status}: {text}");
    match status {
        // The login page of a proxy, or the page of another server.
        200..300 if answer.body.trim_ascii_start().starts_with(b"<") => {
            Verdict::Retry { after, reason: format!("{reason}; it is a web page, check the URL") }
        }
        200..300 => Verdict::DELIVERED,
        300..=399 => {
            let to = answer.header(LOCATION).and_then(|to| url.join(to).ok());
            let to = to.map_or("an unknown URL".to_owned(), |to| public_name(&to));
            Verdict::Retry { after: None, reason: format!("{server} redirects to {to}; give that URL") }
        }
        401 | 403 => {
            Verdict::Retry { after, reason: format!("{reason}; check user and password in the URL") }
        }
        407 | 408 | 425 | 429 | 500..600 => Verdict::Retry { after, reason },
        _ => Verdict::Reject { reason },
    }
}
