//! Who may do what here: administrators everything, everybody what concerns only themselves.

use api::Fault;
use identity::Caller;

fn refuse(action: &str) -> Fault {
    Fault::forbidden(format!("You are not authorized to perform the requested action: identity:{action}."))
}

/// Only administrators.
pub(crate) fn admin(caller: &Caller, action: &str) -> Result<(), Fault> {
    if caller.is_admin() { Ok(()) } else { Err(refuse(action)) }
}

/// Administrators, and whoever `own` says it is about.
pub(crate) fn admin_or(own: bool, caller: &Caller, action: &str) -> Result<(), Fault> {
    if own || caller.is_admin() { Ok(()) } else { Err(refuse(action)) }
}

/// Only the user itself.
pub(crate) fn owner(caller: &Caller, user: &str, action: &str) -> Result<(), Fault> {
    if caller.user_id.as_str() == user { Ok(()) } else { Err(refuse(action)) }
}

/// The user itself, and administrators.
pub(crate) fn owner_or_admin(caller: &Caller, user: &str, action: &str) -> Result<(), Fault> {
    admin_or(caller.user_id.as_str() == user, caller, action)
}
