# All tracers on a machine that is locked down, which cannot be undone: these tests come last.
# shellcheck shell=dash

mount -t securityfs securityfs /sys/kernel/security
if echo confidentiality >/sys/kernel/security/lockdown; then
    for tracer in iolat pagefault-trace schedlat syscall-trace; do
        $tracer --once >/tmp/locked-out 2>/tmp/locked-err
        expect "locked-$tracer" 'status == 1 && messages > 0 && written == 0' status="$?" \
            messages="$(grep -c 'locked down (confidentiality)' /tmp/locked-err)" written="$(grep -c . /tmp/locked-out)"
    done
else
    echo "skip tracers locked this kernel cannot be locked down"
fi
