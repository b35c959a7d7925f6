//! Calls with a known time.

use std::time::{Duration, Instant};

use crate::support::tracer::of;
use crate::workload::{WAYS, agree, comm, ended, events, ready, run, start, trace};

#[test]
fn sleeps_within_the_workloads_own_readings() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace(&["--waits", way, "--comm", comm(calls)]);
        let (pid, measured) = run(calls, &["sleep", "5", "20", "200"]);
        let records = tracer.finish();
        // The sleep of 5 ms is below the threshold, unless the machine was busy.
        let (slow, fast): (Vec<_>, Vec<_>) =
            measured.into_iter().partition(|measured| measured.micros > 10_100.0);
        let seen = events(&records, pid, "nanosleep");
        let certain = seen.iter().filter(|event| event["duration_us"].as_f64().unwrap() > 10_100.0).count();
        assert!(certain <= slow.len() && seen.len() <= slow.len() + fast.len(), "{way}: {seen:?}");
        let lengths: &[f64] = if slow.len() == 3 { &[5.0, 20.0, 200.0] } else { &[20.0, 200.0] };
        agree(&seen, &slow, lengths);
        for event in of(&records, "syscall") {
            assert!(event["duration_us"].as_f64().unwrap() >= 10_000.0, "below the threshold: {event}");
        }
        let event = seen.last().unwrap();
        assert_eq!((&event["class"], &event["ret"]), (&"wait".into(), &0.into()), "{event}");
        assert!(
            event.get("error").is_none() && event.get("arch").is_none() && event.get("fd_type").is_none()
        );
        assert_eq!((&event["uid"], &event["comm"]), (&0.into(), &comm(calls).into()));
        assert_eq!(event["args"][1], "0x0", "the pointer for the remaining time: {event}");
    }
}

#[test]
fn a_read_of_a_pipe_waits_for_the_writer() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace(&["--waits", "--min", "1ms", way]);
        let (pid, measured) = run(calls, &["pipe", "5", "20", "200"]);
        let records = tracer.finish();
        let seen = events(&records, pid, "read");
        // A reader that starts late waits less, or not at all.
        let measured: Vec<_> = measured.into_iter().filter(|measured| measured.micros > 1_100.0).collect();
        assert!(measured.len() >= 2, "{measured:?}");
        let least = [1.0, 8.0, 150.0];
        agree(&seen, &measured, &least[3 - measured.len()..]);
        for event in seen {
            assert_eq!((&event["class"], &event["fd_type"]), (&"wait".into(), &"pipe".into()), "{event}");
            assert_eq!(event["args"][2], "0x1");
            assert_eq!(event["ret"], 1);
        }
    }
}

#[test]
fn a_read_waits_by_the_type_of_its_file() {
    let Some((calls, _alone)) = ready() else { return };
    for (what, fd_type) in
        [("socket", "socket"), ("tty", "tty"), ("eventfd", "anon"), ("timerfd", "anon"), ("kmsg", "device")]
    {
        let all = trace(&["--waits", "--min", "5ms", "--comm", comm(calls)]);
        let quiet = trace(&["--min", "5ms", "--comm", comm(calls)]);
        let workload = start(calls, &["read", what, "30"]).wait_with_output().unwrap();
        if workload.status.code() == Some(3) {
            crate::support::skip(&format!("there is no {what} here"));
            continue;
        }
        let (pid, measured) = run(calls, &["read", what, "30"]);
        let records = all.finish();
        let seen = events(&records, pid, "read");
        agree(&seen, &measured, &[6.0]);
        assert_eq!((&seen[0]["class"], &seen[0]["fd_type"]), (&"wait".into(), &fd_type.into()), "{what}");
        assert_eq!(events(&quiet.finish(), pid, "read").len(), 0, "{what}");
    }
}

/// Several 32-bit calls share a number. Their first argument decides whether they wait.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_multiplexer_waits_by_its_first_argument() {
    let Some((calls, _alone)) = ready() else { return };
    for (what, name) in [("recv32", "socketcall"), ("semop32", "ipc")] {
        if !start(calls, &[what, "1"]).wait_with_output().unwrap().status.success() {
            crate::support::skip(&format!("this kernel has no {what}"));
            continue;
        }
        let all = trace(&["--waits", "--min", "5ms", "--comm", comm(calls)]);
        let quiet = trace(&["--min", "5ms", "--comm", comm(calls)]);
        let named = trace(&["--min", "5ms", "--syscall", name]);
        let (pid, measured) = run(calls, &[what, "30"]);
        for records in [all.finish(), named.finish()] {
            let seen = events(&records, pid, name);
            agree(&seen, &measured, &[6.0]);
            assert_eq!((&seen[0]["class"], &seen[0]["arch"]), (&"wait".into(), &"i386".into()), "{what}");
        }
        assert_eq!(events(&quiet.finish(), pid, name).len(), 0, "{what}");
    }
}

#[test]
fn syscall_read_includes_reads_that_wait() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--min", "1ms", "--syscall", "read"]);
    let (pid, measured) = run(calls, &["pipe", "20", "200"]);
    let stderr = tracer.stderr();
    let records = tracer.finish();
    agree(&events(&records, pid, "read"), &measured, &[8.0, 150.0]);
    assert!(!stderr.contains("--waits"), "{stderr}");
}

#[test]
fn waits_are_left_out_without_an_option() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--min", "1ms"]);
    let (sleeper, _) = run(calls, &["sleep", "5"]);
    let (reader, _) = run(calls, &["pipe", "5"]);
    assert!(tracer.stderr().contains("--waits"), "{}", tracer.stderr());
    let records = tracer.finish();
    assert_eq!(
        (events(&records, sleeper, "nanosleep").len(), events(&records, reader, "read").len()),
        (0, 0)
    );
    assert!(of(&records, "syscall").iter().all(|event| event["class"] != "wait"));

    // --syscall with the name of a wait implies --waits.
    let tracer = trace(&["--min", "1ms", "--syscall", "nanosleep"]);
    let (sleeper, _) = run(calls, &["sleep", "5"]);
    let records = tracer.finish();
    assert_eq!(events(&records, sleeper, "nanosleep").len(), 1);
    assert!(of(&records, "syscall").iter().all(|event| event["syscall"] == "nanosleep"));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bits_have_names() {
    let Some((calls, _alone)) = ready() else { return };
    let workload = start(calls, &["compat", "20"]).wait_with_output().unwrap();
    if !workload.status.success() {
        crate::support::skip("this kernel has no 32-bit calls");
        return;
    }
    for way in WAYS {
        let tracer = trace(&["--waits", way]);
        let (pid, measured) = run(calls, &["compat", "20"]);
        let records = tracer.finish();
        let seen = events(&records, pid, "nanosleep");
        agree(&seen, &measured, &[20.0]);
        assert_eq!((&seen[0]["arch"], &seen[0]["nr"]), (&"i386".into(), &162.into()));
        assert_eq!(seen[0]["args"][1], "0x0");
    }
}

#[test]
fn a_signal_ends_a_call() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--waits"]);
    let (pid, measured) = run(calls, &["interrupt", "30"]);
    let records = tracer.finish();
    let seen = events(&records, pid, "nanosleep");
    agree(&seen, &measured, &[30.0]);
    assert_eq!(seen[0]["ret"], -516);
    assert_eq!(seen[0]["error"], "ERESTART_RESTARTBLOCK");
}

/// The leader sleeps in a call that never returns, while another thread calls exec and becomes the leader.
#[test]
fn exec_by_another_thread_than_the_leader() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace(&[way, "--min", "0", "--syscall", "nanosleep,clock_nanosleep,execve,futex,mmap"]);
        let (pid, measured) = run(calls, &["exec", "20"]);
        let records = tracer.finish();
        agree(&events(&records, pid, "nanosleep"), &measured, &[20.0]);
        let execs = events(&records, pid, "execve");
        // The first runs the workload itself, the second is the one of the thread.
        assert_eq!(execs.len(), 2, "{execs:?}");
        for exec in execs {
            assert!(exec["duration_us"].as_f64().unwrap() < 10e6 && exec["ret"] == 0, "{exec}");
            assert!(exec["args"][0] != "0x0" && exec["args"][1] != "0x0", "its arguments are gone: {exec}");
            assert_eq!(exec["tid"], pid);
        }
        let whole = measured[0].micros;
        for event in of(&records, "syscall").iter().filter(|event| event["pid"] == pid) {
            let micros = event["duration_us"].as_f64().unwrap();
            assert!(micros < whole + 200_000.0, "{way}: a wrong length: {event}");
        }
    }
}

#[test]
fn calls_that_began_before_are_not_reported() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        // The first sleep lasts until the tracer is ready, however busy the machine is.
        let (workload, tracer) = [1500u32, 6000, 24_000]
            .into_iter()
            .find_map(|millis| {
                let begin = Instant::now();
                let workload = start(calls, &["sleep", &millis.to_string(), "20"]);
                std::thread::sleep(Duration::from_millis(100));
                let tracer = trace(&["--waits", way]);
                let in_time = begin.elapsed() < Duration::from_millis(u64::from(millis));
                in_time.then_some((workload, tracer))
            })
            .expect("the tracer is ready within 24 s");
        let (pid, measured) = ended(workload);
        let records = tracer.finish();
        agree(&events(&records, pid, "nanosleep"), &measured[1..], &[20.0]);
    }
}
