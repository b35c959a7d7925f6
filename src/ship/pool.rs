//! Buffers that are used again. Otherwise their memory goes to the system and comes back, page by page.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most free buffers, and the largest that is kept.
const KEPT: usize = 3;
const LARGEST: usize = 4 << 20;

/// Free buffers.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    /// The capacity of a new buffer. One that grows step by step ends with up to twice what it needs, and leaves holes
    /// in the heap on its way.
    room: usize,
}

/// Bytes in memory that returns to a pool.
#[derive(Clone, Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Pool,
}

impl Pool {
    /// No buffers yet. A new one will have room for this many bytes, unless the pool does not keep buffers that large.
    pub fn with_room(room: usize) -> Self {
        Self { room: if room > LARGEST { 0 } else { room }, ..Self::default() }
    }

    /// An empty buffer.
    pub fn buffer(&self) -> Buffer {
        let free = self.lock().pop();
        Buffer { bytes: free.unwrap_or_else(|| Vec::with_capacity(self.room)), pool: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// Makes room for `len` bytes, and some more for the next use, in an empty buffer. `reserve` would copy what the
    /// memory contained before, and double it.
    pub fn make_room(&mut self, len: usize) {
        if self.bytes.capacity() < len {
            self.bytes = Vec::new();
            self.bytes.reserve_exact(len + len / 8);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        let mut free = self.pool.lock();
        if free.len() < KEPT && (1..=LARGEST).contains(&bytes.capacity()) {
            bytes.clear();
            free.push(bytes);
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, pool: Pool::default() }
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Buffer {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_bounded() {
        let pool = Pool::default();
        let mut buffer = pool.buffer();
        buffer.extend_from_slice(b"x");
        let memory = buffer.as_ptr();
        drop(buffer);
        let buffer = pool.buffer();
        assert_eq!((buffer.as_ptr(), buffer.len()), (memory, 0));
        let mut many: Vec<_> = (0..20).map(|_| pool.buffer()).collect();
        many.iter_mut().for_each(|buffer| buffer.resize(LARGEST, 0));
        many[19].resize(LARGEST + 1, 0);
        drop(many.pop());
        assert!(pool.lock().is_empty());
        drop(many);
        assert_eq!(pool.lock().len(), KEPT);
    }

    #[test]
    fn buffers_have_room_and_little_more() {
        assert_eq!(Pool::with_room(1000).buffer().capacity(), 1000);
        assert_eq!(Pool::with_room(usize::MAX).buffer().capacity(), 0);
        let pool = Pool::default();
        for len in [1 << 20, (1 << 20) + 1000, 1 << 21, 1000] {
            let mut buffer = pool.buffer();
            buffer.make_room(len);
            assert!((len..(1 << 21) * 9 / 8 + 1).contains(&buffer.capacity()), "{}", buffer.capacity());
        }
    }
}
