//! A cell with one thing of each kind in it, which belongs to the administrator; and one who walks its routes.

use std::collections::BTreeMap;
use std::time::Duration;

use cell_tests::{Cell, Client, Door, Raw, RawAnswer, Route};
use identity::record::TokenKey;
use identity::token::{self, Claims};
use serde_json::{Value, json};
use store::Record;
use world::Wall;

/// Things of a project: nobody else may learn that they exist. By the word that stands before their id in a path.
const OF_A_PROJECT: &[&str] = &[
    "servers",
    "images",
    "networks",
    "subnets",
    "ports",
    "security-groups",
    "security-group-rules",
    "routers",
    "os-server-groups",
    "projects",
    "users",
];

pub(super) struct Shop {
    pub(super) cell: Cell,
    pub(super) routes: Vec<Route>,
    admin: Client,
    /// An id of each kind, by the word that stands before it in a path.
    things: BTreeMap<&'static str, String>,
}

impl Shop {
    pub(super) fn open() -> Shop {
        let cell = Cell::start(1);
        let admin = cell.admin();
        let routes = cell.routes();
        assert!(routes.len() > 200, "the table of routes is short: {}", routes.len());
        let things = things(&admin);
        Shop { cell, routes, admin, things }
    }

    /// The administrator's token as a header.
    pub(super) fn admin(&self) -> String {
        format!("x-auth-token: {}\r\n", self.admin.token())
    }

    /// The token, as a header, of a user who is member of a project of its own.
    pub(super) fn stranger(&self) -> String {
        let admin = &self.admin;
        let project = json!({ "project": { "name": "others" } });
        let project = admin.post("/identity/v3/projects", &project).is(201).text("/project/id");
        let user = json!({ "user": { "name": "stranger", "password": "s3cret-enough" } });
        let user = admin.post("/identity/v3/users", &user).is(201).text("/user/id");
        let role = admin.get("/identity/v3/roles?name=member").is(200).text("/roles/0/id");
        let grant = format!("/identity/v3/projects/{project}/users/{user}/roles/{role}");
        admin.ask("PUT", &grant, None).expect("an answer").is(204);
        let stranger = self.cell.anonymous().login("stranger", "s3cret-enough", "others");
        format!("x-auth-token: {}\r\n", stranger.token())
    }

    /// A route's path with ids of things that exist, wherever their kind is known.
    pub(super) fn fill(&self, path: &str) -> String {
        with_ids(path, |word, _| self.things.get(word).cloned().unwrap_or_else(|| "unknown".to_owned()))
    }

    /// Tokens that are none, with what is wrong with them. Some are signed with the cell's own key, which this reads from
    /// the cell's files while it is stopped.
    pub(super) fn bad_tokens(&mut self) -> Vec<(&'static str, Option<String>)> {
        let good = self.admin.token().to_owned();
        self.cell.stop();
        let records = self.cell.records();
        let keys: Vec<TokenKey> = records
            .under(TokenKey::TABLE)
            .iter()
            .map(|key| TokenKey::decode(&records.records[*key]).expect("a key is readable").clone())
            .collect();
        self.cell.run();
        self.cell.all_nodes_up();
        let find = |id: [u8; 4]| keys.iter().find(|key| key.id == id).cloned();
        let claims = token::verify(&good, Wall::from_micros(0), find).expect("a token that was just issued");
        let key = keys.last().expect("a cell has a key");
        let expired = Wall::from_micros(claims.issued.as_micros() + 1);
        let stranger = Claims { user: "nobody-at-all".parse().expect("an id"), ..claims.clone() };
        let forged = TokenKey { seed: [7; 32], ..key.clone() };
        let unknown = TokenKey { id: [7; 4], ..forged.clone() };
        let flipped = {
            let mut bytes = good.clone().into_bytes();
            let last = bytes.len() - 10;
            bytes[last] = if bytes[last] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("tokens are ASCII")
        };
        let text = |text: &str| Some(text.to_owned());
        vec![
            ("no", None),
            ("an empty", text("")),
            ("a garbage", text("gAAAAABgarbage")),
            ("a very long", Some("y".repeat(30 << 10))),
            ("a bytes", text("AQ\u{e9}\u{fc}")),
            ("a truncated", text(&good[..good.len() - 7])),
            ("a flipped", Some(flipped)),
            ("an expired", Some(token::sign(&Claims { expires: expired, ..claims.clone() }, key))),
            ("a stranger's", Some(token::sign(&stranger, key))),
            ("a forged", Some(token::sign(&claims, &forged))),
            ("another cell's", Some(token::sign(&claims, &unknown))),
        ]
    }

    /// Nobody has been harmed, and nothing that was refused was made.
    pub(super) fn is_well(&self) {
        let server = self.admin.reaches(&self.things["servers"], "ACTIVE");
        assert_eq!(server["name"], "victim");
        assert_eq!(self.admin.servers().len(), 1);
        self.cell.audits_clean(Duration::from_secs(60));
    }
}

/// One thing of each kind.
fn things(admin: &Client) -> BTreeMap<&'static str, String> {
    let make = |path: &str, kind: &str, body: Value| {
        admin.post(path, &json!({ kind: body })).is_made().text(&format!("/{kind}/id"))
    };
    let network = make("/network/v2.0/networks", "network", json!({ "name": "own" }));
    let subnet = json!({ "network_id": network, "cidr": "10.9.0.0/24", "ip_version": 4 });
    let subnet = make("/network/v2.0/subnets", "subnet", subnet);
    let port = make("/network/v2.0/ports", "port", json!({ "network_id": network }));
    let group = make("/network/v2.0/security-groups", "security_group", json!({ "name": "own" }));
    let rule = json!({ "security_group_id": group, "direction": "ingress", "protocol": "icmp" });
    let rule = make("/network/v2.0/security-group-rules", "security_group_rule", rule);
    let router = make("/network/v2.0/routers", "router", json!({ "name": "own" }));
    let image = json!({ "name": "own", "disk_format": "raw", "container_format": "bare", "visibility": "private" });
    let image = admin.post("/image/v2/images", &image).is(201).text("/id");
    let policy = json!({ "name": "own", "policies": ["affinity"] });
    let server_group = make("/compute/v2.1/os-server-groups", "server_group", policy);
    make_keypair(admin);
    let server = admin.create("victim");
    admin.reaches(&server, "ACTIVE");
    let user = admin.get("/identity/v3/users?name=admin").is(200).text("/users/0/id");
    let role = admin.get("/identity/v3/roles?name=reader").is(200).text("/roles/0/id");
    let provider = admin.get("/placement/resource_providers").is(200).text("/resource_providers/0/uuid");
    BTreeMap::from([
        ("servers", server),
        ("images", image),
        ("networks", network),
        ("subnets", subnet),
        ("ports", port),
        ("security-groups", group),
        ("security-group-rules", rule),
        ("routers", router),
        ("os-server-groups", server_group),
        ("os-keypairs", "own".to_owned()),
        ("flavors", "1".to_owned()),
        ("projects", admin.project.clone()),
        ("quotas", admin.project.clone()),
        ("os-quota-sets", admin.project.clone()),
        ("os-simple-tenant-usage", admin.project.clone()),
        ("users", user),
        ("roles", role),
        ("domains", "default".to_owned()),
        ("resource_providers", provider),
    ])
}

fn make_keypair(admin: &Client) {
    admin.post("/compute/v2.1/os-keypairs", &json!({ "keypair": { "name": "own" } })).is_made();
}

/// A path with something in the place of each parameter: it is told the word before it and the parameter's name.
pub(super) fn with_ids(path: &str, id_of: impl Fn(&str, &str) -> String) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in path.split('/') {
        let name = word.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
        words.push(match name {
            Some(name) => id_of(path_word(path, words.len()), name),
            None => word.to_owned(),
        });
    }
    words.join("/")
}

fn path_word(path: &str, at: usize) -> &str {
    path.split('/').nth(at.wrapping_sub(1)).unwrap_or_default()
}

/// Whether the first parameter of a path is the id of something that a project owns.
pub(super) fn names_a_thing_of_a_project(path: &str) -> bool {
    let Some(at) = path.split('/').position(|word| word.starts_with('{')) else { return false };
    OF_A_PROJECT.contains(&path_word(path, at))
}

/// Whether two routes answer a common path.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    let (one, other): (Vec<&str>, Vec<&str>) = (one.split('/').collect(), other.split('/').collect());
    one.len() == other.len()
        && one.iter().zip(&other).all(|(one, other)| one == other || one.starts_with('{') || other.starts_with('{'))
}

/// One connection after the other to a cell.
pub(super) struct Speech {
    door: Door,
    open: Option<Raw>,
}

impl Speech {
    pub(super) fn new(shop: &Shop) -> Speech {
        Speech { door: shop.cell.door(), open: None }
    }

    /// One request, which must be answered.
    #[track_caller]
    pub(super) fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> RawAnswer {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: cell\r\n{headers}content-length: {}\r\n\r\n", body.len());
        let request = [head.as_bytes(), body].concat();
        let mut raw = self.open.take().unwrap_or_else(|| self.door.enter());
        let said = raw.say(&request);
        let answer = raw.answer(method == "HEAD");
        let answer = answer.unwrap_or_else(|error| panic!("{method} {path:.200}: {error} (sending: {said:?})"));
        said.unwrap_or_else(|error| panic!("{method} {path:.200}: hung up on while sending: {error}"));
        if !answer.closes() {
            self.open = Some(raw);
        }
        answer
    }
}
