//! Calls statvfs(3), in a helper process where the call may never return.
//!
//! A FUSE daemon that takes a request and does not answer leaves the caller in a sleep
//! that not even SIGKILL ends, and a process cannot end before its last thread. So a
//! helper queries the file systems that need a daemon or a server: this program again,
//! under the name [`NAME`]. It reads `ID PATH` and NUL, writes a line per request, and
//! ends at the end of its input. If it hangs, scrape does not wait for it.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::mountinfo::Mount;
use super::prober::{Answer, Call, Space};
use crate::collect::text::{number, split_word, words};
use crate::common::helper;

/// The name of the helper process; it takes no arguments.
pub const NAME: &str = "telepipe-statvfs";

/// Types that the kernel handles without a daemon or a server.
const LOCAL: &[&str] = &[
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfsplus", "jfs", "msdos", "nilfs2",
    "ntfs3", "overlay", "reiserfs", "tmpfs", "udf", "ufs", "vfat", "xfs", "zfs",
];

/// Makes the system call, directly or by a helper, which is started for the first mount that needs it.
pub fn caller() -> Call {
    let mut helper = None;
    Box::new(move |mount| {
        if LOCAL.contains(&mount.fs_type.as_str()) {
            return statvfs(&mount.path, mount.id);
        }
        if helper.is_none() {
            helper = Helper::start().ok();
        }
        // Without a helper, scrape works, but cannot exit while this call hangs.
        let Some(process) = &mut helper else { return statvfs(&mount.path, mount.id) };
        let answer = process.ask(mount);
        if answer.is_err() {
            helper = None;
        }
        answer?
    })
}

fn statvfs(path: &[u8], mount_id: u64) -> Answer {
    let path = Path::new(OsStr::from_bytes(path));
    // Since Linux 5.8 statx reports the mount id; DONT_SYNC avoids a request to the server.
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    if let Ok(found) = rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID)
        && StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID)
        && found.stx_mnt_id != mount_id
    {
        return Ok(None);
    }
    match rustix::fs::statvfs(path) {
        Ok(found) => Ok(Some(Space {
            block: found.f_frsize,
            blocks: found.f_blocks,
            free: found.f_bfree,
            available: found.f_bavail,
            inodes: found.f_files,
            inodes_free: found.f_ffree,
        })),
        // A parent directory is covered by another mount, or the mount has just gone.
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The helper process, seen from scrape.
struct Helper {
    child: Child,
    /// `None` once the helper has to end.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (child, questions, answers) = helper::start(NAME)?;
        let (questions, answers) = (Some(questions), BufReader::new(answers));
        Ok(Self { child, questions, answers, line: Vec::new() })
    }

    /// The answer of the mount; the outer error is that of the helper.
    fn ask(&mut self, mount: &Mount) -> io::Result<Answer> {
        let Some(questions) = &mut self.questions else { return Err(io::ErrorKind::BrokenPipe.into()) };
        questions.write_all(&[mount.id.to_string().as_bytes(), b" ", &mount.path, b"\0"].concat())?;
        self.line.clear();
        self.answers.read_until(b'\n', &mut self.line)?;
        decode(&self.line).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.questions = None;
        // Returns at once: the last call has returned, so the helper is reading its input.
        let _ = self.child.wait();
    }
}

/// Runs the helper.
///
/// # Errors
/// If its input or output fails.
pub fn help() -> io::Result<()> {
    answer_all(io::stdin().lock(), io::stdout().lock())
}

fn answer_all(mut questions: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    let mut question = Vec::new();
    while questions.read_until(0, &mut question)? > 0 {
        let (id, path) = split_word(question.strip_suffix(b"\0").unwrap_or(&question));
        let answer = statvfs(path.strip_prefix(b" ").unwrap_or(path), number(id).unwrap_or(0));
        answers.write_all(encode(&answer).as_bytes())?;
        answers.flush()?;
        question.clear();
    }
    Ok(())
}

/// Encodes an answer as `space` and six numbers, `hidden`, or `error` and an errno.
fn encode(answer: &Answer) -> String {
    match answer {
        Ok(Some(Space { block, blocks, free, available, inodes, inodes_free })) => {
            format!("space {block} {blocks} {free} {available} {inodes} {inodes_free}\n")
        }
        Ok(None) => "hidden\n".to_owned(),
        Err(error) => format!("error {}\n", error.raw_os_error().unwrap_or(0)),
    }
}

fn decode(line: &[u8]) -> Option<Answer> {
    let (word, rest) = split_word(line.strip_suffix(b"\n")?);
    let mut numbers = words(rest).map(number);
    let mut next = || numbers.next()?;
    Some(match word {
        b"space" => Ok(Some(Space {
            block: next()?,
            blocks: next()?,
            free: next()?,
            available: next()?,
            inodes: next()?,
            inodes_free: next()?,
        })),
        b"hidden" => Ok(None),
        b"error" => Err(io::Error::from_raw_os_error(next()?.try_into().ok()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::linux::mountinfo::worthwhile;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn the_root_file_system_answers() {
        let text = std::fs::read("/proc/self/mountinfo").unwrap();
        let mounts = worthwhile(&text);
        let root = mounts.iter().find(|mount| mount.mountpoint == "/").expect("a root file system");
        let space = statvfs(&root.path, root.id).unwrap().expect("it is not hidden");
        assert!(space.blocks > 0 && space.free <= space.blocks);
        // The path leads to another mount than this id.
        assert_eq!(statvfs(&root.path, root.id + 1_000_000).unwrap(), None);
        assert_eq!(statvfs(b"/nonexistent", root.id).unwrap(), None);
        let mut other = Mount::clone(root);
        other.fs_type = "ext4".into();
        assert_eq!(caller()(&other).unwrap().map(|space| space.blocks), Some(space.blocks));
    }

    #[test]
    fn a_helper_answers_in_order() {
        let text = std::fs::read("/proc/self/mountinfo").unwrap();
        let root: Arc<Mount> = worthwhile(&text).into_iter().find(|mount| mount.path == b"/").unwrap();
        let questions = format!("{} /\x000 /\0{} /non existent\0", root.id, root.id);
        let mut answers = Vec::new();
        answer_all(questions.as_bytes(), &mut answers).unwrap();
        let answers: Vec<_> =
            answers.split_inclusive(|&byte| byte == b'\n').map(|line| decode(line).unwrap()).collect();
        assert!(matches!(answers[..], [Ok(Some(_)), Ok(None), Ok(None)]), "{answers:?}");
    }

    #[test]
    fn malformed_answers() {
        for line in
            [&b""[..], b"\n", b"space 1 2 3 4 5\n", b"space 1 2 3 4 5 6", b"error\n", b"error x\n", b"yes\n"]
        {
            assert!(decode(line).is_none());
        }
        let denied = decode(b"error 13\n").unwrap().unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
    }

    proptest! {
        #[test]
        fn answers_survive_encoding(numbers: [u64; 6]) {
            let [block, blocks, free, available, inodes, inodes_free] = numbers;
            let space = Space { block, blocks, free, available, inodes, inodes_free };
            let line = encode(&Ok(Some(space)));
            prop_assert_eq!(decode(line.as_bytes()).unwrap().unwrap(), Some(space));
        }

        #[test]
        fn any_bytes_are_decoded(line: Vec<u8>) {
            let _ = decode(&line);
        }
    }
}
