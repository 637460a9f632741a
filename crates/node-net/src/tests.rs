//! Tests against the real kernel. They need root and the Debian packages iproute2 and nftables, and fail without.
//!
//! A guest is a network namespace whose `eth0` stands where a tap would be ([`lab`]). Each test has a tag of its own,
//! so tests run side by side, and clears what an earlier, killed run of it left.

mod access;
mod beside;
mod filter;
mod frames;
mod lab;
mod life;
pub(crate) mod samples;
mod services;
