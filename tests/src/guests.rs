//! A cell with real guests, and what a tenant does with them.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Cell, Client, Login, Machine, until};

const KEY: &str = "test";
/// Emulated, on a machine that does other things too.
const ANSWERS_WITHIN: Duration = Duration::from_secs(120);
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// A running cell with one node, and its administrator.
pub struct Guests {
    /// The cell.
    pub cell: Cell,
    /// Its administrator.
    pub admin: Client,
    /// What the cell makes of this machine.
    pub machine: Machine,
    /// Who logs in to guests.
    pub login: Login,
    /// All servers that were ever accepted.
    pub servers: Vec<String>,
}

impl Guests {
    /// Starts `cell`, which was made by [`Cell::of_guests`], and lets SSH in to its guests.
    pub fn start(mut cell: Cell) -> Guests {
        cell.run();
        cell.all_nodes_up();
        let login = Login::new(cell.dir());
        let admin = cell.admin();
        let key = json!({ "keypair": { "name": KEY, "public_key": login.public() } });
        let answer = admin.post("/compute/v2.1/os-keypairs", &key);
        assert!(matches!(answer.status, 200 | 201), "{}", answer.body);
        let groups = format!("/network/v2.0/security-groups?name=default&project_id={}", admin.project);
        let group = admin.get(&groups).is(200).text("/security_groups/0/id");
        let rule = json!({ "security_group_rule": {
            "security_group_id": group, "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
            "port_range_min": 22, "port_range_max": 22,
        }});
        admin.post("/network/v2.0/security-group-rules", &rule).is(201);
        let machine = Machine::of(&cell.home());
        Guests { cell, admin, machine, login, servers: Vec::new() }
    }

    /// The body of a request for a server that knows our key.
    pub fn server(&self, name: &str, user_data: &str) -> Value {
        let mut body = self.admin.server(name);
        body["server"]["key_name"] = json!(KEY);
        if !user_data.is_empty() {
            body["server"]["user_data"] = json!(base64(user_data.as_bytes()));
        }
        body
    }

    /// Creates a server that knows our key; its id.
    pub fn create(&mut self, name: &str, user_data: &str) -> String {
        let body = self.server(name, user_data);
        let id = self.admin.post("/compute/v2.1/servers", &body).is(202).text("/server/id");
        self.servers.push(id.clone());
        id
    }

    /// Creates a server and waits until nothing is being done to it: its id, its status, and its fault if it has one.
    pub fn try_create(&mut self, name: &str) -> (String, String, String) {
        let id = self.create(name, "");
        let server = until("the create has ended", SETTLES_WITHIN, || {
            let shown = self.admin.show(&id).body["server"].clone();
            let ended = shown["OS-EXT-STS:task_state"].is_null() && shown["status"] != "BUILD";
            if ended { Ok(shown) } else { Err(shown.to_string()) }
        });
        let text = |place: &str| server.pointer(place).and_then(Value::as_str).unwrap_or_default().to_owned();
        (id, text("/status"), text("/fault/message"))
    }

    /// The first IPv4 address of a server.
    pub fn address(&self, id: &str) -> String {
        let shown = self.admin.show(id).is(200).body;
        let all = shown["server"]["addresses"].as_object().into_iter().flatten();
        let mut all = all.flat_map(|(_, list)| list.as_array().into_iter().flatten());
        let four = all.find(|address| address["version"] == 4).and_then(|address| address["addr"].as_str());
        four.unwrap_or_else(|| panic!("no IPv4 address: {shown}")).to_owned()
    }

    /// Waits until a guest lets us in, and returns what `command` says there.
    pub fn says(&self, address: &str, command: &str) -> String {
        until(&format!("`{command}` at {address}"), ANSWERS_WITHIN, || self.login.run(address, command))
    }

    /// Deletes a server, and waits until it is gone for its tenant.
    pub fn delete(&self, id: &str) {
        self.admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204);
        self.admin.vanishes(id);
    }

    /// Deletes all servers. Then nothing is left of any that there ever was: not in the cell, not on this machine.
    pub fn end_empty(&self) {
        let all: BTreeSet<String> =
            self.admin.servers().iter().filter_map(|server| server["id"].as_str()).map(str::to_owned).collect();
        all.iter().for_each(|id| drop(self.admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204)));
        all.iter().for_each(|id| self.admin.vanishes(id));
        self.leaves_nothing();
        assert_eq!(self.limits(), [0, 0, 0], "servers, cores and memory of the quota");
    }

    /// Waits until the nodes have nothing of any server, claimed or real.
    pub fn leaves_nothing(&self) {
        self.cell.settles_empty(SETTLES_WITHIN);
        until("nothing is left on this machine", SETTLES_WITHIN, || {
            let left = self.machine.left(&self.servers);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// What the quota counts: servers, cores, MiB of memory.
    pub fn limits(&self) -> [u64; 3] {
        let limits = self.admin.get("/compute/v2.1/limits").is(200).body;
        ["totalInstancesUsed", "totalCoresUsed", "totalRAMUsed"]
            .map(|name| limits["limits"]["absolute"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {limits}")))
    }

    /// What placement counts on the node: processors, MiB of memory, GB of disk.
    pub fn usages(&self) -> [u64; 3] {
        let node = self.admin.get("/placement/resource_providers?name=node-1").is(200);
        let path = format!("/placement/resource_providers/{}/usages", node.text("/resource_providers/0/uuid"));
        let usages = self.admin.get(&path).is(200).body;
        // What nothing uses may be left out.
        ["VCPU", "MEMORY_MB", "DISK_GB"].map(|name| usages["usages"][name].as_u64().unwrap_or(0))
    }

    /// Ports of servers.
    pub fn ports(&self) -> usize {
        let ports = self.admin.get("/network/v2.0/ports").is(200).body;
        let of_server = |port: &&Value| port["device_owner"].as_str().is_some_and(|owner| owner.starts_with("compute"));
        ports["ports"].as_array().into_iter().flatten().filter(of_server).count()
    }
}

/// As user data travels.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for piece in bytes.chunks(3) {
        let byte = |at: usize| piece.get(at).copied().unwrap_or(0);
        let bits = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= piece.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    out
}
