//! Parses /proc/self/mountinfo (proc_pid_mountinfo(5)), and selects the mounts that are worth measuring.

use std::sync::Arc;

use crate::collect::text::{lines, number, unescape};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The mount id, unique while the mount exists.
    pub id: u64,
    /// The id of the parent mount.
    pub parent: u64,
    /// The device number of the file system, `major:minor`.
    pub dev: Vec<u8>,
    /// True if the root of the mount is the root of the file system: no bind mount, no subvolume.
    pub whole: bool,
    /// The mount point in bytes, for system calls.
    pub path: Vec<u8>,
    /// The mount point as valid UTF-8, for records.
    pub mountpoint: String,
    /// The device, export or name that is mounted.
    pub device: String,
    /// The type of the file system.
    pub fs_type: String,
    /// True if the mount or the file system is read-only.
    pub read_only: bool,
}

/// The mounts worth measuring, in the order of the file.
pub fn worthwhile(text: &[u8]) -> Vec<Arc<Mount>> {
    let all: Vec<_> = lines(text).filter_map(parse).collect();
    let is_on = |over: &Mount, mount: &Mount| over.parent == mount.id && over.id != mount.id;
    let covered = |mount: &Mount| all.iter().any(|over| is_on(over, mount) && over.path == mount.path);
    let mut kept: Vec<Arc<Mount>> = Vec::new();
    for mount in all.iter().filter(|mount| !is_noise(mount) && !covered(mount)) {
        let rank = |mount: &Mount| (!mount.whole, mount.path.len());
        match kept.iter_mut().find(|other| other.dev == mount.dev) {
            Some(other) if rank(mount) < rank(other) => *other = Arc::new(mount.clone()),
            Some(_) => {}
            None => kept.push(Arc::new(mount.clone())),
        }
    }
    kept
}

/// `ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [TAG…] - TYPE DEVICE OPTIONS`
fn parse(line: &[u8]) -> Option<Mount> {
    // Split at single blanks, because the device can be empty.
    let mut words = line.split(|&byte| byte == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let dev = words.next()?.to_owned();
    let whole = words.next()? == b"/";
    let path = unescape(words.next()?);
    let options = words.next()?;
    words.by_ref().find(|word| *word == b"-")?;
    let fs_type = unescape(words.next()?);
    let device = unescape(words.next()?);
    let super_options = words.next()?;
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Mount {
        id,
        parent,
        dev,
        whole,
        mountpoint: lossy(&path),
        path,
        device: lossy(&device),
        fs_type: lossy(&fs_type),
        read_only: [options, super_options]
            .iter()
            .any(|list| list.split(|&b| b == b',').any(|word| word == b"ro")),
    })
}

/// Types that are interfaces of the kernel or of a desktop, not storage.
const PSEUDO: &str = "autofs binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs \
    fuse.gvfsd-fuse fuse.lxcfs fuse.portal fusectl hugetlbfs mqueue nfsd nsfs proc pstore ramfs resctrl \
    rootfs rpc_pipefs securityfs selinuxfs smackfs sysfs tracefs";

/// Types that are layers on other file systems, or read-only images, which are always full.
const LAYERS_AND_IMAGES: &[&str] = &["erofs", "fuse.snapfuse", "iso9660", "overlay", "squashfs"];

/// Mount points left out with everything below.
const NOISY: &[&[u8]] = &[b"/dev", b"/proc", b"/sys"];

/// Directories with a mount per container or service below, which are left out.
const NOISY_BELOW: &[&[u8]] = &[b"/run/credentials", b"/var/lib/containers/storage", b"/var/lib/docker"];

fn is_noise(mount: &Mount) -> bool {
    let below = |dir: &&[u8]| mount.path.strip_prefix(*dir).is_some_and(|rest| rest.starts_with(b"/"));
    PSEUDO.split(' ').any(|fs_type| fs_type == mount.fs_type)
        || (LAYERS_AND_IMAGES.contains(&mount.fs_type.as_str()) && mount.path != b"/")
        || NOISY.iter().any(|dir| *dir == mount.path || below(dir))
        || NOISY_BELOW.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points(text: &str) -> Vec<String> {
        worthwhile(text.as_bytes()).iter().map(|mount| mount.mountpoint.clone()).collect()
    }

    #[test]
    fn every_field() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:7 - ext3 /dev/r#o\\043t ro,errors=continue";
        let expected = Mount {
            id: 36,
            parent: 35,
            dev: b"98:0".to_vec(),
            whole: false,
            path: b"/mnt 2\\x".to_vec(),
            mountpoint: "/mnt 2\\x".into(),
            device: "/dev/r#o#t".into(),
            fs_type: "ext3".into(),
            read_only: true,
        };
        assert_eq!(parse(line), Some(expected));
        let no_device = parse(b"1 2 0:3 / /a rw - tmpfs  rw").unwrap();
        assert_eq!((no_device.device.as_str(), no_device.read_only, no_device.whole), ("", false, true));
        for cut in [
            &b""[..],
            b"36 35 98:0 / /a rw",
            b"36 35 98:0 / /a rw -",
            b"36 35 98:0 / /a rw - ext4 x",
            b"x 35 98:0 / /a rw - ext4 x rw",
        ] {
            assert_eq!(parse(cut), None);
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"a\\011b\\012c\\"), b"a\tb\nc\\");
        assert_eq!(unescape(b"\\08\\999\\377\\477"), b"\\08\\999\xff\\477");
    }

    #[test]
    fn pseudo_file_systems_and_container_mounts_are_left_out() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:2 / /proc rw - proc proc rw\n\
            3 1 0:3 / /dev rw - devtmpfs none rw\n\
            4 3 0:4 / /dev/shm rw - tmpfs none rw\n\
            5 1 0:5 / /devices rw - tmpfs none rw\n\
            6 1 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro\n\
            7 1 0:7 / /var/lib/docker rw - xfs /dev/sdb rw\n\
            8 7 0:8 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
            9 7 0:9 / /var/lib/docker/containers/x/shm rw - tmpfs shm rw\n\
            10 1 0:10 / /sys/fs/cgroup rw - cgroup2 none rw\n\
            11 1 0:11 / /mnt/nas rw - nfs4 nas:/export rw\n";
        assert_eq!(points(text), ["/", "/devices", "/var/lib/docker", "/mnt/nas"]);
        assert_eq!(points("1 0 0:40 / / rw - overlay overlay rw,lowerdir=/x"), ["/"]);
    }

    #[test]
    fn one_mount_of_each_file_system() {
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 8:1 /srv /bind rw - ext4 /dev/sda1 rw\n\
            3 1 0:30 /@home /h rw - btrfs /dev/sdb rw\n\
            4 1 0:30 /@ /mnt/data rw - btrfs /dev/sdb rw\n\
            5 1 8:3 /etc /e rw - xfs /dev/sdc rw\n\
            6 1 8:3 / /mnt/disk/c rw - xfs /dev/sdc rw\n\
            7 6 8:3 / /mnt/c rw - xfs /dev/sdc rw\n";
        assert_eq!(points(text), ["/", "/h", "/mnt/c"]);
    }

    #[test]
    fn a_mount_covered_by_another_is_left_out() {
        let text = "1 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:30 / /data rw - tmpfs old rw\n\
            3 2 0:31 / /data rw - tmpfs new rw\n\
            4 3 0:32 / /data/in rw - tmpfs inner rw\n";
        let devices: Vec<_> = worthwhile(text.as_bytes()).iter().map(|mount| mount.device.clone()).collect();
        assert_eq!(devices, ["/dev/sda1", "new", "inner"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text: Vec<u8>) {
            let _ = worthwhile(&text);
        }

        #[test]
        fn any_path_is_decoded(path: Vec<u8>) {
            let mut escaped = Vec::new();
            for byte in &path {
                match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => escaped.extend(format!("\\{byte:03o}").bytes()),
                    other => escaped.push(*other),
                }
            }
            prop_assert_eq!(unescape(&escaped), path);
        }
    }
}
