//! Command line in, exit status out.

fn main() {}
