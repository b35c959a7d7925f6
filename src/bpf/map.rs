//! Arrays of BPF maps, mapped into this process: read while the kernel writes them.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::MapCore;
use rustix::mm::{MapFlags as Mapping, ProtFlags, mmap, munmap};

/// A value of a mapped array: what the C struct of the same fields is.
///
/// # Safety
/// The type is `repr(C)`, any bytes are a value of it, and it has the layout of the
/// map's value.
pub unsafe trait Plain: Copy {}

// SAFETY: any four bytes are a number.
unsafe impl Plain for u32 {}
// SAFETY: any eight bytes are a number.
unsafe impl Plain for u64 {}

/// A whole array map with the flag `BPF_F_MMAPABLE`.
pub struct MappedArray<T> {
    base: NonNull<T>,
    len: usize,
    _values: PhantomData<T>,
}

impl<T: Plain> MappedArray<T> {
    /// Maps it.
    ///
    /// # Errors
    /// If its values have another size than `T`, or the kernel refuses.
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

    /// A value, to be read or written field by field as [`load`] and [`store`] do.
    ///
    /// # Panics
    /// If there is none.
    pub fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "{index} of {}", self.len);
        // SAFETY: inside the mapping, which lives as long as self.
        unsafe { self.base.as_ptr().add(index) }
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Reads a value and leaves zeros. The kernel must not be writing there: in a half that is still.
    ///
    /// # Panics
    /// If there is none.
    pub fn take(&self, index: usize) -> T {
        let at = self.at(index);
        // SAFETY: valid by `at`; nobody writes it meanwhile, so that it is whole.
        let value = unsafe { load(at) };
        // SAFETY: likewise, and zeros are a value of any `Plain`.
        unsafe { at.write_bytes(0, 1) };
        value
    }

    /// How many bytes the kernel holds for it.
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

/// What a map takes in the kernel, in bytes; `None` if /proc does not tell.
pub fn memory(map: BorrowedFd<'_>) -> Option<usize> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// Reads what the kernel may be writing.
///
/// # Safety
/// `at` is valid and aligned.
pub unsafe fn load<T: Plain>(at: *const T) -> T {
    // SAFETY: by the caller; volatile, because the kernel writes without our compiler's knowledge.
    unsafe { at.read_volatile() }
}

/// Writes what the kernel may be reading.
///
/// # Safety
/// `at` is valid and aligned, and only the kernel holds it too.
pub unsafe fn store<T: Plain>(at: *mut T, value: T) {
    // SAFETY: as above.
    unsafe { at.write_volatile(value) }
}
