# syscall-trace in a virtual machine, compared with the times and counts that the workload (calls) measures: with the
# default way to attach, and by raw_tp where another task owns the task slot.
# shellcheck shell=dash disable=SC2046,SC2086 # numbers are split into words

# In emulation a record takes milliseconds to filter, so only the workload's calls are traced.
# Starts syscall-trace, and returns once it has attached.
trace() { # OPTIONS…
    forget
    syscall-trace "$@" >/tmp/out 2>/tmp/err &
    tracer=$!
    until_true 60 is_active && return
    not_ok attach "$(tail -n 3 /tmp/err | tr '\n' ' ')"
    cat /tmp/err >&2
    return 1
}

finish() {
    kill $tracer
    wait $tracer || not_ok end "status $?: $(tail -n 1 /tmp/err)"
    grep -v '"kind":"status"' /tmp/out | tr -d '[]"' | tr ',' ' ' >/tmp/records
}

# Makes each record a list of words, all of the same length.
words='if .kind == "syscall" then ["call", .pid, .syscall, .duration_us, .ret, (.error // "-"), (.fd_type // "-"), (.arch // "-")]
    elif .kind == "syscall_summary" then ["sum", 0, .syscall, .count, .errors, "-", "-", "-"]
    elif .kind == "syscall_stuck" then ["stuck", .pid, .syscall, (.elapsed_us // 0), (.at_least_us // 0), .state, "-", "-"]
    else . end'

# field KIND PID SYSCALL NUMBER: a word of the first such record; a dash, which is not a number, if there is none.
field() { awk -v k="$1" -v p="$2" -v s="$3" -v n="$4" '$1 == k && $2 == p && $3 == s { print $n; found = 1; exit } END { if (!found) print "-" }' /tmp/records; }
count() { awk -v k="$1" -v p="$2" -v s="$3" '$1 == k && $2 == p && $3 == s { n++ } END { print n + 0 }' /tmp/records; }

# Runs the workload: its process is $pid, and its output is in /tmp/measured. With `crowded`, another task owns its
# task slot.
work() {
    if [ -n "$crowded" ]; then
        calls fifo /tmp/nobody &
        other=$!
        sleep 0.5
        next_pid $((other + TASK_SLOTS))
    fi
    calls "$@" >/tmp/measured &
    pid=$!
    wait $pid
    [ -n "$crowded" ] || return
    kill -9 $other
    wait $other
    [ $pid = $((other + TASK_SLOTS)) ] || not_ok "${prefix}numbers" "$pid and $other share no slot"
}

measure() { # PREFIX OPTIONS…
    prefix=$1
    shift
    options=$*
    # A sleep takes at least its time, and at most what the workload measured plus 0.1 ms.
    trace -i 100s --waits --min 10ms --comm calls $options --filter "$words" || return
    work sleep 200
    finish
    measured=$(cut -d" " -f2 /tmp/measured)
    expect "${prefix}sleep" '200000 <= got && got <= measured + 100' got="$(field call $pid nanosleep 4)" measured="$measured"
    trace -i 100s --waits --min 150ms --comm calls $options --filter "$words" || return
    work sleep 5 20 200
    finish
    # In emulation a short sleep can take long: the workload measures it.
    slow=$(awk '$2 > 150100 { n++ } END { print n + 0 }' /tmp/measured)
    most=$(awk '$2 >= 150000 { n++ } END { print n + 0 }' /tmp/measured)
    expect "${prefix}threshold" 'slow <= got && got <= most' got="$(count call $pid nanosleep)" slow="$slow" most="$most"
    trace -i 100s --waits --min 1ms --comm calls $options --filter "$words" || return
    work pipe 50
    measured=$(cut -d" " -f2 /tmp/measured) reader=$pid
    work read kmsg 50
    finish
    device=$pid pid=$reader
    expect "${prefix}pipe" '40000 <= got && got <= measured + 100' got="$(field call $pid read 4)" measured="$measured"
    if [ "$(field call $pid read 7)" = pipe ]; then ok "${prefix}fd-type"; else not_ok "${prefix}fd-type" "$(field call $pid read 7)"; fi

    # A device that readers wait for. Other kernel messages can end the wait early.
    measured=$(cut -d" " -f2 /tmp/measured)
    expect "${prefix}device" '1000 <= got && got <= measured + 100' got="$(field call $device read 4)" measured="$measured"
    if [ "$(field call $device read 7)" = device ]; then
        ok "${prefix}fd-device"
    else
        not_ok "${prefix}fd-device" "$(field call $device read 7)"
    fi

    # Calls that succeed, and as many that fail.
    trace -i 100s --no-events --summary --comm calls $options --filter "$words" || return
    work count 7919
    finish
    expect "${prefix}count" 'got == 7919 && errors == 0' got="$(field sum 0 getppid 4)" errors="$(field sum 0 getppid 5)"
    expect "${prefix}errors" 'got == 7919' got="$(field sum 0 close 5)"

    # exec by a thread that is not the leader, while the leader is in a call; a 32-bit call; a signal.
    trace -i 100s --waits --min 0 --syscall nanosleep,execve,futex $options --filter "$words" || return
    work exec 30
    finish
    measured=$(cut -d" " -f2 /tmp/measured)
    expect "${prefix}exec" 'calls == 1 && 30000 <= got && got <= measured + 100' calls="$(count call $pid nanosleep)" \
        got="$(field call $pid nanosleep 4)" measured="$measured"
    expect "${prefix}exec-longest" 'longest < 2e7' longest="$(awk '$1 == "call" && $4 > m { m = $4 } END { print m }' /tmp/records)"
    if calls compat 1 >/dev/null 2>&1; then
        trace -i 100s --waits --min 1ms --comm calls $options --filter "$words" || return
        work compat 40
        finish
        measured=$(cut -d" " -f2 /tmp/measured)
        expect "${prefix}32-bit" '40000 <= got && got <= measured + 100' got="$(field call $pid nanosleep 4)" measured="$measured"
        if [ "$(field call $pid nanosleep 8)" = i386 ]; then ok "${prefix}arch"; else not_ok "${prefix}arch" "$(field call $pid nanosleep 8)"; fi
    else
        echo "skip syscall-trace ${prefix}32-bit this kernel has no 32-bit calls"
        echo "skip syscall-trace ${prefix}arch this kernel has no 32-bit calls"
    fi
    trace -i 100s --waits --min 1ms --comm calls $options --filter "$words" || return
    work interrupt 50
    finish
    if [ "$(field call $pid nanosleep 6)" = ERESTART_RESTARTBLOCK ]; then
        ok "${prefix}signal"
    else
        not_ok "${prefix}signal" "$(field call $pid nanosleep 6)"
    fi

    # An open that never returns: it is stuck, and has at_least_us if it began before the tracer.
    rm -f /tmp/fifo
    mkfifo /tmp/fifo
    calls fifo /tmp/fifo &
    pid=$!
    sleep 0.5
    trace -i 200ms --stuck 300ms $options --filter "$words" || return
    until_true 20 grep -q "\"stuck\",$pid,\"open" /tmp/out
    calls fifo /tmp/fifo &
    later=$!
    until_true 20 grep -q "\"stuck\",$later,\"open" /tmp/out
    kill -9 $pid $later
    wait $pid $later
    finish
    call=$(awk -v p="$pid" '$1 == "stuck" && $2 == p { print $3; exit }' /tmp/records)
    expect "${prefix}stuck-before" '300000 <= least && known == 0' least="$(field stuck $pid "$call" 5)" known="$(field stuck $pid "$call" 4)"
    expect "${prefix}stuck" '300000 <= known && least == 0' known="$(field stuck $later "$call" 4)" least="$(field stuck $later "$call" 5)"
    expect "${prefix}never-finished" 'done == 0' "done=$(awk -v p="$pid" -v q="$later" \
        '$1 == "call" && ($2 == p || $2 == q) && $3 ~ /^open/ && $4 >= 200000 && $5 >= 0 { n++ } END { print n + 0 }' /tmp/records)"
    # Kernels that preempt tasks in eBPF programs (7.x) skip the programs for other tasks meanwhile, and count that.
    expect "${prefix}lost" 'lost == 0' lost="$(grep -h '"kind":"lost"' /tmp/out /tmp/err | grep -vc 'inside another')"
}

if trace -i 100s; then
    attached "$(method)"
    finish
    crowded=
    measure ""
    mkfifo /tmp/nobody
    crowded=1
    measure crowded- --attach raw_tp
fi

# Capabilities are dropped; two tracers do not disturb each other; one that is killed leaves no program behind.
programs() { grep -c ' bpf_prog_.*\[bpf\]' /proc/kallsyms; }
sysctl -q -w net.core.bpf_jit_kallsyms=1
if trace -i 200ms --stuck 1s --summary --min 0 --syscall getppid --filter "$words"; then
    allowed=0000000000000000
    # Before 5.19 the bpf() call for the iterator needs CAP_PERFMON and CAP_BPF (bits 38 and 39).
    case $(uname -r) in 5.?.* | 5.1[0-8].*) allowed=000000c000000000 ;; esac
    sleep 0.5
    got=$(for file in /proc/"$tracer"/task/*/status; do
        awk '/^(CapPrm|CapEff|NoNewPrivs):/ { printf "%s ", $2 } END { print "" }' "$file"
    done | sort -u)
    case $got in
    "0000000000000000 0000000000000000 1 " | "$allowed $allowed 1 ") ok privileges "$got" ;;
    *) not_ok privileges "$got" ;;
    esac
    other=$tracer
    cp /tmp/out /tmp/other
    if trace -i 100s --min 0 --syscall getppid --comm calls; then
        kill -9 $other
        wait $other
        work count 101
        finish
        expect with-another 'got == 101' got="$(grep -c "\"pid\":$pid," /tmp/out)"
        gone() { [ "$(programs)" -eq 0 ]; }
        until_true 10 gone
        expect nothing-attached 'programs == 0' programs="$(programs)"
    fi
fi

# Without privileges: exit code 1, and the missing capability.
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
su nobody -c 'syscall-trace --once' >/tmp/out 2>/tmp/err
expect unprivileged 'status == 1 && named > 0' status="$?" named="$(grep -c CAP_BPF /tmp/err)"
