//! Certificates as only a careless or malicious holder of the authority's key would make them out.

use std::path::Path;
use std::time::Duration;

use pki::Authority;
use world::os::OsHost;

/// A certificate of the cell in `home` for `who` (ROLE/NAME) that is good for so long; it and its key.
///
/// # Panics
/// If there is no such cell, or no such identity.
pub fn issue(home: &Path, who: &str, span: Duration) -> (String, String) {
    let read = |name: &str| std::fs::read_to_string(home.join(name)).expect("a file of the cell");
    let cell: serde_json::Value = serde_json::from_str(&read("cell.json")).expect("a cell");
    let cell = cell["name"].as_str().expect("its name").to_owned();
    let (role, name) = who.split_once('/').expect("ROLE/NAME");
    let identity = pki::Identity { cell, role: role.parse().expect("a role"), name: name.to_owned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let world = OsHost::world(runtime.handle().clone(), home);
    let authority = Authority::load(&identity.cell, &read("pki/authority.crt"), &read("pki/authority.key"));
    let issued = authority.expect("the authority").issue_for(&world, &identity, span).expect("a certificate");
    (issued.certificate_pem, issued.key_pem)
}
