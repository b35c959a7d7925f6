# Compares scrape with the files of the kernel in a virtual machine: exactly where nothing else uses a counter,
# otherwise between a reading before and one after.
# modules: null_blk loop tcp_diag udp_diag
# shellcheck shell=dash disable=SC2046,SC2086 # numbers are split into words

# scraped KIND FILTER: prints the array that FILTER makes of the records of KIND, as words.
scraped() {
    scrape --once --only "$1" --filter "$2" | tr -d '[]' | tr ',' ' '
}

# Swap of a known size: a loop device over a file in memory, minus the header page.
dd if=/dev/zero of=/tmp/swap bs=1M count=16 2>/dev/null
modprobe loop && losetup /dev/loop0 /tmp/swap && mkswap /dev/loop0 >/dev/null && swapon /dev/loop0
set -- $(scraped memory '[.total_bytes, .swap_total_bytes]')
expect memory-total 'got == 1024 * kib' got="$1" kib="$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
expect swap-total 'got == 16 * 1024 * 1024 - 4096' got="$2"
swapoff /dev/loop0
losetup -d /dev/loop0

# Every field of the stat file of a device that nothing else uses.
fresh null_blk nr_devices=1 irqmode=2 completion_nsec=2000000
direct /dev/nullb0 write 37 8192 >/dev/null
direct /dev/nullb0 read 41 4096 >/dev/null
got=$(scraped disk 'select(.device == "nullb0") | [.reads, .reads_merged, .read_bytes / 512, .read_time_s * 1000,
    .writes, .writes_merged, .write_bytes / 512, .write_time_s * 1000, .in_flight, .io_time_s * 1000,
    .weighted_io_time_s * 1000, .discards, .discards_merged, .discard_bytes / 512, .discard_time_s * 1000,
    .flushes, .flush_time_s * 1000] | map(round)')
want=$(awk '{ $1 = $1; print }' /sys/block/nullb0/stat)
if [ "$got" = "$want" ]; then ok disk-stat "$got"; else not_ok disk-stat "got '$got', the kernel says '$want'"; fi
set -- $want
expect disk-writes 'writes == 37 && sectors == 37 * 16' writes="$5" sectors="$7"
modprobe -r null_blk

# Counts of the whole machine, between two readings.
counted() { awk '/^(ctxt|processes|btime) / { print $2 } /^cpu / { print $5 / 100 }' /proc/stat; }
faults() { awk '$1 == "pgfault" { print $2 }' /proc/vmstat; }
set -- $(counted) $(faults)
idle=$1 switches=$2 btime=$3 forks=$4 faults=$5
got=$(scrape --once --only cpu,kernel,paging --filter \
    'if .kind == "cpu" then .idle_s elif .kind == "kernel" then .context_switches, .forks, (.start_ts[:19] + "Z" | fromdate) else .faults end')
set -- $got $(counted) $(faults)
[ $# -eq 10 ] || not_ok counts "wanted five numbers: $got"
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
if [ "$reported" = "$absent" ]; then ok missing "$reported"; else not_ok missing "reported '$reported', absent '$absent'"; fi
scrape -i 50ms | head -n 1 >/tmp/first
expect head-1 'lines == 1' lines="$(wc -l </tmp/first)"
