#![no_main]

#[path = "../properties/mod.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(init: properties::records::enter(), |data: &[u8]| properties::records::holds(data));
