//! How a program is attached: decided by what the running kernel's BTF describes.

use std::fmt;

use anyhow::{Context as _, Result};
use libbpf_rs::btf::types::{FuncProto, Ptr, Typedef};
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
}

fn referenced(from: BtfType<'_>) -> Option<BtfType<'_>> {
    from.next_type()
}
