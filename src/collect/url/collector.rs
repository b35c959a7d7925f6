//! Asks all endpoints at once, at every sample, and writes each answer as it comes.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Client, Url};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::answer::{self, Answer};
use super::{Endpoint, Failure, fetch};
use crate::collect::{Collector, Sample};
use crate::common::emit::Emitter;
use crate::common::program::Usage;
use crate::common::stop::Stop;
use crate::record::{Kind, Reason, Status};

/// Reads endpoints over HTTP.
pub struct UrlCollector {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    client: Client,
    targets: Vec<Target>,
    stop: Stop,
}

struct Target {
    url: Url,
    endpoint: Endpoint,
    /// True from the `status` record of a failure to that of the recovery.
    failing: bool,
}

/// Which target, and what came of asking it; `None` if the program is to end.
type Outcome = Option<(usize, Result<Answer, Failure>)>;

impl UrlCollector {
    /// Of these URLs. No more is done yet than to read the roots of trust, if there is `https` among them.
    ///
    /// # Errors
    /// [`Usage`] for what is no URL; what the system or the TLS library refuses.
    pub fn new(urls: &[String], wait: Duration, stop: &Stop) -> Result<Self> {
        let targets: Vec<_> = urls.iter().map(|url| Target::new(url)).collect::<Result<_>>()?;
        let secure = targets.iter().any(|target| target.url.scheme() == "https");
        let client = fetch::client(secure, wait)?;
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start HTTP")?;
        Ok(Self { runtime: Some(runtime), client, targets, stop: stop.clone() })
    }
}

impl Target {
    fn new(text: &str) -> Result<Self> {
        let usage = |why: &str| Usage(format!("--url {text}: {why}"));
        let url =
            Url::parse(text).map_err(|error| usage(&format!("{error}; write http://HOST:PORT/PATH")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(usage("only http:// and https:// are spoken").into());
        }
        let host = url.host_str().unwrap_or_default();
        let instance = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
        let mut shown = url.clone();
        // These fail only for URLs without a host, which http does not have.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        let endpoint = Endpoint { url: shown.into(), instance };
        Ok(Self { url, endpoint, failing: false })
    }

    /// Writes the answer, or why there is none if that was not said yet.
    fn write(
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
        super::KINDS
    }

    fn method(&self) -> String {
        let urls: Vec<_> = self.targets.iter().map(|target| target.endpoint.url.as_str()).collect();
        format!("GET {}", urls.join(", "))
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Self { runtime: Some(runtime), client, targets, stop } = self else { return Ok(()) };
        if !sample.write {
            return Ok(());
        }
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (index, target) in targets.iter().enumerate() {
                let (client, url) = (client.clone(), target.url.clone());
                tasks.spawn(async move { Some((index, fetch::fetch(&client, url).await)) });
            }
            tasks.spawn(asked(stop.clone()));
            let mut waiting = targets.len();
            while waiting > 0
                && let Some(done) = tasks.join_next().await
            {
                let Some((index, answer)) = done.context("a request ended by itself")? else { break };
                targets[index].write(answer, sample, out)?;
                out.flush()?;
                waiting -= 1;
            }
            Ok(())
        })
    }
}

/// Ends when the program is to end: nobody waits for the rest of the answers then.
async fn asked(stop: Stop) -> Outcome {
    match readable(&stop) {
        Ok(fd) if fd.readable().await.is_ok() => None,
        // Without it, the time-out of the requests ends the wait.
        _ => std::future::pending().await,
    }
}

/// The descriptor of `stop`, a socket of which nobody reads, for the event loop here.
fn readable(stop: &Stop) -> std::io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(stop.fd().try_clone_to_owned()?);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

impl Drop for UrlCollector {
    /// A look-up of a name that hangs runs on a thread of its own, and is left to itself.
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
    fn endpoints_are_named_without_their_secrets() {
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
