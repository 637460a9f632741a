//! The `openstack` client as a user has it, unmodified and at pinned versions, against whole cells: the widest test that
//! there is, because every word it hears was chosen by somebody else.
//!
//! Two cells. One runs guests that only pretend ([`families`]): there each family of commands is walked, what comes back
//! is looked at, and so is what is said to a mistake. The other runs a real one under QEMU ([`guest`]): what a user does
//! with a first server, from the key pair to the last deletion, after which nothing may be left on the machine.

mod cell;
mod compute;
mod families;
mod guest;
mod network;
mod openstack;
mod said;

use crate::python;

/// The stage. Complains of every family that failed, not only of the first.
pub(super) fn client() -> anyhow::Result<()> {
    let programs = python::environment("openstack")?;
    let mut failed = families::walk(&programs)?;
    if let Err(error) = guest::walk(&programs) {
        failed.push(format!("a real guest: {error:#}"));
    }
    if !failed.is_empty() {
        anyhow::bail!("{} of the client's walks failed:\n{}", failed.len(), failed.join("\n"));
    }
    Ok(())
}
