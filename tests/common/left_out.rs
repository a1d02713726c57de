//! A test that can't run as a whole reports that on stderr, past the harness, and `make test` as root takes it for a failure.

use std::io::Write;

/// A program or a privilege is missing.
pub fn because(why: &str) {
    say(why);
    assert!(std::env::var_os("FWDGUARD_ALL_TESTS").is_none(), "left out: {why}");
}

/// The running kernel lacks what the test is about.
pub fn not_in_this_kernel(why: &str) {
    say(why);
}

fn say(why: &str) {
    // Not by a macro, whose output the harness captures.
    let name = std::thread::current().name().unwrap_or("a test").to_string();
    let _ = writeln!(std::io::stderr(), "left out: {name}: {why}");
}
