//! Tests step by step whether a server can be reached, for `tele-ship check`: name, connection, proxy, TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConnection, InvalidMessage};

use super::{Client, Trust, Url, host, origin};
use crate::common::diag::excerpt;

/// How long a connection, and each read and write on it, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer of a proxy to CONNECT.
const MAX_HEAD: usize = 16 * 1024;

/// What a step found, or what went wrong and what to do about it.
pub type Outcome = Result<String, String>;

/// Tries to reach the server of `url` and reports each step. False if one failed.
///
/// `tls` is for `https`. The certificates that it names are those of `client`.
pub fn probe(
    client: &Client,
    url: &Url,
    tls: Option<&Trust>,
    step: &mut dyn FnMut(&str, Outcome) -> bool,
) -> bool {
    let proxy = client.proxies.of(url);
    let via = proxy.map_or_else(String::new, |proxy| format!("the proxy {}", origin(proxy)));
    let first = proxy.unwrap_or(url);
    let addresses = resolve(first);
    let found = addresses.as_ref().map(|addresses| list(addresses)).map_err(Clone::clone);
    let Ok(addresses) = addresses else { return step("resolve", found) };
    step("resolve", found);
    let mut stream = match connect(&addresses) {
        Ok(stream) => stream,
        Err(error) => return step("connect", Err(error)),
    };
    step("connect", Ok(via));
    if let Some(proxy) = proxy {
        // A proxy that is reached by TLS is tested by the request that follows.
        if proxy.scheme() == "https" || !client.tunnels(url) {
            return true;
        }
        if !step("proxy", tunnel(&mut stream, proxy, url)) {
            return false;
        }
    }
    tls.is_none_or(|trust| step("tls", handshake(&mut stream, url, trust, client.protocols())))
}

fn resolve(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let advice = "check the host name in the URL, and the name server of this host";
    let host = || excerpt(url.host_str().unwrap_or_default().as_bytes()).to_string();
    match url.socket_addrs(|| None) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(format!("{} has no address; {advice}", host())),
        Err(error) => Err(format!("{}: {error}; {advice}", host())),
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let mut hosts: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    hosts.dedup();
    hosts.join(", ")
}

fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut failed = String::new();
    for address in addresses {
        let connected = TcpStream::connect_timeout(address, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                let advice = match error.kind() {
                    ErrorKind::ConnectionRefused => "start the server, or correct the port in the URL",
                    _ => "check that the host is up, and that no firewall is between",
                };
                failed = format!("{address}: {error}; {advice}");
            }
        }
    }
    Err(failed)
}

/// Asks the proxy for a connection to the server.
fn tunnel(stream: &mut TcpStream, proxy: &Url, url: &Url) -> Outcome {
    let server =
        format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
    let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
    if let Some((user, password)) = super::credentials(proxy) {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        request += &format!("Proxy-Authorization: Basic {basic}\r\n");
    }
    let failed = |error: std::io::Error| format!("{}: {error}; is that an HTTP proxy?", origin(proxy));
    stream.write_all((request + "\r\n").as_bytes()).map_err(failed)?;
    // Byte by byte: what follows the head comes from the server.
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).map_err(failed)?;
        head.push(byte[0]);
        if head.len() > MAX_HEAD {
            return Err(failed(std::io::Error::other("its answer is too long")));
        }
    }
    let line =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    match line.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(origin(proxy)),
        Some("407") => Err(format!(
            "{} answers 407; set user and password in the URL of the proxy: http://USER:PASSWORD@HOST:PORT",
            origin(proxy)
        )),
        _ => Err(format!(
            "{} answers {}; does it allow CONNECT to {server}?",
            origin(proxy),
            excerpt(line.as_bytes())
        )),
    }
}

fn handshake(stream: &mut TcpStream, url: &Url, trust: &Trust, protocols: &[&str]) -> Outcome {
    let config = trust.config(protocols).map_err(|error| format!("{error:#}"))?;
    let name = ServerName::try_from(host(url).to_owned()).map_err(|_| "not a host name".to_owned())?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection.complete_io(stream).map_err(|error| explain(&error, url))?;
    }
    Ok(connection
        .protocol_version()
        .and_then(|version| version.as_str())
        .unwrap_or_default()
        .replace('_', "."))
}

fn explain(error: &std::io::Error, url: &Url) -> String {
    use CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        UnknownIssuer,
    };
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) else {
        let late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        let why = if late { "no answer in time".to_owned() } else { error.to_string() };
        return format!("{why}; does the server speak TLS there?");
    };
    let advice = match cause {
        rustls::Error::InvalidCertificate(fault) => match fault {
            UnknownIssuer => "give the certificate of its CA, or its own, with --ca-file".to_owned(),
            NotValidForName | NotValidForNameContext { .. } => {
                format!("use a name that the certificate has, or have one issued for {}", host(url))
            }
            Expired | ExpiredContext { .. } => {
                "renew it on the server, or correct the clock of this host".to_owned()
            }
            NotValidYet | NotValidYetContext { .. } => "correct the clock of this host".to_owned(),
            other if super::tls::is_ca(&rustls::Error::InvalidCertificate(other.clone())) => {
                "it is that of a CA (CA:TRUE); give it with --ca-file".to_owned()
            }
            _ => "give the server a valid certificate".to_owned(),
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS there; write http:// or grpc://".to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate,
        ) => "if the server wants a client certificate, give it with --cert-file and --key-file".to_owned(),
        _ => "check which server listens there, and its TLS settings".to_owned(),
    };
    format!("{cause}; {advice}")
}
