//! What the guard tells: records for the journal, and the status for the service manager.

#[cfg(test)]
mod catalog;
pub mod journal;
pub mod record;
pub mod status;
pub mod text;
pub mod writer;
