//! Whole cells from outside: real processes of the binary, the fake driver, the public API over HTTPS.

mod boots_and_deletes;
mod quota;
