//! What the running kernel is made of, by its type information (BTF): what it offers, and the
//! skeletons that find their fields in it.

use std::fmt::Display;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Typedef};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::skel::SkelBuilder;

use super::load::explain;
use crate::common::program::Usage;

/// The option that replaces the type information of a kernel.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Advanced")]
pub struct KernelTypes {
    /// Read the kernel's type information from this file (BTF, or ELF with BTF), if the kernel has none
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

/// The type information of the running kernel.
pub struct Kernel {
    types: Btf<'static>,
    /// Where it is from, if not from the kernel.
    file: Option<PathBuf>,
}

impl Kernel {
    /// Reads the file that was named, or /sys/kernel/btf/vmlinux (or a vmlinux in one of the places where
    /// libbpf looks for it).
    ///
    /// # Errors
    /// [`Usage`] if the file holds no type information; if the kernel has none, what it lacks.
    pub fn read(KernelTypes { btf }: &KernelTypes) -> Result<Self> {
        if !Path::new("/sys/devices/system/cpu/possible").exists() {
            bail!(
                "/sys is not mounted here, and tells how many CPUs there are and what the kernel is made of: \
                 mount -t sysfs sysfs /sys; in a container give it the host's, read-only will do (-v /sys:/sys:ro)"
            );
        }
        let types = match btf {
            Some(file) => {
                let wrong = |what: &dyn Display| Usage(format!("--btf {}: {what}", file.display()));
                std::fs::File::open(file).map_err(|error| wrong(&error))?;
                // libbpf's own numbers for what is wrong with it have no text in the C library.
                Btf::from_path(file).map_err(|_| wrong(&"neither BTF nor ELF with .BTF"))?
            }
            None => Btf::from_vmlinux().map_err(|error| anyhow!("{MISSING} ({error:#})"))?,
        };
        Ok(Self { types, file: btf.clone() })
    }

    /// Opens a skeleton. It borrows from memory that is never freed: one per try, which ends with the process.
    ///
    /// # Errors
    /// If libbpf does not take it.
    pub fn open<B: SkelBuilder<'static> + Default>(&self) -> Result<B::Output> {
        let mut builder = B::default();
        let object = builder.object_builder_mut();
        let named = self.file.as_ref().map_or(Ok(()), |file| object.btf_custom_path(file).map(drop));
        let opened = named.and_then(|()| builder.open(Box::leak(Box::new(MaybeUninit::uninit()))));
        opened.map_err(|error| explain(&error, "cannot open the eBPF programs"))
    }

    /// Whether the kernel itself tells its types: iterators and typed tracepoints are found by no other.
    pub fn tells(&self) -> bool {
        self.file.is_none() || Btf::from_vmlinux().is_ok()
    }

    /// Whether a program at a tracepoint is not run while it is running on that CPU already. The kernel does so since
    /// 6.2 (05b24ff9b2cf), which made this function known outside of the file that defines it.
    pub fn guards_against_recursion(&self) -> bool {
        self.types.type_by_name::<Func<'_>>("bpf_prog_inc_misses_counter").is_some()
    }

    /// How many arguments a tracepoint has; `None` if the kernel has no such tracepoint.
    pub fn arguments(&self, tracepoint: &str) -> Option<usize> {
        let typedef: Typedef<'_> = self.types.type_by_name(&format!("btf_trace_{tracepoint}"))?;
        let pointer = Ptr::try_from(referenced(*typedef)?).ok()?;
        let function = FuncProto::try_from(referenced(*pointer)?).ok()?;
        // The first one is the tracepoint's own data, which programs do not see.
        Some(function.len().saturating_sub(1))
    }
}

const MISSING: &str = "\
this kernel tells no type information (BTF), by which the fields of its structs are found: there is no \
/sys/kernel/btf/vmlinux. It was built without CONFIG_DEBUG_INFO_BTF=y, or a container hides that folder. Use a \
distribution's kernel, which has it since 5.10, or name a file that holds it: --btf FILE";

fn referenced(from: BtfType<'_>) -> Option<BtfType<'_>> {
    from.next_type()
}
