//! What the walk along every route cannot know: fields of a new server, wrong passwords, and what exactly is told of things
//! that belong to others.

use cell_tests::{Answer, Cell, Client, written_bytes};
use serde_json::{Value, json};

struct Shop {
    cell: Cell,
    admin: Client,
    server: String,
}

impl Shop {
    fn open() -> Shop {
        let cell = Cell::start(1);
        let admin = cell.admin();
        let server = admin.create("victim");
        admin.reaches(&server, "ACTIVE");
        Shop { cell, admin, server }
    }

    /// Nobody has been harmed.
    fn is_well(&self) {
        let server = self.admin.reaches(&self.server, "ACTIVE");
        assert_eq!(server["name"], "victim");
        assert_eq!(self.admin.servers().len(), 1, "nothing that was refused was made");
        assert!(written_bytes(self.cell.dev_pid()) > 0, "the process is the same");
    }
}

#[track_caller]
fn refused(answer: &Answer, sent: &str) {
    assert!((400..500).contains(&answer.status), "{sent}: {} {}", answer.status, answer.body);
    let is_error = |value: &Value| value.is_object() || value.is_string();
    let said = answer.body.as_object().is_some_and(|object| object.values().any(is_error));
    assert!(said, "{sent}: no error in the API's format: {} {}", answer.status, answer.body);
    assert!(answer.request_id.starts_with("req-"), "{sent}: an answer without the request's id");
}

#[test]
fn a_new_server_with_a_wrong_field_is_refused() {
    let shop = Shop::open();
    let good = shop.admin.server("wrong");
    for field in [
        "name",
        "flavorRef",
        "imageRef",
        "networks",
        "metadata",
        "security_groups",
        "key_name",
        "user_data",
        "min_count",
        "max_count",
        "config_drive",
        "availability_zone",
        "personality",
        "no_such_field",
    ] {
        for value in [json!(7.5), json!([7]), json!({ "a": [] }), json!(["\u{0}"])] {
            let mut body = good.clone();
            body["server"][field] = value;
            let answer = shop.admin.post("/compute/v2.1/servers", &body);
            refused(&answer, &body.to_string());
        }
    }
    shop.is_well();
}

#[test]
fn wrong_passwords_and_unknown_users_get_the_same_answer() {
    let shop = Shop::open();
    let anonymous = shop.cell.anonymous();
    let mut password = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": {
        "name": "admin", "password": "wrong", "domain": { "id": "default" } } } } } });
    let known = anonymous.post("/identity/v3/auth/tokens", &password).is(401);
    password["auth"]["identity"]["password"]["user"]["name"] = json!("nobody");
    let unknown = anonymous.post("/identity/v3/auth/tokens", &password).is(401);
    assert_eq!(known.body, unknown.body, "nobody learns who exists");
    shop.is_well();
}

#[test]
fn what_belongs_to_others_is_not_there() {
    let shop = Shop::open();
    let admin = &shop.admin;
    let port = admin.get(&format!("/network/v2.0/ports?device_id={}", shop.server)).is(200).text("/ports/0/id");
    let project = json!({ "project": { "name": "others" } });
    let project = admin.post("/identity/v3/projects", &project).is(201).text("/project/id");
    let user = json!({ "user": { "name": "stranger", "password": "s3cret-enough" } });
    let user = admin.post("/identity/v3/users", &user).is(201).text("/user/id");
    let role = admin.get("/identity/v3/roles?name=member").is(200).text("/roles/0/id");
    let grant = format!("/identity/v3/projects/{project}/users/{user}/roles/{role}");
    admin.ask("PUT", &grant, None).expect("an answer").is(204);
    let stranger = shop.cell.anonymous().login("stranger", "s3cret-enough", "others");

    let server = format!("/compute/v2.1/servers/{}", shop.server);
    let absent = |method: &str, path: &str, body: Option<Value>| {
        let answer = stranger.ask(method, path, body.as_ref()).expect("an answer");
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
    };
    absent("GET", &server, None);
    absent("DELETE", &server, None);
    absent("PUT", &server, Some(json!({ "server": { "name": "mine" } })));
    for action in ["os-stop", "os-start", "pause", "lock"] {
        absent("POST", &format!("{server}/action"), Some(json!({ action: null })));
    }
    for part in ["metadata", "tags", "os-instance-actions", "os-interface", "ips", "os-security-groups"] {
        absent("GET", &format!("{server}/{part}"), None);
    }
    absent("GET", &format!("/network/v2.0/ports/{port}"), None);
    absent("DELETE", &format!("/network/v2.0/ports/{port}"), None);
    assert!(stranger.servers().is_empty());
    let all = stranger.get("/compute/v2.1/servers?all_tenants=1");
    assert!(all.status == 403 || all.body["servers"] == json!([]), "{} {}", all.status, all.body);
    let mut theirs = stranger.server("theirs");
    theirs["server"]["networks"] = json!([{ "port": port }]);
    refused(&stranger.post("/compute/v2.1/servers", &theirs), "a server on a port of others");
    shop.is_well();
}
