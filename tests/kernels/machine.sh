# What the Rust tests cannot do, because it changes the whole machine or needs a quiet one: a swap of known size, the
# kernel's totals, and at the end a lockdown, which cannot be undone. Reports as Rust's tests do.
# shellcheck shell=dash disable=SC2046,SC2086 # numbers are split into words

# expect NAME 'AWK CONDITION' NAME=VALUE...: tests a condition over named numbers.
expect() {
    name=$1 condition=$2 values=
    shift 2
    for pair; do values="$values ${pair%%=*} = \"${pair#*=}\" + 0;"; done
    if awk "BEGIN { $values exit !($condition) }"; then
        echo "test $name ... ok"
    else
        echo "$name: not $condition: $*"
        echo "test $name ... FAILED"
    fi
}

skip() { # NAME REASON
    echo "test $1 ... ok"
    echo "$1: $2" >>"$TELEPIPE_SKIPPED"
}

# scraped KIND FILTER: prints the array that FILTER makes of the records of KIND, as words.
scraped() {
    scrape --once --only "$1" --filter "$2" | tr -d '[]' | tr ',' ' '
}

# Swap of a known size: a loop device over a file in memory, minus the header page.
dd if=/dev/zero of=/tmp/swap bs=1M count=16 2>/dev/null
losetup /dev/loop0 /tmp/swap && mkswap /dev/loop0 >/dev/null && swapon /dev/loop0
set -- $(scraped memory '[.total_bytes / 1024, .swap_total_bytes]')
expect memory 'total == kib && swap == 16 * 1024 * 1024 - 4096' total="$1" swap="$2" \
    kib="$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
swapoff /dev/loop0
losetup -d /dev/loop0

counted() {
    awk '/^(ctxt|processes|btime|pgfault) / { print $2 } /^cpu / { print $5 / 100 }' /proc/stat /proc/vmstat
}
set -- $(counted)
idle=$1 switches=$2 btime=$3 forks=$4 faults=$5
got=$(scrape --once --only cpu,kernel,paging --filter 'if .kind == "cpu" then .idle_s
    elif .kind == "paging" then .faults else .context_switches, .forks, (.start_ts[:19] + "Z" | fromdate) end')
set -- $got $(counted) - - - - - - - - - -
expect cpu-idle 'low <= got && got <= high' low="$idle" got="$1" high="$6"
expect context-switches 'low < got && got < high' low="$switches" got="$2" high="$7"
expect forks 'low < got && got < high' low="$forks" got="$3" high="$9"
expect start-ts 'got == btime' got="$4" btime="$btime"
expect page-faults 'low < got && got < high' low="$faults" got="$5" high="${10}"

# Pressure of all three resources; the kernel is started with psi=1.
expect pressure 'records == 3' records="$(scraped pressure .resource | wc -l)"

# Sources that are missing, such as frequencies under qemu, have a status record, and no other source has.
absent=
for source in class/dmi/id devices/system/cpu/cpu0/cpufreq; do
    [ -e /sys/$source ] || absent="$absent/sys/$source "
done
reported=$(scrape --once --filter-all --filter 'select(.kind == "status") | .source' | tr -d '"' | sort | tr '\n' ' ')
expect missing 'equal == 1' equal="$([ "$reported" != "$absent" ] || echo 1)" absent="$absent" reported="$reported"

mount -t securityfs securityfs /sys/kernel/security
if echo confidentiality >/sys/kernel/security/lockdown; then
    for tracer in iolat pagefault-trace schedlat syscall-trace; do
        $tracer --once >/tmp/out 2>/tmp/err
        expect "locked-$tracer" 'status == 1 && messages > 0 && written == 0' status="$?" \
            messages="$(grep -c 'locked down (confidentiality)' /tmp/err)" written="$(grep -c . /tmp/out)"
    done
else
    skip locked "this kernel cannot be locked down"
fi
