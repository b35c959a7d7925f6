//! Compares `netdev` records with psutil and /proc/net/dev.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use super::support::{program, records};
use super::{assert_between, python_table, read, rows, scrape, unshared};

/// The sixteen fields in the order of the file.
pub const FIELDS: [&str; 16] = [
    "rx_bytes",
    "rx_packets",
    "rx_errors",
    "rx_dropped",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_compressed",
    "rx_multicast",
    "tx_bytes",
    "tx_packets",
    "tx_errors",
    "tx_dropped",
    "tx_fifo_errors",
    "tx_collisions",
    "tx_carrier_errors",
    "tx_compressed",
];

fn send_a_little() {
    let to = UdpSocket::bind("127.0.0.1:0").unwrap();
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    from.send_to(&[7; 1000], to.local_addr().unwrap()).unwrap();
}

#[test]
fn between_two_readings_of_the_file() {
    let before = rows(&read("/proc/net/dev"), 2, 0);
    send_a_little();
    let found = scrape(&["--once", "--only", "netdev"]);
    send_a_little();
    let after = rows(&read("/proc/net/dev"), 2, 0);
    let names: BTreeSet<_> = found.iter().map(|record| record["interface"].as_str().unwrap()).collect();
    for (name, before) in &before {
        let Some(after) = after.get(name) else { continue };
        assert!(names.contains(name.as_str()), "{name} is missing");
        let record = found.iter().find(|record| record["interface"] == **name).unwrap();
        for (index, field) in FIELDS.iter().enumerate() {
            assert_between(
                before[index],
                records::number(record, field),
                after[index],
                &format!("{field} of {name}"),
            );
        }
    }
}

#[test]
fn between_two_readings_of_psutil() {
    const CODE: &str = "
import json, psutil
table = psutil.net_io_counters(pernic=True, nowrap=False)
print(json.dumps({name: row._asdict() for name, row in table.items()}))";
    let Some(before) = python_table(CODE) else { return };
    send_a_little();
    let found = scrape(&["--once", "--only", "netdev"]);
    send_a_little();
    let after = python_table(CODE).unwrap();
    for record in &found {
        let name = record["interface"].as_str().unwrap();
        let (Some(before), Some(after)) = (before.get(name), after.get(name)) else { continue };
        for (field, theirs) in [
            ("rx_bytes", "bytes_recv"),
            ("tx_bytes", "bytes_sent"),
            ("rx_packets", "packets_recv"),
            ("tx_packets", "packets_sent"),
            ("rx_errors", "errin"),
            ("tx_errors", "errout"),
            ("rx_dropped", "dropin"),
            ("tx_dropped", "dropout"),
        ] {
            assert_between(
                before[theirs],
                records::number(record, field),
                after[theirs],
                &format!("{field} of {name}"),
            );
        }
    }
    assert!(found.iter().any(|record| record["interface"] == "lo" && record["whole"] == false), "{found:?}");
}

/// In a new network namespace, a veth pair appears during a run, carries a known number of packets, and goes.
/// Without hardware, the pair counts as the traffic of the namespace.
#[test]
fn interfaces_come_and_go() {
    let script = r#"
        ip link set lo up
        ip link add probe type veth peer name peer 2>/dev/null || { echo '"no veth"'; exit 0; }
        ip link del probe
        mkfifo "$2/pipe"
        "$1" -i 50ms --only netdev > "$2/pipe" &
        exec < "$2/pipe"
        # Copies lines up to one that matches, and the next two samples.
        until_line() { while read -r line; do echo "$line"; case $line in $1) return;; esac; done; }
        until_line '*"lo"*'
        ip link add probe type veth peer name peer
        ip link set peer up arp off
        ip link set probe up arp off
        until_line '*"probe"*"interval_s"*'
        ip link del probe
        until_line '*"lo"*'
        until_line '*"lo"*'
        until_line '*"lo"*'
        kill $!
        cat
    "#;
    let dir = tempfile::tempdir().unwrap();
    let Some(stdout) = unshared("-rn", script, &[program!("scrape").as_ref(), dir.path().as_ref()]) else {
        return;
    };
    let found = records::parse(&stdout);
    if found.first().is_some_and(|first| first == "no veth") {
        return super::support::skip("veth interfaces cannot be made here");
    }
    let samples: BTreeSet<_> = found.iter().map(|record| record["ts"].to_string()).collect();
    let seen: Vec<_> = found.iter().filter(|record| record["interface"] == "probe").collect();
    assert!(seen.iter().all(|record| record["whole"].is_null() || record["whole"] == true), "{seen:?}");
    let (first, lo) = (seen[0], records::of(&found, "netdev")[0]);
    assert!(first["interval_s"].is_null() && seen[1]["interval_s"].is_f64());
    // Counting began in the interval in which the interface appeared, not at boot.
    let (start, ts) = (first["start_ts"].as_str().unwrap(), first["ts"].as_str().unwrap());
    assert!(start < ts && start > lo["start_ts"].as_str().unwrap(), "{first}");
    assert!(samples.contains(&first["start_ts"].to_string()));
    assert_ne!(seen.last().unwrap()["ts"], found.last().unwrap()["ts"], "reported after it was deleted");
}

/// Packets per second times the interval are the packets sent, over all samples.
#[test]
fn packets_per_second_of_a_known_workload() {
    let script = r#"
        ip link set lo up
        exec python3 - "$1" <<'CODE'
import json, socket, subprocess, sys
scrape = subprocess.Popen([sys.argv[1], '-i', '50ms', '--only', 'netdev'], stdout=subprocess.PIPE)
records = (json.loads(line) for line in scrape.stdout)
record = lambda: next(record for record in records if record['interface'] == 'lo')
start = record()['rx_packets']
to, sender = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_DGRAM)
to.bind(('127.0.0.1', 0))
for _ in range(300): sender.sendto(b'x' * 100, to.getsockname())
last, received, sent, errors = start, 0, 0, 0
while last < start + 300:
    now = record()
    last, interval = now['rx_packets'], now['interval_s']
    received += now['rx_packets_per_s'] * interval
    sent += now['tx_packets_per_s'] * interval
    errors += now['rx_errors_per_s'] + now['tx_errors_per_s'] + now['rx_dropped_per_s'] + now['tx_dropped_per_s']
scrape.kill()
print(json.dumps([received, sent, errors]))
CODE
    "#;
    let Some(stdout) = unshared("-rn", script, &[program!("scrape").as_ref()]) else { return };
    let [received, sent, errors]: [f64; 3] = serde_json::from_slice(&stdout).unwrap();
    assert_between(299.9, received, 300.1, "received");
    assert_between(299.9, sent, 300.1, "sent");
    assert_eq!(errors, 0.0);
}
