//! The errors of the policy: one line that names the file, the key and the remedy.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    // Lines.
    #[error("the line has {length} bytes, more than {most}; shorten it")]
    LineTooLong { length: usize, most: usize },
    #[error("the line is not valid UTF-8; write it in ASCII")]
    NotUtf8,
    #[error("the invisible character {}; remove it", .0.escape_default())]
    Unseen(char),
    #[error("no value: write 'key = value', or '-key' to exclude the key from patterns")]
    NoAssignment,
    #[error("no value after '='; write one, or '-key' to exclude the key from patterns")]
    NoValue,
    #[error("a control character in the value; remove it")]
    ControlInValue,

    // Keys.
    #[error("no key before '='; write 'key = value'")]
    NoKey,
    #[error("a control character in the key; remove it")]
    ControlInKey,
    #[error("an invisible character in the key '{0}'; remove it")]
    UnseenInKey(String),
    #[error("white space in the key '{0}'; remove it")]
    SpaceInKey(String),
    #[error("an empty part in the key '{0}'; correct it")]
    EmptyPart(String),
    #[error("'.' or '..' as a part of the key '{0}'; correct it")]
    DotPart(String),
    #[error("'{text}' is a path; drop /proc/sys/ and write {key}")]
    Path { text: String, key: String },
    #[error("'{0}' is not below net.; only network settings are guarded")]
    NotNet(String),
    #[error("'{0}' is write-only and cannot be guarded; remove the line")]
    WriteOnly(String),
    #[error("'{0}' is not a setting of an interface; write it as in net.ipv4.conf.all.rp_filter")]
    NoInterface(String),
    #[error("'{0}' is a directory; write a setting in it")]
    Folder(String),
    #[error("'{0}': a pattern may only replace an interface, as in net.ipv4.conf.*.forwarding")]
    PatternElsewhere(String),
    #[error("the braces expand to more than {0} alternatives, or to long ones; write several lines")]
    TooManyAlternatives(usize),

    // Values.
    #[error("'{0}' requires CAP_SYS_ADMIN, which fwdguard drops; set it in sysctl.d")]
    TakesSysAdmin(String),
    #[error("'{value}' is not a list of {count} numbers, which '{key}' requires")]
    NotNumbers { key: String, value: String, count: usize },
    #[error("'{key}' must be 0 (off), 1 (strict) or 2 (loose), not '{value}'")]
    NotRpFilter { key: String, value: String },
    #[error("'{value}' is out of range for '{key}'")]
    OutOfRange { key: String, value: String },
    #[error("'{value}' is not a number, which '{key}' requires; write only the number")]
    NotNumber { key: String, value: String },

    // Files.
    #[error("cannot be read ({0}); fix or remove it")]
    Unreadable(String),
    #[error("refused: {0}")]
    Untrusted(String),
}
