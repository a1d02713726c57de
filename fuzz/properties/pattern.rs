//! A pattern and an interface's name: they match where glob(3) finds the name, as in systemd-sysctl, and where fnmatch(3)
//! matches.

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;

use fwdguard::policy::pattern::Pattern;
use fwdguard::setting::Key;

/// `IFNAMSIZ`, without the NUL.
const NAME_BYTES: usize = 15;
/// glob.h of glibc; the libc crate has neither.
const GLOB_ALTDIRFUNC: c_int = 1 << 9;
const GLOB_BRACE: c_int = 1 << 10;

pub fn holds(data: &[u8]) {
    let mut parts = super::parts(data);
    let (pattern, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let name = &name[..name.len().min(NAME_BYTES)];
    let Ok(text) = str::from_utf8(pattern) else { return };
    keys(text);
    let Ok(key) = Key::parse(&format!("net/ipv4/conf/{text}/forwarding")) else { return };
    if !key.has_wildcard() || matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
        return;
    }
    let Ok(pattern) = Pattern::new(&key) else { return };
    let matches = pattern.matches(OsStr::from_bytes(name));
    let name = CString::new(name).expect("no NUL");
    if !text.contains('{') && !text.ends_with('\\') {
        let text = CString::new(text).expect("a key has no control characters");
        // SAFETY: both are NUL-terminated strings that live through the call.
        let found = unsafe { libc::fnmatch(text.as_ptr(), name.as_ptr(), libc::FNM_PERIOD) == 0 };
        assert_eq!(matches, found, "{text:?} {name:?}, by fnmatch");
    }
    assert_eq!(matches, glob_finds(text, &name), "{text:?} {name:?}, by glob");
    let found = pattern.key_for(OsStr::from_bytes(name.as_bytes()));
    super::assert_below_net(&found);
    assert_eq!(found.place().map(|place| place.interface.as_bytes()), Some(name.as_bytes()));
}

/// Every text that is accepted as a key names a file below /proc/sys/net, and the key's name is parsed to the same key again.
fn keys(text: &str) {
    let Ok(key) = Key::parse(text) else { return };
    super::assert_below_net(&key);
    let name = key.to_string();
    super::assert_plain(&name);
    if !text.contains(fwdguard::setting::must_escape) {
        assert_eq!(Key::parse(&name).as_ref(), Ok(&key), "{text:?}");
    }
    super::assert_below_net(&key.canonical());
}

thread_local! {
    /// The one entry of `/c`, and the buffer for what readdir(3) returns about it.
    static NAME: RefCell<CString> = RefCell::default();
    static ENTRY: RefCell<libc::dirent> = RefCell::new(unsafe_zeroed());
}

fn unsafe_zeroed<T>() -> T {
    // SAFETY: it is called for `dirent` and `Glob` alone, integers and pointers that may be null.
    unsafe { std::mem::zeroed() }
}

/// `glob_t` of glibc, whose functions the libc crate hides.
#[repr(C)]
struct Glob {
    paths: usize,
    path: *mut *mut c_char,
    offset: usize,
    flags: c_int,
    closedir: Option<extern "C" fn(*mut c_void)>,
    readdir: Option<extern "C" fn(*mut c_void) -> *mut libc::dirent>,
    opendir: Option<extern "C" fn(*const c_char) -> *mut c_void>,
    lstat: Option<extern "C" fn(*const c_char, *mut libc::stat) -> c_int>,
    stat: Option<extern "C" fn(*const c_char, *mut libc::stat) -> c_int>,
}

/// Whether glob(3) finds `/c/NAME/f` by `/c/PATTERN/f`, where no other file exists.
fn glob_finds(pattern: &str, name: &CStr) -> bool {
    NAME.with_borrow_mut(|entry| *entry = name.into());
    let pattern = CString::new(format!("/c/{pattern}/f")).expect("a key has no control characters");
    let mut glob = Glob {
        closedir: Some(closedir),
        readdir: Some(readdir),
        opendir: Some(opendir),
        lstat: Some(stat),
        stat: Some(stat),
        ..unsafe_zeroed()
    };
    assert!(size_of::<Glob>() == size_of::<libc::glob_t>());
    let (flags, out) = (GLOB_ALTDIRFUNC | GLOB_BRACE | libc::GLOB_NOSORT, (&raw mut glob).cast());
    // SAFETY: the pattern lives through the call, and `Glob` is glibc's `glob_t`.
    let result = unsafe { libc::glob(pattern.as_ptr(), flags, None, out) };
    assert!(matches!(result, 0 | libc::GLOB_NOMATCH), "glob fails: {result}");
    let found = result == 0 && glob.paths > 0;
    // SAFETY: glob has filled it.
    unsafe { libc::globfree(out) };
    found
}

/// A folder is a countdown of its entries.
extern "C" fn opendir(path: *const c_char) -> *mut c_void {
    if kind(path) == Some(libc::S_IFDIR) { Box::into_raw(Box::new(is_c(path))).cast() } else { std::ptr::null_mut() }
}

extern "C" fn closedir(folder: *mut c_void) {
    // SAFETY: it comes from `opendir`, once.
    drop(unsafe { Box::from_raw(folder.cast::<bool>()) });
}

extern "C" fn readdir(folder: *mut c_void) -> *mut libc::dirent {
    // SAFETY: it comes from `opendir`, and has no other owner.
    let has_entry = unsafe { &mut *folder.cast::<bool>() };
    if !std::mem::take(has_entry) {
        return std::ptr::null_mut();
    }
    ENTRY.with_borrow_mut(|entry| {
        (entry.d_ino, entry.d_type) = (1, libc::DT_DIR);
        NAME.with_borrow(|name| {
            for (to, from) in entry.d_name.iter_mut().zip(name.as_bytes_with_nul()) {
                *to = c_char::from_ne_bytes([*from]);
            }
        });
        &raw mut *entry
    })
}

extern "C" fn stat(path: *const c_char, out: *mut libc::stat) -> c_int {
    let Some(kind) = kind(path) else { return -1 };
    // SAFETY: glob gives room for one.
    unsafe { (*out).st_mode = kind };
    0
}

fn is_c(path: *const c_char) -> bool {
    // SAFETY: glob gives NUL-terminated paths.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    path == b"/c" || path == b"/c/"
}

/// `/`, `/c` and `/c/NAME` are folders, `/c/NAME/f` is a file.
fn kind(path: *const c_char) -> Option<libc::mode_t> {
    // SAFETY: glob gives NUL-terminated paths.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    if bytes == b"/" || is_c(path) {
        return Some(libc::S_IFDIR);
    }
    let rest =
        NAME.with_borrow(|name| bytes.strip_prefix(b"/c/")?.strip_prefix(name.as_bytes()).map(<[u8]>::to_vec))?;
    match &rest[..] {
        b"" | b"/" => Some(libc::S_IFDIR),
        b"/f" => Some(libc::S_IFREG),
        _ => None,
    }
}
