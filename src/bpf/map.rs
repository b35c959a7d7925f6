//! Maps shared with the kernel, as `bpf/map.h` declares them: arrays mapped into this process,
//! the double buffer that intervals are read from, and the ring buffer of events.

use std::cell::RefCell;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::rc::Rc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};
use rustix::mm::{MapFlags as Mapping, ProtFlags, mmap, munmap};
use rustix::thread::{MembarrierCommand, membarrier};

/// A C struct that eBPF programs write, as bytes that may be copied.
///
/// # Safety
/// The type is `repr(C)`, has the layout of the C struct, and any bytes are a valid value of it.
pub unsafe trait Plain: Copy {}

// SAFETY: any four bytes are a number.
unsafe impl Plain for u32 {}
// SAFETY: any eight bytes are a number.
unsafe impl Plain for u64 {}

/// An array map with the flag `BPF_F_MMAPABLE`, mapped as a whole.
pub struct MappedArray<T> {
    base: NonNull<T>,
    len: usize,
    _values: PhantomData<T>,
}

impl<T: Plain> MappedArray<T> {
    /// Maps it.
    ///
    /// # Errors
    /// If the map's values do not have the size of `T`, or the kernel refuses.
    pub fn new(map: &impl MapCore) -> Result<Self> {
        let name = map.name().to_string_lossy().into_owned();
        ensure!(
            map.value_size() as usize == size_of::<T>() && size_of::<T>().is_multiple_of(8),
            "map {name} has values of {} bytes, not {}",
            map.value_size(),
            size_of::<T>()
        );
        let len = map.max_entries() as usize;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            mmap(std::ptr::null_mut(), len * size_of::<T>(), access, Mapping::SHARED, map.as_fd(), 0)
        };
        let base = base.map_err(io::Error::from).with_context(|| format!("cannot map {name}"))?;
        let base = NonNull::new(base.cast()).with_context(|| format!("cannot map {name}"))?;
        Ok(Self { base, len, _values: PhantomData })
    }

    /// An array of zeros that no map backs, to test what reads one.
    #[cfg(test)]
    pub fn in_memory(len: usize) -> Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len * size_of::<T>(), access, Mapping::PRIVATE)
        };
        let base = NonNull::new(base?.cast()).context("no memory")?;
        Ok(Self { base, len, _values: PhantomData })
    }

    /// The address of a value, for [`load`] and [`store`] of its fields.
    ///
    /// # Panics
    /// If the index is out of bounds.
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "{index} of {}", self.len);
        // SAFETY: inside the mapping, which lives as long as self.
        unsafe { self.base.as_ptr().add(index) }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads a value and sets it to zero. Only for values in the half that the kernel does not write.
    ///
    /// # Panics
    /// If the index is out of bounds.
    pub fn take(&self, index: usize) -> T {
        let at = self.at(index);
        // SAFETY: valid by `at`; the kernel does not write it meanwhile.
        let value = unsafe { load(at) };
        // SAFETY: as above, and zeros are a valid value of any `Plain`.
        unsafe { at.write_bytes(0, 1) };
        value
    }

    /// The size of all values, in bytes.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this address and length, and nothing borrows from it.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len * size_of::<T>()) };
    }
}

/// The kernel memory that a map uses, in bytes; `None` if /proc does not report it.
pub fn memory(map: BorrowedFd<'_>) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// Reads a value that the kernel may be writing.
///
/// # Safety
/// `at` is valid and aligned.
pub unsafe fn load<T: Plain>(at: *const T) -> T {
    // SAFETY: by the caller. Volatile, because the compiler does not see the kernel's writes.
    unsafe { at.read_volatile() }
}

/// Writes a value that the kernel may be reading.
///
/// # Safety
/// `at` is valid and aligned, and no Rust reference to the value exists.
pub unsafe fn store<T: Plain>(at: *mut T, value: T) {
    // SAFETY: by the caller; volatile as above.
    unsafe { at.write_volatile(value) }
}

/// How long an eBPF program can take, where the kernel cannot be asked to wait for its end.
const LONGEST_RUN: Duration = Duration::from_millis(5);

/// Reads intervals without stopping the kernel and without losing a count.
///
/// Arrays of counters exist twice, and a word selects the half that the kernel counts in. An interval ends when the
/// word changes. The other half then no longer changes: it is read, and the interval is the difference from the last
/// time it was read. Nothing is set to zero, so what a late program adds belongs to a later interval.
pub struct DoubleBuffer {
    active: *mut u32,
}

impl DoubleBuffer {
    /// # Safety
    /// `active` stays valid while this value exists, and only eBPF programs read it.
    pub unsafe fn new(active: *mut u32) -> Self {
        Self { active }
    }

    /// Ends the interval and calls `at_end` at that moment. Returns the half that no longer changes.
    pub fn switch<T>(&mut self, at_end: impl FnOnce() -> T) -> (usize, T) {
        // SAFETY: valid by `new`.
        let half = unsafe { load(self.active) } & 1;
        // SAFETY: as above.
        unsafe { store(self.active, 1 - half) };
        let seen = at_end();
        // A program that read the word before may still be counting. Programs run in RCU read-side
        // sections, and this waits for those to end. It fails only on kernels with nohz_full CPUs.
        if membarrier(MembarrierCommand::Global).is_err() {
            sleep(LONGEST_RUN);
        }
        (half as usize, seen)
    }
}

/// The number of events that are read at a time.
const BATCH: usize = 1 << 10;

/// A ring buffer of events of type `T`.
pub struct Ring<T> {
    ring: RingBuffer<'static>,
    /// The number of batches that fit into it.
    batches: usize,
    events: Rc<RefCell<Vec<T>>>,
}

impl<T: Plain + 'static> Ring<T> {
    /// Maps it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(map: &dyn MapCore) -> Result<Self> {
        let batches = map.max_entries() as usize / size_of::<T>() / BATCH + 1;
        let events = Rc::new(RefCell::new(Vec::with_capacity(BATCH)));
        let filled = Rc::clone(&events);
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |bytes| {
            filled.borrow_mut().extend(read::<T>(bytes));
            0
        })?;
        Ok(Self { ring: builder.build()?, batches, events })
    }

    /// Readable when the kernel wakes the reader.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer owns the descriptor and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }

    /// Passes the waiting events to `handle`, in order. At most as many as fit into the buffer, so that a
    /// kernel that writes faster than we read cannot keep us here.
    ///
    /// # Errors
    /// The first error of `handle`.
    pub fn drain(&self, mut handle: impl FnMut(&T) -> Result<()>) -> Result<()> {
        for _ in 0..self.batches {
            // An interrupted call is no error: the rest is read the next time.
            let _ = self.ring.consume_raw_n(BATCH);
            let mut batch = self.events.take();
            batch.iter().try_for_each(&mut handle)?;
            let last = batch.len() < BATCH;
            batch.clear();
            self.events.replace(batch);
            if last {
                break;
            }
        }
        Ok(())
    }
}

/// Reads one struct from its bytes; `None` if their number is not its size.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the bytes are as many as the struct has, and any bytes are a valid `Plain`.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
