//! An interface's name.

use std::ffi::OsStr;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;

/// IFNAMSIZ (linux/if.h), the NUL at the end included.
const SIZE: usize = 16;

/// Any bytes but `/` and NUL, and neither `.` nor `..` (`dev_valid_name`, net/core/dev.c). It is not
/// allocated: nodes have thousands of interfaces, and a start waits for each allocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name([u8; SIZE]);

impl Name {
    /// The name that ends with the first NUL. `None`: no interface has it.
    pub fn new(bytes: &[u8]) -> Option<Name> {
        let name = bytes.split(|byte| *byte == 0).next()?;
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.len() >= SIZE {
            return None;
        }
        Some(Name::padded(name))
    }

    fn padded(bytes: &[u8]) -> Name {
        let mut name = [0; SIZE];
        name[..bytes.len()].copy_from_slice(bytes);
        Name(name)
    }
}

/// Cut to the length of a name.
impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name::padded(&text.as_bytes()[..text.len().min(SIZE - 1)])
    }
}

impl Deref for Name {
    type Target = OsStr;

    fn deref(&self) -> &OsStr {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(SIZE);
        OsStr::from_bytes(&self.0[..length])
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
