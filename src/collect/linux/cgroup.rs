//! Control groups (version 2): their mount, their ids, and the container ids in their paths.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::common::program::Usage;

/// Mounts of the version 2 hierarchy below /sys, with version 1 mounted too, and without.
const MOUNTS: [&str; 2] = ["fs/cgroup/unified", "fs/cgroup"];

/// The mount of the version 2 hierarchy; `None` if there is none below `sys`.
pub fn mount(sys: &Path) -> Option<PathBuf> {
    MOUNTS.iter().map(|path| sys.join(path)).find(|path| path.join("cgroup.controllers").exists())
}

/// The folder of a cgroup that is given as a folder, or as a path inside the hierarchy such as `/system.slice`.
///
/// # Errors
/// [`Usage`] if there is no such folder.
pub fn folder(path: &str, sys: &Path) -> Result<PathBuf, Usage> {
    let inside = mount(sys).map(|mount| mount.join(path.trim_start_matches('/')));
    let given = PathBuf::from(path);
    if let Some(folder) = inside.iter().chain([&given]).find(|folder| folder.is_dir()) {
        return Ok(folder.clone());
    }
    let why = match inside {
        Some(inside) => format!("neither {} nor {path} is a folder", inside.display()),
        None => format!(
            "{path} is no folder, and no cgroup v2 hierarchy is mounted below {}",
            sys.join("fs/cgroup").display()
        ),
    };
    Err(Usage(format!("--cgroup {path}: no such cgroup: {why}")))
}

/// The id of a cgroup, which is the inode number of its folder; `None` if it was removed, or is outside the
/// mounted part of the hierarchy, which the kernel writes as `/..`.
pub fn id(mount: &Path, path: &str) -> Option<u64> {
    let below = path.strip_prefix('/')?;
    if below.split('/').any(|part| part == "..") {
        return None;
    }
    fs::metadata(mount.join(below)).ok().map(|folder| folder.ino())
}

/// The container id in a cgroup path: the last component that ends with 64 hexadecimal digits, as Docker,
/// containerd, CRI-O and Podman name them.
pub fn container_id(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|part| {
        let stem = part.strip_suffix(".scope").unwrap_or(part);
        let id = stem.get(stem.len().checked_sub(64)?..)?;
        id.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn container_ids() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(container_id(&path), Some(ID), "{path}");
        }
        for path in ["/", "/user.slice/user-1000.slice", "/system.slice/ssh.service"] {
            assert_eq!(container_id(path), None, "{path}");
        }
    }

    #[test]
    fn the_id_is_the_inode() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(mount(sys.path()), None);
        let folder = sys.path().join("fs/cgroup");
        fs::create_dir_all(folder.join("a.slice")).unwrap();
        fs::write(folder.join("cgroup.controllers"), "").unwrap();
        let mount = mount(sys.path()).unwrap();
        let ino = |path: &Path| Some(fs::metadata(path).unwrap().ino());
        assert_eq!(id(&mount, "/a.slice"), ino(&folder.join("a.slice")));
        assert_eq!(id(&mount, "/"), ino(&folder));
        assert_eq!((id(&mount, "/gone"), id(&mount, "/../a.slice"), id(&mount, "")), (None, None, None));
    }
}
