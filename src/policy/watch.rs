//! Notifies of possible changes of policy files: in the directories, on link targets and in the parents of missing ones.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::WatchFlags;

use super::conflicts;
use super::files::{Writers, chase, list};
use super::tuned::Tuned;
use crate::paths::{Folders, Names, Paths, note};

/// What can make a file say something else, or be another file.
const FILE_EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// The watches for one root.
pub struct Watch {
    pub paths: Paths,
    root: PathBuf,
}

impl Watch {
    /// Watches for changes below `root` from now on.
    ///
    /// # Errors
    /// As [`Paths::new`] and [`Watch::renew`].
    pub fn new(root: &Path) -> io::Result<Watch> {
        let mut watch = Watch { paths: Paths::new(FILE_EVENTS)?, root: root.to_path_buf() };
        watch.renew()?;
        Ok(watch)
    }

    /// Follows the paths anew, since links and folders may lead elsewhere now. To be called before the policy is read
    /// again, so that no change falls between.
    ///
    /// # Errors
    /// As [`Paths::watch`].
    pub fn renew(&mut self) -> io::Result<()> {
        let mut folders = Folders::new();
        for folder in super::FOLDERS.iter().chain(&conflicts::FOLDERS) {
            let chased = chase(&self.root, Path::new(folder));
            note(&mut folders, chased.steps);
            if let Some(end) = chased.end {
                folders.insert(end, Names::All);
            }
        }
        let mut files = list(&self.root, &super::FOLDERS, Writers::Any, &mut Vec::new());
        files.extend(list(&self.root, &conflicts::FOLDERS, Writers::Any, &mut Vec::new()));
        files.extend(conflicts::other_files(&self.root));
        files.extend(Tuned::read(&self.root).paths);
        for file in files {
            note(&mut folders, chase(&self.root, &file).steps);
        }
        self.paths.watch(folders)
    }
}
