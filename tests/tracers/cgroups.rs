//! Cgroups that come and go while a tracer runs.

use std::collections::HashSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::program;
use crate::support::tracer::{Tracer, lost, of, ready};

const CGROUPS: usize = 2000;

/// Makes cgroups `c0`, `c1` … in a folder, and starts a process in each, which calls getppid and ends.
const PROGRAM: &str = r#"
    use Fcntl; $0 = $ARGV[1]; $| = 1;
    for my $i (0 .. $ARGV[2] - 1) {
        mkdir "$ARGV[0]/c$i" or die; sysopen(my $folder, "$ARGV[0]/c$i", O_RDONLY) or die;
        # struct clone_args: CLONE_INTO_CGROUP, SIGCHLD as the exit signal, and the descriptor
        my $args = pack("Q11", 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, fileno($folder));
        my $pid = syscall(435, $args, 88);
        if ($pid == 0) { getppid(); require POSIX; POSIX::_exit(0) }
        die "clone3: $!" if $pid < 0; waitpid($pid, 0); close($folder);
    }"#;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        for i in 0..CGROUPS {
            while std::fs::remove_dir(self.0.join(format!("c{i}"))).is_err() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn thousands_of_cgroups_made_while_it_runs() {
    let Some(_alone) = ready(&["perl"]) else { return };
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let Some(root) = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")) else {
        crate::support::skip("no cgroup v2 is mounted");
        return;
    };
    let name = format!("many-{}", std::process::id());
    let folder = Folder(Path::new(root.split(' ').nth(1).unwrap()).join(&name));
    std::fs::create_dir(&folder.0).unwrap();
    let mut tracer =
        Tracer::start(program!("syscall-trace"), &["--min", "0", "--syscall", "getppid", "--comm", &name]);
    let mut perl = Command::new("perl");
    perl.args(["-e", PROGRAM]).arg(&folder.0).args([&name, &CGROUPS.to_string()]).process_group(0);
    assert!(perl.status().unwrap().success());
    // A cgroup that is removed before its event is read has no path.
    let last = format!("/{name}/c{}", CGROUPS - 1);
    tracer.wait_for(|record| record["cgroup"] == *last);
    drop(folder);
    let records = tracer.finish();
    assert_eq!(lost(&records), 0);
    let events = of(&records, "syscall");
    let paths: HashSet<_> = events.iter().filter_map(|event| event["cgroup"].as_str()).collect();
    let expected: HashSet<_> = (0..CGROUPS).map(|i| format!("/{name}/c{i}")).collect();
    assert_eq!(events.len(), CGROUPS);
    let missing: Vec<_> = expected.iter().filter(|path| !paths.contains(path.as_str())).collect();
    assert!(missing.is_empty(), "{} of {CGROUPS}: {missing:?}", missing.len());
}
