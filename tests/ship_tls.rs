//! `tele-ship --otlp https://…`: which servers it trusts, and client certificates. `openssl` makes the certificates.

#![cfg(feature = "http")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use support::{Checked, GrpcServer, Ship, in_ci, require_long, skip};

const LINE: &str = "{\"kind\":\"log\",\"body\":\"x\"}\n";

/// A self-signed certificate for 127.0.0.1 and collector.invalid, and its key.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
}

impl Identity {
    /// Of a server, as a CA would issue it: not that of a CA itself.
    fn make(dir: &Path, name: &str) -> Option<Self> {
        Self::with(dir, name, "critical, CA:FALSE", &["req", "-x509", "-days", "2", "-extensions", "ext"])
    }

    /// As `openssl req -x509` makes it unless a configuration says otherwise: marked as a CA.
    fn marked_as_ca(dir: &Path, name: &str) -> Option<Self> {
        Self::with(dir, name, "critical, CA:TRUE", &["req", "-x509", "-days", "2", "-extensions", "ext"])
    }

    /// One that was valid in 2020.
    fn expired(dir: &Path, name: &str, constraints: &str) -> Option<Self> {
        let made = Self::with(dir, name, constraints, &["req", "-new"])?;
        std::fs::write(dir.join("index.txt"), "").unwrap();
        let _ = std::fs::remove_file(dir.join("index.txt.attr"));
        std::fs::write(dir.join("serial"), "01\n").unwrap();
        let request = made.certificate.with_extension("csr");
        std::fs::rename(&made.certificate, &request).unwrap();
        let output = Command::new("openssl")
            .args(["ca", "-selfsign", "-batch", "-notext", "-extensions", "ext"])
            .args(["-startdate", "20200101000000Z", "-enddate", "20210101000000Z"])
            .args([
                "-config".as_ref(),
                dir.join("openssl.cnf").as_os_str(),
                "-in".as_ref(),
                request.as_os_str(),
            ])
            .args(["-keyfile".as_ref(), made.key.as_os_str(), "-out".as_ref(), made.certificate.as_os_str()])
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(made)
    }

    fn with(dir: &Path, name: &str, constraints: &str, args: &[&str]) -> Option<Self> {
        let config = dir.join("openssl.cnf");
        let text = format!(
            "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = {name}\n[ext]\n\
             subjectAltName = IP:127.0.0.1, DNS:collector.invalid\nbasicConstraints = {constraints}\n\
             [ca]\ndefault_ca = d\n[d]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n\
             default_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n"
        );
        std::fs::write(&config, text).unwrap();
        let made =
            Self { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        let output = Command::new("openssl")
            .args(args)
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-config".as_ref(), config.as_os_str(), "-out".as_ref(), made.certificate.as_os_str()])
            .args(["-keyout".as_ref(), made.key.as_os_str()])
            .output();
        let Ok(output) = output else {
            assert!(!in_ci(), "openssl is missing");
            skip("openssl is missing");
            return None;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(made)
    }
}

/// Starts a server with this certificate, which requires that of `client`. Returns its URL and the request lines.
fn serve(identity: &Identity, client: Option<&Identity>) -> (String, Receiver<String>) {
    let certificate = |identity: &Identity| CertificateDer::from_pem_file(&identity.certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = match client {
        None => config.with_no_client_auth(),
        Some(client) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(client)).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            config.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let config = Arc::new(config.with_single_cert(vec![certificate(identity)], key).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A failed handshake is the client's refusal, which some tests expect.
            let _ = answer(stream, &config).map(|path| sender.send(path));
        }
    });
    (url, receiver)
}

/// Answers one request with 200.
fn answer(stream: TcpStream, config: &Arc<ServerConfig>) -> std::io::Result<String> {
    let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end().to_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().map_err(std::io::Error::other)?,
            Some(_) => {}
            None => break,
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    stream.get_mut().conn.send_close_notify();
    stream.get_mut().flush()?;
    Ok(first)
}

/// Ships one line, and gives up after a second without success.
fn ship(args: &[&str], variables: &[(&str, &str)]) -> support::Ended {
    let mut ship = Ship::start_with(&[args, &["--drain", "1s"]].concat(), variables);
    ship.feed(LINE);
    ship.end()
}

#[test]
fn only_trusted_servers_get_anything() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(server), Some(other)) = (Identity::make(dir.path(), "a"), Identity::make(dir.path(), "b"))
    else {
        return;
    };
    let (url, requests) = serve(&server, None);
    let [ca, wrong] = [&server, &other].map(|identity| identity.certificate.to_str().unwrap());
    let elsewhere = url.replace("127.0.0.1", "localhost");
    for (args, why) in [
        (&["--otlp", &url][..], "UnknownIssuer"),
        (&["--otlp", &url, "--ca-file", wrong], "UnknownIssuer"),
        (&["--otlp", &elsewhere, "--ca-file", ca], "not valid for name"),
    ] {
        let ended = ship(args, &[]);
        assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]));
        assert!(ended.stderr.contains("certificate") && ended.stderr.contains(why), "{}", ended.stderr);
    }
    assert!(requests.try_recv().is_err());

    let nothing = ("SSL_CERT_FILE", "/nonexistent");
    let by_variable = ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca);
    for (args, variables) in [
        (&["--otlp", &url, "--ca-file", ca][..], &[][..]),
        (&["--otlp", &url, "--ca-file", ca], &[nothing]),
        (&["--otlp", &url], &[by_variable]),
    ] {
        let ended = ship(args, variables);
        assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
        assert_eq!(requests.recv_timeout(Duration::from_secs(5)).unwrap(), "POST /v1/logs HTTP/1.1\r\n");
    }
}

#[test]
fn a_wrong_certificate_is_reported_once_a_minute() {
    if !require_long() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Identity::make(dir.path(), "a") else { return };
    let (url, requests) = serve(&server, None);
    let mut ship = Ship::start(&["--otlp", &url, "--drain", "1s"]);
    ship.feed(LINE);
    // Attempts are up to 30 s apart.
    std::thread::sleep(Duration::from_secs(160));
    let ended = ship.end();
    assert_eq!(ended.lines(), [1, 0, 0, 1, 0]);
    let reports = ended.stderr.matches("UnknownIssuer").count();
    assert!((2..=3).contains(&reports), "{reports}: {}", ended.stderr);
    assert!(requests.try_recv().is_err());
}

/// Trusted only if it is given itself, is valid now, and has the name of the server; as in curl.
#[test]
fn a_self_signed_certificate_is_accepted_if_it_is_given_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Identity::marked_as_ca(dir.path(), "a") else { return };
    // Has the same subject, so that only its key differs.
    let other = tempfile::tempdir().unwrap();
    let other = Identity::marked_as_ca(other.path(), "a").unwrap();
    let (url, requests) = serve(&server, None);
    let [ca, wrong] = [&server, &other].map(|identity| identity.certificate.to_str().unwrap());
    let elsewhere = url.replace("127.0.0.1", "localhost");
    for args in [
        &["--otlp", &url][..],
        &["--otlp", &url, "--ca-file", wrong],
        &["--otlp", &elsewhere, "--ca-file", ca],
    ] {
        let ended = ship(args, &[]);
        assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]), "{}", ended.stderr);
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    }
    assert!(requests.try_recv().is_err());
    let ended = ship(&["--otlp", &url, "--ca-file", ca], &[]);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert!(requests.recv_timeout(Duration::from_secs(5)).is_ok());

    for (name, constraints) in [("leaf", "critical, CA:FALSE"), ("ca", "critical, CA:TRUE")] {
        let old = Identity::expired(dir.path(), name, constraints).unwrap();
        let (url, requests) = serve(&old, None);
        let ended = ship(&["--otlp", &url, "--ca-file", old.certificate.to_str().unwrap()], &[]);
        assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]), "{}", ended.stderr);
        assert!(ended.stderr.contains("expired"), "{}", ended.stderr);
        assert!(requests.try_recv().is_err());
    }
}

/// A fault of a certificate ends the check before anything is sent.
#[test]
fn check_verifies_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(server), Some(other)) = (Identity::make(dir.path(), "a"), Identity::make(dir.path(), "b"))
    else {
        return;
    };
    let old = Identity::expired(dir.path(), "old", "critical, CA:FALSE").unwrap();
    let path = |identity: &Identity| identity.certificate.to_str().unwrap().to_owned();
    let (url, requests) = serve(&server, None);
    let (expired, _) = serve(&old, None);
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let no_tls = without_tls();
    let before = [("resolve", true), ("connect", true)];
    for option in ["--otlp", "--clickhouse", "--monitor"] {
        for (url, ca, why) in [
            (&url, path(&other), "UnknownIssuer"),
            (&elsewhere, path(&server), "not valid for name"),
            (&expired, path(&old), "expired"),
            (&no_tls, path(&server), "http://"),
        ] {
            let checked = Checked::run(&[option, url, "--ca-file", &ca], &[]);
            assert_eq!(checked.steps(), [&before[..], &[("tls", false)]].concat(), "{:?}", checked.lines);
            assert!(checked.code == Some(1) && checked.lines[2].contains(why), "{:?}", checked.lines);
        }
    }
    assert!(requests.try_recv().is_err());
    let checked = Checked::run(&["--otlp", &url, "--ca-file", &path(&server)], &[]);
    let signals = ["tls", "metrics", "logs", "traces"].map(|name| (name, true));
    assert_eq!((checked.code, checked.steps()), (Some(0), [&before[..], &signals].concat()));
    assert_eq!(requests.try_iter().count(), 3);
}

/// Starts a proxy that connects everyone to `address`. Returns its URL and the request lines.
fn tunnel(address: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = BufReader::new(client.try_clone().unwrap());
            let mut lines = head.by_ref().lines().map_while(Result::ok);
            let _ = sender.send(lines.next().unwrap_or_default());
            lines.find(String::is_empty);
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let mut server = TcpStream::connect(&address).unwrap();
            let (mut to_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut head, &mut to_server));
            std::thread::spawn(move || std::io::copy(&mut server, &mut to_client));
        }
    });
    (url, receiver)
}

#[test]
fn grpc_goes_through_a_proxy_by_connect() {
    let dir = tempfile::tempdir().unwrap();
    let Some(server) = Identity::make(dir.path(), "a") else { return };
    let options = json!({"certificate": server.certificate, "key": server.key});
    let Some(grpc) = GrpcServer::start(&options, &[]) else { return };
    let (proxy, connects) = tunnel(grpc.address());
    // No name server knows it, so that only the proxy can.
    let ca = server.certificate.to_str().unwrap();
    let args = ["--otlp", "grpcs://collector.invalid", "--ca-file", ca];
    let ended = ship(&args, &[("HTTPS_PROXY", &proxy)]);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    let first = connects.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(first, "CONNECT collector.invalid:4317 HTTP/1.1");
    assert_eq!(grpc.requests().len(), 1);

    let ended = ship(&args, &[("HTTPS_PROXY", &proxy), ("NO_PROXY", ".invalid")]);
    assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]), "{}", ended.stderr);
    assert!(connects.try_recv().is_err());
    // Without TLS there is no CONNECT, and proxies do not forward gRPC.
    let ended = Ship::start_with(&["--otlp", "grpc://collector.invalid"], &[("HTTP_PROXY", &proxy)]).wait();
    assert!(ended.code == Some(2) && ended.stderr.contains("grpcs://"), "{}", ended.stderr);
}

/// The same rules over gRPC, with a server of grpcio.
#[test]
fn grpc_servers_are_verified_too() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(server), Some(other)) = (Identity::make(dir.path(), "a"), Identity::make(dir.path(), "b"))
    else {
        return;
    };
    let options = json!({"certificate": server.certificate, "key": server.key});
    let Some(grpc) = GrpcServer::start(&options, &[]) else { return };
    let url = format!("grpcs://{}", grpc.address());
    for args in [&["--otlp", &url][..], &["--otlp", &url, "--ca-file", other.certificate.to_str().unwrap()]] {
        let ended = ship(args, &[]);
        assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]), "{}", ended.stderr);
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    }
    assert!(grpc.requests().is_empty());
    let ended = ship(&["--otlp", &url, "--ca-file", server.certificate.to_str().unwrap()], &[]);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(grpc.requests().len(), 1);
    // TLS by variables, to an endpoint with https://.
    let endpoint = url.replace("grpcs://", "https://");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", server.certificate.to_str().unwrap()),
    ];
    let ended = ship(&["--otlp"], &variables);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
}

#[test]
fn the_client_certificate_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(server), Some(client)) = (Identity::make(dir.path(), "a"), Identity::make(dir.path(), "b"))
    else {
        return;
    };
    let (url, requests) = serve(&server, Some(&client));
    let args = ["--otlp", &url, "--ca-file", server.certificate.to_str().unwrap()];
    assert_eq!(ship(&args, &[]).lines(), [1, 0, 0, 1, 0]);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (certificate, key) = (path(&client.certificate), path(&client.key));
    let variables = [
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", &key),
    ];
    let ended = ship(&args, &variables);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert!(requests.recv_timeout(Duration::from_secs(5)).is_ok());
    let options = [&args[..], &["--cert-file", &certificate, "--key-file", &key]].concat();
    let ended = ship(&options, &[]);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert!(requests.recv_timeout(Duration::from_secs(5)).is_ok());
}

#[test]
fn certificates_without_a_server_are_usage_errors() {
    let ended = Ship::start(&["--stdout", "--ca-file", "/nonexistent.pem"]).wait();
    assert!(ended.code == Some(2) && ended.stderr.contains("--ca-file"), "{}", ended.stderr);
}

#[test]
fn missing_or_invalid_certificate_files_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty.pem");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n").unwrap();
    for path in ["/nonexistent.pem", file.to_str().unwrap()] {
        let ended = Ship::start(&["--otlp", "https://127.0.0.1:1", "--ca-file", path]).wait();
        assert!(ended.code == Some(2) && ended.stderr.contains(path), "{}", ended.stderr);
    }
    // Without TLS no certificates are read.
    let server = support::Capture::script([]);
    let mut ship = Ship::start_with(&["--otlp", &server.url()], &[("SSL_CERT_FILE", "/nonexistent")]);
    ship.feed(LINE);
    assert_eq!(ship.end().code, Some(0));
}

/// Starts a server that answers everything with 400.
fn without_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    url
}

#[test]
fn a_server_without_tls_is_recognized() {
    let url = without_tls();
    let ended = ship(&["--otlp", &url], &[]);
    assert_eq!(ended.lines(), [1, 0, 0, 1, 0]);
    assert!(ended.stderr.contains("does not speak TLS there; is it http://?"), "{}", ended.stderr);
}
