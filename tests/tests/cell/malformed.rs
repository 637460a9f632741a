//! Whatever a client sends, it is answered with the right refusal in the API's own format, and never with our fault.

use cell_tests::{Answer, Cell, Client, written_bytes};
use serde_json::{Value, json};

/// Every shape of request with a body, with a server's id for `{id}` and an image's for `{image}`.
const WITH_BODY: &[(&str, &str)] = &[
    ("POST", "/identity/v3/auth/tokens"),
    ("POST", "/identity/v3/users"),
    ("POST", "/identity/v3/projects"),
    ("POST", "/identity/v3/domains"),
    ("POST", "/identity/v3/groups"),
    ("POST", "/identity/v3/roles"),
    ("POST", "/identity/v3/regions"),
    ("POST", "/identity/v3/services"),
    ("POST", "/identity/v3/endpoints"),
    ("POST", "/compute/v2.1/servers"),
    ("PUT", "/compute/v2.1/servers/{id}"),
    ("POST", "/compute/v2.1/servers/{id}/action"),
    ("POST", "/compute/v2.1/servers/{id}/metadata"),
    ("PUT", "/compute/v2.1/servers/{id}/metadata"),
    ("PUT", "/compute/v2.1/servers/{id}/metadata/key"),
    ("PUT", "/compute/v2.1/servers/{id}/tags"),
    ("POST", "/image/v2/images"),
    ("POST", "/image/v2/images/{image}/members"),
    ("POST", "/network/v2.0/networks"),
    ("POST", "/network/v2.0/subnets"),
    ("POST", "/network/v2.0/ports"),
    ("POST", "/network/v2.0/security-groups"),
    ("POST", "/network/v2.0/security-group-rules"),
    ("POST", "/network/v2.0/routers"),
];

/// Each is refused wherever it is sent.
const NO_JSON_OBJECT: &[&[u8]] = &[
    b"",
    b"{",
    b"[]",
    b"null",
    b"true",
    b"7",
    b"\"text\"",
    b"{\"a\":}",
    b"{\"a\":1}}",
    b"\xff\xfe{}",
    b"{\"\xc3\x28\":1}",
];

const READ: &[&str] = &[
    "/identity/v3/users",
    "/compute/v2.1/servers",
    "/compute/v2.1/servers/detail",
    "/compute/v2.1/servers/{id}",
    "/compute/v2.1/servers/{id}/os-instance-actions",
    "/image/v2/images",
    "/network/v2.0/networks",
    "/network/v2.0/ports",
];

struct Shop {
    cell: Cell,
    admin: Client,
    server: String,
    image: String,
}

impl Shop {
    fn open() -> Shop {
        let cell = Cell::start(1);
        let admin = cell.admin();
        let server = admin.create("victim");
        admin.reaches(&server, "ACTIVE");
        let image = admin.get("/image/v2/images?name=tiny").is(200).text("/images/0/id");
        Shop { cell, admin, server, image }
    }

    fn path(&self, shape: &str) -> String {
        shape.replace("{id}", &self.server).replace("{image}", &self.image)
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
    // The image API answers with a page for people, as its clients expect.
    let page = answer.body.as_str().is_some_and(|text| sent.contains("/image/") && text.contains("<h1>4"));
    let said = page || answer.body.as_object().is_some_and(|object| object.values().any(is_error));
    assert!(said, "{sent}: no error in the API's format: {} {}", answer.status, answer.body);
    assert!(answer.request_id.starts_with("req-"), "{sent}: an answer without the request's id");
}

#[test]
fn bodies_that_are_no_objects_are_refused() {
    let shop = Shop::open();
    let deep = [b"{\"a\":".repeat(5000), b"[".repeat(5000)].concat();
    let huge = format!("{{\"server\":{{\"name\":\"{}\"}}}}", "x".repeat(2 << 20));
    for (method, shape) in WITH_BODY {
        let path = shop.path(shape);
        for bytes in NO_JSON_OBJECT.iter().copied().chain([&*deep, huge.as_bytes()]) {
            let sent = format!("{method} {path} {}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
            // A connection of its own: where much was refused unread, the connection is closed.
            let client = shop.cell.anonymous().with_token(shop.admin.token());
            match client.send(method, &path, &[], Some(bytes)) {
                Ok(answer) => refused(&answer, &sent),
                // It answers and hangs up before all of it was sent: this client sees only the hanging up.
                Err(error) => assert!(bytes.len() > 1 << 20, "{sent}: {error}"),
            }
        }
    }
    shop.is_well();
}

#[test]
fn wrong_types_and_unknown_fields_are_refused() {
    let shop = Shop::open();
    let values =
        [json!(null), json!(true), json!(-1), json!(1e300), json!("x"), json!([]), json!([[]]), json!({ "a": {} })];
    // The one key that each body has, with anything in it but what belongs there.
    for (method, shape) in WITH_BODY {
        let resource = shape.rsplit('/').find(|word| !word.starts_with('{')).unwrap_or_default();
        let singular = resource.strip_suffix('s').unwrap_or(resource).replace('-', "_");
        for key in ["auth", "reboot", "os-stop", "createImage", "metadata", "meta", "tags", &singular] {
            for value in &values {
                let body = json!({ key: value });
                let answer = shop.admin.ask(method, &shop.path(shape), Some(&body)).expect("an answer");
                assert!(answer.status < 500, "{method} {shape} {body}: {} {}", answer.status, answer.body);
                if key == "os-stop" && shape.ends_with("action") {
                    shop.admin.reaches(&shop.server, "SHUTOFF");
                    shop.admin.act(&shop.server, &json!({ "os-start": null }));
                    shop.admin.reaches(&shop.server, "ACTIVE");
                }
            }
        }
    }
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
fn heads_and_tokens_that_are_none_are_refused() {
    let shop = Shop::open();
    for bytes in [200 << 10, 1 << 20] {
        let long = "x".repeat(bytes);
        // The server may hang up before the client has sent all: then no answer is read.
        if let Ok(answer) = shop.admin.send("GET", "/compute/v2.1/servers", &[("x-long", &long)], None) {
            assert!(matches!(answer.status, 400 | 431), "{} {}", answer.status, answer.body);
        }
    }
    let long = "y".repeat(30 << 10);
    let dots = format!("{}.{}.{}", "a".repeat(200), "b".repeat(200), "c".repeat(200));
    let anonymous = shop.cell.anonymous();
    for token in ["", "x", "gAAAAA", "..", &long, &dots] {
        for shape in READ {
            let answer = anonymous.with_token(token).get(&shop.path(shape));
            assert_eq!(answer.status, 401, "{shape} with the token {:.20}: {}", token, answer.body);
        }
        let answer = anonymous.with_token(token).post("/compute/v2.1/servers", &json!({}));
        assert_eq!(answer.status, 401, "{}", answer.body);
    }
    // A token that was changed in one place is none.
    let issued = shop.admin.token().to_owned();
    for at in [0, issued.len() / 3, issued.len() / 2, issued.len() - 2] {
        let mut changed = issued.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("tokens are ASCII");
        anonymous.with_token(&changed).get("/compute/v2.1/servers").is(401);
    }
    let mut password = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": {
        "name": "admin", "password": "wrong", "domain": { "id": "default" } } } } } });
    anonymous.post("/identity/v3/auth/tokens", &password).is(401);
    password["auth"]["identity"]["password"]["user"]["name"] = json!("nobody");
    anonymous.post("/identity/v3/auth/tokens", &password).is(401);
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
