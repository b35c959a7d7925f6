//! Compares the counts of `schedlat` for known workloads with those of the scheduler.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::counters::{Counter, Tracefs, in_init};
use crate::support::emulated;
use crate::support::tracer::{Tracer, lost, of, ready, unseen};
use crate::work::{SLEEP, SPIN, Work, last_cpu, schedlat, total, trace};

/// Works for 3 ms, and sleeps for 5.
const WORK_AND_SLEEP: &str =
    "while (1) { my $end = Time::HiRes::time() + 0.003; 1 while Time::HiRes::time() < $end;
    select(undef, undef, undef, 0.005) }";

/// Sleeps 300 times for 5 ms, between two stops; then prints the CPU time that this took, by its own clock, in us.
const NAPS: &str = "kill STOP => $$; my $begin = clock(); select(undef, undef, undef, 0.005) for 1..300;
    printf '%.0f', 1e6 * (clock() - $begin); $| = 1; print ''; kill STOP => $$;
    sub clock { Time::HiRes::clock_gettime(Time::HiRes::CLOCK_PROCESS_CPUTIME_ID()) }";

/// A task that runs for some microseconds at a time: what the kernel counts is more than a clock in the hooks sees.
#[test]
fn brief_time_slices_are_as_long_as_the_kernel_counts_them() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    for way in ["tp_btf", "raw_tp"] {
        let work = Work::start(last_cpu(), NAPS);
        work.stopped();
        let before = work.schedstat();
        let tracer = trace("200ms", &["--pid", &work.pid().to_string(), "--no-events", "--attach", way]);
        work.signal(Signal::CONT);
        std::thread::sleep(Duration::from_secs(1));
        work.stopped();
        let pid = work.pid();
        let after = work.schedstat();
        let records = tracer.finish();
        let [ran, waited, slices] = std::array::from_fn(|i| (after[i] - before[i]) as f64);
        let sum = |field: &str| total(&records, pid, field);
        let near = |us: f64, ns: f64| (us * 1000.0 - ns).abs() <= 0.02 * ns;
        assert_eq!(sum("context_switches"), slices, "{way}: {records:?}");
        assert!(slices >= 290.0, "{way}: {slices} of 300 sleeps");
        assert!(near(sum("cpu_time_us"), ran), "{way}: {} us of {ran} ns", sum("cpu_time_us"));
        // If the kernel ran no program at a switch and at the wake-up before it, the delay of that wait is unknown.
        let delay = sum("runq_us");
        let unseen = unseen(&records) > 0;
        assert!(
            near(delay, waited) || (unseen && delay * 1000.0 <= 1.02 * waited),
            "{way}: {delay} us of {waited} ns"
        );
        work.signal(Signal::CONT);
        let clock: f64 = work.output().parse().unwrap();
        // It does not count the way out of the first stop and into the second, which are long in emulation.
        let least = if emulated() { 0.5 } else { 0.9 };
        assert!(
            clock <= sum("cpu_time_us") && clock >= least * sum("cpu_time_us"),
            "{way}: {clock} us by its own clock"
        );
    }
}

/// Two spinners and a sleeper on one CPU, from their start until they are stopped, over many intervals.
fn equal_to_the_kernel(args: &[&str]) {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let tracer = trace("250ms", &[&["--all", "--no-events"], args].concat());
    let cpu = last_cpu();
    let all = [Work::start(cpu, SPIN), Work::start(cpu, SPIN), Work::start(cpu, WORK_AND_SLEEP)];
    std::thread::sleep(Duration::from_secs(3));
    all[2].goes_on(20);
    all.iter().for_each(Work::stop);
    let records = tracer.finish();
    assert_eq!(lost(&records), 0, "{records:?}");

    for (work, what) in all.iter().zip(["spinner", "spinner", "sleeper"]) {
        let seen = |field: &str| total(&records, work.pid(), field);
        let [voluntary, involuntary] = work.switches();
        let switches = (voluntary + involuntary) as f64;
        assert_eq!(seen("context_switches"), switches, "{what} {args:?}");
        // A task that sleeps with a signal pending is either, by kernel version.
        assert!((seen("voluntary_switches") - voluntary as f64).abs() <= 2.0, "{what} {args:?}");
        assert!((seen("involuntary_switches") - involuntary as f64).abs() <= 2.0, "{what} {args:?}");
        let [ran, waited, slices] = work.schedstat().map(|number| number as f64);
        let waits = seen("runq_us") * 1000.0;
        let near = (waits - waited).abs() <= 0.02 * waited;
        assert!(near, "{what} {args:?}: waited {waits} of {waited} ns in {slices} time slices");
        let time = seen("cpu_time_us") * 1000.0;
        assert!(
            (time - ran).abs() <= 0.02 * ran,
            "{what} {args:?}: ran {time} of {ran} ns in {slices} time slices"
        );
        assert!((switches - slices).abs() <= 2.0, "{what}: {switches} switches in {slices} time slices");
        let longest = seen("max_runq_us") * 1000.0;
        assert!(longest > 0.0 && longest <= waits, "{what}: {longest} of {waits} ns");
    }
    let [spinner, _, sleeper] = &all;
    let wakeups = total(&records, sleeper.pid(), "wakeups");
    let slept = sleeper.switches()[0] as f64;
    assert!(wakeups <= slept + 5.0 && wakeups >= 0.95 * slept, "{wakeups} wake-ups from {slept} sleeps");
    assert!(total(&records, spinner.pid(), "runq_us") > 500_000.0, "they shared a CPU");
}

#[test]
fn waits_kept_with_the_tasks() {
    equal_to_the_kernel(&[]);
}

#[test]
fn waits_kept_in_a_map() {
    equal_to_the_kernel(&["--no-task-slots"]);
}

#[test]
fn by_raw_tracepoints() {
    equal_to_the_kernel(&["--attach", "raw_tp"]);
}

/// A process that is moved back and forth between two CPUs.
#[test]
fn migrations() {
    let Some(_alone) = ready(&["taskset", "perl"]) else { return };
    let (work, cpu) = (Work::start(last_cpu(), SLEEP), last_cpu());
    work.goes_on(1);
    let Some(before) = work.migrations().filter(|_| cpu > 0) else {
        crate::support::skip("one CPU, or no /proc/PID/sched");
        return;
    };
    let tracefs = Tracefs::new();
    let moved = format!("pid == {} && {}", work.pid(), in_init());
    let unseen = Counter::tracepoint(&tracefs.root, "sched/sched_migrate_task", &moved);
    let tracer = trace("250ms", &["--all", "--pid", &work.pid().to_string()]);
    for turn in 0..51 {
        work.pin([0, cpu][turn % 2]);
        work.goes_on(2);
    }
    work.stop();
    let records = tracer.finish();
    let (seen, unseen) = (total(&records, work.pid(), "migrations"), unseen.value() as f64);
    let kernel = (work.migrations().unwrap() - before) as f64;
    assert!((kernel - unseen..=kernel).contains(&seen), "{seen} of {kernel}, {unseen} in init");
    assert!(seen + unseen >= 50.0, "{records:?}");
    for record in of(&records, "sched") {
        let field = |name: &str| record[name].as_f64().unwrap();
        // On a busy machine an interval can pass without a switch.
        if field("context_switches") == 0.0 {
            assert!(record["mean_timeslice_us"].is_null(), "{record}");
            continue;
        }
        assert!(
            (field("mean_timeslice_us") - field("cpu_time_us") / field("context_switches")).abs() < 0.001
        );
        assert_eq!(field("context_switches"), field("voluntary_switches") + field("involuntary_switches"));
    }
}

/// A process that never leaves its CPU has a record for every interval, with the time it ran in that interval.
#[test]
fn a_long_time_slice_is_split_between_intervals() {
    let Some(_alone) = ready(&["taskset", "perl", "chrt"]) else { return };
    let cpu = last_cpu();
    if cpu == 0 {
        crate::support::skip("the tracer needs a second CPU");
        return;
    }
    // A time slice with an unseen begin is counted at its end, which can be in a later interval.
    for _ in 0..6 {
        let (pid, records, ran) = run_for_a_long_time(cpu);
        if unseen(&records) == 0 {
            return check_intervals(pid, &records, &ran);
        }
    }
    crate::support::skip("in each run, the kernel ran no program at some switch");
}

/// Runs a process that hardly leaves its CPU: its number, the records, and the times and CPU times that it read.
fn run_for_a_long_time(cpu: usize) -> (u32, Vec<serde_json::Value>, Vec<(f64, f64)>) {
    let mut elsewhere = Command::new("taskset");
    elsewhere.args(["-c", &format!("0-{}", cpu - 1)]).arg(schedlat()).process_group(0);
    let tracer = Tracer::start_command(elsewhere, "100ms", &["--comm", "perl", "--no-events"]);
    // As a real-time task it leaves its CPU for 600 ms only for the kernel's deadline server, 50 ms in a second.
    // It reads the kernel's count of its CPU time every 2 ms, also before and after that: an interval can
    // be longer than asked for, since a thread of the kernel (rcu) that ends it may wait for the same CPU.
    let program = r#"my ($begin, $next) = (Time::HiRes::time(), 0);
        sub work { while ((my $now = Time::HiRes::time()) < $begin + $_[0]) { next if $now < $next;
        open my $stat, "<", "/proc/self/schedstat"; push @ran, sprintf "%.6f %d", $now, split " ", <$stat>;
        $next = $now + 0.002 } }
        work(0.01); system("chrt", "-f", "-p", "50", $$); work(0.6); system("chrt", "-o", "-p", "0", $$); work(1.1);
        print join "\n", @ran"#;
    let work = Work::start(cpu, program);
    let pid = work.pid();
    let ran: Vec<_> = work.output().lines().map(sample).collect();
    (pid, tracer.finish(), ran)
}

fn check_intervals(pid: u32, records: &[serde_json::Value], ran: &[(f64, f64)]) {
    let own: Vec<_> =
        records.iter().filter(|record| record["kind"] == "sched" && record["pid"] == pid).collect();
    let mut compared = 0.0;
    for record in &own {
        let [time, interval] = ["cpu_time_us", "interval_s"].map(|field| record[field].as_f64().unwrap());
        assert!(time <= interval * 1.01e6 + 500.0, "more than the interval: {record}");
        let [begin, end] = ["start_ts", "ts"].map(|field| ran_until(ran, seconds(&record[field])));
        let (Some(begin), Some(end)) = (begin, end) else { continue };
        // The kernel updates the time of a running task at its ticks, every 4 ms if there are 250 a second.
        let (least, most) = (end.0 - begin.1 - interval * 0.05e6, end.1 - begin.0 + interval * 0.05e6);
        assert!((least..=most).contains(&time), "not {least} to {most} us: {record}");
        compared += interval;
    }
    assert!(compared >= 0.4 && own.len() > 1, "{compared} s in whole intervals: {own:?}");
    assert_eq!(own.last().unwrap()["comm"], "perl", "the name of the program that it executed last");
    let (all, kernel) = (total(records, pid, "cpu_time_us"), ran.last().unwrap().1);
    assert!((all - kernel).abs() <= 0.05 * kernel, "{all} of {kernel} us");
}

/// A time in seconds, and the CPU time of the process until then in microseconds.
fn sample(line: &str) -> (f64, f64) {
    let (time, nanos) = line.split_once(' ').unwrap();
    (time.parse().unwrap(), nanos.parse::<f64>().unwrap() / 1000.0)
}

/// The least and the most CPU time that it can have used until a time between the first and the last sample.
fn ran_until(samples: &[(f64, f64)], time: f64) -> Option<(f64, f64)> {
    let pair = samples.windows(2).find(|pair| (pair[0].0..pair[1].0).contains(&time))?;
    Some((pair[0].1, pair[1].1))
}

fn seconds(ts: &serde_json::Value) -> f64 {
    ts.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_nanosecond() as f64 / 1e9
}
