//! What the cloud refuses, in Neutron's words: the one place where an error of the domain meets a status.

use api::Fault;
use http::StatusCode;
use networks::{Kind, NetError};

/// As Neutron says it.
pub(crate) fn fault(error: NetError) -> Fault {
    let text = error.to_string();
    match error {
        NetError::NotFound { kind, .. } => Fault::not_found(text).kind(not_found(kind)),
        NetError::Invalid(_) => Fault::bad_request(text).kind("InvalidInput"),
        NetError::Forbidden(_) => Fault::forbidden(text),
        NetError::Unsupported(_) => Fault::not_implemented(text),
        NetError::InUse { kind, .. } => Fault::conflict(text).kind(in_use(kind)),
        NetError::AddressInUse(_) => Fault::conflict(text).kind("IpAddressInUse"),
        NetError::MacInUse(_) => Fault::conflict(text).kind("MacAddressInUse"),
        NetError::NoAddress(_) => Fault::conflict(text).kind("IpAddressGenerationFailure"),
        NetError::Overlap(_) => Fault::conflict(text).kind("OverlappingAllocationPools"),
        NetError::GatewayInPool { .. } => Fault::conflict(text).kind("GatewayConflictWithAllocationPools"),
        NetError::GatewayInUse { .. } => Fault::conflict(text).kind("GatewayIpInUse"),
        NetError::RuleExists(_) => Fault::conflict(text).kind("SecurityGroupRuleExists"),
        NetError::DefaultGroup(_) => Fault::conflict(text).kind("SecurityGroupConflict"),
        NetError::PortSecurity(_) => Fault::conflict(text).kind("PortSecurityPortHasSecurityGroup"),
        NetError::AmbiguousNetwork => Fault::conflict(text).kind("NetworkAmbiguous"),
        NetError::OverQuota(_) => Fault::over_quota(text).kind("OverQuota"),
        NetError::Busy(_) => Fault::unavailable(text),
        NetError::Damaged(reason) => Fault::from(reason),
        NetError::Refused(_) => Fault::internal(text),
    }
}

pub(crate) fn not_found(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "NetworkNotFound",
        Kind::Subnet => "SubnetNotFound",
        Kind::Port => "PortNotFound",
        Kind::SecurityGroup => "SecurityGroupNotFound",
        Kind::SecurityRule => "SecurityGroupRuleNotFound",
        Kind::Router => "RouterNotFound",
    }
}

fn in_use(kind: Kind) -> &'static str {
    match kind {
        Kind::Network => "NetworkInUse",
        Kind::Subnet => "SubnetInUse",
        Kind::Port => "PortInUse",
        Kind::SecurityGroup => "SecurityGroupInUse",
        Kind::SecurityRule => "SecurityGroupRuleInUse",
        Kind::Router => "RouterInUse",
    }
}

/// An id in a path that names nothing.
pub(crate) fn missing(kind: Kind, id: &str) -> Fault {
    let id: String = id.chars().take(64).collect();
    Fault::new(StatusCode::NOT_FOUND, format!("the {kind} {id} could not be found")).kind(not_found(kind))
}
