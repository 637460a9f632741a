//! The API as clients see it, driven through the router over a store in memory.

use std::sync::Arc;

use api::{Platform, Route, Site, Unobserved};
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use identity::{BootstrapParams, Identity, Passwords};
use serde_json::{Value, json};
use store::View;
use tower::ServiceExt;

struct Cloud {
    router: Router,
    routes: Vec<Route>,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Value,
}

async fn cloud() -> Cloud {
    let world = world::os::OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
    let view = View::open(&world, Arc::new(store::memory::open(&world)), identity::indexes()).await.unwrap();
    let identity = Identity::new(&world, view, Passwords::start(1).unwrap());
    let (region, public_url) = ("RegionOne".to_owned(), "https://here:1".to_owned());
    let params = BootstrapParams {
        admin_password: "Secret-0".to_owned(),
        region: region.clone(),
        public_url: public_url.clone(),
    };
    identity.bootstrap(&params).await.unwrap();
    let platform =
        Platform { world, auth: Arc::clone(&identity) as Arc<_>, observer: Arc::new(Unobserved), region, public_url };
    let site = Site::new(&platform).nest("/identity", crate::discovery(), Arc::clone(&identity)).nest(
        "/identity/v3",
        crate::routes(),
        identity,
    );
    let (router, routes) = site.build();
    Cloud { router, routes }
}

fn login(user: &str, password: &str, project: &str) -> Value {
    let domain = json!({ "name": "Default" });
    json!({ "auth": {
        "identity": {
            "methods": ["password"],
            "password": { "user": { "name": user, "domain": domain, "password": password } },
        },
        "scope": { "project": { "name": project, "domain": domain } },
    } })
}

impl Cloud {
    async fn raw(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let request =
            Request::builder().method(method).uri(format!("/identity/v3{path}")).header("x-auth-token", token);
        let request = request.header("content-type", "application/json");
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.raw(request.body(body).unwrap()).await
    }

    async fn check(&self, token: &str, call: &str, body: Value, expected: u16) -> Value {
        let (method, path) = call.split_once(' ').unwrap();
        let answer = self.call(token, method, path, body).await;
        assert_eq!(answer.status, expected, "{call}: {}", answer.body);
        answer.body
    }

    async fn token(&self, user: &str, password: &str, project: &str) -> String {
        let answer = self.call("", "POST", "/auth/tokens", login(user, password, project)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.headers["x-subject-token"].to_str().unwrap().to_owned()
    }

    async fn admin(&self) -> String {
        self.token("admin", "Secret-0", "admin").await
    }
}

fn id(body: &Value, kind: &str) -> String {
    body[kind]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn versions_are_found_without_a_token() {
    let cloud = cloud().await;
    let get = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
    let root = cloud.raw(get("/identity")).await;
    assert_eq!(root.status, 300);
    assert_eq!(root.body["versions"]["values"][0]["links"][0]["href"], "https://here:1/identity/v3/");
    for path in ["/identity/v3", "/identity/v3/"] {
        let v3 = cloud.raw(get(path)).await;
        assert_eq!((v3.status.as_u16(), v3.body["version"]["status"].as_str()), (200, Some("stable")), "{path}");
        assert!(v3.headers["x-openstack-request-id"].to_str().unwrap().starts_with("req-"));
    }
}

#[tokio::test]
async fn a_token_describes_itself_and_can_be_given_back() {
    let cloud = cloud().await;
    let token = cloud.admin().await;
    let ask = |method: &'static str| {
        let request = Request::builder().method(method).uri("/identity/v3/auth/tokens").header("x-auth-token", &token);
        cloud.raw(request.header("x-subject-token", &token).body(Body::empty()).unwrap())
    };
    let shown = ask("GET").await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.body["token"]["project"]["name"], "admin");
    assert_eq!(shown.body["token"]["catalog"].as_array().unwrap().len(), 5);
    let roles: Vec<_> = shown.body["token"]["roles"].as_array().unwrap().iter().map(|role| &role["name"]).collect();
    assert!(roles.contains(&&json!("admin")) && roles.contains(&&json!("reader")));
    assert_eq!(ask("HEAD").await.status, 200);
    let scope = json!({ "system": { "all": true } });
    let system = json!({ "auth": { "identity": { "methods": ["token"], "token": { "id": token } }, "scope": scope } });
    let system = cloud.call("", "POST", "/auth/tokens", system).await;
    assert_eq!((system.status.as_u16(), &system.body["token"]["system"]["all"]), (201, &json!(true)));
    assert_eq!(ask("DELETE").await.status, 204);
    let refused = ask("GET").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.headers["www-authenticate"], "Keystone uri=\"https://here:1/identity/v3\"");
    assert_eq!(refused.body["error"]["title"], "Unauthorized");
}

#[tokio::test]
async fn a_user_is_made_let_in_and_removed() {
    let cloud = cloud().await;
    let admin = cloud.admin().await;
    let project = cloud.check(&admin, "POST /projects", json!({ "project": { "name": "blue" } }), 201).await;
    let again = cloud.check(&admin, "POST /projects", json!({ "project": { "name": "blue" } }), 409).await;
    assert_eq!(again["error"]["title"], "Conflict");
    let user = json!({ "user": { "name": "anna", "password": "Secret-1", "email": "a@b.c", "team": "x" } });
    let user = cloud.check(&admin, "POST /users", user, 201).await;
    assert_eq!(user["user"]["team"], "x", "what else is attached is kept");
    let (project, user) = (id(&project, "project"), id(&user, "user"));
    let roles = cloud.check(&admin, "GET /roles?name=member", Value::Null, 200).await;
    assert_eq!(roles["roles"].as_array().unwrap().len(), 1);
    let role = roles["roles"][0]["id"].as_str().unwrap().to_owned();
    let grant = format!("/projects/{project}/users/{user}/roles/{role}");
    cloud.check(&admin, &format!("HEAD {grant}"), Value::Null, 404).await;
    cloud.check(&admin, &format!("PUT {grant}"), Value::Null, 204).await;
    cloud.check(&admin, &format!("HEAD {grant}"), Value::Null, 204).await;

    let anna = cloud.token("anna", "Secret-1", "blue").await;
    cloud.check(&anna, "GET /users", Value::Null, 403).await;
    cloud.check(&anna, &format!("GET /users/{user}"), Value::Null, 200).await;
    let projects = cloud.check(&anna, "GET /auth/projects", Value::Null, 200).await;
    assert_eq!(projects["projects"][0]["id"], project.as_str());

    let given = format!("GET /role_assignments?user.id={user}&include_names");
    let given = cloud.check(&admin, &given, Value::Null, 200).await;
    assert_eq!(given["role_assignments"][0]["role"]["name"], "member");
    assert_eq!(given["role_assignments"][0]["scope"]["project"]["domain"]["name"], "Default");
    let effective = format!("GET /role_assignments?user.id={user}&effective");
    let effective = cloud.check(&admin, &effective, Value::Null, 200).await;
    assert_eq!(effective["role_assignments"].as_array().unwrap().len(), 2, "member implies reader");

    let new = json!({ "user": { "original_password": "wrong", "password": "Secret-2" } });
    cloud.check(&anna, &format!("POST /users/{user}/password"), new, 401).await;
    let new = json!({ "user": { "original_password": "Secret-1", "password": "Secret-2" } });
    cloud.check(&anna, &format!("POST /users/{user}/password"), new, 204).await;
    cloud.check(&anna, "GET /auth/projects", Value::Null, 401).await;
    cloud.check(&admin, &format!("DELETE /users/{user}"), Value::Null, 204).await;
    cloud.check(&admin, &format!("DELETE /users/{user}"), Value::Null, 404).await;
    cloud.check(&admin, &format!("DELETE /projects/{project}"), Value::Null, 204).await;
}

#[tokio::test]
async fn lists_come_in_pages_if_asked() {
    let cloud = cloud().await;
    let admin = cloud.admin().await;
    let page = cloud.check(&admin, "GET /roles?limit=3&sort_key=name", Value::Null, 200).await;
    assert_eq!(page["truncated"], true);
    let next = page["links"]["next"].as_str().unwrap().strip_prefix("https://here:1/identity/v3").unwrap();
    let last = cloud.check(&admin, &format!("GET {next}"), Value::Null, 200).await;
    assert_eq!(last["roles"].as_array().unwrap().len(), 1);
    assert_eq!(last["links"]["next"], Value::Null);
}

#[tokio::test]
async fn an_application_credential_logs_in() {
    let cloud = cloud().await;
    let admin = cloud.admin().await;
    let users = cloud.check(&admin, "GET /users?name=admin", Value::Null, 200).await;
    let path = format!("/users/{}/application_credentials", users["users"][0]["id"].as_str().unwrap());
    let new = json!({ "application_credential": { "name": "robot", "roles": [{ "name": "reader" }] } });
    let made = cloud.check(&admin, &format!("POST {path}"), new, 201).await;
    let made = &made["application_credential"];
    let login = json!({ "auth": { "identity": {
        "methods": ["application_credential"],
        "application_credential": { "id": made["id"], "secret": made["secret"] },
    } } });
    let answer = cloud.call("", "POST", "/auth/tokens", login).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.body["token"]["roles"].as_array().unwrap().len(), 1);
    let token = answer.headers["x-subject-token"].to_str().unwrap();
    cloud.check(token, "GET /users", Value::Null, 403).await;
    let path = format!("DELETE {path}/{}", made["id"].as_str().unwrap());
    cloud.check(token, &path, Value::Null, 403).await;
    cloud.check(&admin, &path, Value::Null, 204).await;
    cloud.check(token, "GET /auth/projects", Value::Null, 401).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_the_clients_fault() {
    let cloud = cloud().await;
    let admin = cloud.admin().await;
    let check = async |call: &str, body: Value, expected: u16, said: &str| {
        let body = cloud.check(&admin, call, body, expected).await;
        let message = body["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(said), "{call}: {message}");
    };
    check("POST /projects", json!({ "project": { "name": 5 } }), 400, "project.name").await;
    check("POST /projects", json!({ "project": {} }), 400, "name").await;
    check("POST /projects", json!({ "project": { "name": " " } }), 400, "too short").await;
    check("POST /projects", json!({ "project": { "name": "a".repeat(65) } }), 400, "too long").await;
    check("POST /projects", json!("x".repeat(2_000_000)), 413, "larger than").await;
    check("PATCH /domains/default", json!({ "domain": { "enabled": "yes" } }), 400, "domain.enabled").await;
    check("DELETE /domains/default", Value::Null, 403, "disable it first").await;
    check("GET /nothing", Value::Null, 404, "could not be found").await;
    check("PUT /projects", Value::Null, 405, "not allowed").await;
    check("GET /projects/a%20b", Value::Null, 404, "Could not find project").await;
    check("POST /auth/tokens", json!({ "auth": {} }), 400, "auth").await;
    check("POST /auth/tokens", login("admin", "wrong", "admin"), 401, "requires authentication").await;
    let system = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user":
        { "name": "admin", "domain": { "id": "default" }, "password": "Secret-0" } } }, "scope": { "system": { "all": false } } } });
    check("POST /auth/tokens", system, 400, "system scope").await;
}

/// Every route, also those added later: without a token it is closed, and no nonsense makes it fail.
#[tokio::test]
async fn every_route_is_closed_and_robust() {
    let open = ["POST /identity/v3/auth/tokens", "GET /identity", "GET /identity/v3"];
    let open_for_passwords = "POST /identity/v3/users/{user_id}/password";
    let cloud = cloud().await;
    let admin = cloud.admin().await;
    assert!(cloud.routes.len() > 80, "{}", cloud.routes.len());
    for route in &cloud.routes {
        let call = format!("{} {}", route.method, route.path);
        let path = route.path.replace(['{', '}'], "");
        let request = |token: &str, body: &'static str| {
            let request = Request::builder().method(route.method.clone()).uri(&path).header("x-auth-token", token);
            request.header("content-type", "application/json").body(Body::from(body)).unwrap()
        };
        if !open.contains(&call.as_str()) {
            for token in ["", "nonsense", &"A".repeat(300)] {
                let body = r#"{"user":{"original_password":"x","password":"y"}}"#;
                assert_eq!(cloud.raw(request(token, body)).await.status, 401, "{call} with {token:?}");
            }
        }
        for body in ["", "{", "[]", "null", r#"{"project":null}"#, "\u{0}", r#"{"auth":{"identity":{"methods":[{}]}}}"#]
        {
            let answer = cloud.raw(request(&admin, body)).await;
            assert!(answer.status.as_u16() < 500, "{call} with {body:?}: {}", answer.status);
            if [Method::POST, Method::PATCH].contains(&route.method) || call == open_for_passwords {
                assert_eq!(answer.status, 400, "{call} with {body:?}");
            }
        }
    }
}
