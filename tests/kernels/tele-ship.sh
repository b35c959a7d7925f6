# tele-ship at the end of pipelines: it delivers what the producers wrote.
# modules: null_blk
# shellcheck shell=dash disable=SC2046 # numbers are split into words

# Prints from its summary: LINES READ, LINES DELIVERED, ITEMS ENCODED, ITEMS ACCEPTED.
account() {
    sed -n 's/.*: \([0-9]*\) lines read = \([0-9]*\) delivered.*; \([0-9]*\) items encoded = \([0-9]*\) accepted.*/\1 \2 \3 \4/p' "$1"
}

arrived() { # NAME LINES ACCOUNT…
    shape=0
    [ $# -ne 6 ] || shape=1
    expect "$1" 'shape == 1 && 0 < lines && read == lines && delivered == lines && 0 < items && accepted == items' \
        shape="$shape" lines="$2" read="${3:-}" delivered="${4:-}" items="${5:-}" accepted="${6:-}"
}

fresh null_blk nr_devices=1 irqmode=2 completion_nsec=2000000
direct /dev/nullb0 read 20000 4096 >/dev/null & # longer than iolat runs, even on a slow machine
iolat -i 300ms -n 3 | tee /tmp/lines | tele-ship --stdout >/tmp/otlp 2>/tmp/err
kill $!
arrived iolat-stdout "$(wc -l </tmp/lines)" $(account /tmp/err)
expect histograms '0 < histograms' histograms="$(grep -o '"exponentialHistogram"' /tmp/otlp | wc -l)"

scrape -i 300ms -n 3 | tee /tmp/lines | tele-ship --sqlite /tmp/telemetry.db 2>/tmp/err
arrived scrape-sqlite "$(wc -l </tmp/lines)" $(account /tmp/err)
header=$(head -c 15 /tmp/telemetry.db)
if [ "$header" = "SQLite format 3" ]; then ok database "$header"; else not_ok database "$header"; fi
