//! The cell's own certificate authority and the identities that it vouches for.
//!
//! An identity is a SPIFFE id, `spiffe://CELL/ROLE/NAME`, in a certificate's URI SAN; a DNS SAN `NAME.ROLE.CELL` lets
//! ordinary TLS check a server's name, and `ROLE.CELL` that it is any process of that role. Roles decide what a peer may call; names tell peers of one role apart.
//!
//! Deliberately absent: sockets and files. Keys and certificates are PEM texts; the binary keeps them.

mod authority;
mod identity;

pub use authority::{Authority, Issued, PkiError, Validity, end_of};
pub use identity::{Identity, Role};
