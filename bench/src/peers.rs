//! The bare peers: each does the same work as a part of ours, with nothing around it, as well as its makers intend.

pub mod argon2;
pub mod axum;
pub mod sqlite;
pub mod tonic;
