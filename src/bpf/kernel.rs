//! What the running kernel is made of, by its type information (BTF): what it offers, and the
//! skeletons that find their fields in it.

use std::fmt::Display;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, BtfType};
use libbpf_rs::skel::SkelBuilder;

use super::load::explain;
use crate::cli::Usage;

/// The option of every tracer that stands in for what the kernel does not tell.
#[derive(Args, Clone, Debug, Default)]
pub struct KernelTypes {
    /// The type information (BTF) of this very kernel, where it has none itself: all of it, as BTF or in an ELF file
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

/// Where the kernel can make room for what a program keeps with a task (task-local storage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Wherever a program runs.
    Anywhere,
    /// Where no lock of the scheduler is held: the room comes from the page allocator, which may
    /// wake a task (before 6.4).
    Unlocked,
    /// Not reliably.
    Nowhere,
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

    /// How many arguments a tracepoint has; `None` if the kernel has no such tracepoint.
    pub fn arguments(&self, tracepoint: &str) -> Option<usize> {
        let typedef: Typedef<'_> = self.types.type_by_name(&format!("btf_trace_{tracepoint}"))?;
        let pointer = Ptr::try_from(referenced(*typedef)?).ok()?;
        let function = FuncProto::try_from(referenced(*pointer)?).ok()?;
        // The first one is the tracepoint's own data, which programs do not see.
        Some(function.len().saturating_sub(1))
    }

    /// Where room can be made for what is kept with a task. Whether anything can be kept with tasks
    /// at all is seen when it is tried.
    pub fn room(&self) -> Room {
        if self.has_field("bpf_local_storage_map", "bpf_ma") {
            return Room::Anywhere; // 6.4 to 6.17: from a reserve
        }
        if !self.has_function("bpf_map_kmalloc_nolock") {
            return Room::Unlocked;
        }
        // Since 6.18: by an allocator that takes no locks, and on a CPU that cannot compare and
        // exchange 16 bytes (some emulators') finds nothing.
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = cpu.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or("cx16");
        if flags.split_whitespace().any(|flag| flag == "cx16") { Room::Anywhere } else { Room::Nowhere }
    }

    /// Whether a struct has a field of that name.
    pub fn has_field(&self, name: &str, field: &str) -> bool {
        let found: Option<Struct<'_>> = self.types.type_by_name(name);
        found.is_some_and(|found| {
            found.iter().any(|member| member.name.is_some_and(|name| name.to_str() == Some(field)))
        })
    }

    /// Whether there is a function of that name.
    pub fn has_function(&self, name: &str) -> bool {
        self.types.type_by_name::<Func<'_>>(name).is_some()
    }
}

const MISSING: &str = "\
this kernel tells no type information (BTF), by which the fields of its structs are found: there is no \
/sys/kernel/btf/vmlinux. It was built without CONFIG_DEBUG_INFO_BTF=y, or a container hides that folder. Use a \
distribution's kernel, which has it since 5.10, or name a file that holds it: --btf FILE";

fn referenced(from: BtfType<'_>) -> Option<BtfType<'_>> {
    from.next_type()
}
