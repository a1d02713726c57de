//! What a test does where it can't be run as a whole: it says so, past the harness, and `make test` as root takes it for a failure.

use std::io::Write;

/// A program is missing, or a right.
pub fn because(why: &str) {
    say(why);
    assert!(std::env::var_os("FWDGUARD_ALL_TESTS").is_none(), "left out: {why}");
}

/// The kernel that runs has not what the test is about.
pub fn not_in_this_kernel(why: &str) {
    say(why);
}

fn say(why: &str) {
    // Not by a macro, whose text the harness keeps to itself.
    let name = std::thread::current().name().unwrap_or("a test").to_string();
    let _ = writeln!(std::io::stderr(), "left out: {name}: {why}");
}
