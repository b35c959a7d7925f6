//! From a cgroup's id to its path.
//!
//! The id that BPF programs see is the inode number of the cgroup's folder in the
//! version 2 hierarchy. Folders are read again when an id is not known, at most
//! once a second.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::collect::cgroup::{container_id, mount};

const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The cgroups that exist.
pub struct Cgroups {
    mount: Option<PathBuf>,
    paths: HashMap<u64, String>,
    read: Option<Instant>,
}

impl Cgroups {
    /// Of the hierarchy below `root`, which is `/` but in tests.
    pub fn new(root: &Path) -> Self {
        Self { mount: mount(&root.join("sys")), paths: HashMap::new(), read: None }
    }

    /// The path below the mount, `/` for its root; `None` if there is no such cgroup.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        let fresh = |at: Instant| at.elapsed() < AGAIN_AFTER;
        if !self.paths.contains_key(&id) && !self.read.is_some_and(fresh) {
            self.read_again();
        }
        self.paths.get(&id).map(String::as_str)
    }

    /// The path, and the container that it names.
    pub fn names(&mut self, id: u64) -> (Option<String>, Option<String>) {
        let path = self.path(id).map(str::to_owned);
        let container = path.as_deref().and_then(container_id).map(str::to_owned);
        (path, container)
    }

    fn read_again(&mut self) {
        self.read = Some(Instant::now());
        let Some(mount) = &self.mount else { return };
        self.paths.clear();
        if let Ok(root) = fs::metadata(mount) {
            self.paths.insert(root.ino(), "/".into());
        }
        let mut folders = vec![mount.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = entry.path();
                    let below = path.strip_prefix(mount).unwrap_or(&path);
                    self.paths.insert(entry.ino(), format!("/{}", below.display()));
                    folders.push(path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_found_by_inode() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(mount.join("a.slice/b.service")).unwrap();
        fs::write(mount.join("cgroup.controllers"), "").unwrap();
        let ino = |path: &Path| fs::metadata(path).unwrap().ino();
        let mut cgroups = Cgroups::new(root.path());
        assert_eq!(cgroups.path(ino(&mount.join("a.slice/b.service"))), Some("/a.slice/b.service"));
        assert_eq!(cgroups.path(ino(&mount)), Some("/"));
        assert_eq!(cgroups.path(u64::MAX), None);
    }
}
