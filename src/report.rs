//! Records: what is told, who wrote, and their sentences.

pub mod decision;
pub mod record;
pub mod text;
pub mod woke;
pub mod writer;
