//! Records: their kinds and fields, the writer of a setting, and their sentences. Data only, used by every room above.

pub mod decision;
pub mod record;
pub mod text;
pub mod woke;
pub mod writer;
