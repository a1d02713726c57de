//! fwdguard keeps a Kubernetes node forwarding. ARCHITECTURE.md is the map; arrows between modules point downwards only.

pub mod cli;
pub mod daemon;
pub mod diagnose;
pub mod engine;
pub mod error;
pub mod journal;
pub mod kernel;
pub mod mailbox;
pub mod paths;
pub mod policy;
pub mod report;
pub mod setting;
pub mod state;
pub mod text;
pub mod wake;
pub mod writers;
