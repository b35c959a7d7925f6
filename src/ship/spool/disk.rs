//! The files of a spool, behind a trait so that tests can make them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A folder of files. What was written is durable after [`Disk::sync`], a name after [`Disk::sync_names`].
pub trait Disk: Send + Sync {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The size of a file.
    fn size(&self, name: &str) -> io::Result<u64>;
    /// Reads from `at` until `buffer` is full or the file ends. Gives the number of bytes.
    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `at`. Creates the file.
    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file off.
    fn set_size(&self, name: &str, size: u64) -> io::Result<()>;
    /// Makes the content of a file durable.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Renames a file, replacing another.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names, renames and removals durable.
    fn sync_names(&self) -> io::Result<()>;
    /// The space left, in bytes.
    fn free(&self) -> io::Result<u64>;
}

/// Reads a whole file.
///
/// # Errors
/// If it cannot be read.
pub fn read_all(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let size = usize::try_from(disk.size(name)?).map_err(io::Error::other)?;
    read(disk, name, 0, size)
}

/// Reads `length` bytes, or fewer at the end of the file.
///
/// # Errors
/// If they cannot be read.
pub fn read(disk: &dyn Disk, name: &str, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let length = disk.read_at(name, at, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Replaces a file: after a crash it has either its old or its new content.
///
/// # Errors
/// If it cannot be written.
pub fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = format!("{name}.new");
    // One that a crash left may be longer, and its end would stay; and another crash could rename it instead of the
    // new one.
    match disk.remove(&new) {
        Ok(()) => disk.sync_names()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    disk.write_at(&new, 0, bytes)?;
    disk.sync(&new)?;
    disk.rename(&new, name)?;
    disk.sync_names()
}

/// A folder of the file system.
pub struct Folder {
    path: PathBuf,
    /// Locked, unless it is only read.
    _lock: Option<File>,
}

impl Folder {
    /// Creates the folder if there is none, for its owner only, and locks it.
    ///
    /// # Errors
    /// If it cannot be used, or another process uses it.
    pub fn create(path: &Path) -> io::Result<Self> {
        if !path.is_dir() {
            std::fs::DirBuilder::new().mode(0o700).create(path)?;
        }
        let lock =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(lock) }),
            Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::other("another tele-ship uses it")),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// A folder that is only read, without a lock.
    pub fn existing(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    fn file(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.path.join(name))?.len())
    }

    fn read_at(&self, name: &str, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (file, mut read) = (self.file(name)?, 0);
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(length) => read += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, name: &str, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        file.open(self.path.join(name))?.write_all_at(bytes, at)
    }

    fn set_size(&self, name: &str, size: u64) -> io::Result<()> {
        File::options().write(true).open(self.path.join(name))?.set_len(size)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free(&self) -> io::Result<u64> {
        let room = rustix::fs::statvfs(&self.path)?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }
}
