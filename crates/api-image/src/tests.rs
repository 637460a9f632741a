//! The router as clients meet it, over the memory store and a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::{Authenticator, Platform, Unobserved};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use identity::{AuthError, ProjectScope};
use images::{Images, Limits};
use serde_json::{Value, json};
use tower::ServiceExt;
use world::{Wall, World};

const NEWER: &str = "application/openstack-images-v2.1-json-patch";
const OLDER: &str = "application/openstack-images-v2.0-json-patch";

/// A token is `project:role`.
struct Anyone;

#[async_trait]
impl Authenticator for Anyone {
    async fn authenticate(&self, token: &str) -> Result<Arc<identity::Caller>, AuthError> {
        let (project, role) = token.split_once(':').ok_or(AuthError::Invalid("no such token"))?;
        let mut roles = vec![role.to_owned()];
        match role {
            "admin" => roles.extend(["member".to_owned(), "reader".to_owned()]),
            "member" => roles.push("reader".to_owned()),
            _ => {}
        }
        let domain = ("default".parse().unwrap(), "Default".to_owned());
        let project = ProjectScope { id: project.parse().unwrap(), name: project.into(), domain: domain.clone() };
        Ok(Arc::new(identity::Caller {
            user_id: "someone".parse().unwrap(),
            user_name: "someone".into(),
            user_domain: domain,
            project: Some(project),
            domain: None,
            roles,
            issued: Wall::from_micros(0),
            expires: Wall::from_micros(u64::MAX),
            audit_ids: Vec::new(),
            methods: Vec::new(),
            application_credential: None,
        }))
    }
}

/// The family, and a directory that ends with the test.
struct Cloud {
    router: Router,
    table: Vec<api::Route>,
    dir: PathBuf,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _left_behind = std::fs::remove_dir_all(&self.dir);
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn is(self, status: u16) -> Answer {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    fn names(&self) -> Vec<String> {
        let images = self.json()["images"].as_array().unwrap().clone();
        images.iter().map(|image| image["name"].as_str().unwrap_or("?").to_owned()).collect()
    }
    fn says(self, text: &str) {
        let body = String::from_utf8_lossy(&self.body);
        assert!(body.contains(text), "{body} should contain {text:?}");
    }
}

impl Cloud {
    async fn new() -> Cloud {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("mainstay-api-image-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let world: World = world::os::OsHost::world(tokio::runtime::Handle::current(), &dir);
        let store = Arc::new(store::memory::open(&world));
        let view = store::View::open(&world, store, images::indexes()).await.unwrap();
        let images = Images::open(&world, view, &dir.join("images"), Limits::default()).await.unwrap();
        let platform = Platform {
            world,
            auth: Arc::new(Anyone),
            observer: Arc::new(Unobserved),
            region: "RegionOne".into(),
            public_url: "https://cloud:8774".into(),
        };
        let (router, table) = crate::routes().build(images, &platform);
        Cloud { router, table, dir }
    }

    async fn send(&self, who: &str, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("x-auth-token", who);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, who: &str, path: &str) -> Answer {
        self.send(who, "GET", path, &[], Vec::new()).await
    }

    async fn json(&self, who: &str, method: &str, path: &str, body: Value) -> Answer {
        self.send(who, method, path, &[("content-type", "application/json")], body.to_string().into_bytes()).await
    }

    async fn patch(&self, who: &str, id: &str, form: &str, body: Value) -> Answer {
        let body = body.to_string().into_bytes();
        self.send(who, "PATCH", &format!("/v2/images/{id}"), &[("content-type", form)], body).await
    }

    async fn put_file(&self, who: &str, id: &str, bytes: &[u8]) -> Answer {
        let octets = [("content-type", "application/octet-stream")];
        self.send(who, "PUT", &format!("/v2/images/{id}/file"), &octets, bytes.to_vec()).await
    }

    /// A new image of `who`, with more members in its body; its id.
    async fn image(&self, who: &str, name: &str, more: Value) -> String {
        let mut body = json!({ "name": name, "disk_format": "raw", "container_format": "bare" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.json(who, "POST", "/v2/images", body).await.is(201).json();
        made["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn versions_and_schemas_are_found() {
    let cloud = Cloud::new().await;
    let versions = cloud.get("", "/").await.is(300).json();
    assert_eq!(versions["versions"][0]["id"], "v2.9");
    assert_eq!(versions["versions"][0]["links"][0]["href"], "https://cloud:8774/image/v2/");
    cloud.get("", "/versions").await.is(200);
    for name in ["image", "images", "member", "members"] {
        assert_eq!(cloud.get("p1:reader", &format!("/v2/schemas/{name}")).await.is(200).json()["name"], name);
    }
    let methods = cloud.get("p1:reader", "/v2/info/import").await.is(200).json();
    assert_eq!(methods["import-methods"]["value"], json!([]));
    cloud.get("nobody", "/v2/images").await.is(401);
    cloud.json("p1:admin", "POST", "/v2/tasks", json!({})).await.is(404);
}

#[tokio::test]
async fn an_image_lives_from_create_to_delete() {
    let cloud = Cloud::new().await;
    let id = cloud.image("p1:member", "one", json!({ "colour": "blue", "tags": ["a"], "min_ram": 64 })).await;
    let path = format!("/v2/images/{id}");
    let file = format!("{path}/file");
    let queued = cloud.get("p1:reader", &path).await.is(200).json();
    for (member, value) in [
        ("status", json!("queued")),
        ("colour", json!("blue")),
        ("visibility", json!("shared")),
        ("size", Value::Null),
        ("checksum", Value::Null),
        ("owner", json!("p1")),
        ("min_ram", json!(64)),
        ("self", json!(path)),
        ("file", json!(file)),
        ("schema", json!("/v2/schemas/image")),
        ("os_hidden", json!(false)),
    ] {
        assert_eq!(queued[member], value, "{member}");
    }
    cloud.get("p1:member", &file).await.is(204);
    cloud.send("p1:member", "PUT", &file, &[("content-type", "application/json")], vec![]).await.is(415);
    cloud.put_file("p1:member", &id, b"QFI\xfb").await.is(400).says("said to be raw");
    cloud.put_file("p1:reader", &id, b"0123456789").await.is(403);
    cloud.put_file("p1:member", &id, b"0123456789").await.is(204);
    cloud.put_file("p1:member", &id, b"0123456789").await.is(409);
    let active = cloud.get("p1:member", &path).await.json();
    assert_eq!((&active["status"], &active["size"]), (&json!("active"), &json!(10)));
    assert_eq!((&active["os_hash_algo"], &active["virtual_size"]), (&json!("sha512"), &json!(10)));
    let whole = cloud.get("p1:member", &file).await.is(200);
    assert_eq!(whole.body, b"0123456789");
    assert_eq!(whole.headers["content-md5"], active["checksum"].as_str().unwrap());
    assert_eq!(whole.headers["content-length"], "10");
    let part = cloud.send("p1:member", "GET", &file, &[("range", "bytes=2-4")], vec![]).await.is(206);
    assert_eq!((part.body.as_slice(), &part.headers["content-range"]), (&b"234"[..], &"bytes 2-4/10".parse().unwrap()));
    cloud.send("p1:member", "GET", &file, &[("range", "bytes=10-")], vec![]).await.is(416);

    cloud.send("p1:member", "POST", &format!("{path}/actions/deactivate"), &[], vec![]).await.is(204);
    cloud.get("p1:member", &file).await.is(403);
    cloud.get("p9:admin", &file).await.is(200);
    cloud.send("p1:member", "POST", &format!("{path}/actions/reactivate"), &[], vec![]).await.is(204);
    cloud.send("p1:member", "PUT", &format!("{path}/tags/b%20c"), &[], vec![]).await.is(204);
    cloud.send("p1:member", "DELETE", &format!("{path}/tags/a"), &[], vec![]).await.is(204);
    cloud.send("p1:member", "DELETE", &format!("{path}/tags/a"), &[], vec![]).await.is(404);
    assert_eq!(cloud.get("p1:member", &path).await.json()["tags"], json!(["b c"]));

    assert_eq!(cloud.get("p1:member", &format!("{path}/tasks")).await.is(200).json(), json!({ "tasks": [] }));
    cloud.get("p2:member", &path).await.is(404);
    cloud.get("p2:member", &format!("{path}/tasks")).await.is(404);
    cloud.send("p2:member", "DELETE", &path, &[], vec![]).await.is(404);
    cloud
        .patch("p1:member", &id, NEWER, json!([{ "op": "replace", "path": "/protected", "value": true }]))
        .await
        .is(200);
    cloud.send("p1:member", "DELETE", &path, &[], vec![]).await.is(403);
    cloud
        .patch("p1:member", &id, NEWER, json!([{ "op": "replace", "path": "/protected", "value": false }]))
        .await
        .is(200);
    cloud.send("p1:reader", "DELETE", &path, &[], vec![]).await.is(403);
    cloud.send("p1:member", "DELETE", &path, &[], vec![]).await.is(204);
    cloud.get("p1:member", &path).await.is(404).says("No image found with ID");
    cloud.get("p1:member", "/v2/images/").await.is(404);
    cloud.get("p1:member", "/v2/images/not-an-id").await.is(404);
}

#[tokio::test]
async fn what_cannot_be_created_is_refused() {
    let cloud = Cloud::new().await;
    let id = "11111111-2222-3333-4444-555555555555";
    cloud.json("p1:member", "POST", "/v2/images", json!({ "id": id })).await.is(201);
    for (who, body, status) in [
        ("p1:member", json!({ "id": id }), 409),
        ("p1:member", json!({ "id": "x" }), 400),
        ("p1:reader", json!({ "name": "x" }), 403),
        ("p1:member", json!({ "visibility": "public" }), 403),
        ("p1:member", json!({ "visibility": "everyone" }), 400),
        ("p1:member", json!({ "owner": "p2" }), 403),
        ("p1:admin", json!({ "owner": "p2", "visibility": "public" }), 201),
        ("p1:member", json!({ "status": "active" }), 403),
        ("p1:member", json!({ "os_glance_failed_import": "x" }), 403),
        ("p1:member", json!({ "locations": [] }), 403),
        ("p1:member", json!({ "disk_format": "vmdk" }), 400),
        ("p1:member", json!({ "container_format": "docker" }), 400),
        ("p1:member", json!({ "min_disk": -1 }), 400),
        ("p1:member", json!({ "min_ram": 1_u64 << 40 }), 400),
        ("p1:member", json!({ "name": "x".repeat(256) }), 400),
        ("p1:member", json!({ "property": { "not": "text" } }), 400),
        ("p1:member", json!({ "tags": "a" }), 400),
        ("p1:member", json!({ "tags": (0..200).map(|n| n.to_string()).collect::<Vec<_>>() }), 413),
        ("p1:member", json!([]), 400),
    ] {
        cloud.json(who, "POST", "/v2/images", body.clone()).await.is(status);
    }
}

#[tokio::test]
async fn patches_change_all_or_nothing() {
    let cloud = Cloud::new().await;
    let id = cloud.image("p1:member", "one", json!({ "a/b": "1", "tags": ["x", "y"] })).await;
    let newer = async |body: Value| cloud.patch("p1:member", &id, NEWER, body).await;
    let changed = newer(json!([
        { "op": "replace", "path": "/name", "value": "two" },
        { "op": "add", "path": "/a~1b", "value": "2" },
        { "op": "add", "path": "/shape", "value": "round" },
        { "op": "replace", "path": "/shape", "value": "square" },
        { "op": "add", "path": "/tags/0", "value": "w" },
        { "op": "remove", "path": "/tags/2" },
    ]));
    let changed = changed.await.is(200).json();
    assert_eq!((&changed["name"], &changed["a/b"], &changed["shape"]), (&json!("two"), &json!("2"), &json!("square")));
    assert_eq!(changed["tags"], json!(["w", "x"]));
    for (body, status) in [
        (json!([{ "op": "remove", "path": "/shape" }, { "op": "remove", "path": "/shape" }]), 409),
        (json!([{ "op": "remove", "path": "/shape" }, { "op": "replace", "path": "/missing", "value": "x" }]), 409),
        (json!([{ "op": "remove", "path": "/name" }]), 403),
        (json!([{ "op": "replace", "path": "/status", "value": "active" }]), 403),
        (json!([{ "op": "add", "path": "/os_glance_foo", "value": "bar" }]), 403),
        (json!([{ "op": "replace", "path": "/visibility", "value": "public" }]), 403),
        (json!([{ "op": "move", "path": "/name" }]), 400),
        (json!([{ "op": "add", "path": "/shape" }]), 400),
        (json!([{ "op": "add", "path": "shape", "value": "x" }]), 400),
        (json!({}), 400),
    ] {
        newer(body.clone()).await.is(status);
    }
    assert_eq!(cloud.get("p1:member", &format!("/v2/images/{id}")).await.json()["shape"], "square");
    cloud.patch("p1:member", &id, "application/json", json!([])).await.is(415);
    let older = json!([{ "replace": "/name", "value": "three" }, { "remove": "/shape" }]);
    assert_eq!(cloud.patch("p1:member", &id, OLDER, older).await.is(200).json()["name"], "three");
    cloud.patch("p1:member", &id, OLDER, json!([{ "add": "/a~1b", "value": "3" }])).await.is(409);
    cloud.put_file("p1:member", &id, b"data").await.is(204);
    newer(json!([{ "op": "replace", "path": "/disk_format", "value": "qcow2" }])).await.is(403);
}

#[tokio::test]
async fn lists_filter_sort_and_page() {
    let cloud = Cloud::new().await;
    let small = cloud.image("p1:member", "small", json!({ "tags": ["t", "u"], "colour": "blue" })).await;
    let large = cloud.image("p1:member", "large", json!({ "tags": ["t"] })).await;
    cloud.image("p1:member", "a,b", json!({ "os_hidden": true, "visibility": "private" })).await;
    cloud.image("p2:admin", "everyone's", json!({ "visibility": "public", "protected": true })).await;
    cloud.image("p2:member", "known", json!({ "visibility": "community" })).await;
    cloud.image("p2:member", "secret", json!({ "visibility": "private" })).await;
    cloud.put_file("p1:member", &small, b"12").await.is(204);
    cloud.put_file("p1:member", &large, b"1234").await.is(204);
    let check = async |who: &str, query: &str, expected: &[&str]| {
        let found = cloud.get(who, &format!("/v2/images?{query}")).await.is(200).names();
        assert_eq!(found, expected, "{who} {query}");
    };
    check("p1:reader", "", &["everyone's", "large", "small"]).await;
    check("p9:admin", "", &["secret", "known", "everyone's", "large", "small"]).await;
    check("p1:reader", "os_hidden=true", &["a,b"]).await;
    check("p1:reader", "os_hidden=true&name=in:%22a,b%22,c", &["a,b"]).await;
    check("p1:reader", "visibility=community", &["known"]).await;
    check("p1:reader", "visibility=public", &["everyone's"]).await;
    check("p1:reader", "visibility=private", &[]).await;
    check("p1:reader", "owner=p1&sort=name:asc", &["large", "small"]).await;
    check("p1:reader", "name=small", &["small"]).await;
    check("p1:reader", &format!("id=in:{small},{large}&sort_key=size&sort_dir=asc"), &["small", "large"]).await;
    check("p1:reader", "tag=t&tag=u", &["small"]).await;
    check("p1:reader", "colour=blue", &["small"]).await;
    check("p1:reader", "size_min=3", &["large"]).await;
    check("p1:reader", "size_max=3", &["small"]).await;
    check("p1:reader", "status=queued", &["everyone's"]).await;
    check("p1:reader", "status=in:active,queued&protected=true", &["everyone's"]).await;
    check("p1:reader", "created_at=gt:2020-01-01T00:00:00Z&limit=0", &[]).await;
    check("p1:reader", "updated_at=lt:2020-01-01T00:00:00Z", &[]).await;
    check("p1:reader", &format!("marker={large}"), &["small"]).await;
    for bad in [
        "limit=x",
        "limit=-1",
        "marker=x",
        "visibility=x",
        "sort=x:asc",
        "sort=name:up",
        "sort=name&sort_key=name",
        "size_min=x",
        "created_at=x",
        "member_status=x",
        "name=in:%22a",
        "os_hidden=x",
    ] {
        cloud.get("p1:reader", &format!("/v2/images?{bad}")).await.is(400);
    }
    let mut next = json!("/v2/images?limit=1&sort=name:asc");
    let mut seen = Vec::new();
    while let Some(path) = next.as_str() {
        let page = cloud.get("p1:reader", path).await.is(200);
        assert_eq!(page.json()["first"], "/v2/images?limit=1&sort=name:asc");
        seen.extend(page.names());
        next = page.json()["next"].clone();
    }
    assert_eq!(seen, ["everyone's", "large", "small"]);
}

#[tokio::test]
async fn sharing_needs_an_offer_and_an_answer() {
    let cloud = Cloud::new().await;
    let id = cloud.image("p1:member", "ours", json!({})).await;
    let (path, members) = (format!("/v2/images/{id}"), format!("/v2/images/{id}/members"));
    let listed = async |query: &str| cloud.get("p2:member", &format!("/v2/images?{query}")).await.is(200).names().len();
    cloud.json("p2:member", "POST", &members, json!({ "member": "p2" })).await.is(404);
    cloud.json("p1:member", "POST", &members, json!({ "member": 2 })).await.is(400);
    let offered = cloud.json("p1:member", "POST", &members, json!({ "member": "p2" })).await.is(200).json();
    assert_eq!((&offered["member_id"], &offered["status"]), (&json!("p2"), &json!("pending")));
    cloud.json("p1:member", "POST", &members, json!({ "member": "p2" })).await.is(409);
    cloud.json("p1:member", "POST", &members, json!({ "member": "p3" })).await.is(200);
    cloud.get("p2:member", &path).await.is(200);
    assert_eq!((listed("").await, listed("visibility=shared&member_status=pending").await), (0, 1));

    let mine = format!("{members}/p2");
    cloud.json("p1:member", "PUT", &mine, json!({ "status": "accepted" })).await.is(403);
    cloud.json("p2:member", "PUT", &mine, json!({ "status": "perhaps" })).await.is(400);
    cloud.json("p2:member", "PUT", &format!("{members}/p3"), json!({ "status": "accepted" })).await.is(404);
    assert_eq!(
        cloud.json("p2:member", "PUT", &mine, json!({ "status": "accepted" })).await.is(200).json()["status"],
        "accepted"
    );
    assert_eq!((listed("").await, listed("member_status=all").await), (1, 1));
    cloud.json("p2:member", "PUT", &mine, json!({ "status": "rejected" })).await.is(200);
    assert_eq!(listed("").await, 0);
    assert_eq!(cloud.get("p2:member", &members).await.is(200).json()["members"].as_array().unwrap().len(), 1);
    assert_eq!(cloud.get("p1:member", &members).await.is(200).json()["members"].as_array().unwrap().len(), 2);
    cloud.get("p2:member", &format!("{members}/p3")).await.is(404);
    cloud.patch("p2:member", &id, NEWER, json!([{ "op": "replace", "path": "/name", "value": "mine" }])).await.is(403);
    cloud.send("p1:member", "DELETE", &mine, &[], vec![]).await.is(204);
    cloud.send("p1:member", "DELETE", &mine, &[], vec![]).await.is(404);
    cloud.get("p2:member", &path).await.is(404);
    let private = cloud.image("p1:member", "private", json!({ "visibility": "private" })).await;
    cloud.json("p1:member", "POST", &format!("/v2/images/{private}/members"), json!({ "member": "p2" })).await.is(403);
}

/// Walks the router's own table, so that a new route is in it unasked.
#[tokio::test]
async fn no_nonsense_is_ever_our_fault() {
    let cloud = Cloud::new().await;
    let deep = "[".repeat(5000);
    let long = format!("{{\"name\": \"{}\"}}", "x".repeat(2 << 20));
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "7",
        "\"x\"",
        "[null]",
        "[[]]",
        "[{}]",
        "{\"\": \"\"}",
        "{\"member\": {}}",
        "{\"status\": []}",
        "{\"name\": 1e400}",
        "[{\"op\": \"add\", \"path\": \"/~\", \"value\": 1}]",
        "[{\"op\": \"add\", \"path\": [], \"value\": {}}]",
        "[{\"op\": \"add\", \"path\": \"/tags/99999999999999999999\", \"value\": \"x\"}]",
        "\u{0}",
        &deep,
        &long,
    ];
    let mut tried = 0;
    for route in cloud.table.clone() {
        let id = cloud.image("p1:member", "one", json!({})).await;
        for name in [id.as_str(), "%00", "%ff", "null", "00000000-0000-0000-0000-000000000000", "%2e%2e%2f"] {
            let path = route
                .path
                .replace("{id}", &id)
                .replace("{tag}", name)
                .replace("{member}", name)
                .replace("{name}", name);
            for path in [path, route.path.replace("{id}", name).replace("{tag}", "t").replace("{member}", "m")] {
                for body in bodies {
                    for form in ["application/json", NEWER, OLDER, "text/plain"] {
                        let headers = [("content-type", form), ("range", "bytes=-"), ("content-length", "x")];
                        let method = route.method.as_str();
                        let answer = cloud.send("p1:member", method, &path, &headers, body.as_bytes().to_vec()).await;
                        let status = answer.status.as_u16();
                        assert!(status < 500, "{status}: {method} {path} {form} {}", &body[..body.len().min(80)]);
                        tried += 1;
                    }
                }
            }
        }
    }
    eprintln!("{tried} requests");
    for query in [
        "&&&",
        "=",
        "%",
        "limit=%ff",
        "name=in:",
        "sort=",
        "sort=:",
        "tag=",
        "size_min=-1",
        "%00=%00",
        "created_at=gt:",
    ] {
        let answer = cloud.get("p1:member", &format!("/v2/images?{query}")).await;
        assert!(answer.status.as_u16() < 500, "{query}");
    }
}
