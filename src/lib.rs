//! fwdguard keeps a Kubernetes node forwarding. ARCHITECTURE.md is the map; arrows between modules point downwards only.

pub mod cli;
pub mod daemon;
pub mod diagnose;
pub mod error;
pub mod guard;
pub mod handle;
pub mod journal;
pub mod keeper;
pub mod kernel;
pub mod paths;
pub mod policy;
pub mod report;
pub mod setting;
pub mod text;
pub mod wake;
pub mod witness;
