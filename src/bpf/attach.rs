//! How a program is attached: decided by what the running kernel's BTF describes.

use std::fmt;

use anyhow::{Context as _, Result};
use libbpf_rs::btf::types::{Func, FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, BtfType};

/// The ways in which a tracer can hook into the kernel, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Attach {
    /// A tracepoint with typed arguments, which are read without helper calls.
    TpBtf,
    /// A tracepoint with the same arguments, untyped.
    RawTp,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
        })
    }
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

/// What the running kernel is made of.
pub struct Kernel(Btf<'static>);

impl Kernel {
    /// Reads /sys/kernel/btf/vmlinux.
    ///
    /// # Errors
    /// If the kernel has no type information.
    pub fn read() -> Result<Self> {
        let btf = Btf::from_vmlinux().context(
            "this kernel carries no type information (BTF), which finding the fields of its structs needs; \
             use one built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are since 5.10, and check \
             that /sys/kernel/btf/vmlinux exists",
        )?;
        Ok(Self(btf))
    }

    /// How many arguments a tracepoint has; `None` if the kernel has no such tracepoint.
    pub fn arguments(&self, tracepoint: &str) -> Option<usize> {
        let typedef: Typedef<'_> = self.0.type_by_name(&format!("btf_trace_{tracepoint}"))?;
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
        let found: Option<Struct<'_>> = self.0.type_by_name(name);
        found.is_some_and(|found| {
            found.iter().any(|member| member.name.is_some_and(|name| name.to_str() == Some(field)))
        })
    }

    /// Whether there is a function of that name.
    pub fn has_function(&self, name: &str) -> bool {
        self.0.type_by_name::<Func<'_>>(name).is_some()
    }
}

fn referenced(from: BtfType<'_>) -> Option<BtfType<'_>> {
    from.next_type()
}
