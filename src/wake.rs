//! Sources of events besides the kernel's notifications of settings: logind, clocks, network managers, modules, timers.

pub mod clock;
pub mod logind;
pub mod modules;
pub mod ticker;
