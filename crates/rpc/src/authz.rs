//! Who may call what: one table for all services, and a method that is not in it may be called by nobody.

use pki::Role;

/// A method and the roles that may call it. [`Role::Control`] holds every control role and need not be named.
pub struct Rule {
    /// `/package.Service/Method`.
    pub method: &'static str,
    /// Who may call it.
    pub callers: &'static [Role],
    /// Whether its answer ends only when one of both ends: nobody waits for that who wants to leave.
    pub endless: bool,
}

const fn rule(method: &'static str, callers: &'static [Role]) -> Rule {
    Rule { method, callers, endless: false }
}

const fn endless(method: &'static str, callers: &'static [Role]) -> Rule {
    Rule { method, callers, endless: true }
}

/// Every process that has a session: all but those of people.
const EVERYBODY: &[Role] =
    &[Role::Store, Role::Api, Role::Coordinator, Role::Scheduler, Role::Liveness, Role::Names, Role::Agent];

/// The table. In the order of services; a test compares it with the descriptors of all services.
pub const TABLE: &[Rule] = &[
    rule("/mainstay.agent.v1.AgentService/Perform", &[Role::Coordinator]),
    rule("/mainstay.agent.v1.AgentService/ApplyNetworks", &[Role::Coordinator]),
    rule("/mainstay.agent.v1.AgentService/ReadConsole", &[Role::Coordinator]),
    rule("/mainstay.agent.v1.AgentService/ListGuests", &[Role::Coordinator, Role::Operator]),
    rule("/mainstay.agent.v1.AgentService/TakeStock", &[Role::Coordinator]),
    endless("/mainstay.coordinator.v1.NodesService/Attend", &[Role::Agent]),
    rule("/mainstay.coordinator.v1.NodesService/Report", &[Role::Agent]),
    rule("/mainstay.coordinator.v1.ServersService/ReadConsole", &[Role::Api]),
    rule("/mainstay.coordinator.v1.ServersService/ListAttendance", &[Role::Api, Role::Operator]),
    rule("/mainstay.scheduler.v1.SchedulerService/Select", &[Role::Coordinator]),
    rule("/mainstay.image.v1.BlobsService/Fetch", &[Role::Agent]),
    rule("/mainstay.image.v1.BlobsService/Upload", &[Role::Agent]),
    rule("/mainstay.store.v1.StoreService/Get", &[Role::Api, Role::Coordinator, Role::Scheduler]),
    rule("/mainstay.store.v1.StoreService/Range", &[Role::Api, Role::Coordinator, Role::Scheduler]),
    endless("/mainstay.store.v1.StoreService/Watch", &[Role::Api, Role::Coordinator, Role::Scheduler]),
    rule("/mainstay.store.v1.StoreService/Snapshot", &[Role::Api, Role::Coordinator, Role::Scheduler]),
    rule("/mainstay.store.v1.StoreService/Commit", &[Role::Api, Role::Coordinator]),
    endless("/mainstay.liveness.v1.LivenessService/Attend", EVERYBODY),
    rule("/mainstay.liveness.v1.LivenessService/Tell", EVERYBODY),
    rule("/mainstay.liveness.v1.LivenessService/Leave", EVERYBODY),
    endless(
        "/mainstay.liveness.v1.LivenessService/Watch",
        &[Role::Operator, Role::Names, Role::Api, Role::Coordinator],
    ),
    endless("/mainstay.liveness.v1.LivenessService/Exchange", &[Role::Liveness]),
    rule("/mainstay.liveness.v1.LivenessService/Reach", &[Role::Liveness]),
    rule("/mainstay.liveness.v1.LivenessService/Publish", &[Role::Store]),
    rule("/mainstay.health.v1.HealthService/Check", &[Role::Operator, Role::Coordinator]),
    rule("/mainstay.telemetry.v1.TelemetryService/FindSpans", &[Role::Operator, Role::Coordinator]),
    rule("/mainstay.operator.v1.OperatorService/GetStatus", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/ListWork", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/ShowWork", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/RetryWork", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/RotateTokenKeys", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/ListNodes", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/GetTrace", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/Audit", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/GetConfig", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/SetConfig", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/UnsetConfig", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/ConfigHistory", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/RollbackConfig", &[Role::Operator]),
    rule("/mainstay.operator.v1.OperatorService/ExplainConfig", &[Role::Operator]),
];

/// Whether `role` may call `method`.
pub fn may(role: Role, method: &str) -> bool {
    TABLE.iter().find(|rule| rule.method == method).is_some_and(|rule| {
        rule.callers.contains(&role)
            || (role == Role::Control && rule.callers.iter().any(|caller| !matches!(caller, Role::Agent)))
    })
}

/// Whether the answer to `method` ends only when one of both ends.
pub(crate) fn is_endless(method: &str) -> bool {
    TABLE.iter().any(|rule| rule.method == method && rule.endless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_may_not_give_orders_and_nobody_calls_what_is_not_listed() {
        assert!(may(Role::Coordinator, "/mainstay.agent.v1.AgentService/Perform"));
        assert!(may(Role::Control, "/mainstay.agent.v1.AgentService/Perform"));
        assert!(!may(Role::Agent, "/mainstay.agent.v1.AgentService/Perform"));
        assert!(!may(Role::Api, "/mainstay.agent.v1.AgentService/Perform"));
        assert!(!may(Role::Control, "/mainstay.coordinator.v1.NodesService/Attend"));
        assert!(!may(Role::Control, "/mainstay.agent.v1.AgentService/Shell"));
    }
}
