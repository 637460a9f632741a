//! The router as clients meet it, over the memory store.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Authenticator, Platform, Unobserved};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use identity::{AuthError, ProjectScope};
use placement::{Claim, ConsumerId, Inventory, Provider, ProviderId, claim};
use serde_json::{Value, json};
use store::{Record, Txn, View};
use tower::ServiceExt;
use world::{Wall, World};

/// A token is `project:role`.
struct Anyone;

#[async_trait]
impl Authenticator for Anyone {
    async fn authenticate(&self, token: &str) -> Result<Arc<identity::Caller>, AuthError> {
        let (project, role) = token.split_once(':').ok_or(AuthError::Invalid("no such token"))?;
        let domain = ("default".parse().unwrap(), "Default".to_owned());
        let project = ProjectScope { id: project.parse().unwrap(), name: project.into(), domain: domain.clone() };
        Ok(Arc::new(identity::Caller {
            user_id: "someone".parse().unwrap(),
            user_name: "someone".into(),
            user_domain: domain,
            project: Some(project),
            domain: None,
            roles: vec![role.to_owned(), "reader".to_owned()],
            issued: Wall::from_micros(0),
            expires: Wall::from_micros(u64::MAX),
            audit_ids: Vec::new(),
            methods: Vec::new(),
            application_credential: None,
        }))
    }
}

struct Cloud {
    router: Router,
    provider: ProviderId,
    consumer: ConsumerId,
}

impl Cloud {
    async fn new() -> Cloud {
        let world: World = world::os::OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
        let store = Arc::new(store::memory::open(&world));
        let view = View::open(&world, store, Vec::new()).await.unwrap();
        let provider = Provider {
            id: ProviderId::random(&world),
            name: "node-1".into(),
            inventories: BTreeMap::from([("VCPU".to_owned(), Inventory::plain(8, 16_000))]),
            traits: vec!["HW_CPU_X86_AVX2".into()],
        };
        let mut txn = Txn::new();
        txn.create(provider.key(), provider.encode());
        view.store().commit(txn).await.unwrap();
        let held = Claim {
            consumer: ConsumerId::random(&world),
            holder: placement::Holder::Consumer,
            provider: provider.id,
            resources: BTreeMap::from([("VCPU".to_owned(), 3)]),
            project: "blue".into(),
            user: "someone".into(),
        };
        let mut txn = Txn::new();
        view.read(|reader| claim::take(reader, &held, &mut txn)).await.unwrap().unwrap();
        view.store().commit(txn).await.unwrap();
        let platform = Platform {
            world,
            auth: Arc::new(Anyone),
            observer: Arc::new(Unobserved),
            region: "RegionOne".into(),
            public_url: "https://cloud".into(),
        };
        let (router, _) = crate::routes().build(view, &platform);
        Cloud { router, provider: provider.id, consumer: held.consumer }
    }

    async fn get(&self, who: &str, version: &str, path: &str) -> (StatusCode, Value) {
        self.send("GET", who, version, path).await
    }

    async fn send(&self, method: &str, who: &str, version: &str, path: &str) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !who.is_empty() {
            request = request.header("x-auth-token", who);
        }
        if !version.is_empty() {
            request = request.header("openstack-api-version", format!("placement {version}"));
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn what_is_there_and_who_holds_it_is_shown() {
    let cloud = Cloud::new().await;
    let (status, body) = cloud.get("", "", "/").await;
    assert_eq!((status.as_u16(), &body["versions"][0]["max_version"]), (200, &json!("1.39")));
    let root = format!("/resource_providers/{}", cloud.provider);
    let (_, body) = cloud.get("admin:admin", "1.39", "/resource_providers?name=node-1").await;
    assert_eq!(body["resource_providers"][0]["root_provider_uuid"], json!(cloud.provider.to_string()));
    let (_, body) = cloud.get("admin:admin", "1.39", "/resource_providers?name=other").await;
    assert_eq!(body, json!({ "resource_providers": [] }));
    let (_, body) = cloud.get("admin:admin", "1.0", &root).await;
    assert_eq!(body["parent_provider_uuid"], Value::Null);
    assert_eq!(body["links"].as_array().unwrap().len(), 3);
    let (_, body) = cloud.get("admin:admin", "", &format!("{root}/inventories")).await;
    assert_eq!(body["inventories"]["VCPU"]["allocation_ratio"], json!(16.0));
    let (_, body) = cloud.get("admin:admin", "", &format!("{root}/usages")).await;
    assert_eq!(body["usages"], json!({ "VCPU": 3 }));
    let (_, body) = cloud.get("admin:admin", "1.38", &format!("/allocations/{}", cloud.consumer)).await;
    assert_eq!(body["allocations"][cloud.provider.to_string()]["resources"], json!({ "VCPU": 3 }));
    assert_eq!((&body["project_id"], &body["consumer_type"]), (&json!("blue"), &json!("INSTANCE")));
    let (_, body) = cloud.get("admin:admin", "", &format!("{root}/allocations")).await;
    assert_eq!(body["allocations"][cloud.consumer.to_string()]["resources"], json!({ "VCPU": 3 }));
    let (_, body) = cloud.get("blue:member", "1.9", "/usages?project_id=blue").await;
    assert_eq!(body, json!({ "usages": { "VCPU": 3 } }));
    let (_, body) = cloud.get("blue:member", "1.38", "/usages?project_id=blue").await;
    assert_eq!(body["usages"]["INSTANCE"], json!({ "VCPU": 3, "consumer_count": 1 }));
}

#[tokio::test]
async fn what_is_not_served_is_refused_as_placement_does() {
    let cloud = Cloud::new().await;
    let root = format!("/resource_providers/{}", cloud.provider);
    for (method, who, version, path, status) in [
        ("GET", "", "", "/resource_providers", 401),
        ("GET", "blue:member", "", "/resource_providers", 403),
        ("GET", "blue:member", "1.9", "/usages?project_id=red", 403),
        ("GET", "admin:admin", "", "/resource_providers?colour=red", 400),
        ("GET", "admin:admin", "1.40", "/resource_providers", 406),
        ("GET", "admin:admin", "", "/resource_providers/none", 404),
        ("GET", "admin:admin", "1.0", &format!("{root}/traits"), 404),
        ("GET", "admin:admin", "1.6", &format!("{root}/traits"), 200),
        ("GET", "admin:admin", "1.6", "/traits/CUSTOM_NONE", 404),
        ("DELETE", "admin:admin", "1.6", &root, 405),
        ("GET", "admin:admin", "1.10", "/allocation_candidates", 404),
    ] {
        let (got, body) = cloud.send(method, who, version, path).await;
        assert_eq!(got.as_u16(), status, "{method} {path} as {who:?}: {body}");
        if status == 404 {
            assert_eq!(body["errors"][0]["status"], json!(404), "{body}");
        }
    }
}
