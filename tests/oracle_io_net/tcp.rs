//! Compares `tcp`, `udp` and `sockets` records with `ss`, the raw files, and sockets in known states.

use serde_json::{Value, json};

use super::support::{self, program, records};
use super::{assert_between, read, scrape, unshared};

/// In a new network namespace, opens sockets in known states, and runs `scrape` and `ss`.
const CODE: &str = r#"
import json, os, socket, subprocess, sys, time
scrape, keep = sys.argv[1], []
def listener(family, host):
    s = socket.socket(family); s.bind((host, 0)); s.listen(); keep.append(s); return s
def pair(to, family):
    c = socket.socket(family); c.connect(to.getsockname()); s = to.accept()[0]; keep.extend((c, s)); return c, s
v4 = [listener(socket.AF_INET, '127.0.0.1') for _ in range(7)]
v6 = [listener(socket.AF_INET6, '::1') for _ in range(3)] if os.path.exists('/proc/net/tcp6') else []
for _ in range(5): pair(v4[0], socket.AF_INET)
if v6:
    for _ in range(2): pair(v6[0], socket.AF_INET6)
for _ in range(4):                                                           # FIN-WAIT-2 and CLOSE-WAIT
    c, s = pair(v4[1], socket.AF_INET); c.shutdown(socket.SHUT_WR); s.recv(1)
for _ in range(6):                                                           # TIME-WAIT here, gone there
    c, s = pair(v4[2], socket.AF_INET); c.close(); s.recv(1); s.close()
silent = os.system('ip link add quiet type veth peer name far 2>/dev/null && ip addr add 192.0.2.1/24 dev quiet'
    ' && ip link set far up && ip link set quiet up && ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev quiet') == 0
if silent:
    for port in range(1, 9):                                                 # SYN-SENT: nothing answers
        s = socket.socket(); s.setblocking(False); s.connect_ex(('192.0.2.2', port)); keep.append(s)
    time.sleep(1.1)                                                          # each SYN is sent again after a second
time.sleep(0.2)                                                              # the last acknowledgements
def run(*args):
    return subprocess.run(args, stdout=subprocess.PIPE, check=True).stdout.decode()
kinds = ('--once', '--only', 'tcp,udp,sockets')
print(json.dumps({'silent': silent, 'v6': bool(v6),
    'netlink': run(scrape, *kinds).splitlines(), 'files': run(scrape, *kinds, '--proc-root', '/proc/../proc').splitlines(),
    'ss4': run('ss', '-4tanH').splitlines(), 'ss6': run('ss', '-6tanH').splitlines(),
    'snmp': open('/proc/net/snmp').read(), 'sockstat': open('/proc/net/sockstat').read()}))
"#;

fn known_states(silent: bool) -> Value {
    json!({
        "established": 10, "syn_sent": if silent { 8 } else { 0 }, "syn_received": 0, "fin_wait_1": 0,
        "fin_wait_2": 4, "time_wait": 6, "close_wait": 4, "last_ack": 0, "listen": 7, "closing": 0,
    })
}

/// Counts the lines of `ss`, which prints SYN-RECV and FIN-WAIT-1 for syn_received and fin_wait_1.
fn counted_by_ss(lines: &Value) -> Value {
    let mut states = known_states(false);
    states.as_object_mut().unwrap().values_mut().for_each(|count| *count = json!(0));
    for line in lines.as_array().unwrap() {
        let state = match line.as_str().unwrap().split_whitespace().next().unwrap() {
            "ESTAB" => "established".to_owned(),
            "SYN-RECV" => "syn_received".to_owned(),
            other => other.to_lowercase().replace('-', "_"),
        };
        let count = states[&state].as_u64().unwrap_or_else(|| panic!("no state {state}"));
        states[&state] = json!(count + 1);
    }
    states
}

/// The value of a column in a table of /proc/net/snmp.
pub fn column(text: &str, table: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(table)?.strip_prefix(": "));
    let index = lines.next()?.split(' ').position(|word| word == name)?;
    lines.next()?.split(' ').nth(index)?.parse().ok()
}

#[test]
fn sockets_in_known_states() {
    let Some(python) = support::python() else { return };
    let args = [python.get_program(), program!("scrape").as_ref(), CODE.as_ref()];
    let script = r#"ip link set lo up; exec "$1" -c "$3" "$2""#;
    let Some(stdout) = unshared("-rn", script, &args) else { return };
    let seen: Value = serde_json::from_slice(&stdout).unwrap();
    let silent = seen["silent"] == true;
    let lines = |how: &str| -> Vec<Value> {
        let lines = seen[how].as_array().unwrap().iter();
        lines.map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap()).collect()
    };
    let (netlink, files) = (lines("netlink"), lines("files"));
    for found in [&netlink, &files] {
        let tcp = records::one(found, "tcp");
        assert_eq!(tcp["ipv4_sockets"], known_states(silent), "{tcp}");
        assert_eq!(tcp["ipv4_sockets"], counted_by_ss(&seen["ss4"]));
        if seen["v6"] == true {
            assert_eq!(tcp["ipv6_sockets"]["listen"], 3, "{tcp}");
            assert_eq!(tcp["ipv6_sockets"]["established"], 4, "{tcp}");
            assert_eq!(tcp["ipv6_sockets"], counted_by_ss(&seen["ss6"]));
        }
        let sockets = records::one(found, "sockets");
        assert_eq!(sockets["tcp_time_wait"], 6, "{sockets}");
        // Listening, established, half closed, opening.
        assert_eq!(sockets["tcp_in_use"], 7 + 10 + 8 + if silent { 8 } else { 0 }, "{sockets}");
    }
    let (tcp, snmp) = (records::one(&netlink, "tcp"), seen["snmp"].as_str().unwrap());
    // ESTABLISHED and CLOSE-WAIT of both families.
    assert_eq!(tcp["current_established"], 10 + 4 + if seen["v6"] == true { 4 } else { 0 });
    if silent {
        // The retransmitted SYNs; there may be more by the time the file is read.
        let read_later = column(snmp, "Tcp", "RetransSegs").unwrap();
        assert_between(
            8.0,
            records::number(tcp, "retransmitted_segments"),
            read_later,
            "retransmitted_segments",
        );
        assert_eq!(tcp["syn_retransmits"], tcp["retransmitted_segments"]);
        assert_eq!(tcp["in_errors"], 0);
    }
}

/// The columns of these files are in another order than in any kernel, with new ones in between: a parser that goes
/// by position reports the neighbours.
#[test]
fn columns_in_another_order() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("net")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(root.path().join("net").join(name), text).unwrap();
    write(
        "snmp",
        "Udp: MemErrors NoPorts InDatagrams\nUdp: 1 2 3\n\
         Tcp: OutRsts New InErrs RetransSegs InSegs CurrEstab\nTcp: 11 12 13 14 15 16\n",
    );
    write(
        "netstat",
        "IpExt: ListenDrops\nIpExt: 99\nTcpExt: TCPSynRetrans ListenDrops New\nTcpExt: 21 22 23\n",
    );
    write("snmp6", "Udp6NoPorts 31\nUdp6InDatagrams\t32\n");
    let found = scrape(&["--once", "--only", "tcp,udp", "--proc-root", root.path().to_str().unwrap()]);
    let body = |kind: &str| {
        let mut record = records::one(&found, kind).clone();
        record.as_object_mut().unwrap().retain(|field, _| !["ts", "kind", "host"].contains(&field.as_str()));
        record
    };
    let expected = json!({
        "out_resets": 11, "in_errors": 13, "retransmitted_segments": 14, "in_segments": 15, "current_established": 16,
        "syn_retransmits": 21, "listen_drops": 22,
    });
    assert_eq!(body("tcp"), expected);
    let expected =
        json!({ "ipv4_no_ports": 2, "ipv4_in_datagrams": 3, "ipv6_no_ports": 31, "ipv6_in_datagrams": 32 });
    assert_eq!(body("udp"), expected);
}

/// Every count lies between two readings of the files.
#[test]
fn between_two_readings_of_the_files() {
    let files =
        || (read("/proc/net/snmp"), read("/proc/net/netstat"), std::fs::read_to_string("/proc/net/snmp6"));
    let before = files();
    let found = scrape(&["--once", "--only", "tcp,udp"]);
    let after = files();
    let check = |kind: &str, field: &str, low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => {
            assert_between(low, records::number(records::one(&found, kind), field), high, field);
        }
        _ => assert!(records::one(&found, kind)[field].is_null(), "{field}"),
    };
    for (field, name) in SNMP_TCP {
        check("tcp", field, column(&before.0, "Tcp", name), column(&after.0, "Tcp", name));
    }
    for (field, name) in NETSTAT {
        check("tcp", field, column(&before.1, "TcpExt", name), column(&after.1, "TcpExt", name));
    }
    for (field, name) in UDP {
        let (v4, v6) = (format!("ipv4_{field}"), format!("ipv6_{field}"));
        check("udp", &v4, column(&before.0, "Udp", name), column(&after.0, "Udp", name));
        let value = |text: &std::io::Result<String>| pair(text.as_ref().ok()?, &format!("Udp6{name}"));
        check("udp", &v6, value(&before.2), value(&after.2));
    }
}

/// Segments and connections per second, times the interval, are those of a known workload.
#[test]
fn rates_of_a_known_workload() {
    const CODE: &str = r#"
import json, socket, subprocess, sys
scrape = subprocess.Popen([sys.argv[1], '-i', '50ms', '--only', 'tcp'], stdout=subprocess.PIPE)
records = (json.loads(line) for line in scrape.stdout)
first = next(records)
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen(64)
pairs = []
for _ in range(40):
    s = socket.socket(); s.connect(listener.getsockname()); pairs.append((s, listener.accept()[0]))
names = ['active_opens', 'passive_opens', 'in_segments', 'out_segments', 'retransmitted_segments']
sums, last = dict.fromkeys(names, 0), first
while last['passive_opens'] < first['passive_opens'] + 40:
    last = next(records)
    for name in names: sums[name] += last[name + '_per_s'] * last['interval_s']
scrape.kill()
print(json.dumps([[sums[name], last[name] - first[name]] for name in names] + [[None, 'interval_s' in first]]))
"#;
    let Some(python) = support::python() else { return };
    let args = [python.get_program(), program!("scrape").as_ref(), CODE.as_ref()];
    let Some(stdout) = unshared("-rn", r#"ip link set lo up; exec "$1" -c "$3" "$2""#, &args) else { return };
    let seen: Vec<(Option<f64>, Value)> = serde_json::from_slice(&stdout).unwrap();
    for (sum, grown) in &seen[..5] {
        let grown = grown.as_f64().unwrap();
        assert_between(grown - 0.1, sum.unwrap(), grown + 0.1, "rates times intervals");
    }
    assert_eq!((&seen[0].1, &seen[1].1, &seen[5].1), (&json!(40), &json!(40), &json!(false)));
    assert!(seen[3].1.as_f64() >= Some(120.0), "each handshake has three segments: {seen:?}");
}

/// The value of a name in /proc/net/snmp6.
pub fn pair(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        line.split_once(char::is_whitespace).filter(|(key, _)| *key == name)?.1.trim().parse().ok()
    })
}

pub const SNMP_TCP: [(&str, &str); 10] = [
    ("active_opens", "ActiveOpens"),
    ("passive_opens", "PassiveOpens"),
    ("attempt_fails", "AttemptFails"),
    ("established_resets", "EstabResets"),
    ("in_segments", "InSegs"),
    ("out_segments", "OutSegs"),
    ("retransmitted_segments", "RetransSegs"),
    ("in_errors", "InErrs"),
    ("in_checksum_errors", "InCsumErrors"),
    ("out_resets", "OutRsts"),
];

pub const NETSTAT: [(&str, &str); 14] = [
    ("listen_overflows", "ListenOverflows"),
    ("listen_drops", "ListenDrops"),
    ("timeouts", "TCPTimeouts"),
    ("syn_retransmits", "TCPSynRetrans"),
    ("fast_retransmits", "TCPFastRetrans"),
    ("lost_retransmits", "TCPLostRetransmit"),
    ("out_of_order", "TCPOFOQueue"),
    ("receive_queue_drops", "TCPRcvQDrop"),
    ("backlog_drops", "TCPBacklogDrop"),
    ("aborts_on_timeout", "TCPAbortOnTimeout"),
    ("aborts_on_memory", "TCPAbortOnMemory"),
    ("syncookies_sent", "SyncookiesSent"),
    ("syncookies_received", "SyncookiesRecv"),
    ("syncookies_failed", "SyncookiesFailed"),
];

pub const UDP: [(&str, &str); 7] = [
    ("in_datagrams", "InDatagrams"),
    ("out_datagrams", "OutDatagrams"),
    ("no_ports", "NoPorts"),
    ("in_errors", "InErrors"),
    ("receive_buffer_errors", "RcvbufErrors"),
    ("send_buffer_errors", "SndbufErrors"),
    ("in_checksum_errors", "InCsumErrors"),
];
