//! Ring buffers: events from the kernel, in their order.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use anyhow::Result;
use libbpf_rs::{MapCore, RingBuffer, RingBufferBuilder};

use super::map::Plain;

/// So many events are taken at a time.
const BATCH: usize = 1 << 10;

/// A ring buffer whose records are all a `T`.
pub struct Ring<T> {
    ring: RingBuffer<'static>,
    /// How many can be waiting, in batches.
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

    /// Readable when the kernel says that much is waiting.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring buffer owns it and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.ring.epoll_fd()) }
    }

    /// Gives the events that are waiting to `tell`, in their order. A kernel that is faster than we are does
    /// not keep us here: it is no more than fit in the buffer.
    ///
    /// # Errors
    /// The first that `tell` gives.
    pub fn drain(&self, mut tell: impl FnMut(&T) -> Result<()>) -> Result<()> {
        for _ in 0..self.batches {
            // Being interrupted is no failure: what is left is there the next time.
            let _ = self.ring.consume_raw_n(BATCH);
            let mut batch = self.events.take();
            batch.iter().try_for_each(&mut tell)?;
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

/// One event from what a ring buffer holds; `None` if it has another size.
pub fn read<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: as many bytes as the struct has, any of which are a value of it; alignment is not needed.
    (bytes.len() == size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
