# pagefault-trace in a virtual machine, with every way to attach: each fault is counted once, with its kind, as
# getrusage counts it (faults.c); delayed faults have their time, and faults that do not end have none (held.c).
# shellcheck shell=dash disable=SC2046,SC2086 # numbers are split into words

words='if .kind == "pagefault" then ["event", .major, .write, .user, .pid, .address, .duration_us]
    else ["sum", .type, .access, .mode, .count] end'

modes="write 509
read 509
kernel 509
populate 509
held 300
begun 300
killed 60
fail 60"

# Traces one process per mode. Each waits for a line before it faults.
measure() { # OPTIONS…
    forget
    pids=
    number=
    if [ -n "$crowded" ]; then
        # A process that faults and stays alive owns the task slot of all others.
        rm -f /tmp/go-other
        mkfifo /tmp/go-other
        sh -c 'while read -r _; do (:); done' <>/tmp/go-other &
        other=$!
        number=$other
    fi
    while read -r mode count; do
        program=faults
        case $mode in held | begun | killed | fail) program=held ;; esac
        rm -f "/tmp/go-$mode"
        mkfifo "/tmp/go-$mode"
        if [ -n "$crowded" ]; then
            number=$((number + TASK_SLOTS))
            next_pid $number
        fi
        $program 1 /tmp/file "$mode" "$count" <>"/tmp/go-$mode" >"/tmp/caused-$mode" &
        pids="$pids $!"
        [ "${number:-$!}" = $! ] || not_ok "$way-numbers" "$! is not $number"
        asleep() { grep -q '^0 0x0 ' /proc/$!/syscall; }
        until_true 10 asleep
    done <<-END
		$modes
	END
    pagefault-trace -i 100s --pid "$(echo $pids ${number:+$other} | tr ' ' ,)" --min 0 --filter "$words" "$@" >/tmp/out 2>/tmp/err &
    tracer=$!
    if ! until_true 30 is_active; then
        not_ok "$way" "$(tail -n 3 /tmp/err | tr '\n' ' ')"
        cat /tmp/err >&2
        kill $pids
        return 1
    fi
    if [ -n "$crowded" ]; then
        echo >/tmp/go-other
        sleep 0.5
    fi
    # One after the other, because they would also wait for each other.
    set -- $pids
    while read -r mode count; do
        echo >"/tmp/go-$mode"
        wait "$1"
        shift
    done <<-END
		$modes
	END
    # This takes some time in emulation.
    enough() { [ "$(grep -c '^\["event"' /tmp/out)" -ge 1528 ]; }
    until_true 30 enough
    sleep 0.5
    kill -INT $tracer
    wait $tracer
    [ -z "$crowded" ] || kill -9 "$other"
    grep -v '"kind"' /tmp/out | tr -d '[]"' | tr ',' ' ' >/tmp/faults
    summed=$(awk '$1 == "sum" { n += $5 } END { print n + 0 }' /tmp/faults)
    events=$(grep -c '^event' /tmp/faults)
    # Kernels that preempt tasks in fentry programs (7.x) skip the program for other tasks meanwhile, and count that.
    # A kretprobe tracks fewer calls than `killed` has. Nothing else may be lost, and nothing with tracepoints.
    granted=none
    [ "$way" != fentry ] || granted='a hook inside itself'
    [ "$way" != kprobe ] || granted='the end of a fault was not seen'
    lost=$(grep -h '"kind":"lost"' /tmp/out /tmp/err | grep -v "$granted" | sed 's/.*"count":\([0-9]*\).*/\1/' | awk '{ n += $1 } END { print n + 0 }')
}

# What the process of a mode counted, and the events in its memory area: the number of a kind, and the longest.
look() { # MODE 'MAJOR WRITE USER'
    pages=$(echo "$modes" | sed -n "s/^$1 //p") kind=$2 longest=0 inside=0
    set -- $(cat "/tmp/caused-$1") - - - - - # MODE MINOR MAJOR PID ADDRESS
    minor=$2 major=$3 pid=$4 first=$5
    grep "^event .* $pid 0x" /tmp/faults >/tmp/own
    own=$(grep -c . /tmp/own)
    while read -r _ is_major write user _ address took; do
        took=${took%.*}
        [ "$took" -le $longest ] || longest=$took
        if [ $((address)) -ge $((first)) ] && [ $((address)) -lt $((first + pages * 4096)) ]; then
            # shellcheck disable=SC2254 # a pattern
            case "$is_major $write $user" in $kind) inside=$((inside + 1)) ;; esac
        fi
    done </tmp/own
}

all() { # NAME OPTIONS…
    way=$1
    shift
    measure "$@" || return
    expect "$way-all" 'summed == events && events > 1527 && lost == 0' summed="$summed" events="$events" lost="$lost"
    look write 'false true true'
    expect "$way-write" 'minor == 509 && inside == minor' minor="$minor" inside="$inside"
    look read 'false false true'
    expect "$way-read" 'minor == 509 && inside == minor' minor="$minor" inside="$inside"
    look kernel 'false true false'
    expect "$way-kernel" 'minor == 509 && inside == minor' minor="$minor" inside="$inside"
    look held '* true true'
    expect "$way-held" 'inside == 1 && least <= longest && longest <= most' \
        inside="$inside" least="$minor" longest="$longest" most="$major"
    # handle_mm_fault shows the rest of a fault in progress: its second call, on kernels with locks per memory area.
    rest=0
    case $way in fentry | kprobe) rest=1 ;; esac
    look begun '*'
    expect "$way-begun" 'inside <= rest && longest < 150000 && own > 0' \
        inside="$inside" rest="$rest" longest="$longest" own="$own"
    look fail '*'
    expect "$way-fail" 'inside == 0 && longest < 150000 && own > 0' inside="$inside" longest="$longest" own="$own"
    # Its threads also wait for each other in faults of their stacks.
    look killed '*'
    expect "$way-killed" 'inside == 0 && own > 0' inside="$inside" own="$own"
    # getrusage counts the pages of get_user_pages; no way to attach does.
    if [ -s /tmp/caused-populate ]; then
        look populate '*'
        expect "$way-populate" 'minor == 509 && inside == 0' minor="$minor" inside="$inside"
    else
        ok "$way-populate" 'this kernel has no MADV_POPULATE_WRITE'
    fi
}

dd if=/dev/zero of=/tmp/file bs=4096 count=4 2>/dev/null
crowded=
all default
attached "$(method)"
all raw_tp --attach raw_tp
crowded=1
all crowded
crowded=
all fentry --attach fentry
all kprobe --attach kprobe
expect kprobe-method 'kprobes > 0' kprobes="$(method | grep -c kprobe)"

# Capabilities are dropped; when killed, it leaves no program behind.
programs() { grep -c ' bpf_prog_.*\[bpf\]' /proc/kallsyms; }
sysctl -q -w net.core.bpf_jit_kallsyms=1
forget
pagefault-trace -i 100s >/tmp/out 2>/tmp/err &
tracer=$!
if until_true 30 is_active; then
    got=$(for file in /proc/"$tracer"/task/*/status; do
        awk '/^(CapPrm|CapEff|NoNewPrivs):/ { printf "%s ", $2 } END { print "" }' "$file"
    done | sort -u)
    case $got in
    "0000000000000000 0000000000000000 1 ") ok privileges "$got" ;;
    *) not_ok privileges "$got" ;;
    esac
    kill -9 $tracer
    wait $tracer
    gone() { [ "$(programs)" -eq 0 ]; }
    until_true 10 gone
    expect nothing-attached 'programs == 0' programs="$(programs)"
fi

# Without privileges: exit code 1, and the missing capability.
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
su nobody -c 'pagefault-trace --once' >/tmp/out 2>/tmp/err
expect unprivileged 'status == 1 && named > 0' status="$?" named="$(grep -c CAP_BPF /tmp/err)"
