//! What all OpenStack APIs of Mainstay share: tables of routes, errors in each family's dialect, who is calling,
//! bounded bodies, microversions, paging and times.
//!
//! A family (compute, network, …) fills a [`Routes`] with its handlers; a handler is four lines: decode, authorize, one
//! call into the cloud floor, encode. Its errors are [`Fault`]s, which know nothing of JSON: one layer around the
//! family ([`family`]) renders them as that family's clients expect. [`site::Site`] puts families side by side.
//!
//! Deliberately absent: any resource, any policy, and any state beyond what one request needs.

pub mod extract;
pub mod family;
pub mod fault;
pub mod microversion;
pub mod paging;
pub mod platform;
pub mod request;
pub mod routes;
pub mod serve;
pub mod site;
pub mod time;

pub use extract::{Caller, Json, Path, Query};
pub use fault::{Dialect, Fault};
pub use microversion::Microversion;
pub use platform::{Authenticator, Platform, RequestObserver, Unobserved};
pub use request::RequestCx;
pub use routes::{Route, Routes};
pub use serve::serve;
pub use site::Site;
