//! Which processes a cell has, and which roles each of them plays.

use pki::{Identity, Role};
use rpc::Target;

/// How large a cell is, and how its control roles are spread.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The control processes.
    pub control: Shape,
    /// Agent processes.
    pub agents: usize,
    /// Nodes of each.
    pub nodes: usize,
}

/// How the control roles are spread over processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One process has them all.
    Together,
    /// Each has processes of its own; all but one reach the store over the network.
    Apart {
        /// Processes with the API.
        apis: usize,
        /// Coordinators.
        coordinators: usize,
        /// Liveness instances.
        instances: usize,
    },
}

/// A process of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The process that holds the store, and where the roles are together, everything else.
    Store,
    /// A process with the API.
    Api(usize),
    /// A coordinator.
    Coordinator(usize),
    /// The scheduler.
    Scheduler,
    /// A liveness instance.
    Liveness(usize),
    /// An agent process.
    Agent(usize),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Store => f.write_str("store"),
            Who::Api(number) => write!(f, "api{number}"),
            Who::Coordinator(number) => write!(f, "coord{number}"),
            Who::Scheduler => f.write_str("scheduler"),
            Who::Liveness(number) => write!(f, "liveness{number}"),
            Who::Agent(number) => write!(f, "agent{number}"),
        }
    }
}

impl Who {
    /// Whether a second process of this name can be started while the first is still there, out of sight: it holds
    /// nothing that only one can hold. The store and the agents hold locked files; the first API has the directory of
    /// images, and the port of whoever has it.
    pub(crate) fn can_be_doubled(self) -> bool {
        match self {
            Who::Api(number) => number != 0,
            Who::Coordinator(_) | Who::Scheduler | Who::Liveness(_) => true,
            Who::Store | Who::Agent(_) => false,
        }
    }
}

impl Shape {
    /// All control processes.
    pub(crate) fn processes(self) -> Vec<Who> {
        match self {
            Shape::Together => vec![Who::Store],
            Shape::Apart { apis, coordinators, instances } => {
                let others = (0..coordinators).map(Who::Coordinator).chain((0..apis).map(Who::Api));
                let instances = (0..instances).map(Who::Liveness);
                instances.chain([Who::Store, Who::Scheduler]).chain(others).collect()
            }
        }
    }

    /// Whether each role has processes of its own.
    pub(crate) fn is_apart(self) -> bool {
        matches!(self, Shape::Apart { .. })
    }

    /// Whether `who` plays `role`.
    pub(crate) fn plays(self, who: Who, role: Role) -> bool {
        match (self, who) {
            (Shape::Together, Who::Store) => !matches!(role, Role::Agent | Role::Operator),
            (Shape::Together, Who::Api(_) | Who::Coordinator(_) | Who::Scheduler | Who::Liveness(_))
            | (_, Who::Agent(_)) => false,
            (Shape::Apart { .. }, Who::Store) => role == Role::Store,
            (Shape::Apart { .. }, Who::Api(_)) => role == Role::Api,
            (Shape::Apart { .. }, Who::Coordinator(_)) => role == Role::Coordinator,
            (Shape::Apart { .. }, Who::Scheduler) => role == Role::Scheduler,
            (Shape::Apart { .. }, Who::Liveness(_)) => role == Role::Liveness,
        }
    }

    /// The processes that play `role`.
    pub(crate) fn players(self, role: Role) -> Vec<Who> {
        self.processes().into_iter().filter(|who| self.plays(*who, role)).collect()
    }

    /// The process with the image service: there is one, as long as blobs lie on a local disk.
    pub(crate) fn keeps_images(self) -> Who {
        self.players(Role::Api).swap_remove(0)
    }

    /// What every process knows from its start: the liveness instances.
    pub(crate) fn bootstrap(self) -> Vec<Target> {
        let named = |who: Who| {
            let name = who.to_string();
            Target { role: Role::Liveness, endpoint: name.clone(), name }
        };
        self.players(Role::Liveness).into_iter().map(named).collect()
    }

    /// Who a control process is to its peers.
    pub(crate) fn identity(self, who: Who) -> Identity {
        let role = match (self, who) {
            (Shape::Together, _) => Role::Control,
            (Shape::Apart { .. }, Who::Store) => Role::Store,
            (Shape::Apart { .. }, Who::Api(_)) => Role::Api,
            (Shape::Apart { .. }, Who::Coordinator(_)) => Role::Coordinator,
            (Shape::Apart { .. }, Who::Scheduler) => Role::Scheduler,
            (Shape::Apart { .. }, Who::Liveness(_)) => Role::Liveness,
            (Shape::Apart { .. }, Who::Agent(_)) => Role::Agent,
        };
        identity(role, &who.to_string())
    }
}

pub(crate) fn identity(role: Role, name: &str) -> Identity {
    Identity { cell: "cell.sim".into(), role, name: name.into() }
}
