//! Finds the path of a cgroup by its id, the inode number of its folder in the version 2 hierarchy.
//!
//! An index holds the whole hierarchy, and inotify keeps it up to date without privileges: `open_by_handle_at`, which
//! takes the id itself, would need CAP_DAC_READ_SEARCH, with which a process can read any file.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::Errno;

use crate::collect::cgroup::{container_id, mount};

/// Removed cgroups that are still known, for events that are read after the removal.
const REMOVED: usize = 4096;
/// If not all folders can be watched, the hierarchy is read again: at most this often, and for at most this share of
/// the time.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const SHARE: u32 = 100;

/// A folder of the hierarchy.
struct Folder {
    id: u64,
    watch: Option<i32>,
    /// The last time that the whole hierarchy was read and this was in it.
    round: u32,
}

/// The cgroups that exist, and some that existed.
pub struct Cgroups {
    mount: Option<PathBuf>,
    paths: HashMap<u64, Rc<str>>,
    folders: HashMap<Rc<str>, Folder>,
    removed: VecDeque<u64>,
    inotify: Option<OwnedFd>,
    watched: HashMap<i32, Rc<str>>,
    /// How often the whole hierarchy was read.
    round: u32,
    /// When to read the whole hierarchy again, if an id is not known; `None` if inotify reports every change.
    again: Option<Instant>,
}

impl Cgroups {
    /// Reads the hierarchy below `root`, which is `/` except in tests.
    pub fn new(root: &Path) -> Self {
        let mut this = Self {
            mount: mount(&root.join("sys")),
            paths: HashMap::new(),
            folders: HashMap::new(),
            removed: VecDeque::new(),
            inotify: init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok(),
            watched: HashMap::new(),
            round: 0,
            again: None,
        };
        this.read();
        this
    }

    /// The path below the mount, `/` for its root; `None` if there is no such cgroup.
    pub fn path(&mut self, id: u64) -> Option<&str> {
        if !self.paths.contains_key(&id) {
            self.catch_up();
        }
        self.paths.get(&id).map(|path| &**path)
    }

    /// The path, and the id of the container that the path contains.
    pub fn names(&mut self, id: u64) -> (Option<String>, Option<String>) {
        let path = self.path(id).map(str::to_owned);
        let container = path.as_deref().and_then(container_id).map(str::to_owned);
        (path, container)
    }

    /// Reads the whole hierarchy.
    fn read(&mut self) {
        let began = Instant::now();
        self.again = if self.inotify.is_some() { None } else { Some(began) };
        self.round += 1;
        self.add("/".into());
        let round = self.round;
        let gone: Vec<_> = self.folders.extract_if(|_, folder| folder.round != round).collect();
        gone.iter().for_each(|(_, folder)| self.forget(folder));
        if self.again.is_some() {
            self.again = Some(Instant::now() + AGAIN_AFTER.max(began.elapsed() * SHARE));
        }
    }

    /// Adds a cgroup and those below it.
    fn add(&mut self, path: String) {
        let Some(mount) = self.mount.clone() else { return };
        let mut left = vec![path];
        while let Some(path) = left.pop() {
            let folder = mount.join(&path[1..]);
            // Before the folder is read: what is created in between is then found twice, not missed.
            let watch = self.watch(&folder);
            let Ok(metadata) = fs::symlink_metadata(&folder) else { continue };
            // Each folder inside adds a link, except on file systems that do not count them.
            if metadata.nlink() != 2 {
                for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        left.push(below(&path, &entry.file_name().to_string_lossy()));
                    }
                }
            }
            let path: Rc<str> = path.into();
            if let Some(watch) = watch {
                self.watched.insert(watch, path.clone());
            }
            self.paths.insert(metadata.ino(), path.clone());
            let before = self.folders.insert(path, Folder { id: metadata.ino(), watch, round: self.round });
            // A folder of that name was removed, and created again.
            if let Some(before) = before.filter(|before| before.id != metadata.ino()) {
                self.forget(&before);
            }
        }
    }

    fn watch(&mut self, folder: &Path) -> Option<i32> {
        let inotify = self.inotify.as_ref()?;
        let changes = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        match add_watch(inotify, folder, changes) {
            Ok(watch) => Some(watch),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            // Too many watches (fs.inotify.max_user_watches), or no right to read the folder.
            Err(_) => {
                self.again = self.again.or(Some(Instant::now()));
                None
            }
        }
    }

    /// Applies the changes that inotify has reported since the last call.
    fn catch_up(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut changes = Vec::new();
        let mut overflow = false;
        if let Some(inotify) = &self.inotify {
            let mut reader = Reader::new(inotify.as_fd(), &mut buffer);
            while let Ok(event) = reader.next() {
                overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                if event.events().contains(ReadFlags::ISDIR)
                    && let Some(name) = event.file_name()
                {
                    let created = event.events().contains(ReadFlags::CREATE);
                    changes.push((event.wd(), name.to_string_lossy().into_owned(), created));
                }
            }
        }
        for (watch, name, created) in changes {
            let Some(parent) = self.watched.get(&watch) else { continue };
            let path = below(parent, &name);
            if created {
                self.add(path);
            } else if let Some(folder) = self.folders.remove(path.as_str()) {
                self.forget(&folder);
            }
        }
        if overflow || self.again.is_some_and(|again| again <= Instant::now()) {
            self.read();
        }
    }

    /// Stops watching a folder that was removed. Its path is known for a while longer.
    fn forget(&mut self, folder: &Folder) {
        if let (Some(inotify), Some(watch)) = (&self.inotify, folder.watch) {
            let _ = remove_watch(inotify, watch);
            self.watched.remove(&watch);
        }
        self.removed.push_back(folder.id);
        if self.removed.len() > REMOVED
            && let Some(oldest) = self.removed.pop_front()
            && let Some(path) = self.paths.get(&oldest)
            && self.folders.get(path).is_none_or(|folder| folder.id != oldest)
        {
            self.paths.remove(&oldest);
        }
    }
}

fn below(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty hierarchy, and its mount; in memory, where inode numbers are not used again, like the ids of cgroups.
    fn hierarchy() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let mount = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(&mount).unwrap();
        fs::write(mount.join("cgroup.controllers"), "").unwrap();
        (root, mount)
    }

    fn ino(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn folders_are_found_by_inode() {
        let (root, mount) = hierarchy();
        fs::create_dir_all(mount.join("a.slice/b.service")).unwrap();
        let mut cgroups = Cgroups::new(root.path());
        assert_eq!(cgroups.path(ino(&mount.join("a.slice/b.service"))), Some("/a.slice/b.service"));
        assert_eq!(cgroups.path(ino(&mount)), Some("/"));
        assert_eq!(cgroups.path(u64::MAX), None);
    }

    /// A cgroup that is created while the tracer runs, with one below it from the start.
    #[test]
    fn changes_are_seen() {
        let (root, mount) = hierarchy();
        let mut cgroups = Cgroups::new(root.path());
        let inner = mount.join("new/inner");
        fs::create_dir_all(&inner).unwrap();
        let id = ino(&inner);
        assert_eq!(cgroups.path(id), Some("/new/inner"));
        fs::create_dir(inner.join("later")).unwrap();
        assert_eq!(cgroups.path(ino(&inner.join("later"))), Some("/new/inner/later"));
        fs::remove_dir(inner.join("later")).unwrap();
        fs::remove_dir(&inner).unwrap();
        assert_eq!(cgroups.path(u64::MAX), None, "which reads what has changed");
        assert_eq!(cgroups.path(id), Some("/new/inner"), "events may be read after the removal");
        fs::create_dir(&inner).unwrap();
        assert_eq!(cgroups.path(ino(&inner)), Some("/new/inner"));
    }

    /// Removed cgroups are eventually forgotten, and those that exist are not.
    #[test]
    fn the_index_does_not_grow_for_ever() {
        let (root, mount) = hierarchy();
        fs::create_dir(mount.join("stays")).unwrap();
        let mut cgroups = Cgroups::new(root.path());
        for round in 0..3 * REMOVED {
            let folder = mount.join(format!("f{round}"));
            fs::create_dir(&folder).unwrap();
            assert_eq!(cgroups.path(ino(&folder)), Some(format!("/f{round}").as_str()));
            fs::remove_dir(&folder).unwrap();
            assert_eq!(cgroups.path(u64::MAX), None);
        }
        assert_eq!((cgroups.watched.len(), cgroups.folders.len()), (2, 2));
        assert!(cgroups.paths.len() <= REMOVED + 3, "{}", cgroups.paths.len());
        assert_eq!(cgroups.path(ino(&mount.join("stays"))), Some("/stays"));
    }

    /// Also where changes are not reported, or reports were lost, and the whole hierarchy is read again.
    #[test]
    fn reading_again_forgets_what_is_gone() {
        let (root, mount) = hierarchy();
        fs::create_dir(mount.join("stays")).unwrap();
        for with_inotify in [true, false] {
            let mut cgroups = Cgroups::new(root.path());
            if !with_inotify {
                cgroups.inotify = None;
            }
            for round in 0..2 * REMOVED {
                let folder = mount.join(format!("f{round}"));
                fs::create_dir(&folder).unwrap();
                cgroups.read();
                assert_eq!(cgroups.path(ino(&folder)), Some(format!("/f{round}").as_str()));
                fs::remove_dir(&folder).unwrap();
                cgroups.read();
            }
            assert_eq!(cgroups.folders.len(), 2);
            assert!(cgroups.paths.len() <= REMOVED + 3, "{}", cgroups.paths.len());
            assert_eq!(cgroups.path(ino(&mount.join("stays"))), Some("/stays"));
        }
    }

    /// Unknown IDs, such as those of other mounts, must not cause a walk through the hierarchy: a walk for each of
    /// these lookups would take minutes.
    #[test]
    fn two_thousand_cgroups_of_which_none_is_looked_for() {
        let (root, mount) = hierarchy();
        let mut cgroups = Cgroups::new(root.path());
        for i in 0..2000 {
            fs::create_dir(mount.join(format!("c{i}"))).unwrap();
        }
        for i in 0..2000 {
            let path = format!("/c{i}");
            assert_eq!(cgroups.path(ino(&mount.join(&path[1..]))), Some(path.as_str()));
        }
        let began = Instant::now();
        for id in 0..50_000 {
            assert_eq!(cgroups.path(u64::MAX - id), None);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    /// Without inotify the hierarchy is read again from time to time.
    #[test]
    fn without_inotify() {
        let (root, mount) = hierarchy();
        let mut cgroups = Cgroups::new(root.path());
        cgroups.inotify = None;
        cgroups.read();
        let folder = mount.join("new");
        fs::create_dir(&folder).unwrap();
        assert_eq!(cgroups.path(ino(&folder)), None, "it was read just now");
        cgroups.again = Some(Instant::now());
        assert_eq!(cgroups.path(ino(&folder)), Some("/new"));
        assert!(cgroups.again > Some(Instant::now()));
    }
}
