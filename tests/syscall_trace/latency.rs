//! Calls of known length.

use crate::support::tracer::of;
use crate::workload::{WAYS, agree, comm, ended, events, ready, run, start, trace};

#[test]
fn sleeps_within_the_workloads_own_readings() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace(&["--waits", way, "--comm", comm(calls)]);
        let (pid, told) = run(calls, &["sleep", "5", "20", "200"]);
        let records = tracer.finish();
        // A sleep of 5 ms takes less than the threshold, unless the machine was busy.
        let (slow, fast): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| told.micros > 10_100.0);
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
        assert_eq!(event["args"][1], "0x0", "nanosleep without a place for the rest: {event}");
    }
}

#[test]
fn a_read_of_a_pipe_waits_for_the_writer() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace(&["--waits", "--min", "1ms", way]);
        let (pid, told) = run(calls, &["pipe", "5", "20", "200"]);
        let records = tracer.finish();
        let seen = events(&records, pid, "read");
        // A reader that comes late waits for less, and perhaps not at all.
        let told: Vec<_> = told.into_iter().filter(|told| told.micros > 1_100.0).collect();
        assert!(told.len() >= 2, "{told:?}");
        let least = [1.0, 8.0, 150.0];
        agree(&seen, &told, &least[3 - told.len()..]);
        for event in seen {
            assert_eq!((&event["class"], &event["fd_type"]), (&"wait".into(), &"pipe".into()), "{event}");
            assert_eq!(event["args"][2], "0x1");
            assert_eq!(event["ret"], 1);
        }
    }
}

/// Whatever a read waits for, there are files of that kind; a read of one is a wait.
#[test]
fn reads_that_wait_by_what_they_wait_for() {
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
        let (pid, told) = run(calls, &["read", what, "30"]);
        let records = all.finish();
        let seen = events(&records, pid, "read");
        agree(&seen, &told, &[6.0]);
        assert_eq!((&seen[0]["class"], &seen[0]["fd_type"]), (&"wait".into(), &fd_type.into()), "{what}");
        assert_eq!(events(&quiet.finish(), pid, "read").len(), 0, "{what}");
    }
}

/// Many calls of 32 bits share a number; which it is, and whether it waits, the first argument tells.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bits_that_share_a_number() {
    let Some((calls, _alone)) = ready() else { return };
    for (what, name) in [("recv32", "socketcall"), ("semop32", "ipc")] {
        if !start(calls, &[what, "1"]).wait_with_output().unwrap().status.success() {
            crate::support::skip(&format!("this kernel takes no {what}"));
            continue;
        }
        let all = trace(&["--waits", "--min", "5ms", "--comm", comm(calls)]);
        let quiet = trace(&["--min", "5ms", "--comm", comm(calls)]);
        let named = trace(&["--min", "5ms", "--syscall", name]);
        let (pid, told) = run(calls, &[what, "30"]);
        for records in [all.finish(), named.finish()] {
            let seen = events(&records, pid, name);
            agree(&seen, &told, &[6.0]);
            assert_eq!((&seen[0]["class"], &seen[0]["arch"]), (&"wait".into(), &"i386".into()), "{what}");
        }
        assert_eq!(events(&quiet.finish(), pid, name).len(), 0, "{what}");
    }
}

/// Asked for by its name, a call is told on whatever file it waits.
#[test]
fn a_read_that_is_asked_for_by_name() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--min", "1ms", "--syscall", "read"]);
    let (pid, told) = run(calls, &["pipe", "20", "200"]);
    let said = tracer.stderr();
    let records = tracer.finish();
    agree(&events(&records, pid, "read"), &told, &[8.0, 150.0]);
    assert!(!said.contains("--waits"), "{said}");
}

#[test]
fn waits_are_left_out_unless_asked_for() {
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

    // Whoever names one wants to see it.
    let tracer = trace(&["--min", "1ms", "--syscall", "nanosleep"]);
    let (sleeper, _) = run(calls, &["sleep", "5"]);
    let records = tracer.finish();
    assert_eq!(events(&records, sleeper, "nanosleep").len(), 1);
    assert!(of(&records, "syscall").iter().all(|event| event["syscall"] == "nanosleep"));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bits_have_their_names() {
    let Some((calls, _alone)) = ready() else { return };
    let workload = start(calls, &["compat", "20"]).wait_with_output().unwrap();
    if !workload.status.success() {
        crate::support::skip("this kernel takes no 32-bit calls");
        return;
    }
    for way in WAYS {
        let tracer = trace(&["--waits", way]);
        let (pid, told) = run(calls, &["compat", "20"]);
        let records = tracer.finish();
        let seen = events(&records, pid, "nanosleep");
        agree(&seen, &told, &[20.0]);
        assert_eq!((&seen[0]["arch"], &seen[0]["nr"]), (&"i386".into(), &162.into()));
        assert_eq!(seen[0]["args"][1], "0x0");
    }
}

#[test]
fn a_signal_ends_a_call() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--waits"]);
    let (pid, told) = run(calls, &["interrupt", "30"]);
    let records = tracer.finish();
    let seen = events(&records, pid, "nanosleep");
    agree(&seen, &told, &[30.0]);
    assert_eq!(seen[0]["ret"], -516);
    assert_eq!(seen[0]["error"], "ERESTART_RESTARTBLOCK");
}

/// The leader sleeps in a call that never ends when another thread of it, which becomes the leader, runs a program.
#[test]
fn exec_by_another_thread_than_the_leader() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace(&[way, "--min", "0", "--syscall", "nanosleep,clock_nanosleep,execve,futex,mmap"]);
        let (pid, told) = run(calls, &["exec", "20"]);
        let records = tracer.finish();
        agree(&events(&records, pid, "nanosleep"), &told, &[20.0]);
        let execs = events(&records, pid, "execve");
        // The first runs the workload itself, the second is the one of the thread.
        assert_eq!(execs.len(), 2, "{execs:?}");
        for exec in execs {
            assert!(exec["duration_us"].as_f64().unwrap() < 10e6 && exec["ret"] == 0, "{exec}");
            assert!(exec["args"][0] != "0x0" && exec["args"][1] != "0x0", "its arguments are gone: {exec}");
            assert_eq!(exec["tid"], pid);
        }
        let whole = told[0].micros;
        for event in of(&records, "syscall").iter().filter(|event| event["pid"] == pid) {
            let micros = event["duration_us"].as_f64().unwrap();
            assert!(micros < whole + 200_000.0, "{way}: a wrong length: {event}");
        }
    }
}

#[test]
fn calls_that_began_before_are_not_told() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let workload = start(calls, &["sleep", "1500", "20"]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        let tracer = trace(&["--waits", way]);
        let (pid, told) = ended(workload);
        let records = tracer.finish();
        agree(&events(&records, pid, "nanosleep"), &told[1..], &[20.0]);
    }
}
