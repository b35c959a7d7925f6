//! The type information (BTF) of the running kernel: which tracepoints it has, and the offsets of the struct fields
//! that the eBPF programs read.

use std::fmt::Display;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Typedef};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder};

use super::load::{ensure_room_for_files, explain};
use crate::common::program::Usage;

/// The `--btf` option.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Advanced")]
pub struct KernelTypes {
    /// Read the kernel's type information from this file (BTF, or ELF with BTF), if the kernel has none
    #[arg(long, hide_short_help = true, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

/// The type information of the running kernel.
pub struct Kernel {
    types: Btf<'static>,
    /// The file of `--btf`.
    file: Option<PathBuf>,
}

impl Kernel {
    /// Reads the given file, or /sys/kernel/btf/vmlinux or a vmlinux that libbpf finds.
    ///
    /// # Errors
    /// [`Usage`] if the file has no type information; another error, with advice, if the kernel has none.
    pub fn read(KernelTypes { btf }: &KernelTypes) -> Result<Self> {
        if !Path::new("/sys/devices/system/cpu/possible").exists() {
            bail!(
                "/sys is not mounted, and is needed for the kernel's type information: mount -t sysfs sysfs /sys; \
                 in a container, mount the host's, at least read-only (-v /sys:/sys:ro)"
            );
        }
        let types = match btf {
            Some(file) => {
                let wrong = |what: &dyn Display| Usage(format!("--btf {}: {what}", file.display()));
                std::fs::File::open(file).map_err(|error| wrong(&error))?;
                // libbpf's error numbers for bad files have no text in the C library.
                Btf::from_path(file).map_err(|_| wrong(&"neither BTF nor ELF with .BTF"))?
            }
            None => Btf::from_vmlinux().map_err(|error| anyhow!("{MISSING} ({error:#})"))?,
        };
        Ok(Self { types, file: btf.clone() })
    }

    /// Opens a skeleton. Leaks the memory that it borrows, once for each way to attach that is tried.
    ///
    /// # Errors
    /// If libbpf refuses.
    pub fn open<B: SkelBuilder<'static> + Default>(&self) -> Result<B::Output> {
        let mut builder = B::default();
        let object = builder.object_builder_mut();
        let named = self.file.as_ref().map_or(Ok(()), |file| object.btf_custom_path(file).map(drop));
        let opened = named.and_then(|()| builder.open(Box::leak(Box::new(MaybeUninit::uninit()))));
        let open = opened.map_err(|error| explain(&error, "cannot open the eBPF programs"))?;
        ensure_room_for_files(FILES_FOR_LOADING + 2 * open.open_object().progs().count())?;
        Ok(open)
    }

    /// Whether the kernel itself has type information, which iterators and typed tracepoints need.
    pub fn has_btf(&self) -> bool {
        self.file.is_none() || Btf::from_vmlinux().is_ok()
    }

    /// Whether the kernel skips a program at a tracepoint while the same program is running on that CPU: since 6.2
    /// (05b24ff9b2cf), which also made this function global.
    pub fn guards_against_recursion(&self) -> bool {
        self.types.type_by_name::<Func<'_>>("bpf_prog_inc_misses_counter").is_some()
    }

    /// The number of arguments of a tracepoint; `None` if the kernel has no such tracepoint.
    pub fn arguments(&self, tracepoint: &str) -> Option<usize> {
        let typedef: Typedef<'_> = self.types.type_by_name(&format!("btf_trace_{tracepoint}"))?;
        let pointer = Ptr::try_from(referenced(*typedef)?).ok()?;
        let function = FuncProto::try_from(referenced(*pointer)?).ok()?;
        // Programs do not see the first argument, which is the tracepoint's own data.
        Some(function.len().saturating_sub(1))
    }
}

/// Files that libbpf opens for a moment while it loads, and those that a tracer opens afterwards. To them come a file
/// for each program and one for its link. libbpf has opened a file for each map already.
const FILES_FOR_LOADING: usize = 8;

const MISSING: &str = "\
this kernel has no type information (BTF), which eBPF programs need to find fields of structs: there is no \
/sys/kernel/btf/vmlinux. Either it was built without CONFIG_DEBUG_INFO_BTF=y, or a container hides that folder. Use a \
kernel of a distribution, 5.10 or later, or give a file with type information: --btf FILE";

fn referenced(from: BtfType<'_>) -> Option<BtfType<'_>> {
    from.next_type()
}
