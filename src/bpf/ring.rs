//! Ring buffers: events from the kernel, in their order.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use anyhow::Result;
use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};

use super::map::Plain;

/// So many events are taken at a time: a kernel that is faster than we are does not keep us here.
const MOST: usize = 1 << 15;

/// A ring buffer whose records are all a `T`.
pub struct Ring<T> {
    ring: RingBuffer<'static>,
    events: Rc<RefCell<Vec<T>>>,
}

impl<T: Plain + 'static> Ring<T> {
    /// Maps it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn open(map: &dyn MapCore) -> Result<Self> {
        let events = Rc::new(RefCell::new(Vec::new()));
        let filled = Rc::clone(&events);
        let mut builder = RingBufferBuilder::new();
        builder.add(map, move |bytes| {
            filled.borrow_mut().extend(read::<T>(bytes));
            0
        })?;
        Ok(Self { ring: builder.build()?, events })
    }

    /// Readable when the kernel says that much is waiting.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer owns it and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }

    /// The events that are waiting, or the first of many.
    pub fn take(&self) -> Vec<T> {
        // Being interrupted is no failure: what is left is there the next time.
        let _ = self.ring.consume_raw_n(MOST);
        self.events.take()
    }
}

/// One event from what a ring buffer holds; `None` if it has another size.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: as many bytes as the struct has, any of which are a value of it; alignment is not needed.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
