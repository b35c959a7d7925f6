# iolat on a test machine, against devices with a known completion time (null_blk, scsi_debug), the kernel's own counts
# (/sys/block/*/stat), and the caller's clock (direct): a request takes at least the device's time, and at most the time
# that its caller waited.
# modules: null_blk scsi_debug sd_mod
# shellcheck shell=dash disable=SC2046,SC2086 # numbers are split into words

words='select(.kind == "io") | [.op, .device, .count, .bytes, .p50_us, .sum_us, .max_us, .device_p50_us, .errors]'

# Starts iolat, and returns once it has attached.
trace() { # OPTIONS…
    forget
    iolat -i 100s "$@" >/tmp/out 2>/tmp/err &
    tracer=$!
    until_true 30 is_active && return
    not_ok attach "$(tail -n 3 /tmp/err | tr '\n' ' ')"
    cat /tmp/err >&2
    return 1
}

# Ends iolat. The output of the filter is then in /tmp/io, with arrays as words.
finish() {
    kill $tracer
    wait $tracer
    grep -v '"kind":"status"' /tmp/out | tr -d '[]"' | tr ',' ' ' >/tmp/io
}

# of OP DEVICE: prints its line, or dashes, which fail every test.
of() { grep "^$1 $2 " /tmp/io || echo "- - - - - - - - -"; }
lines() { wc -l <"$1"; }
programs() { grep -c ' bpf_prog_.*\[bpf\]' /proc/kallsyms; } # of all processes

sysctl -q -w net.core.bpf_jit_kallsyms=1
fresh null_blk nr_devices=1 irqmode=2 completion_nsec=10000000

# Times and counts of a device that takes 10 ms, for each way of attaching.
measure() { # WAY
    set -- "$1" $(awk '{ print $1, $3, $5, $7 }' /sys/block/nullb0/stat)
    reads=$2 read_sectors=$3 writes=$4 write_sectors=$5
    trace --filter "$words" --attach "$1" || return
    set -- "$1" $(direct /dev/nullb0 read 61 4096) # COUNT MIN P50 MAX SUM
    direct /dev/nullb0 write 23 16384 >/dev/null
    finish
    count=$2 p50=$4 max=$5 sum=$6
    set -- "$1" $(awk '{ print $1, $3, $5, $7 }' /sys/block/nullb0/stat)
    reads=$(($2 - reads)) read_sectors=$(($3 - read_sectors))
    writes=$(($4 - writes)) write_sectors=$(($5 - write_sectors))
    way=$1
    set -- $(of read nullb0)
    expect "$way-p50" '9890 <= p50 && p50 <= seen * 1.011' p50="$5" seen="$p50"
    expect "$way-sum" 'count * 10000 <= sum && sum <= seen' sum="$6" seen="$sum" count="$count"
    expect "$way-max" '10000 <= max && max <= seen' max="$7" seen="$max"
    expect "$way-device-p50" '9890 <= device && device <= total' device="$8" total="$5"
    expect "$way-reads" 'got == want && bytes == sectors * 512' got="$3" want="$reads" bytes="$4" sectors="$read_sectors"
    set -- $(of write nullb0)
    expect "$way-writes" 'got == want && bytes == sectors * 512' got="$3" want="$writes" bytes="$4" sectors="$write_sectors"
}
measure tp_btf
measure raw_tp

# A disk that appears while iolat runs, with every operation.
if trace --filter "$words"; then
    attached "$(method)"
    modprobe sd_mod
    fresh scsi_debug dev_size_mb=16 ndelay=5000000 lbpu=1 lbpws=1
    scsi_disk() { sda=$(ls /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block 2>/dev/null); }
    until_true 20 scsi_disk
    until_true 20 test -b "/dev/$sda"
    set -- $(direct "/dev/$sda" read 29 4096)
    p50=$3
    dd if=/dev/zero of="/dev/$sda" bs=64k count=8 conv=fsync 2>/dev/null
    blkdiscard -o 0 -l 1048576 "/dev/$sda"
    stat=$(cat "/sys/block/$sda/stat")
    finish
    set -- $(of read "$sda")
    expect scsi-p50 '4945 <= p50 && p50 <= seen * 1.011' p50="$5" seen="$p50"
    set -- $stat
    sum_of() { awk -v op="$1" -v device="$sda" -v field="$2" '$1 == op && $2 == device { n += $field } END { print n + 0 }' /tmp/io; }
    expect scsi-reads 'got == want && bytes == 512 * sectors' got="$(sum_of read 3)" want="$1" bytes="$(sum_of read 4)" sectors="$3"
    # The kernel also counts a flush without data as a write of zero bytes.
    expect scsi-writes 'got == want - flushes && bytes == 512 * sectors' got="$(sum_of write 3)" want="$5" flushes="${16}" \
        bytes="$(sum_of write 4)" sectors="$7"
    expect scsi-discards '0 < got && got == want' got="$(sum_of discard 3)" want="${12}"
    expect scsi-flushes '0 < got && got == want' got="$(sum_of flush 3)" want="${16}"
fi

# --who with --pid for one of two processes, and an event for each slow request.
if trace --events --min 5ms --comm direct --filter \
    'if .kind == "io" then ["io", .op, .count, .max_comm] else ["event", .comm, .pid, .total_us, .device] end'; then
    dd if=/dev/nullb0 of=/dev/null bs=4096 count=7 iflag=direct 2>/dev/null
    direct /dev/nullb0 read 31 4096 >/dev/null &
    direct=$!
    wait $direct
    finish
    set -- $(grep '^io read' /tmp/io || echo "- - - -")
    expect comm-reads 'got == 31' got="$3"
    expect events 'got == 31' got="$(grep -c "^event direct $direct .* nullb0$" /tmp/io)"
    if [ "$4" = direct ]; then ok max-comm "$4"; else not_ok max-comm "'$4'"; fi
fi

# Two at once do not disturb each other; capabilities are dropped; nothing stays loaded after one is killed.
if trace --aggregate --filter "$words"; then
    # Before 5.19, bpf() needs CAP_PERFMON and CAP_BPF (bits 38 and 39), so they are kept.
    allowed=0000000000000000
    case $(uname -r) in 5.?.* | 5.1[0-8].*) allowed=000000c000000000 ;; esac
    got=$(for file in /proc/"$tracer"/task/*/status; do
        awk '/^(CapPrm|CapEff|NoNewPrivs):/ { printf "%s ", $2 } END { print "" }' "$file"
    done | sort -u)
    case $got in
    "0000000000000000 0000000000000000 1 " | "$allowed $allowed 1 ") ok privileges "$got" ;;
    *) not_ok privileges "$got" ;;
    esac
    other=$tracer
    if trace --filter "$words"; then
        direct /dev/nullb0 read 17 4096 >/dev/null
        both=$(programs)
        kill -9 $other
        wait $other
        direct /dev/nullb0 read 19 4096 >/dev/null
        fewer() { one=$(programs) && [ "$one" -lt "$both" ]; }
        until_true 10 fewer
        expect killed 'two > one && one > 0' two="$both" one="$one"
        finish
        set -- $(of read nullb0)
        expect with-another 'got == 17 + 19' got="$3"
        gone() { [ "$(programs)" -eq 0 ]; }
        until_true 10 gone
        expect nothing-attached 'programs == 0' programs="$(programs)"
    fi
fi

# Without privileges: exit code 1, and the missing capabilities.
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
su nobody -c 'iolat --once' >/tmp/out 2>/tmp/err
expect unprivileged 'status == 1 && named > 0' status="$?" named="$(grep -c CAP_BPF /tmp/err)"

iolat -i 100ms | head -n 1 >/tmp/first
expect head-1 'lines == 1' lines="$(lines /tmp/first)"
