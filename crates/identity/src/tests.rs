//! Identity as a whole over a store in memory: logins, rights that come and go, removals, and bootstrap.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use store::{Record, View};
use world::World;

use crate::login::{DomainRef, LoginError, Proof, Ref, Wish};
use crate::ops::credentials::NewCredential;
use crate::ops::users::{NewUser, UserPatch};
use crate::record::{Actor, Domain, Grant, Group, Membership, Project, Role, Target, User};
use crate::{AuthError, BootstrapParams, Error, GroupId, Identity, Passwords, ProjectId};

struct Cloud {
    identity: Arc<Identity>,
}

fn params() -> BootstrapParams {
    BootstrapParams {
        admin_password: "Secret-0".to_owned(),
        region: "RegionOne".to_owned(),
        public_url: "https://one:1".to_owned(),
    }
}

fn os_world() -> World {
    world::os::OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir())
}

async fn cloud() -> Cloud {
    let world = os_world();
    let store = Arc::new(store::memory::open(&world));
    let view = View::open(&world, store, crate::indexes()).await.unwrap();
    let identity = Identity::new(&world, view, Passwords::start(1).unwrap());
    identity.bootstrap(&params()).await.unwrap();
    Cloud { identity }
}

fn named(name: &str) -> Ref<DomainRef> {
    Ref::Name(name.to_owned(), DomainRef::Name("Default".to_owned()))
}

impl Cloud {
    async fn role(&self, name: &str) -> Role {
        self.identity.all::<Role>().await.unwrap().into_iter().find(|role| role.name == name).unwrap()
    }

    async fn project(&self, name: &str) -> Project {
        let project = Project {
            id: ProjectId::random(self.identity.world()),
            domain: "default".parse().unwrap(),
            name: name.to_owned(),
            description: String::new(),
            enabled: true,
            deleting: false,
            parent: None,
            tags: Vec::new(),
        };
        self.identity.create_project(project).await.unwrap()
    }

    async fn user(&self, name: &str) -> User {
        let new = NewUser {
            name: name.to_owned(),
            enabled: true,
            password: Some("Secret-1".to_owned()),
            ..NewUser::default()
        };
        self.identity.create_user(&"default".parse().unwrap(), new).await.unwrap()
    }

    /// A user with a role in a project, and a token for it.
    async fn member(&self, role: &str) -> (User, Project, Grant, String) {
        let (user, project) = (self.user("anna").await, self.project("blue").await);
        let grant = Grant {
            actor: Actor::User(user.id.clone()),
            target: Target::Project(project.id.clone()),
            role: self.role(role).await.id,
        };
        self.identity.grant(&grant).await.unwrap();
        let token = self.login("anna", "Secret-1", Wish::Project(named("blue"))).await.unwrap();
        (user, project, grant, token)
    }

    async fn login(&self, user: &str, password: &str, wish: Wish) -> Result<String, LoginError> {
        let proof = Proof::Password(named(user), password.to_owned());
        self.identity.login(&[proof], &wish).await.map(|(token, _)| token)
    }

    async fn roles(&self, token: &str) -> Result<String, AuthError> {
        self.identity.authenticate(token).await.map(|caller| caller.roles.join(" "))
    }

    async fn refused(&self, token: &str, why: &str) {
        let outcome = self.identity.authenticate(token).await;
        assert!(matches!(outcome, Err(AuthError::Invalid(_))), "{why}: {outcome:?}");
    }
}

#[tokio::test]
async fn bootstrap_makes_a_cloud_once_and_follows_its_address() {
    let cloud = cloud().await;
    let token = cloud.login("admin", "Secret-0", Wish::Default).await.unwrap();
    assert_eq!(cloud.roles(&token).await.unwrap(), "admin member reader");
    let before = cloud.identity.view.revision();
    cloud.identity.bootstrap(&params()).await.unwrap();
    assert_eq!(cloud.identity.all::<Role>().await.unwrap().len(), 4);
    assert_eq!(cloud.identity.view.revision(), before, "a second bootstrap writes nothing");
    let moved = BootstrapParams { public_url: "https://two:2".to_owned(), ..params() };
    cloud.identity.bootstrap(&moved).await.unwrap();
    let catalog = cloud.identity.catalog().await.unwrap();
    assert_eq!(catalog.len(), 5);
    assert!(catalog.iter().flat_map(|(_, endpoints)| endpoints).all(|it| it.url.starts_with("https://two:2/")));
}

#[tokio::test]
async fn a_login_needs_the_password_and_a_role() {
    let cloud = cloud().await;
    cloud.user("anna").await;
    cloud.project("blue").await;
    let refused = |outcome: Result<String, LoginError>| assert!(matches!(outcome, Err(LoginError::Refused(_))));
    refused(cloud.login("anna", "wrong", Wish::Unscoped).await);
    refused(cloud.login("nobody", "Secret-1", Wish::Unscoped).await);
    refused(cloud.login("anna", "Secret-1", Wish::Project(named("blue"))).await);
    refused(cloud.login("anna", "Secret-1", Wish::Project(named("green"))).await);
    let token = cloud.login("anna", "Secret-1", Wish::Default).await.unwrap();
    assert_eq!(cloud.roles(&token).await.unwrap(), "");
}

#[tokio::test]
async fn what_a_user_loses_its_tokens_lose() {
    let cloud = cloud().await;
    let (user, project, grant, token) = cloud.member("member").await;
    assert_eq!(cloud.roles(&token).await.unwrap(), "member reader");
    cloud.identity.withdraw(&grant).await.unwrap();
    cloud.refused(&token, "the role was taken away").await;
    cloud.identity.grant(&grant).await.unwrap();
    assert_eq!(cloud.roles(&token).await.unwrap(), "member reader");

    let disable = |enabled| crate::ops::projects::ProjectPatch { enabled: Some(enabled), ..Default::default() };
    cloud.identity.update_project(project.id.as_str(), &disable(false)).await.unwrap();
    cloud.refused(&token, "the project was disabled").await;
    cloud.identity.update_project(project.id.as_str(), &disable(true)).await.unwrap();

    let verified = cloud.identity.inspect(&token).await.unwrap();
    cloud.identity.revoke(&verified).await.unwrap();
    cloud.refused(&token, "the token was given back").await;

    let token = cloud.login("anna", "Secret-1", Wish::Project(named("blue"))).await.unwrap();
    let patch = UserPatch { password: Some("Secret-2".to_owned()), ..UserPatch::default() };
    cloud.identity.update_user(user.id.as_str(), &patch).await.unwrap();
    cloud.refused(&token, "the password was changed").await;
    let token = cloud.login("anna", "Secret-2", Wish::Project(named("blue"))).await.unwrap();
    cloud.identity.delete_user(user.id.as_str()).await.unwrap();
    cloud.refused(&token, "the user was removed").await;
}

#[tokio::test]
async fn a_token_gets_tokens_for_elsewhere_that_end_no_later() {
    let cloud = cloud().await;
    let (_, project, _, token) = cloud.member("reader").await;
    let wish = Wish::Project(Ref::Id(project.id.to_string()));
    let (next, verified) = cloud.identity.login(&[Proof::Token(token.clone())], &wish).await.unwrap();
    let first = cloud.identity.authenticate(&token).await.unwrap();
    assert_eq!(verified.caller.expires, first.expires);
    assert_eq!(verified.caller.audit_ids[1], first.audit_ids[0]);
    assert_eq!(verified.caller.methods, ["password", "token"]);
    assert_eq!(cloud.roles(&next).await.unwrap(), "reader");
}

/// The machine's world with a wall clock that a test moves.
struct Moved {
    world: World,
    ahead_secs: std::sync::atomic::AtomicU64,
}

impl world::Host for Moved {
    fn spawn(&self, name: &'static str, task: world::BoxFuture<'static, ()>) {
        self.world.spawn(name, task);
    }
    fn now(&self) -> world::Mono {
        self.world.now()
    }
    fn wall(&self) -> world::Wall {
        self.world.wall() + Duration::from_secs(self.ahead_secs.load(Ordering::Relaxed))
    }
    fn sleep_until(&self, when: world::Mono) -> world::BoxFuture<'static, ()> {
        self.world.sleep_until(when)
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.world.random::<1>()[0]);
    }
    fn disk(&self) -> Arc<dyn world::Disk> {
        self.world.disk()
    }
}

#[tokio::test]
async fn after_a_rotation_old_tokens_live_on_in_every_process_and_old_keys_do_not() {
    let moved = Arc::new(Moved { world: os_world(), ahead_secs: 0.into() });
    let world = World::new(Arc::clone(&moved) as Arc<dyn world::Host>);
    let store: Arc<dyn store::Store> = Arc::new(store::memory::open(&world));
    let process = async || {
        let view = View::open(&world, Arc::clone(&store), crate::indexes()).await.unwrap();
        Cloud { identity: Identity::new(&world, view, Passwords::start(1).unwrap()) }
    };
    // A process that signs, one that verifies, and the one that rotates.
    let (one, two, three) = (process().await, process().await, process().await);
    one.identity.bootstrap(&params()).await.unwrap();
    let admin = async |at: &Cloud| at.login("admin", "Secret-0", Wish::Unscoped).await.unwrap();
    let rotate = async |void| crate::keys::rotate(&world, &three.identity.view, void).await.unwrap();

    let before = admin(&one).await;
    assert_eq!((rotate(false).await.kept, rotate(false).await.kept), (1, 2));
    let after = admin(&one).await;
    for token in [&before, &after] {
        two.identity.authenticate(token).await.expect("verified by a process that neither signed nor rotated");
    }
    let late = crate::TOKEN_SPAN_MAX + Duration::from_secs(301);
    moved.ahead_secs.store(late.as_secs(), Ordering::Relaxed);
    let swept = rotate(false).await;
    assert_eq!((swept.kept, swept.removed), (1, 2), "the last that signed, and those whose tokens have ended");
    // A clock that was set back does not make an older key sign.
    moved.ahead_secs.store(0, Ordering::Relaxed);
    assert_eq!(rotate(false).await.kept, 2);
    let newest = admin(&one).await;
    two.identity.authenticate(&newest).await.unwrap();

    assert_eq!(rotate(true).await.kept, 0);
    for token in [&before, &after, &newest] {
        two.refused(token, "all earlier tokens were made void").await;
    }
    two.identity.authenticate(&admin(&one).await).await.unwrap();
}

#[tokio::test]
async fn groups_give_roles_and_go_with_all_that_hangs_on_them() {
    let cloud = cloud().await;
    let (user, project) = (cloud.user("anna").await, cloud.project("blue").await);
    let group = Group {
        id: GroupId::random(cloud.identity.world()),
        domain: "default".parse().unwrap(),
        name: "staff".to_owned(),
        description: String::new(),
        deleting: false,
    };
    cloud.identity.create_group(group.clone()).await.unwrap();
    cloud.identity.add_member(group.id.as_str(), user.id.as_str()).await.unwrap();
    let role = cloud.role("member").await.id;
    let target = Target::Project(project.id.clone());
    let grant = Grant { actor: Actor::Group(group.id.clone()), target, role };
    cloud.identity.grant(&grant).await.unwrap();
    let token = cloud.login("anna", "Secret-1", Wish::Project(named("blue"))).await.unwrap();
    // More members than one transaction can remove.
    for number in 0..90 {
        let user = Membership { user: format!("u{number}").parse().unwrap(), group: group.id.clone() };
        let mut txn = store::Txn::new();
        txn.create(user.key(), user.encode());
        cloud.identity.view.store().commit(txn).await.unwrap();
    }
    cloud.identity.delete_group(group.id.as_str()).await.unwrap();
    cloud.refused(&token, "the group was removed").await;
    assert_eq!(cloud.identity.all::<Membership>().await.unwrap(), []);
    assert!(cloud.identity.all::<Grant>().await.unwrap().iter().all(|it| it.actor != grant.actor));
    assert!(cloud.identity.create_group(group).await.is_ok(), "its name is free again");
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_finished_by_the_next_one() {
    let cloud = cloud().await;
    let (_, project, _, token) = cloud.member("member").await;
    cloud.identity.doom::<Project>(project.id.as_str(), |_, _| Ok(())).await.unwrap();
    cloud.refused(&token, "the project is half removed").await;
    let again = cloud.identity.create_project(Project { id: "other".parse().unwrap(), ..project.clone() }).await;
    assert!(matches!(again, Err(Error::Duplicate { .. })), "the name is still taken");
    cloud.identity.delete_project(project.id.as_str()).await.unwrap();
    assert!(
        cloud.identity.all::<Grant>().await.unwrap().iter().all(|it| it.target != Target::Project(project.id.clone()))
    );
    let again = cloud.identity.create_project(Project { id: "other".parse().unwrap(), ..project }).await;
    assert!(again.is_ok());
}

#[tokio::test]
async fn an_application_credential_acts_for_its_user_within_its_roles() {
    let cloud = cloud().await;
    let (user, project, grant, _) = cloud.member("admin").await;
    let new = NewCredential {
        user: user.id.clone(),
        project: project.id.clone(),
        name: "robot".to_owned(),
        description: String::new(),
        secret: None,
        roles: Some(vec!["member".to_owned()]),
        expires: None,
        unrestricted: false,
    };
    let (credential, secret) = cloud.identity.create_credential(new.clone()).await.unwrap();
    assert!(matches!(cloud.identity.create_credential(new).await, Err(Error::Duplicate { .. })));
    let proof = Proof::ApplicationCredential(Ref::Id(credential.id.clone()), secret);
    let (token, _) = cloud.identity.login(std::slice::from_ref(&proof), &Wish::Default).await.unwrap();
    assert_eq!(cloud.roles(&token).await.unwrap(), "member reader");
    let elsewhere = cloud.identity.login(&[Proof::Token(token.clone())], &Wish::Unscoped).await;
    assert!(matches!(elsewhere, Err(LoginError::Forbidden(_))));
    cloud.identity.withdraw(&grant).await.unwrap();
    cloud.refused(&token, "the user has no role any more").await;
    cloud.identity.grant(&grant).await.unwrap();
    cloud.identity.delete_credential(user.id.as_str(), &credential.id).await.unwrap();
    cloud.refused(&token, "the credential was removed").await;
}

#[tokio::test]
async fn a_domain_goes_with_everything_in_it_once_it_is_disabled() {
    let cloud = cloud().await;
    let domain = Domain {
        id: "d1".parse().unwrap(),
        name: "acme".to_owned(),
        description: String::new(),
        enabled: true,
        deleting: false,
        tags: Vec::new(),
    };
    cloud.identity.create_domain(domain.clone()).await.unwrap();
    let new = NewUser { name: "bob".to_owned(), enabled: true, ..NewUser::default() };
    let user = cloud.identity.create_user(&domain.id, new).await.unwrap();
    assert!(matches!(cloud.identity.delete_domain("d1").await, Err(Error::Refused(_))));
    let patch = crate::ops::domains::DomainPatch { enabled: Some(false), ..Default::default() };
    cloud.identity.update_domain("d1", &patch).await.unwrap();
    cloud.identity.delete_domain("d1").await.unwrap();
    let gone = cloud.identity.get::<User>("user", user.id.as_str()).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn ended_revocations_leave_with_later_commits() {
    let cloud = cloud().await;
    let ended = crate::record::RevokedToken { audit_id: "x".to_owned(), expires: world::Wall::from_micros(5_000_000) };
    let mut txn = store::Txn::new();
    txn.create(ended.key(), ended.encode());
    let revision = cloud.identity.view.store().commit(txn).await.unwrap();
    cloud.identity.view.reach(revision).await.unwrap();
    cloud.project("blue").await;
    assert_eq!(cloud.identity.all::<crate::record::RevokedToken>().await.unwrap(), []);
}
