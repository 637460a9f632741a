//! Network namespaces by name: made, set up, listed, removed.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::NetError;
use crate::sys::in_namespace;
use crate::tools;

const DIRECTORY: &str = "/run/netns";

/// The file that stands for the namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// The names of all namespaces on the machine.
pub(crate) fn list() -> Result<Vec<String>, NetError> {
    let failed = || NetError::io(format!("list {DIRECTORY}"));
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed())?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes sure that the namespace exists. True: it was made just now.
pub(crate) fn ensure(name: &str) -> Result<bool, NetError> {
    if path(name).exists() {
        // A crash of whoever made it can leave the file without a namespace behind it.
        if in_namespace(&path(name), || Ok(())).is_ok() {
            return Ok(false);
        }
        tools::ip(&["netns", "delete", name])?;
    }
    tools::ip(&["netns", "add", name])?;
    Ok(true)
}

/// Writes kernel settings inside the namespace: (path below `/proc/sys/net`, value).
pub(crate) fn settings(name: &str, values: &[(String, &str)]) -> Result<(), NetError> {
    let write = || {
        for (setting, value) in values {
            std::fs::write(Path::new("/proc/sys/net").join(setting), value)
                .map_err(|error| io::Error::new(error.kind(), format!("net/{setting}: {error}")))?;
        }
        Ok(())
    };
    in_namespace(&path(name), write).map_err(NetError::io(format!("set up the namespace {name}")))
}

/// Removes the namespace and every device in it. A guest may still hold a tap's descriptor; the tap is gone for it.
pub(crate) fn remove(name: &str) -> Result<(), NetError> {
    if !path(name).exists() {
        return Ok(());
    }
    // The kernel keeps a namespace, and what is in it, as long as any descriptor leads there. So its devices are
    // removed by name, and do not have to wait for that.
    if let Ok(links) = tools::links(Some(name)) {
        for device in links.into_keys().filter(|device| device != "lo") {
            // The other end of a pair may have taken it along just now.
            let _gone = tools::ip(&["-n", name, "link", "delete", &device]);
        }
    }
    tools::ip(&["netns", "delete", name]).map(drop)
}

/// What bridged packets need in order to be seen by the firewall; loads the kernel's part for it if necessary.
pub(crate) fn prepare_bridge_filter() -> Result<(), NetError> {
    let ours = Path::new("/proc/sys/net/bridge");
    if ours.exists() {
        return Ok(());
    }
    tools::modprobe("br_netfilter")?;
    // Loading it switches it on for the host's own bridges too, which worked without until now.
    for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables"] {
        std::fs::write(ours.join(setting), "0").map_err(NetError::io(format!("set net/bridge/{setting}")))?;
    }
    Ok(())
}
