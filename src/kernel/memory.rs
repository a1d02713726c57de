//! What stays resident: how the C library's allocator serves the threads, and which code is mapped.

use std::convert::Infallible;
use std::ffi::{CString, OsString, c_void};
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;

use anyhow::Result;
use nix::unistd::execve;

/// One arena for all threads, and caches of each thread's own for small pieces alone ("Memory Allocation Tunables" in the GNU
/// C Library's manual). Otherwise what one thread makes and another drops leaves holes everywhere: at 100 repairs a second
/// memory grew by some 5 % in ten minutes, and on, though as much was in use as ever.
const TUNABLES: &str = "glibc.malloc.arena_max=1:glibc.malloc.tcache_max=128";
const VARIABLE: &str = "GLIBC_TUNABLES";
/// A program with capabilities of its file's own may have the other taken away by glibc (ld.so(8), "Secure-execution mode"),
/// and would start itself without end.
const STARTED_ANEW: &str = "FWDGUARD_STARTED_ANEW";

/// Starts the program anew under these, as the same process, unless somebody has set others: they are read at a program's
/// start alone. To be called before there is anything to lose. Where it can't be had, all works without it.
pub fn tune() {
    if [VARIABLE, STARTED_ANEW].iter().all(|name| std::env::var_os(name).is_none()) {
        _ = start_anew();
    }
}

fn start_anew() -> Result<Infallible> {
    let text = |text: OsString| CString::new(text.into_vec());
    let program = text(std::env::current_exe()?.into())?;
    let arguments = std::env::args_os().map(text).collect::<Result<Vec<_>, _>>()?;
    let ours = [(VARIABLE.into(), TUNABLES.into()), (STARTED_ANEW.into(), "1".into())];
    let variables = std::env::vars_os().chain(ours).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(name)
    });
    Ok(execve(&program, &arguments, &variables.collect::<Result<Vec<_>, _>>()?)?)
}

/// Unmaps the program's code and its libraries', most of which a start uses once, or not at all: around each page that is
/// used the kernel maps what the page cache holds (`filemap_map_pages`, mm/filemap.c). What is used again is mapped again,
/// from there. Where it can't be had, all works without it.
pub fn unmap_code() {
    for line in fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        let Some(Range { start, end }) = code(line) else { continue };
        // SAFETY: a private mapping of a file that was never writable, so the same bytes are read there again
        // (MADV_DONTNEED, madvise(2)); nothing in Rust has its address.
        _ = unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Where a file's code is mapped, of a line of /proc/PID/maps (proc_pid_maps(5)).
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
    let address = |text| usize::from_str_radix(text, 16).ok();
    is_code.then_some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_written_is_code() {
        for (line, expected) in [
            (
                "5555557d1000-555555a2c000 r-xp 00090000 fe:00 123  /usr/sbin/fwdguard",
                Some(0x5555557d1000..0x555555a2c000),
            ),
            (
                "7f0000000000-7f0000001000 r-xp 00026000 fe:00 9  /usr/lib64/libc.so.6 (deleted)",
                Some(0x7f0000000000..0x7f0000001000),
            ),
            ("555555a2d000-555555a3d000 r--p 002ec000 fe:00 123  /usr/sbin/fwdguard", None), // relocated
            ("555555a3d000-555555a41000 rw-p 002fc000 fe:00 123  /usr/sbin/fwdguard", None),
            ("7ffd0a1c6000-7ffd0a1c8000 r-xp 00000000 00:00 0  [vdso]", None),
            ("7f0000002000-7f0000003000 r-xp 00000000 00:00 0 ", None),
            ("", None),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
        unmap_code();
        assert_eq!(code("0-1 r-xp 0 0 0 /a"), Some(0..1), "code is there again");
    }
}
