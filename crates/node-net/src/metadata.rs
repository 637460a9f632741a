//! What the metadata service answers for a path: pure. The tree is what the port's description holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use driver::Documents;

/// A port's documents by path, without slashes at the ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Bytes>);

/// What is found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) kind: &'static str,
    pub(crate) content: Bytes,
}

impl Tree {
    pub(crate) fn new(documents: &Documents) -> Tree {
        let entry = |(path, content): (&str, &[u8])| (normal(path), Bytes::copy_from_slice(content));
        Tree(documents.iter().map(entry).collect())
    }

    /// The document at `path`, or the list of what lies below it.
    pub(crate) fn get(&self, path: &str) -> Option<Document> {
        let path = normal(path);
        if let Some(content) = self.0.get(&path) {
            let kind = if path.ends_with(".json") { "application/json" } else { "text/plain; charset=UTF-8" };
            return Some(Document { kind, content: content.clone() });
        }
        let names = self.below(&path);
        if names.is_empty() {
            return None;
        }
        let list = names.into_iter().collect::<Vec<_>>().join("\n");
        Some(Document { kind: "text/plain; charset=UTF-8", content: Bytes::from(list) })
    }

    /// What lies directly below a directory. In Amazon's tree readers walk by the slashes at the ends of names; in
    /// OpenStack's names are plain.
    fn below(&self, directory: &str) -> BTreeSet<String> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let slash = format!("{prefix}/").contains("meta-data/");
        let rests = self.0.keys().filter_map(|path| path.strip_prefix(&prefix));
        rests
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) if slash => format!("{name}/"),
                Some((name, _)) => name.to_string(),
                None => rest.to_string(),
            })
            .collect()
    }
}

/// A path without empty parts.
fn normal(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(tree: &Tree, path: &str) -> Option<String> {
        tree.get(path).map(|document| String::from_utf8(document.content.to_vec()).unwrap())
    }

    #[test]
    fn documents_and_lists() {
        let documents = [
            ("openstack/latest/meta_data.json", "{}"),
            ("openstack/latest/user_data", "#!"),
            ("latest/meta-data/local-hostname", "h"),
            ("latest/meta-data/public-keys/", "0=key"),
            ("latest/meta-data/public-keys/0/openssh-key", "ssh"),
        ];
        let tree = Tree::new(&documents.into_iter().collect());
        let cases = [
            ("/", Some("latest\nopenstack")),
            ("/openstack", Some("latest")),
            ("/openstack/latest/", Some("meta_data.json\nuser_data")),
            ("//openstack//latest/meta_data.json", Some("{}")),
            ("/latest/meta-data/", Some("local-hostname\npublic-keys\npublic-keys/")),
            ("/latest/meta-data/public-keys/", Some("0=key")),
            ("/latest/meta-data/public-keys/0/", Some("openssh-key")),
            ("/openstack/late", None),
            ("/openstack/latest/vendor_data.json", None),
        ];
        for (path, expected) in cases {
            assert_eq!(text(&tree, path).as_deref(), expected, "{path}");
        }
        assert_eq!(tree.get("openstack/latest/meta_data.json").unwrap().kind, "application/json");
    }
}
