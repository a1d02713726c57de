//! What the guard tells: records for the journal, and the status for the service manager.

//j
pub mod record;
//s
