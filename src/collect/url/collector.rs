//! Requests all endpoints in parallel at every sample, and emits each answer as it arrives.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::answer::{self, Answer, Endpoint};
use super::{KINDS, fetch};
use crate::collect::{Collector, Failure, Sample};
use crate::common::emit::Emitter;
use crate::common::program::Usage;
use crate::common::stop::Stop;
use crate::http::{Client, Url, without_user};
use crate::record::{Kind, Reason, Status};

/// The collector of HTTP endpoints.
struct UrlCollector {
    /// `None` only while the collector is dropped.
    runtime: Option<Runtime>,
    client: Client,
    wait: Duration,
    targets: Vec<Target>,
    stop: Stop,
}

struct Target {
    url: Url,
    endpoint: Endpoint,
    /// Set from the `status` record of a failure to that of the recovery.
    failing: bool,
    /// Set by the first answer of use.
    answered: bool,
    /// The detail of the last failure.
    detail: String,
}

/// The index of a target and its answer; `None` if the program has been asked to stop.
type Outcome = Option<(usize, Result<Answer, Failure>)>;

/// Makes the collector of these URLs. Each may take up to `wait` to answer. Connects to none yet.
///
/// # Errors
/// [`Usage`] for a malformed URL; other errors if the client cannot be made.
pub fn collector(urls: &[String], wait: Duration, stop: &Stop) -> Result<Box<dyn Collector>> {
    let targets: Vec<_> = urls.iter().map(|url| Target::new(url)).collect::<Result<_>>()?;
    let secure = targets.iter().any(|target| target.url.scheme() == "https");
    let client = fetch::client(secure, wait)?;
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start HTTP")?;
    Ok(Box::new(UrlCollector { runtime: Some(runtime), client, wait, targets, stop: stop.clone() }))
}

impl Target {
    fn new(text: &str) -> Result<Self> {
        let usage = |why: &str| Usage(format!("--url {text}: {why}"));
        let url =
            Url::parse(text).map_err(|error| usage(&format!("{error}; write http://HOST:PORT/PATH")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(usage("only http:// and https:// are supported").into());
        }
        let host = url.host_str().unwrap_or_default();
        let instance = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let endpoint = Endpoint { url: without_user(&url).into(), instance };
        Ok(Self { url, endpoint, failing: false, answered: false, detail: String::new() })
    }

    /// Emits the records of an answer, or a `status` record for the first failure in a row.
    fn emit(
        &mut self,
        answer: Result<Answer, Failure>,
        sample: &Sample<'_>,
        out: &mut Emitter,
    ) -> Result<()> {
        let written = match answer {
            Ok(answer) => answer::write(&self.endpoint, &answer, sample, out)?,
            Err(failure) => Err(failure),
        };
        let was_failing = std::mem::replace(&mut self.failing, written.is_err());
        match &written {
            Ok(()) => self.answered = true,
            Err(failure) => self.detail.clone_from(&failure.detail),
        }
        let Failure { reason, detail } = match written {
            Err(failure) if !was_failing => failure,
            Ok(()) if was_failing => Failure::new(Reason::Active, "it answers again"),
            _ => return Ok(()),
        };
        out.emit(sample.ts, &Status { source: self.endpoint.url.clone(), reason, method: None, detail })
    }
}

impl Collector for UrlCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        KINDS
    }

    fn method(&self) -> String {
        let urls: Vec<_> = self.targets.iter().map(|target| target.endpoint.url.as_str()).collect();
        format!("GET {}", urls.join(", "))
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Self { runtime: Some(runtime), client, wait, targets, stop } = self else { return Ok(()) };
        if !sample.write {
            return Ok(());
        }
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (index, target) in targets.iter().enumerate() {
                let (client, url, wait) = (client.clone(), target.url.clone(), *wait);
                tasks.spawn(async move { Some((index, fetch::fetch(&client, url, wait).await)) });
            }
            tasks.spawn(stopped(stop.clone()));
            let mut waiting = targets.len();
            while waiting > 0
                && let Some(done) = tasks.join_next().await
            {
                let Some((index, answer)) = done.context("a request panicked")? else { break };
                targets[index].emit(answer, sample, out)?;
                out.flush()?;
                waiting -= 1;
            }
            Ok(())
        })
    }

    fn check(&self, every: bool) -> Result<()> {
        let silent: Vec<_> = self.targets.iter().filter(|target| !target.answered).collect();
        let Some(first) = silent.first() else { return Ok(()) };
        if !every && silent.len() < self.targets.len() {
            return Ok(());
        }
        let others = match silent.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        bail!("no metrics from {}{others}: {}", first.endpoint.url, first.detail)
    }
}

/// Ends when the program has been asked to stop; the remaining answers are dropped then.
async fn stopped(stop: Stop) -> Outcome {
    match readable(&stop) {
        Ok(fd) if fd.readable().await.is_ok() => None,
        // Without the descriptor, the time limit of the requests ends the wait.
        _ => std::future::pending().await,
    }
}

/// The descriptor of `stop` for this event loop. It is a socket that is never read.
fn readable(stop: &Stop) -> std::io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(stop.fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

impl Drop for UrlCollector {
    /// Does not wait for name lookups, which run on threads of their own and may hang.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_names_have_no_password() {
        let target = Target::new("http://user:secret@db1/metrics?x=1").unwrap();
        assert_eq!(target.endpoint.url, "http://db1/metrics?x=1");
        assert_eq!(target.endpoint.instance, "db1:80");
        assert_eq!(target.url.password(), Some("secret"));
        assert_eq!(Target::new("https://[::1]:9100").unwrap().endpoint.instance, "[::1]:9100");
        for text in ["", "db1:9100", "/metrics", "ftp://db1/", "http://", "http://db1:99999/"] {
            let error = Target::new(text).err().unwrap();
            assert!(error.is::<Usage>(), "{text}: {error}");
        }
    }
}
