//! Random sequences of everything that a node can meet, each in namespaces of its own with a guard of its own, against a
//! model that shares no code with the program. A failure prints its seed, what was done, and how to do it again.

#[path = "../bus/mod.rs"]
mod bus;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod guarded;
mod kernel;
mod policy;
mod runs;
mod settings;
mod steps;
mod system;
mod tally;
mod world;

#[test]
fn whenever_it_is_quiet_all_is_as_it_should_be() {
    runs::run();
}
