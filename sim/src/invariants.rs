//! What must be true when all work has ended. One file each, with its reason.

mod acknowledged;
mod addresses;
mod capacity;
mod guests;
mod leftovers;
mod quota;
mod runs;

use std::collections::BTreeMap;

use driver::{GuestId, Observed};
use driver_fake::FakeMachine;
use networks::{Network, Port, SecurityGroup, Subnet};
use placement::{Claim, Provider};
use servers::Server;
use store::{DecodeError, Reader, Record};

use crate::churn::Oracle;

/// Everything there is at the end.
pub struct Scene<'a> {
    /// The durable state.
    pub reader: &'a Reader<'a>,
    /// The machines.
    pub machine: &'a FakeMachine,
    /// What clients were told.
    pub oracle: &'a Oracle,
    /// Guests by node.
    pub guests: BTreeMap<String, BTreeMap<GuestId, Observed>>,
    /// Servers by guest.
    pub servers: BTreeMap<GuestId, Server>,
    /// Claims by guest.
    pub claims: BTreeMap<GuestId, Claim>,
    /// Providers.
    pub providers: Vec<Provider>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Subnets.
    pub subnets: Vec<Subnet>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Security groups.
    pub groups: Vec<SecurityGroup>,
}

fn all<R: Record>(reader: &Reader<'_>) -> Result<Vec<R>, DecodeError> {
    reader.all::<R>().map(|found| found.map(|(record, _)| record)).collect()
}

impl<'a> Scene<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// If a record cannot be read: an invariant of its own.
    pub fn new(
        reader: &'a Reader<'a>,
        machine: &'a FakeMachine,
        nodes: Vec<String>,
        oracle: &'a Oracle,
    ) -> Result<Scene<'a>, DecodeError> {
        let claims = all::<Claim>(reader)?;
        Ok(Scene {
            guests: nodes.into_iter().map(|node| (node.clone(), machine.guests(&node))).collect(),
            servers: all::<Server>(reader)?.into_iter().map(|server| (server.id.guest(), server)).collect(),
            claims: claims.into_iter().map(|claim| (GuestId::from_uuid(*claim.consumer.as_uuid()), claim)).collect(),
            providers: all(reader)?,
            ports: all(reader)?,
            subnets: all(reader)?,
            networks: all(reader)?,
            groups: all(reader)?,
            reader,
            machine,
            oracle,
        })
    }

    /// The value of a counter, against what it should be.
    fn compare(&self, key: &store::Key, want: u64, of: &str, complaints: &mut Vec<String>) {
        let counter = self.reader.counter(key);
        if counter != want {
            complaints.push(format!("{key} is {counter}, and {of} come to {want}"));
        }
    }
}

/// Everything that is wrong.
pub fn check(scene: &Scene<'_>) -> Vec<String> {
    let checks = [
        leftovers::check,
        acknowledged::check,
        capacity::check,
        quota::check,
        addresses::check,
        guests::check,
        runs::check,
    ];
    checks.into_iter().flat_map(|check| check(scene)).collect()
}
