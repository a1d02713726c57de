//! The files of a configuration of drop-in directories, and their bytes, all below one root.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{File, Metadata, ReadDir};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::kernel::sysctl::is_absent_error;
use crate::setting::printable;
use crate::text::why;

/// More links than this on one path are a loop (Linux's MAXSYMLINKS).
const LINKS_MAX: usize = 40;
/// A larger policy file is a mistake, and reading it would cost the guard its memory.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// `/dev/null` (1:3), which container engines mount over a file to mask it.
const NULL_DEVICE: u64 = libc::makedev(1, 3);

/// A path followed link by link below a root, as systemd's `chase()` does with CHASE_PREFIX_ROOT.
#[derive(Debug, Default)]
pub struct Chased {
    /// Where the path leads, if it leads anywhere.
    pub end: Option<PathBuf>,
    /// Why that is not known: the kernel does not let this process read a folder on the way.
    refused: Option<String>,
    /// Every folder and name looked up on the way: a change of any of them can lead elsewhere.
    pub steps: Vec<(PathBuf, OsString)>,
    /// The first folder on the way, from the root on, in which users other than root can change that, and the remedy.
    others: Option<String>,
}

/// Who may own and write a policy file and every directory on the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    Any,
    Root,
}

impl Writers {
    /// Of the policy's files: only root, if this process is root's.
    pub fn of_policy() -> Writers {
        if rustix::process::geteuid().is_root() { Writers::Root } else { Writers::Any }
    }
}

/// Whether users other than root can change a file or folder, and the remedy. What a link leads to, such as `/tmp` or a home, may
/// have to be as it is.
fn others(path: &Path, metadata: &Metadata, is_linked: bool) -> Option<String> {
    let path = printable(path.as_os_str());
    let (found, command) = match (metadata.uid(), metadata.mode() & 0o7777) {
        (0, mode) if mode & 0o022 == 0 => return None,
        (0, mode) => (format!("users other than root can write {path} (mode {mode:04o})"), "chmod go-w"),
        (uid, _) => (format!("{path} belongs to UID {uid}, not to root"), "chown root:root"),
    };
    Some(match is_linked {
        true => format!("{found}; put a copy in the place of the link"),
        false => format!("{found}; run '{command} {path}'"),
    })
}

/// Follows `path` (absolute, as seen below `root`).
pub fn chase(root: &Path, path: &Path) -> Chased {
    let owned = |c: Component| c.as_os_str().to_os_string();
    let mut todo: VecDeque<OsString> = path.components().map(owned).collect();
    let (mut at, mut links, mut chased) = (root.to_path_buf(), 0, Chased::default());
    // Checked from the root on: in a folder that only root can write, only root can replace the next one.
    chased.others = root.metadata().ok().and_then(|metadata| others(root, &metadata, false));
    while let Some(part) = todo.pop_front() {
        match part.as_encoded_bytes() {
            b"/" => at = root.to_path_buf(),
            b"." => {}
            b".." if at == root => {}
            b".." => _ = at.pop(),
            _ => {
                let next = at.join(&part);
                chased.steps.push((at.clone(), part));
                let metadata = match next.symlink_metadata() {
                    Ok(metadata) => metadata,
                    Err(error) => {
                        chased.refused = (!is_absent_error(&error)).then(|| why(&error));
                        return chased;
                    }
                };
                if metadata.is_symlink() {
                    links += 1;
                    let target = next.read_link().ok().filter(|_| links <= LINKS_MAX);
                    let Some(target) = target else { return chased };
                    if target == Path::new("/dev/null") {
                        // The mask that sysctl.d(5) documents; below a root there need be no such device.
                        chased.end = Some(target);
                        return chased;
                    }
                    target.components().rev().for_each(|c| todo.push_front(owned(c)));
                    continue;
                }
                if metadata.is_dir() {
                    chased.others = chased.others.or_else(|| others(&next, &metadata, links > 0));
                }
                at = next;
            }
        }
    }
    chased.end = Some(at);
    chased
}

/// `path` below `root`, links not followed.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The `*.conf` entries of `folders` (highest priority first), in the order of their names: of entries with the same name, the
/// one in the earlier folder is used, whatever it is (systemd's `conf_files_list_strv`). Paths are absolute below the root.
///
/// A folder that exists but can't be read, or that users other than `writers` can change, is added to `unreadable`, with the
/// reason and the remedy; its files are not used.
pub fn list(root: &Path, folders: &[&str], writers: Writers, unreadable: &mut Vec<(PathBuf, String)>) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders.iter().map(Path::new) {
        let entries = entries(root, folder, writers).unwrap_or_else(|reason| {
            unreadable.push((below(root, folder), format!("the directory {reason}")));
            None
        });
        for name in entries.into_iter().flatten().flatten().map(|entry| entry.file_name()) {
            let bytes = name.as_encoded_bytes();
            if bytes.ends_with(b".conf") && !bytes.starts_with(b".") {
                let path = folder.join(&name);
                found.entry(name).or_insert(path);
            }
        }
    }
    found.into_values().collect()
}

/// The entries of a folder, if it exists; an error is the reason why they are not used.
fn entries(root: &Path, folder: &Path, writers: Writers) -> Result<Option<ReadDir>, String> {
    let unreadable = |reason: String| format!("cannot be read ({reason}); make it readable");
    let Chased { end, refused, others, .. } = chase(root, folder);
    match (refused, end, others.filter(|_| writers == Writers::Root)) {
        (Some(reason), ..) => Err(unreadable(reason)),
        (None, None, _) => Ok(None),
        (None, Some(_), Some(others)) => Err(format!("is refused: {others}")),
        (None, Some(end), None) => std::fs::read_dir(end).map(Some).map_err(|error| unreadable(why(&error))),
    }
}

/// Opens a file without blocking, so that a FIFO can't hold up the guard.
fn open(end: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(end)
}

/// Why the kernel does not let this process read a file, or find out whether it exists.
pub fn refusal(root: &Path, path: &Path) -> Option<String> {
    let Chased { end, refused, .. } = chase(root, path);
    let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let reason = refused.or_else(|| open(&end?).err().filter(is_refused).map(|error| why(&error)))?;
    Some(format!("{}: {reason}", printable(below(root, path).as_os_str())))
}

/// The bytes of a policy file.
///
/// # Errors
/// The reason, for people, with the remedy: an error of open(2) or read(2); a dangling link; anything but a regular file or
/// `/dev/null`; a file that is too large, or that users other than `writers` can change or replace.
pub fn read(root: &Path, path: &Path, writers: Writers) -> Result<Vec<u8>, Error> {
    let chased = chase(root, path);
    let check = |others: Option<String>| match others.filter(|_| writers == Writers::Root) {
        Some(others) => Err(Error::Untrusted(others)),
        None => Ok(()),
    };
    check(chased.others)?;
    let unreadable = |reason: &str| Error::Unreadable(reason.into());
    let dangling = || unreadable(chased.refused.as_deref().unwrap_or("missing, or a dangling link"));
    let end = chased.end.ok_or_else(dangling)?;
    if end == Path::new("/dev/null") {
        return Ok(Vec::new());
    }
    let failed = |error: io::Error| unreadable(&why(&error));
    let file = open(&end).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let kind = metadata.file_type();
    if kind.is_char_device() && metadata.rdev() == NULL_DEVICE {
        return Ok(Vec::new());
    }
    if kind.is_dir() {
        return Err(failed(io::Error::from_raw_os_error(libc::EISDIR)));
    }
    if !kind.is_file() {
        return Err(unreadable(if kind.is_fifo() { "a FIFO, not a regular file" } else { "not a regular file" }));
    }
    check(others(&end, &metadata, end != below(root, path)))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(unreadable("larger than 16 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir_all(root.join("etc/a.d")).unwrap();
        std::fs::create_dir_all(root.join("etc/b.d")).unwrap();
        std::fs::write(root.join("etc/b.d/x.conf"), "net.a = 1").unwrap();
        symlink("/etc/b.d/x.conf", root.join("etc/a.d/absolute.conf")).unwrap();
        symlink("../../../../../etc/b.d/x.conf", root.join("etc/a.d/relative.conf")).unwrap();
        symlink("loop.conf", root.join("etc/a.d/loop.conf")).unwrap();
        symlink("/dev/null", root.join("etc/a.d/null.conf")).unwrap();
        for name in ["absolute.conf", "relative.conf"] {
            assert_eq!(read(root, &Path::new("/etc/a.d").join(name), Writers::Any).unwrap(), b"net.a = 1");
        }
        assert!(read(root, Path::new("/etc/a.d/loop.conf"), Writers::Any).is_err());
        assert_eq!(read(root, Path::new("/etc/a.d/null.conf"), Writers::Any).unwrap(), b"");
        let steps = chase(root, Path::new("/etc/a.d/absolute.conf")).steps;
        assert!(steps.contains(&(root.join("etc/b.d"), "x.conf".into())), "{steps:?}");
    }

    #[test]
    fn the_earlier_folder_masks_whatever_it_holds() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for folder in ["etc/c.d", "usr/c.d"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for name in
            ["usr/c.d/10-a.conf", "usr/c.d/20-b.conf", "etc/c.d/20-b.conf", "usr/c.d/.x.conf", "etc/c.d/15-c.txt"]
        {
            std::fs::write(root.join(name), "").unwrap();
        }
        symlink("/nowhere", root.join("etc/c.d/05-z.conf")).unwrap();
        let files = list(root, &["/etc/c.d", "/run/c.d", "/usr/c.d"], Writers::Any, &mut Vec::new());
        assert_eq!(files, ["/etc/c.d/05-z.conf", "/usr/c.d/10-a.conf", "/etc/c.d/20-b.conf"].map(PathBuf::from));
    }
}
