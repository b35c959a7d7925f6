//! The skeletons that libbpf-cargo generates from `bpf/*.bpf.c`, behind one interface for all tracers.

use anyhow::Result;
use libbpf_rs::MapMut;
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};

use super::args::TracerArgs;
use super::self_filter::SLOTS;

/// A loaded skeleton. Implemented by `skeleton!`.
pub trait Skeleton: Skel<'static> + Sized {
    /// Opens it.
    type Builder: SkelBuilder<'static, Output = Self::Open> + Default;
    /// Before it is loaded.
    type Open: OpenSkel<'static, Output = Self>;
    /// The constants, which are set before loading.
    type Constants;
    /// The variables, which the programs and this process share.
    type Shared;

    /// The constants.
    ///
    /// # Errors
    /// If there are none.
    fn constants(open: &mut Self::Open) -> Result<&mut Self::Constants>;

    /// Sets the constants of the headers that all tracers include, and sizes the ring buffer.
    ///
    /// # Errors
    /// [`crate::common::program::Usage`] for filters that cannot be; if libbpf refuses.
    fn configure(
        open: &mut Self::Open,
        args: &TracerArgs,
        cpus: usize,
        ring_bytes: u32,
        leave_out_self: bool,
    ) -> Result<()>;

    /// The variables; `None` if the programs have none. They live as long as the process.
    fn shared(&mut self) -> Option<*mut Self::Shared>;

    /// `active_half` of `bpf/map.h`.
    fn active_half(shared: *mut Self::Shared) -> *mut u32;

    /// `lost_events` of `bpf/map.h`.
    fn lost_events(shared: *mut Self::Shared) -> *const u64;

    /// `own_pids` of `bpf/task.h`.
    fn own_pids(shared: *mut Self::Shared) -> *mut [u32; SLOTS];

    /// The ring buffer.
    fn ring(&self) -> &MapMut<'static>;
}

/// The length of an array in a generated struct: a constant of the C source.
pub const fn array_len<S, T, const N: usize>(_: fn(&S) -> &[T; N]) -> usize {
    N
}

/// Includes the skeleton of `bpf/NAME.bpf.c` and implements [`Skeleton`] for it. Its structs are in the module
/// `types`, generated from the BTF of the compiled programs, so that they cannot differ from the C structs.
macro_rules! skeleton {
    ($file:literal, $builder:ident, $open:ident, $skeleton:ident) => {
        #[expect(
            unused_qualifications,
            clippy::allow_attributes_without_reason,
            clippy::undocumented_unsafe_blocks,
            clippy::unwrap_used,
            reason = "generated"
        )]
        mod generated {
            include!(concat!(env!("OUT_DIR"), "/", $file, ".skel.rs"));
        }

        pub(super) use generated::{types, $builder, $open, $skeleton};

        impl $crate::bpf::skeleton::Skeleton for $skeleton<'static> {
            type Builder = $builder;
            type Open = $open<'static>;
            type Constants = types::rodata;
            type Shared = types::bss;

            fn constants(open: &mut Self::Open) -> anyhow::Result<&mut types::rodata> {
                let data = open.maps.rodata_data.as_deref_mut();
                anyhow::Context::context(data, "the eBPF programs have no constants")
            }

            fn configure(
                open: &mut Self::Open,
                args: &$crate::bpf::args::TracerArgs,
                cpus: usize,
                ring_bytes: u32,
                leave_out_self: bool,
            ) -> anyhow::Result<()> {
                let filter = &args.tasks;
                let data = Self::constants(open)?;
                data.cpus = u32::try_from(cpus)?;
                data.hist_cells = $crate::common::hist::CELLS;
                data.events = args.events.min().is_some();
                data.min_ns = $crate::bpf::args::nanos(args.events.min());
                data.ring_half = u64::from(ring_bytes) / 2;
                data.describe_all = true;
                data.wanted_pids = filter.pids()?;
                data.want_pids = u32::try_from(filter.pid.len())?;
                data.want_uid = filter.uid.is_some();
                data.wanted_uid = filter.uid.unwrap_or(0);
                data.want_cgroup = filter.cgroup.is_some();
                data.wanted_cgroup = filter.cgroup_id()?;
                data.want_comm = filter.comm.is_some();
                data.wanted_comm = filter.comm_words();
                data.leave_out_self = leave_out_self;
                if args.events.min().is_some() {
                    let sized = open.maps.ring.set_max_entries(ring_bytes);
                    sized.map_err(|e| $crate::bpf::load::explain(&e, "cannot size the ring buffer"))?;
                }
                Ok(())
            }

            fn shared(&mut self) -> Option<*mut types::bss> {
                self.maps.bss_data.as_deref_mut().map(std::ptr::from_mut)
            }

            fn active_half(shared: *mut types::bss) -> *mut u32 {
                // SAFETY: a field of the variables, which live as long as the process.
                unsafe { &raw mut (*shared).active_half }
            }

            fn lost_events(shared: *mut types::bss) -> *const u64 {
                // SAFETY: as above.
                unsafe { &raw const (*shared).lost_events }
            }

            fn own_pids(shared: *mut types::bss) -> *mut [u32; $crate::bpf::self_filter::SLOTS] {
                // SAFETY: as above.
                unsafe { &raw mut (*shared).own_pids }
            }

            fn ring(&self) -> &libbpf_rs::MapMut<'static> {
                &self.maps.ring
            }
        }

        impl From<types::task_id> for $crate::bpf::task::TaskId {
            fn from(task: types::task_id) -> Self {
                let types::task_id { cgroup_id, pid, tid, uid, comm, .. } = task;
                Self { cgroup_id, pid, tid, uid, comm: comm.map(i8::cast_unsigned) }
            }
        }
    };
}
pub(super) use skeleton;

/// Reads a variable that the programs may be writing: `shared_load!(programs, lost_slots)`.
macro_rules! shared_load {
    ($programs:expr, $field:ident $([$index:expr])?) => {{
        let shared = $programs.shared();
        // SAFETY: a field of the variables, which live as long as the process.
        unsafe { $crate::bpf::map::load(&raw const (*shared).$field $([$index])?) }
    }};
}
pub(super) use shared_load;

/// Writes a variable that the programs may be reading.
macro_rules! shared_store {
    ($programs:expr, $field:ident $([$index:expr])?, $value:expr) => {{
        let shared = $programs.shared();
        // SAFETY: a field of the variables, which live as long as the process and to which there are no references.
        unsafe { $crate::bpf::map::store(&raw mut (*shared).$field $([$index])?, $value) }
    }};
}
pub(super) use shared_store;
