//! The errors of the policy: one line that names the file, the key and the remedy.

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    // Lines.
    #[error("the line has {length} bytes, more than {most}; shorten it")]
    LineTooLong { length: usize, most: usize },
    #[error("the line is not valid UTF-8; write it in ASCII")]
    NotUtf8,
    #[error("the character {} can't be seen; remove it", .0.escape_default())]
    Unseen(char),
    #[error("no value: write 'key = value', or '-key' to exclude the key from patterns")]
    NoAssignment,
    #[error("no value after '='; write one, or '-key' to exclude the key from patterns")]
    NoValue,
    #[error("a control character in the value")]
    ControlInValue,

    // Keys.
    #[error("no key before '='")]
    NoKey,
    #[error("a control character in the key")]
    ControlInKey,
    #[error("a character that can't be seen in the key '{0}'")]
    UnseenInKey(String),
    #[error("white space in the key '{0}'")]
    SpaceInKey(String),
    #[error("an empty part in the key '{0}'")]
    EmptyPart(String),
    #[error("'.' or '..' as a part of the key '{0}'")]
    DotPart(String),
    #[error("'{text}' is a path; drop /proc/sys/ and write {key}")]
    Path { text: String, key: String },
    #[error("'{0}' is not below net.; only network settings are guarded")]
    NotNet(String),
    #[error("'{0}' can only be written, so nothing can be kept there")]
    WriteOnly(String),
    #[error("'{0}' names no setting of an interface, as net.ipv4.conf.all.rp_filter does")]
    NoInterface(String),
    #[error("'{0}' is a folder; name a setting in it")]
    Folder(String),
    #[error("'{0}': a pattern may only stand for an interface, as in net.ipv4.conf.*.forwarding")]
    PatternElsewhere(String),
    #[error("the braces make more than {0} alternatives, or long ones; write several lines")]
    TooManyAlternatives(usize),

    // Values.
    #[error("'{0}' takes CAP_SYS_ADMIN, which the guard gives up; leave it to sysctl.d")]
    TakesSysAdmin(String),
    #[error("'{value}' is not {count} numbers, which '{key}' has to be")]
    NotNumbers { key: String, value: String, count: usize },
    #[error("'{key}' is 0 (off), 1 (strict) or 2 (loose), and not '{value}'")]
    NotRpFilter { key: String, value: String },
    #[error("'{value}' is no number that '{key}' takes")]
    OutOfRange { key: String, value: String },
    #[error("'{value}' is no number, which '{key}' has to be; write the number alone")]
    NotNumber { key: String, value: String },

    // Files.
    #[error("can't be read ({0}); mend or remove it")]
    Unreadable(String),
    #[error("refused: {0}")]
    Untrusted(String),
}
