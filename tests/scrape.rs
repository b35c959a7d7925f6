//! Black-box tests of `scrape`: options, exit codes, signals and pipes.
#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::records::{number, of, one, parse, records, run};
use support::{poll, program, require_root, skip};

fn scrape(args: &[&str]) -> Vec<Value> {
    records(program!("scrape"), args)
}

/// The exit code and stderr of a run that must fail before it writes a record.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = run(program!("scrape"), args);
    assert!(output.stdout.is_empty(), "{args:?} wrote records");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(program!("scrape"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end; returns how long it took, the exit code, and stderr.
fn end(mut child: Child, limit: Duration) -> (Duration, Option<i32>, String) {
    let begin = Instant::now();
    let Some(status) = poll(limit, || child.try_wait().unwrap()) else {
        child.kill().unwrap();
        panic!("still running after {limit:?}");
    };
    let took = begin.elapsed();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (took, status.code(), stderr)
}

const RATIOS: [&str; 8] = [
    "user_ratio",
    "nice_ratio",
    "system_ratio",
    "idle_ratio",
    "iowait_ratio",
    "irq_ratio",
    "softirq_ratio",
    "steal_ratio",
];

#[test]
fn once_writes_one_set_without_rates() {
    let set = scrape(&["--once"]);
    for kind in ["host", "cpu", "kernel", "load", "memory", "paging"] {
        let record = one(&set, kind);
        assert_eq!((&record["ts"], &record["host"]), (&set[0]["ts"], &set[0]["host"]), "{kind}");
        assert_eq!((&record["interval_s"], &record["utilization_ratio"]), (&Value::Null, &Value::Null));
    }
    assert!(!of(&set, "interface").is_empty());
    assert!(
        of(&set, "processes").is_empty() && of(&set, "process").is_empty(),
        "processes without --processes"
    );
}

#[test]
fn once_with_an_interval_writes_one_set_with_rates() {
    let begin = Instant::now();
    let set = scrape(&["--once", "-i", "300ms", "--per-cpu"]);
    let took = begin.elapsed().as_secs_f64();
    let cpus = of(&set, "cpu");
    assert_eq!(cpus.len() as f64, 1.0 + number(cpus[0], "logical_cpus"));
    let total = cpus[0];
    assert_eq!((&total["cpu"], &total["per_cpu"]), (&Value::Null, &Value::Bool(true)));
    let sum: f64 = RATIOS.iter().map(|field| number(total, field)).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    let idle = number(total, "idle_ratio") + number(total, "iowait_ratio");
    assert!((number(total, "utilization_ratio") + idle - 1.0).abs() < 1e-5);
    for kind in ["cpu", "kernel", "paging"] {
        let interval = number(of(&set, kind)[0], "interval_s");
        assert!(interval >= 0.3 && interval <= took, "{kind}: {interval} of {took}");
    }
    assert!(number(one(&set, "kernel"), "context_switches_per_s") > 0.0);
    assert_eq!(of(&set, "host").len(), 1);
}

#[test]
fn count_and_duration_end_the_run() {
    let lines = scrape(&["-n", "3", "-i", "50ms", "--only", "load"]);
    let times: Vec<_> = lines.iter().map(|line| line["ts"].as_str().unwrap()).collect();
    assert_eq!(times.len(), 3);
    assert!(times.is_sorted(), "{times:?}");
    let begin = Instant::now();
    let lines = scrape(&["--duration", "450ms", "-i", "100ms", "--only", "load"]);
    // Samples at 0, 100 … 400 ms; on a loaded machine some are skipped.
    assert!((2..=5).contains(&lines.len()), "{}", lines.len());
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn only_and_except_select_kinds() {
    let kinds = |args: &[&str]| -> Vec<String> {
        let mut kinds: Vec<_> =
            scrape(args).iter().map(|line| line["kind"].as_str().unwrap().into()).collect();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds(&["--once", "--only", "memory, load"]), ["load", "memory"]);
    assert_eq!(kinds(&["--once", "--only", "cpu", "--only", "load", "--except", "cpu"]), ["load"]);
    assert_eq!(kinds(&["--once", "--only", "processes"]), ["processes"]);
    let most = kinds(&["--once", "--except", "cpu,host"]);
    assert!(
        most.contains(&"kernel".into()) && !most.contains(&"cpu".into()) && !most.contains(&"host".into())
    );
}

#[test]
fn usage_errors() {
    let (code, message) = refused(&["--only", "cpus"]);
    assert_eq!(code, Some(2));
    assert!(message.contains("'cpus'") && message.contains("memory"), "{message}");
    assert!(message.contains("similar") && message.contains("'cpu'"), "{message}");
    for args in [["--only", "status"], ["--except", "status"], ["--except", "lost"]] {
        assert_eq!(refused(&args).0, Some(2), "{args:?}");
    }
    for root in ["--proc-root", "--sys-root"] {
        let (code, message) = refused(&[root, "/no/such/folder"]);
        assert!(code == Some(2) && message.contains(&format!("{root} /no/such/folder")), "{message}");
    }
    let (code, message) = refused(&["--only", "cpu,metric"]);
    assert!(code == Some(2) && message.contains("metric") && message.contains("--url"), "{message}");
    let (code, message) = refused(&["--only", "cpu", "--except", "cpu"]);
    assert_eq!((code, message.starts_with("scrape: ")), (Some(2), true), "{message}");
    let (code, message) = refused(&["--filter", "select(.kind == \"cpu\""]);
    assert_eq!(code, Some(2));
    assert!(message.starts_with("scrape: --filter: ") && message.contains('^'), "{message}");
    for args in [
        &["-i", "0s"][..],
        &["-n", "0"],
        &["--once", "-n", "2"],
        &["--nosuch"],
        &["-i", "soon"],
        &["--top", "0"],
        &["--once", "--processes", "--top", "0"],
        &["--once", "--only", "process", "--top=0"],
    ] {
        assert_eq!(refused(args).0, Some(2), "{args:?}");
    }
}

#[test]
fn the_filter_produces_the_output() {
    // Without `host`, because virtual machines without DMI add a status record.
    let filter = "select(.kind == \"load\") | .kind, .total_tasks";
    let output = run(program!("scrape"), &["--once", "--except", "host", "-f", filter]);
    let text = String::from_utf8(output.stdout).unwrap();
    let [kind, tasks] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(kind, "\"load\"");
    assert!(tasks.parse::<u64>().unwrap() > 0);
}

#[test]
fn a_missing_source_is_reported_once_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
    std::fs::create_dir_all(&proc).unwrap();
    std::fs::create_dir_all(&sys).unwrap();
    std::fs::write(proc.join("loadavg"), "0.50 0.25 1.00 1/2 3\n").unwrap();
    std::fs::write(proc.join("meminfo"), "nonsense\n").unwrap();
    let roots = ["--proc-root", proc.to_str().unwrap(), "--sys-root", sys.to_str().unwrap()];
    let lines = scrape(&[&roots[..], &["-n", "3", "-i", "20ms"]].concat());
    assert_eq!(of(&lines, "load").len(), 3);
    let statuses: Vec<_> =
        of(&lines, "status").iter().map(|it| (it["source"].clone(), it["reason"].clone())).collect();
    let about = |name: &str| {
        statuses.iter().filter(|it| it.0 == proc.join(name).to_str().unwrap()).collect::<Vec<_>>()
    };
    for (name, reason) in [
        ("stat", "absent"),
        ("vmstat", "absent"),
        ("meminfo", "invalid"),
        ("pressure", "absent"),
        ("cpuinfo", "absent"),
        ("net/route", "absent"),
    ] {
        let [(_, why)] = about(name)[..] else { panic!("{name}: {statuses:?}") };
        assert_eq!(why, reason, "{name}");
    }
    assert_eq!(about("loadavg").len(), 0);
}

#[test]
fn a_denied_source_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["loadavg", "uptime"] {
        std::fs::write(dir.path().join(name), "0.50 0.25 1.00 1/2 3\n").unwrap();
    }
    std::fs::set_permissions(dir.path().join("loadavg"), PermissionsExt::from_mode(0o000)).unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = Command::new(program!("scrape"));
    command.args(["--once", "--only", "load", "--proc-root"]).arg(dir.path());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let Ok(output) = command.output() else { return skip("the user nobody cannot run the built program") };
    let lines = parse(&output.stdout);
    assert_eq!(one(&lines, "status")["reason"], "denied");
    assert!(output.status.success());
}

#[test]
fn a_closed_pipe_ends_the_run_with_success() {
    let mut child = start(&["-i", "10ms"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"ts\":\"") && line.ends_with("}\n"), "{line}");
    let (took, code, message) = end(child, Duration::from_secs(5));
    assert_eq!((code, message.as_str()), (Some(0), ""));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_closed_pipe_is_noticed_between_samples() {
    let mut child = start(&["-i", "1h", "--only", "load"]);
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    let (took, code, message) = end(child, Duration::from_secs(5));
    assert_eq!((code, message.as_str()), (Some(0), ""));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = File::create("/dev/full").unwrap();
    let output = Command::new(program!("scrape")).arg("--once").stdout(full).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.starts_with("scrape: ") && message.contains("No space left"), "{message}");
}

#[test]
fn a_signal_ends_the_run_after_a_whole_line() {
    for number in [Signal::INT, Signal::TERM] {
        let mut child = start(&["-i", "5ms"]);
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut String::new()).unwrap();
        signal(&child, number);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty() || rest.ends_with(b"}\n"), "the last line is torn");
        parse(&rest);
        assert_eq!(end(child, Duration::from_secs(5)).1, Some(0), "{number:?}");
    }
}

/// The signal arrives between the installation of its handler and that of the handler's action.
#[test]
fn a_signal_during_startup_ends_the_run() {
    let strace = |options: &[&str], args: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=rt_sigaction"]).args(options).arg(program!("scrape")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let Ok(plain) = strace(&[], &["--once", "--only", "load"]) else {
        skip("strace is not installed (./scripts/setup --test)");
        return;
    };
    let trace = plain.wait_with_output().unwrap().stderr;
    let trace = String::from_utf8(trace).unwrap();
    let actions: Vec<_> = trace.lines().filter(|line| line.starts_with("rt_sigaction(")).collect();
    for number in ["SIGINT", "SIGTERM"] {
        let set = format!("rt_sigaction({number}, {{sa_handler=0x");
        let Some(index) = actions.iter().position(|line| line.starts_with(&set)) else { panic!("{trace}") };
        let inject = format!("inject=rt_sigaction:signal={number}:when={}", index + 1);
        let child = strace(&["-e", &inject], &["-i", "1h", "--only", "load"]).unwrap();
        let (_, code, trace) = end(child, Duration::from_secs(5));
        assert!(code == Some(0) && trace.contains(&format!("--- {number} ")), "{trace}");
    }
}

#[test]
fn a_blocked_pipe_does_not_prevent_the_end() {
    let mut child = start(&["-i", "1ms"]);
    let pid = child.id();
    // Wait until the pipe is full and the program is blocked in write(2), system call 1 on x86-64.
    let blocked = || std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    let write = poll(Duration::from_secs(20), || {
        let first = blocked();
        std::thread::sleep(Duration::from_millis(60));
        (first.starts_with("1 ") && first == blocked()).then_some(())
    });
    if cfg!(target_arch = "x86_64") {
        assert!(write.is_some(), "{}", blocked());
    }
    signal(&child, Signal::TERM);
    let mut stdout = child.stdout.take().unwrap();
    let (took, code, message) = end(child, Duration::from_secs(5));
    assert_eq!(code, Some(1), "{message}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let lost: u64 = message.split(' ').find_map(|word| word.parse().ok()).expect(&message);
    assert!(lost > 0 && message.contains("lines not written"), "{message}");
    // All lines are whole, except for the last one, which the pipe had no room for.
    let mut written = Vec::new();
    stdout.read_to_end(&mut written).unwrap();
    let whole = written.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    parse(&written[..whole]);
}

/// `--verbose` logs one line per collector, with the files that the program has open.
#[test]
fn verbose_logs_the_sources() {
    let mut child = start(&["-v", "-i", "100ms", "--only", "load,memory,cpu,kernel"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let logged: Vec<_> = lines.by_ref().take(3).collect();
    let files = std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let open: Vec<_> = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok()).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for (kinds, path) in [
        ("cpu, kernel", "/proc/stat"),
        ("cpu, kernel", "/proc/uptime"),
        ("load", "/proc/loadavg"),
        ("memory", "/proc/meminfo"),
    ] {
        let line = logged.iter().find(|line| line.starts_with(&format!("scrape: {kinds}: ")));
        assert!(line.is_some_and(|line| line.contains(path)), "{kinds}: {logged:?}");
        assert!(open.iter().any(|file| file.as_os_str() == path), "{path} is not among {open:?}");
    }
}

/// A pipe accepts up to 4096 bytes atomically: shorter lines stay whole, however many programs write.
#[test]
fn two_programs_can_write_into_one_pipe() {
    let scrape = program!("scrape").display().to_string();
    let one = format!("{scrape} --per-cpu -i 2ms -n 150");
    // Read slowly, so that the pipe is full and the writers block.
    let script = format!("({one} --host a & {one} --host b & wait) | (sleep 1; dd bs=1000 status=none)");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let lines: Vec<&[u8]> = output.stdout.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).collect();
    assert!(lines.iter().all(|line| line.len() < 4096) && output.stdout.len() > 1 << 20);
    let torn: Vec<_> = lines.iter().filter(|line| serde_json::from_slice::<Value>(line).is_err()).collect();
    assert!(torn.is_empty(), "{} of {} lines: {}", torn.len(), lines.len(), String::from_utf8_lossy(torn[0]));
    let records = parse(&output.stdout);
    for host in ["a", "b"] {
        let samples = records.iter().filter(|record| record["host"] == host && record["kind"] == "memory");
        assert_eq!(samples.count(), 150, "{host}");
    }
}

/// Runs a shell script as root in a mount namespace; `None`, with a note, where that is impossible.
fn in_mount_namespace(script: &str, args: &[&str]) -> Option<Vec<Value>> {
    if !require_root() {
        return None;
    }
    let mut probe = Command::new("unshare");
    probe.args(["-m", "setpriv", "--reuid=65534"]).arg(program!("scrape")).arg("--version");
    if !probe.output().is_ok_and(|output| output.status.success()) {
        skip("unshare -m is not allowed, or the user nobody cannot run the built program");
        return None;
    }
    let mut command = Command::new("unshare");
    let output = command.args(["-m", "sh", "-euc", script, "sh"]).args(args).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Some(parse(&output.stdout))
}

/// With hidepid, nobody sees the processes of other users, and root sees all.
#[test]
fn hidden_processes_are_not_counted() {
    const SCRIPT: &str = "
        mount -t proc -o hidepid=$2 proc /proc
        args='--once --only processes,process,load --top 3'
        setpriv --reuid=65534 --regid=65534 --clear-groups \"$1\" $args --host nobody
        setpriv --reuid=65534 --regid=65534 --groups=0 \"$1\" $args --host member
        \"$1\" $args --host root";
    let scrape = program!("scrape").to_str().unwrap();
    for hidepid in ["1", "2", "0"] {
        let Some(lines) = in_mount_namespace(SCRIPT, &[scrape, hidepid]) else { return };
        let by = |host: &str| -> Vec<Value> {
            lines.iter().filter(|line| line["host"] == host).cloned().collect()
        };
        let (nobody, root) = (by("nobody"), by("root"));
        let count = number(one(&root, "processes"), "count");
        assert!(count > 3.0 && of(&root, "status").is_empty(), "{root:?}");
        assert!(number(one(&nobody, "load"), "total_tasks") >= count, "{nobody:?}");
        if hidepid == "0" {
            assert!(number(one(&nobody, "processes"), "count") > count / 2.0, "{nobody:?}");
            assert!(of(&nobody, "status").is_empty());
            continue;
        }
        assert!(of(&nobody, "processes").is_empty(), "hidepid={hidepid}: {nobody:?}");
        let status = one(&nobody, "status");
        assert_eq!((&status["source"], &status["reason"]), (&"/proc".into(), &"denied".into()));
        assert!(of(&nobody, "process").iter().all(|process| process["uid"] == 65534), "{nobody:?}");
        // The group of the mount option gid, which is 0 by default, sees all.
        let member = by("member");
        assert!(number(one(&member, "processes"), "count") > count / 2.0, "{member:?}");
        assert!(of(&member, "status").is_empty(), "{member:?}");
    }
}

/// A child that must not outlive the test.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The command line of a process that uses more CPU than any other.
#[test]
fn top_processes_have_a_command_line() {
    let mut busy = Command::new("sh");
    busy.args(["-c", "while :; do :; done", "secret 1", "é"]);
    let busy = KillOnDrop(busy.spawn().unwrap());
    let pid = busy.0.id();
    let cmdline = |more: &[&str]| {
        let args = [&["--once", "-i", "300ms", "--only", "process", "--top", "9"], more].concat();
        let found =
            poll(Duration::from_secs(20), || scrape(&args).into_iter().find(|process| process["pid"] == pid));
        found.expect("the busy process is among the top nine")["cmdline"].clone()
    };
    assert_eq!(cmdline(&[]), "sh -c while :; do :; done secret 1 é");
    assert_eq!(cmdline(&["--no-cmdline"]), Value::Null);
}

/// Takes CPU 1 offline, and brings it back when dropped.
struct OfflineCpu;

impl OfflineCpu {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

    fn new() -> Option<Self> {
        if !require_root() {
            return None;
        }
        if let Err(error) = std::fs::write(Self::SWITCH, "0") {
            skip(&format!("CPU 1 cannot be taken offline: {error}"));
            return None;
        }
        Some(Self)
    }
}

impl Drop for OfflineCpu {
    fn drop(&mut self) {
        std::fs::write(Self::SWITCH, "1").unwrap();
    }
}

/// The total of /proc/stat jumps as a CPU goes offline: there is no ratio over that interval.
#[test]
fn a_cpu_that_goes_offline_spoils_no_ratio() {
    let mut child = start(&["-i", "50ms", "--only", "cpu"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let mut last = next();
    let full = number(&last, "logical_cpus");
    // Reads up to the sample with that many CPUs, and checks each one on the way.
    let mut until = |cpus: f64| loop {
        let now = next();
        let same = now["logical_cpus"] == last["logical_cpus"];
        // A busy machine can delay a sample so much that the next one is taken in the same tick.
        let total = |cpu: &Value| {
            ["user_s", "nice_s", "system_s", "idle_s", "iowait_s", "irq_s", "softirq_s", "steal_s"]
                .map(|mode| number(cpu, mode))
        };
        let expected = same && total(&now) != total(&last);
        assert_eq!(now["utilization_ratio"].is_f64(), expected, "{last}\n{now}");
        last = now;
        if number(&last, "logical_cpus") == cpus && !same {
            return;
        }
    };
    if let Some(offline) = OfflineCpu::new() {
        until(full - 1.0);
        drop(offline);
        until(full);
    }
    drop(lines);
    assert_eq!(end(child, Duration::from_secs(5)).1, Some(0));
}
