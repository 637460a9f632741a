//! Who may call a method is decided for every method: the table of `rpc` and the services under `proto/` name the same.

use std::collections::BTreeSet;

use super::sources::Sources;

/// Where the table is.
const TABLE: &str = "crates/rpc/src/authz.rs";

pub(super) fn check(sources: &Sources) -> Vec<String> {
    let Some(table) = sources.get(TABLE) else { return vec![format!("{TABLE} is gone, and with it the rules")] };
    let declared: BTreeSet<String> = sources.ending(".proto").flat_map(|file| declared(&file.text)).collect();
    let ruled = ruled(&table.text);
    let unruled = declared.difference(&ruled).map(|method| format!("{TABLE}: no rule says who may call {method}"));
    let unknown = ruled.difference(&declared).map(|method| format!("{TABLE}: {method} is in no file under proto/"));
    unruled.chain(unknown).collect()
}

/// The methods that a protocol declares, as they are called: `/package.Service/Method`.
fn declared(proto: &str) -> Vec<String> {
    let (mut package, mut service, mut methods) = ("", "", Vec::new());
    for line in proto.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
        let mut words = line.split(|c: char| c.is_whitespace() || "(){;".contains(c)).filter(|word| !word.is_empty());
        match (words.next(), words.next()) {
            (Some("package"), Some(name)) => package = name,
            (Some("service"), Some(name)) => service = name,
            (Some("rpc"), Some(name)) => methods.push(format!("/{package}.{service}/{name}")),
            _ => {}
        }
    }
    methods
}

/// The methods that the table names, its tests aside.
fn ruled(table: &str) -> BTreeSet<String> {
    let product = table.split("#[cfg(test)]").next().unwrap_or_default();
    product.split('"').filter(|text| text.starts_with("/mainstay.")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_from_protocols_and_from_the_table() {
        let proto = "package mainstay.agent.v1;\n// rpc Old(A) returns (B);\nservice AgentService {\n  \
                     rpc Perform(PerformRequest) returns (PerformResponse);\n}\n";
        assert_eq!(declared(proto), ["/mainstay.agent.v1.AgentService/Perform"]);
        let table = "rule(\n\"/mainstay.agent.v1.AgentService/Perform\", &[])\n#[cfg(test)] \"/mainstay.x/Y\"";
        assert_eq!(ruled(table).into_iter().collect::<Vec<_>>(), ["/mainstay.agent.v1.AgentService/Perform"]);
    }
}
