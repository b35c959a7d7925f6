//! Compares `filesystem` records with statvfs(3) called from Python, and with file systems of known content.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{self, program, records};
use super::{python, scrape, unshared};

fn by_mountpoint<'a>(found: &'a [Value], mountpoint: &str) -> Option<&'a Value> {
    found.iter().find(|record| record["mountpoint"] == mountpoint)
}

/// In a new mount namespace: a tmpfs of known content with a name that mountinfo escapes and that covers another
/// mount, a bind mount of it, which must not be counted again, and a read-only tmpfs.
#[test]
fn a_tmpfs_of_known_content() {
    let script = r#"
        mount -t tmpfs -o size=64k none /mnt
        mkdir "/mnt/a b" /mnt/bind /mnt/ro
        mount -t tmpfs -o size=8m,nr_inodes=100 first "/mnt/a b"
        mount -t tmpfs -o size=8m,nr_inodes=100 known "/mnt/a b"
        head -c 3145728 /dev/zero > "/mnt/a b/file"
        mkdir "/mnt/a b/dir"
        mount --bind "/mnt/a b/dir" /mnt/bind
        mount -t tmpfs -o ro,size=4k still /mnt/ro
        exec "$1" --once --only filesystem
    "#;
    let Some(stdout) = unshared("-rm", script, &[program!("scrape").as_ref()]) else { return };
    let found = records::parse(&stdout);
    let mut known = by_mountpoint(&found, "/mnt/a b").expect("the mount in question").clone();
    for envelope in ["ts", "kind", "host"] {
        known.as_object_mut().unwrap().remove(envelope);
    }
    let expected = json!({
        "mountpoint": "/mnt/a b", "device": "known", "type": "tmpfs", "mode": "rw",
        "total_bytes": 8_388_608, "used_bytes": 3_145_728, "free_bytes": 5_242_880,
        "available_bytes": 5_242_880, "reserved_bytes": 0, "utilization_ratio": 0.375,
        "inodes": 100, "inodes_used": 3, "inodes_free": 97,
    });
    assert_eq!(known, expected);
    assert_eq!(by_mountpoint(&found, "/mnt/ro").expect("the read-only one")["mode"], "ro");
    assert!(by_mountpoint(&found, "/mnt/bind").is_none(), "a bind mount is counted again");
    assert!(!found.iter().any(|record| record["device"] == "first"), "a covered mount is reported");
    assert!(records::of(&found, "status").is_empty(), "{found:?}");
}

/// Free space changes in both directions: values that changed between the two readings are not compared.
#[test]
fn equal_to_python() {
    const CODE: &str = "
import json, os, psutil, sys
answer = {}
for line in open('/proc/self/mountinfo', 'rb'):
    point = line.split()[4].decode('unicode_escape')
    try: s, u = os.statvfs(point), psutil.disk_usage(point)
    except OSError: continue
    answer[point] = dict(total_bytes=s.f_blocks * s.f_frsize, free_bytes=s.f_bfree * s.f_frsize,
        available_bytes=s.f_bavail * s.f_frsize, used_bytes=u.used, percent=u.percent, inodes=s.f_files)
print(json.dumps(answer))";
    let Some(before) = python(CODE) else { return };
    let found = scrape(&["--once", "--only", "filesystem"]);
    let after = python(CODE).unwrap();
    assert!(by_mountpoint(&found, "/").is_some(), "{found:?}");
    for record in &found {
        let point = record["mountpoint"].as_str().unwrap();
        let (before, theirs) = (&before[point], &after[point]);
        assert_eq!(record["total_bytes"], theirs["total_bytes"], "{record}");
        let inodes = records::number(theirs, "inodes");
        assert_eq!(record["inodes"].as_f64(), (inodes > 0.0).then_some(inodes));
        if before != theirs {
            continue;
        }
        for field in ["free_bytes", "available_bytes", "used_bytes"] {
            assert_eq!(record[field], theirs[field], "{field} of {record}");
        }
        let percent = records::number(record, "utilization_ratio") * 100.0;
        assert!((percent - records::number(theirs, "percent")).abs() <= 0.051, "{record} {theirs}");
    }
}

/// Two FUSE file systems in a new mount namespace. The daemon answers known numbers for one. For the other it takes
/// the request and never answers, so that the caller sleeps and no signal wakes it.
const FUSE: &str = r#"
import ctypes, os, select, struct, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
INIT, STATFS, points = 26, 17, {}
for name in ('answers', 'hangs'):
    fuse, path = os.open('/dev/fuse', os.O_RDWR), f'/mnt/{name}'
    os.mkdir(path)
    options = f'fd={fuse},rootmode=40000,user_id=0,group_id=0'.encode()
    if libc.mount(name.encode(), path.encode(), b'fuse.test', 0, options) != 0:
        print('"no fuse"')
        sys.exit()
    points[fuse] = name
def serve():
    while points:
        for fuse in select.select(list(points), [], [], 0.1)[0]:
            request = os.read(fuse, 1 << 20)
            _, operation, unique = struct.unpack_from('IIQ', request)
            if operation == INIT:
                body = struct.pack('IIIIHHIIHHI28x', 7, 31, 0, 0, 1, 1, 4096, 1, 0, 0, 0)
            elif operation == STATFS and points[fuse] == 'answers':
                body = struct.pack('QQQQQIIII24x', 1000, 400, 300, 50, 20, 4096, 255, 512, 0)
            else:
                continue
            os.write(fuse, struct.pack('IiQ', 16 + len(body), 0, unique) + body)
server = threading.Thread(target=serve)
server.start()
try:
    run = subprocess.run([sys.argv[1], '-n', '10', '-i', '20ms', '--only', 'filesystem'],
        stdout=subprocess.PIPE, timeout=20)
    sys.stdout.buffer.write(run.stdout)
finally:
    opened = list(points)
    points.clear()
    server.join()
    for fuse in opened:
        os.close(fuse)
sys.exit(run.returncode)
"#;

#[test]
fn a_mount_that_hangs() {
    if !support::require_root() || !std::path::Path::new("/dev/fuse").exists() {
        return;
    }
    let Some(python) = support::python() else { return };
    let script = r#"mount -t tmpfs -o size=64k none /mnt; exec "$1" -c "$3" "$2""#;
    let args = [python.get_program(), program!("scrape").as_ref(), FUSE.as_ref()];
    let begin = Instant::now();
    let Some(stdout) = unshared("-m", script, &args) else { return };
    let found = records::parse(&stdout);
    if found == ["no fuse"] {
        return support::skip("FUSE cannot be mounted here");
    }
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    let samples = |mountpoint: &str| found.iter().filter(|record| record["mountpoint"] == mountpoint).count();
    assert_eq!(
        (samples("/"), samples("/mnt/answers"), samples("/mnt/hangs")),
        (10, 10, 0),
        "the others go on"
    );
    let status = records::one(&found, "status");
    assert_eq!((&status["source"], &status["reason"]), (&json!("statvfs /mnt/hangs"), &json!("unsupported")));
    let answered = by_mountpoint(&found, "/mnt/answers").unwrap();
    for (field, expected) in [
        ("total_bytes", 1000 * 512),
        ("used_bytes", 600 * 512),
        ("free_bytes", 400 * 512),
        ("available_bytes", 300 * 512),
        ("reserved_bytes", 100 * 512),
        ("inodes", 50),
        ("inodes_used", 30),
        ("inodes_free", 20),
    ] {
        assert_eq!(answered[field], expected, "{field}");
    }
    assert_eq!(answered["utilization_ratio"], 0.666_667);
}

#[test]
fn no_file_systems_of_a_foreign_root() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_str().unwrap();
    let found = scrape(&["--once", "--only", "filesystem", "--proc-root", path]);
    assert!(records::of(&found, "filesystem").is_empty());
    assert_eq!(records::one(&found, "status")["reason"], "unsupported");
}
