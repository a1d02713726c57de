//! What wakes the guard besides the kernel's notifications.

pub mod clock;
pub mod logind;
pub mod managers;
pub mod modules;
pub mod ticker;
