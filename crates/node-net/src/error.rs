//! Why a network could not be made as described.

use std::io;

use driver::{DriverError, NetworkId, PortId};

/// What went wrong. Each may leave part of the work done; running the same call again continues it.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A description that no node can realise; it must be changed.
    #[error("the description of network {network} cannot be realised: {reason}")]
    Description {
        /// Which network.
        network: NetworkId,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration given to [`crate::NodeNet::open`] is wrong.
    #[error("{0}")]
    Config(String),
    /// The port's network has not been ensured by this process, or does not have the port.
    #[error("port {port} is not on network {network} as it was last ensured on this node")]
    UnknownPort {
        /// The network.
        network: NetworkId,
        /// The port.
        port: PortId,
    },
    /// Another process, most likely a running guest, has the port's tap open.
    #[error("the tap {tap} of port {port} is in use by another process")]
    Busy {
        /// The port.
        port: PortId,
        /// Its device.
        tap: String,
    },
    /// The host reaches this range in another way already.
    #[error(
        "the host cannot reach network {network}: its range {range} overlaps the host's own route to {route}; give the network another range"
    )]
    HostRange {
        /// The network.
        network: NetworkId,
        /// Its range.
        range: String,
        /// The host's route.
        route: String,
    },
    /// A command of the system failed.
    #[error("{command} failed: {stderr}")]
    Tool {
        /// What was run.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl NetError {
    /// For `map_err`: the error of trying to do `what`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> NetError {
        move |source| NetError::Io { what: what.into(), source }
    }
}

impl From<NetError> for DriverError {
    fn from(error: NetError) -> DriverError {
        let text = error.to_string();
        match error {
            NetError::Description { .. } | NetError::Config(_) | NetError::HostRange { .. } => {
                DriverError::Refused(text)
            }
            NetError::UnknownPort { .. } | NetError::Busy { .. } | NetError::Tool { .. } | NetError::Io { .. } => {
                DriverError::Failed(text)
            }
        }
    }
}
