//! What wakes the guard besides the kernel's notifications.

pub mod logind;
