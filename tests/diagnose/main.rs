//! `fwdguard diagnose` on nodes with real faults: the verdict, its key or route, and the command that fixes it.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod firewall;
mod healthy;
mod marks;
mod node;
mod output;
