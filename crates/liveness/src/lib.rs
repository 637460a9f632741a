//! Who is there.

pub mod core;
