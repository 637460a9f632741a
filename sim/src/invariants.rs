//! What must be true when all work has ended. One file each, with its reason.

mod acknowledged;
mod balance;
mod guests;
mod images;
mod leftovers;
mod runs;

use std::collections::BTreeMap;

use bytes::Bytes;
use driver::{GuestId, Observed};
use driver_fake::FakeMachine;
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
    /// Files of images.
    pub files: Files,
}

/// What lies on disks, beside guests.
pub struct Files {
    /// The directory of the image service, by path.
    pub images: BTreeMap<String, Bytes>,
    /// Disks that were exported and are still there.
    pub exports: Vec<String>,
    /// Whether everybody has been started since anything was asked for: some things are settled only then.
    pub restarted: bool,
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
        files: Files,
    ) -> Result<Scene<'a>, DecodeError> {
        Ok(Scene {
            guests: nodes.into_iter().map(|node| (node.clone(), machine.guests(&node))).collect(),
            servers: all::<Server>(reader)?.into_iter().map(|server| (server.id.guest(), server)).collect(),
            reader,
            machine,
            oracle,
            files,
        })
    }
}

/// Everything that is wrong.
pub fn check(scene: &Scene<'_>) -> Vec<String> {
    let checks = [leftovers::check, acknowledged::check, balance::check, guests::check, images::check, runs::check];
    checks.into_iter().flat_map(|check| check(scene)).collect()
}
