//! How the C library's allocator serves the threads.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
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
