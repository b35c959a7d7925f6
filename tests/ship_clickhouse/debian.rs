//! Debian's clickhouse-server: old (18.16), but with the real HTTP interface.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::engine::request;
use crate::support::{Ship, free_port, poll, skip};

const PROGRAM: &str = "/usr/sbin/clickhouse-server";
const PASSWORD: &str = "s3cret";

/// A server with one user, `me`. It ends when this is dropped.
struct Server {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            skip("there is no clickhouse-server (Debian 12 has one)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (path, port, tcp) = (dir.path(), free_port(), free_port());
        let text = path.display();
        let config = format!(
            "<yandex><logger><level>warning</level><log>{text}/log</log><errorlog>{text}/errors</errorlog></logger>\
             <http_port>{port}</http_port><tcp_port>{tcp}</tcp_port><listen_host>127.0.0.1</listen_host>\
             <path>{text}/data/</path><tmp_path>{text}/tmp/</tmp_path><users_config>users.xml</users_config>\
             <default_profile>default</default_profile><default_database>default</default_database>\
             <mark_cache_size>1000000</mark_cache_size></yandex>"
        );
        let users = format!(
            "<yandex><profiles><default/></profiles><quotas><default/></quotas><users><me><password>{PASSWORD}</password>\
             <networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></me></users></yandex>"
        );
        std::fs::write(path.join("config.xml"), config).unwrap();
        std::fs::write(path.join("users.xml"), users).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg(format!("--config-file={text}/config.xml")).current_dir(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self { child: command.spawn().unwrap(), port, _dir: dir };
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        let ready = poll(Duration::from_secs(60), || match server.child.try_wait().unwrap() {
            Some(status) => panic!("the server ended: {status}"),
            None => listens(),
        });
        assert!(ready.is_some(), "the server does not listen");
        Some(server)
    }

    fn run(&self, sql: &str) -> String {
        let credentials = [("X-ClickHouse-User", "me"), ("X-ClickHouse-Key", PASSWORD)];
        let (status, answer) = request(self.port, "POST", "/", &credentials, sql);
        assert_eq!(status, 200, "{sql}: {answer}");
        answer.trim_end().to_owned()
    }

    fn ship(&self, password: &str, args: &[&str]) -> Ship {
        let url = format!("http://127.0.0.1:{}", self.port);
        let variables =
            [("CLICKHOUSE_URL", &*url), ("CLICKHOUSE_USER", "me"), ("CLICKHOUSE_PASSWORD", password)];
        Ship::start_with(&[&["--clickhouse", "--table", "t"], args].concat(), &variables)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CREATE: &str = "CREATE TABLE t (ts DateTime, n Int64, text String) ENGINE = MergeTree PARTITION BY toDate(ts) ORDER BY ts";

fn line(n: u32) -> String {
    let ts = format!("2026-11-{}T20:45:07.123456789Z", 10 + n % 3);
    format!("{}\n", json!({ "ts": ts, "n": n, "text": format!("é\n{n}"), "new": 1 }))
}

#[test]
fn rows_arrive_and_bad_ones_are_found() {
    let Some(server) = Server::start() else { return };
    server.run(CREATE);
    let mut input: Vec<String> = (0..1000).map(line).collect();
    input[500] = input[500].replace("\"n\":500", "\"n\":\"many\"");
    let mut ship = server.ship(PASSWORD, &[]);
    ship.feed(input.concat());
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(1), [1000, 999, 1, 0, 0]), "{}", ended.stderr);
    assert_eq!(
        server
            .run("SELECT count(), uniqExact(n), sum(n), countIf(text = concat('é\\n', toString(n))) FROM t"),
        "999\t999\t499000\t999"
    );
    assert_eq!(server.run("SELECT min(ts), max(ts) FROM t"), "2026-11-10 20:45:07\t2026-11-12 20:45:07");
}

#[test]
fn a_refused_user_and_a_missing_table_lose_nothing() {
    let Some(server) = Server::start() else { return };
    let mut ship = server.ship("wrong-one", &["--drain", "2s"]);
    ship.feed(line(1));
    let ended = ship.end();
    assert_eq!(
        (ended.code, ended.count("pending") + ended.count("dropped")),
        (Some(1), 1),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("CLICKHOUSE_PASSWORD") && !ended.stderr.contains("wrong-one"),
        "{}",
        ended.stderr
    );

    let mut ship = server.ship(PASSWORD, &[]);
    ship.feed(line(1));
    ship.wait_for("Code: 60");
    server.run(CREATE);
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(server.run("SELECT n FROM t"), "1");
}
