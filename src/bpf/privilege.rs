//! Privileges: checked before eBPF programs are loaded, dropped once they are attached.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// The capabilities for loading and attaching, since 5.8.
const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];

/// Checks that eBPF programs can be loaded.
///
/// # Errors
/// If a capability is missing, with commands that help; if the kernel is locked down.
pub fn check(program: &str) -> Result<()> {
    if std::fs::read_to_string("/sys/kernel/security/lockdown").is_ok_and(|text| text.contains(LOCKED)) {
        bail!(
            "this kernel is locked down (confidentiality): eBPF programs cannot read its memory; boot it with \
             lockdown=integrity, or without lockdown"
        );
    }
    let held = capabilities(None).context("cannot read this process's capabilities")?.effective;
    if held.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    let missing: Vec<_> =
        NEEDED.iter().filter(|(flag, _)| !held.contains(*flag)).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{}", advice(program, &missing.join(" and ")))
}

/// /proc/self/ns/user of the outermost user namespace (PROC_USER_INIT_INO of include/linux/proc_ns.h).
const OUTERMOST: &str = "user:[4026531837]";

/// In this mode no eBPF program can read the kernel's memory (kernel_lockdown(7)).
const LOCKED: &str = "[confidentiality]";

/// Before 5.11, the memory of eBPF counts against RLIMIT_MEMLOCK, and libbpf needs CAP_SYS_RESOURCE to raise that.
fn memory_is_limited() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(5), Some(11))
}

/// How to get missing capabilities.
pub fn advice(program: &str, missing: &str) -> String {
    let need = format!("{missing} missing, needed to load eBPF programs");
    let (names, more) = if memory_is_limited() {
        ("cap_bpf,cap_perfmon,cap_sys_resource=ep", " --cap-add SYS_RESOURCE")
    } else {
        ("cap_bpf,cap_perfmon=ep", "")
    };
    let container = format!("in a container: --cap-add BPF --cap-add PERFMON{more}");
    if std::fs::read_link("/proc/self/ns/user").is_ok_and(|found| found != Path::new(OUTERMOST)) {
        return format!(
            "{need}; this is a user namespace (usually a rootless container), whose capabilities do not count: run \
             it as the host's root"
        );
    }
    if geteuid().is_root() {
        return format!("{need}; root has them, except {container}");
    }
    // The whole path: sudo has its own search path.
    let here = std::env::current_exe().ok();
    let path = here.as_deref().map_or_else(|| program.into(), |path| path.to_string_lossy());
    let arguments: Vec<_> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let quoted = |words: &[&str]| shlex::try_join(words.iter().copied()).unwrap_or_else(|_| words.join(" "));
    let again: Vec<_> = ["sudo", &path].into_iter().chain(arguments.iter().map(String::as_str)).collect();
    format!(
        "{need}. Run it as root: `{}`; or give the program the capabilities: `{}`; {container}",
        quoted(&again),
        quoted(&["sudo", "setcap", names, &path]),
    )
}

/// Drops every capability for good, but keeps those of `keep` that the process has, and those for bpf() calls if `works`
/// fails without them. Returns the capabilities that are kept.
///
/// Capabilities belong to threads: call this before any other thread is started.
///
/// # Errors
/// If the kernel refuses.
pub fn drop_but(keep: CapabilitySet, works: impl FnOnce() -> bool) -> Result<CapabilitySet> {
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    let held = capabilities(None).context("cannot read this process's capabilities")?;
    // First only from the effective set, so that they can be restored.
    set(held.permitted, CapabilitySet::empty())?;
    let kept = if works() {
        CapabilitySet::empty()
    } else {
        held.permitted & (CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN)
    };
    // CAP_SYS_ADMIN is kept only if the process does not have CAP_BPF.
    let kept = if kept.contains(CapabilitySet::BPF) { kept - CapabilitySet::SYS_ADMIN } else { kept };
    let kept = kept | (held.permitted & keep);
    set(kept, kept)?;
    Ok(kept)
}

/// The names of capabilities, or `none`.
pub fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" and ") }
}

fn set(permitted: CapabilitySet, effective: CapabilitySet) -> Result<()> {
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("cannot drop capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_names() {
        assert_eq!(names(CapabilitySet::empty()), "none");
        assert_eq!(names(CapabilitySet::BPF), "CAP_BPF");
        assert_eq!(names(CapabilitySet::BPF | CapabilitySet::PERFMON), "CAP_PERFMON and CAP_BPF");
    }
}
