//! Notifies of possible changes of policy files: in the directories, on link targets and in the parents of missing ones.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::WatchFlags;

use super::conflicts;
use super::files::{Writers, chase, list};
use super::tuned::Tuned;
use crate::paths::{Folders, Names, Paths, note};

/// Events that can change a file's content, or replace it.
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

    /// Follows the paths again, since links may lead elsewhere now. Must be called before the policy is read again, so that no
    /// change is missed.
    ///
    /// # Errors
    /// As [`Paths::watch`].
    pub fn renew(&mut self) -> io::Result<()> {
        let mut folders = Folders::new();
        let mut files = [conflicts::other_files(&self.root), Tuned::read(&self.root).paths].concat();
        for of_one_kind in [super::FOLDERS, conflicts::FOLDERS] {
            for folder in of_one_kind {
                let chased = chase(&self.root, Path::new(folder));
                note(&mut folders, chased.steps);
                folders.extend(chased.end.map(|end| (end, Names::All)));
            }
            files.extend(list(&self.root, &of_one_kind, Writers::Any, &mut Vec::new()));
        }
        for file in files {
            note(&mut folders, chase(&self.root, &file).steps);
        }
        self.paths.watch(folders)
    }
}
