# schedlat in a virtual machine: two spinners and a sleeper on one CPU, compared with the scheduler's own counts
# (/proc/PID/schedstat and status), for each way of attaching.
# shellcheck shell=dash disable=SC2046,SC2086 # numbers are split into words

words='if .kind == "sched" then ["sched", .pid, .context_switches, .runq_us, .cpu_time_us, .wakeups, .max_runq_us]
    elif .kind == "runq" then ["runq", .count, .max_us, .sum_us, .cpu, .cgroup_id]
    else ["event", .pid, .duration_us, .tid, .prev_pid, .cpu] end'

trace() { # OPTIONS…
    forget
    schedlat -i 100s --filter "$words" "$@" >/tmp/out 2>/tmp/err &
    tracer=$!
    # With --filter, status and lost records go to stderr.
    until_true 30 is_active && return
    not_ok attach "$(tail -n 3 /tmp/err | tr '\n' ' ')"
    cat /tmp/err >&2
    return 1
}

# Ends schedlat. The output of the filter is then in /tmp/sched, with arrays as words.
finish() {
    kill -INT $tracer
    wait $tracer
    tr -d '[]"' </tmp/out | tr ',' ' ' >/tmp/sched
    lost=$(grep -h '"kind":"lost"' /tmp/out /tmp/err | sed 's/.*"count":\([0-9]*\).*/\1/' | awk '{ n += $1 } END { print n + 0 }')
}

# The line of a process, or dashes, which fail every test.
of() { grep "^sched $1 " /tmp/sched || echo "- - - - - - -"; }
switches() { awk '/ctxt_switches/ { n += $2 } END { print n }' /proc/"$1"/status; }
stopped() { grep -q '^State:.T' /proc/"$1"/status; }
programs() { grep -c ' bpf_prog_.*\[bpf\]' /proc/kallsyms; } # of all processes

sysctl -q -w net.core.bpf_jit_kallsyms=1 kernel.sched_schedstats=1 2>/dev/null

spin() { taskset 2 sh -c 'while :; do :; done' & }
# If `crowded` is set, the next process shares the slot of process $1.
neighbour() { [ -z "$crowded" ] || next_pid $((${1:-1000000} + TASK_SLOTS)); }
# Two spinners and a sleeper, from their start until they are stopped.
measure() { # WAY OPTIONS…
    way=$1
    shift
    trace --all --no-events "$@" || return
    neighbour
    spin
    one=$!
    neighbour $one
    spin
    two=$!
    neighbour $two
    taskset 2 sh -c 'while :; do usleep 2000; done' &
    three=$!
    sleep 3
    kill -STOP $one $two $three
    for pid in $one $two $three; do until_true 5 stopped $pid; done
    sleep 0.3
    finish
    expect "$way-lost" 'lost == 0' lost="$lost"
    [ -z "$crowded" ] || expect "$way-numbers" 'two == one + slots && three == two + slots' \
        one=$one two=$two three=$three slots=$TASK_SLOTS
    for pid in $one $two $three; do
        case $pid in "$one") task=one ;; "$two") task=two ;; *) task=sleeper ;; esac
        set -- $(of $pid)
        seen=$3 waited=$4 ran=$5
        expect "$way-switches-$task" 'seen == kernel' seen="$seen" kernel="$(switches $pid)"
        set -- $(cat /proc/$pid/schedstat)
        expect "$way-waits-$task" '0.98 * kernel <= us * 1000 && us * 1000 <= 1.02 * kernel' us="$waited" kernel="$2"
        expect "$way-time-$task" '0.98 * kernel <= us * 1000 && us * 1000 <= 1.02 * kernel' us="$ran" kernel="$1"
    done
    kill -9 $one $two $three
    wait $one $two $three 2>/dev/null
}
crowded=
measure default
attached "$(method)"
measure raw_tp --attach raw_tp
crowded=1
measure crowded

# Waits of at least 20 ms: a task of high priority holds the CPU while another one could run.
if trace --min 20ms --no-processes; then
    spin
    low=$!
    renice -n 19 -p $low >/dev/null
    spin
    high=$!
    renice -n -20 -p $high >/dev/null
    sleep 2
    kill -9 $low $high
    wait $low $high 2>/dev/null
    finish
    events=$(grep -c "^event $low " /tmp/sched)
    set -- $(grep "^event $low " /tmp/sched | sort -n -k3 | tail -n 1)
    expect events 'events > 0 && us >= 20000 && cpu == 1' events="$events" us="${3:--}" cpu="${6:--}"
    longest=$(awk '/^event/ && $3 > max { max = $3 } END { printf "%.3f", max }' /tmp/sched)
    set -- $(grep '^runq' /tmp/sched)
    expect longest 'event == summary && event > 0' event="$longest" summary="$3"
fi

# Waits by CPU and cgroup, and a filter by cgroup.
mkdir -p /sys/fs/cgroup/outer/inner
spin
pid=$!
echo $pid >/sys/fs/cgroup/outer/inner/cgroup.procs
for way in "--attach tp_btf" "--attach raw_tp"; do
    how=${way#--attach }
    if trace --all --no-events --per-cpu --per-cgroup --cgroup /sys/fs/cgroup/outer $way; then
        spin
        other=$!
        sleep 1
        kill -9 $other
        wait $other 2>/dev/null
        finish
        set -- $(grep '^runq' /tmp/sched)
        expect "$how-cgroup" 'processes == 1 && own == 1 && waits > 0 && cpu == 1 && id == inner' \
            processes="$(grep -c '^sched' /tmp/sched)" own="$(grep -c "^sched $pid " /tmp/sched)" waits="${2:--}" \
            cpu="${5:--}" id="${6:--}" inner="$(stat -c %i /sys/fs/cgroup/outer/inner)"
    fi
done
kill -9 $pid
wait $pid 2>/dev/null

# A pipeline: its processes are left out, and a process of the same process group is not.
forget
words=$words sh -c 'echo $$ >/tmp/tracer
    exec schedlat -i 100s --all --no-events --no-summary --filter "$words" 2>/tmp/err' | (
    exec sh -c 'echo $$ >/tmp/first; exec tee /tmp/out'
) | sh -c 'echo $$ >/tmp/second; exec cat >/dev/null' &
until_true 30 is_active
spin
pid=$!
sleep 2
kill -9 $pid
wait $pid 2>/dev/null
kill "$(cat /tmp/tracer)"
wait
tr -d '[]"' </tmp/out | tr ',' ' ' >/tmp/sched
expect pipeline 'readers == 0 && other == 1' \
    readers="$(grep -cE "^sched ($(cat /tmp/first)|$(cat /tmp/second)) " /tmp/sched)" other="$(grep -c "^sched $pid " /tmp/sched)"

# Privileges are dropped; two run at a time; nothing stays loaded after one is killed.
if trace; then
    got=$(for file in /proc/"$tracer"/task/*/status; do
        awk '/^(CapPrm|CapEff|NoNewPrivs):/ { printf "%s ", $2 } END { print "" }' "$file"
    done | sort -u)
    case $got in
    "0000000000000000 0000000000000000 1 ") ok privileges "$got" ;;
    *) not_ok privileges "$got" ;;
    esac
    other=$tracer
    if trace --attach raw_tp; then
        both=$(programs)
        kill -9 $other
        wait $other
        fewer() { one=$(programs) && [ "$one" -lt "$both" ]; }
        until_true 10 fewer
        expect killed 'two > one && one > 0' two="$both" one="$one"
        sleep 0.5
        finish
        set -- $(grep '^runq' /tmp/sched)
        expect after-another 'waits > 0 && lost == 0' waits="${2:--}" lost="$lost"
        gone() { [ "$(programs)" -eq 0 ]; }
        until_true 10 gone
        expect nothing-attached 'programs == 0' programs="$(programs)"
    fi
fi

# Without privileges: exit code 1, and the missing capabilities.
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
su nobody -c 'schedlat --once' >/tmp/out 2>/tmp/err
expect unprivileged 'status == 1 && named > 0' status="$?" named="$(grep -c CAP_BPF /tmp/err)"
