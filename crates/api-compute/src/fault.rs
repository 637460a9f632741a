//! Every error of the cloud floor meets its status here.

use api::Fault;
use images::{ChangeError, ImageError};
use networks::NetError;
use servers::AcceptError;

pub(crate) fn accept(error: AcceptError) -> Fault {
    let message = error.to_string();
    match error {
        AcceptError::NotFound { .. } => Fault::not_found(message),
        AcceptError::Invalid(_) => Fault::bad_request(message),
        AcceptError::WrongState { .. } | AcceptError::Locked(_) | AcceptError::Conflict(_) => Fault::conflict(message),
        AcceptError::OverQuota { ref resources, .. } => Fault::over_quota(match resources.as_str() {
            "key_pairs" => "Quota exceeded, too many key pairs.".to_owned(),
            "server_groups" => "Quota exceeded, too many server groups.".to_owned(),
            "server_group_members" => "Quota exceeded, too many servers in group".to_owned(),
            _ => message,
        }),
        AcceptError::Forbidden(_) => Fault::forbidden(message),
        AcceptError::Network(error) => network(error),
        AcceptError::Damaged(error) => error.into(),
        AcceptError::Busy(reason) => Fault::unavailable(reason),
    }
}

/// What goes wrong with the networks of a request about a server: the request names them, so what is missing is a 400.
pub(crate) fn network(error: NetError) -> Fault {
    let message = error.to_string();
    match error {
        NetError::NotFound { .. }
        | NetError::Invalid(_)
        | NetError::Unsupported(_)
        | NetError::AddressInUse(_)
        | NetError::Overlap(_)
        | NetError::GatewayInPool { .. }
        | NetError::PortSecurity(_)
        | NetError::DefaultGroup(_) => Fault::bad_request(message),
        NetError::Forbidden(_) | NetError::OverQuota(_) => Fault::forbidden(message),
        NetError::InUse { .. }
        | NetError::MacInUse(_)
        | NetError::NoAddress(_)
        | NetError::GatewayInUse { .. }
        | NetError::RuleExists(_) => Fault::conflict(message),
        NetError::AmbiguousNetwork => {
            Fault::conflict("Multiple possible networks found, use a Network ID to be more specific.")
        }
        NetError::Busy(reason) => Fault::unavailable(reason),
        NetError::Damaged(error) => error.into(),
        NetError::Refused(reason) => Fault::internal(reason),
    }
}

/// For a request about servers that makes new ones: what it names and is not there is its own mistake.
pub(crate) fn create(error: AcceptError) -> Fault {
    if matches!(error, AcceptError::NotFound { .. }) { Fault::bad_request(error.to_string()) } else { accept(error) }
}

/// What the cell cannot do yet.
pub(crate) fn not_yet(what: &str) -> Fault {
    Fault::not_implemented(format!("This cloud cannot {what} yet."))
}

/// Why an image cannot be had or changed.
pub(crate) fn image(error: ImageError) -> Fault {
    let message = error.to_string();
    match error {
        ImageError::NotFound => Fault::not_found(message),
        ImageError::Exists => Fault::conflict(message),
        ImageError::Protected
        | ImageError::Change(ChangeError::Forbidden | ChangeError::AdminOnly { .. } | ChangeError::TooMany { .. }) => {
            Fault::forbidden(message)
        }
        ImageError::Change(
            ChangeError::HasData { .. }
            | ChangeError::Status { .. }
            | ChangeError::NotShared { .. }
            | ChangeError::Invalid { .. }
            | ChangeError::Missing { .. }
            | ChangeError::MemberTwice { .. },
        ) => Fault::bad_request(message),
        ImageError::Damaged(error) => error.into(),
        ImageError::Unavailable { reason } => Fault::unavailable(reason),
    }
}
