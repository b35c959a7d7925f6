//! The headers that the user adds to requests: from `OTEL_EXPORTER_OTLP_HEADERS` and from a file.
//!
//! Messages never contain the value of a header.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::ship::otlp::percent_decode;

/// Headers that describe the connection or the body. Those that begin with `grpc-` do so too.
const TRANSPORT: [&str; 13] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Parts of the names of headers that are credentials.
const SECRET: [&str; 7] = ["auth", "cookie", "key", "password", "secret", "token", "x-honeycomb-team"];

/// Reads `name=value,name=value`, with percent-encoded values.
///
/// # Errors
/// If it is not that, or a header is not allowed.
pub fn read_list(list: &str, headers: &mut HeaderMap) -> Result<()> {
    for pair in list.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=').context("expected name=value")?;
        insert(headers, name, &percent_decode(value.trim()).ok().context("a value is not percent-encoded")?)?;
    }
    Ok(())
}

/// Reads a file with one `Name: value` per line; empty lines and lines that begin with `#` are skipped.
///
/// # Errors
/// If the file cannot be read, is not that, or a header is not allowed.
pub fn read_file(path: &Path, headers: &mut HeaderMap) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut add = || {
            let (name, value) = line.split_once(':').context("expected `Name: value`")?;
            insert(headers, name, value.trim())
        };
        add().with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let name: HeaderName = name.trim().parse().context("not a valid header name")?;
    if TRANSPORT.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
        bail!("{name} belongs to the transport and cannot be set; leave it out");
    }
    let value = HeaderValue::from_str(value).ok();
    let mut value = value.with_context(|| format!("the value of {name} is not valid in a header"))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// Whether one of the headers is a credential, by its name.
pub fn has_secret(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| SECRET.iter().any(|part| name.as_str().contains(part)))
}

/// Whether other users of this host can read the file.
#[cfg(unix)]
pub fn others_can_read(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o044 != 0)
}

#[cfg(not(unix))]
pub fn others_can_read(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_files_are_merged_and_kept_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# comment\n\nX-Two: from file\r\nX-Three: a:b\n").unwrap();
        let mut headers = HeaderMap::new();
        read_list("authorization=Bearer%20s3cret%3D, x-two = 2 ,", &mut headers).unwrap();
        read_file(file.path(), &mut headers).unwrap();
        let get = |name: &str| headers.get(name).unwrap().to_str().unwrap();
        assert_eq!(
            (get("Authorization"), get("x-two"), get("x-three")),
            ("Bearer s3cret=", "from file", "a:b")
        );
        assert!(!format!("{headers:?}").contains("s3cret"));
    }

    #[test]
    fn mistakes_are_named_without_the_value() {
        for bad in ["s3cret", "a=%zzs3cret", "a b=s3cret", "a=s3cret%0A"] {
            let error = read_list(bad, &mut HeaderMap::new()).unwrap_err();
            assert!(!format!("{error:#}").contains("s3cret"), "{error:#}");
        }
    }

    #[test]
    fn headers_of_the_transport_are_refused() {
        for name in ["Content-Length", "content-type", "Transfer-Encoding", "host", "TE", "grpc-timeout"] {
            let error = read_list(&format!("{name}=1"), &mut HeaderMap::new()).unwrap_err();
            assert!(error.to_string().contains(&name.to_lowercase()), "{error}");
        }
        assert!(read_list("user-agent=x,x-host=y", &mut HeaderMap::new()).is_ok());
    }

    #[test]
    fn credentials_by_their_names() {
        let has =
            |name: &str| has_secret(&HeaderMap::from_iter([(name.parse().unwrap(), "x".parse().unwrap())]));
        for name in
            ["authorization", "api-key", "signoz-ingestion-key", "x-auth-token", "Lightstep-Access-Token"]
        {
            assert!(has(name), "{name}");
        }
        assert!(!has("x-scope-orgid") && !has("user-agent"));
    }
}
