//! `/role_assignments`: who has which role where, as given or as it takes effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, RequestCx, Routes};
use axum::extract::State;
use identity::record::{Actor, Domain, Grant, Group, Implication, Membership, Project, Role, Target, User};
use identity::{DomainId, Identity, RoleId};
use serde_json::{Map, Value, json};

use crate::list::{Filters, get, is_on};
use crate::shape::base;
use crate::{Cloud, policy};

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    Routes::new(Dialect::Keystone).get("/role_assignments", list)
}

async fn list(caller: Caller, cx: RequestCx, State(cloud): Cloud, filters: Filters) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_role_assignments")?;
    let effective = is_on(&filters, "effective");
    if effective && get(&filters, "group.id").is_some() {
        return Err(Fault::bad_request("Combining effective and group filter will always result in an empty list."));
    }
    let mut entries: Vec<Entry> =
        cloud.all::<Grant>().await?.into_iter().map(|grant| Entry { grant, through: None }).collect();
    if effective {
        entries = take_effect(entries, &cloud.all::<Membership>().await?, &cloud.all::<Implication>().await?);
    }
    entries.retain(|entry| fits(&filters, &entry.grant));
    let names = if is_on(&filters, "include_names") { Some(Names::read(&cloud).await?) } else { None };
    let shown: Vec<Value> = entries.iter().map(|entry| shape(&cx, entry, names.as_ref())).collect();
    let link = format!("{}/role_assignments", base(&cx));
    Ok(Json(json!({ "role_assignments": shown, "links": { "self": link, "next": null, "previous": null } })))
}

/// A grant, and the one it follows from if it was not given like this.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    grant: Grant,
    through: Option<Grant>,
}

/// Groups become their users, roles bring what follows from them.
fn take_effect(given: Vec<Entry>, members: &[Membership], implications: &[Implication]) -> Vec<Entry> {
    let mut all = Vec::new();
    for Entry { grant, .. } in given {
        match &grant.actor {
            Actor::User(_) => all.push(Entry { grant, through: None }),
            Actor::Group(group) => {
                for member in members.iter().filter(|member| member.group == *group) {
                    let own = Grant { actor: Actor::User(member.user.clone()), ..grant.clone() };
                    all.push(Entry { grant: own, through: Some(grant.clone()) });
                }
            }
        }
    }
    let mut at = 0;
    while let Some(entry) = all.get(at).cloned() {
        at += 1;
        for implication in implications.iter().filter(|it| it.prior == entry.grant.role) {
            let more = Grant { role: implication.implied.clone(), ..entry.grant.clone() };
            let through = entry.through.clone().unwrap_or_else(|| entry.grant.clone());
            if !all.iter().any(|have| have.grant == more) {
                all.push(Entry { grant: more, through: Some(through) });
            }
        }
    }
    all.sort();
    all.dedup_by(|one, other| one.grant == other.grant);
    all
}

fn fits(filters: &Filters, grant: &Grant) -> bool {
    let is = |name: &str, id: Option<&str>| get(filters, name).is_none_or(|wanted| id == Some(wanted));
    let (user, group) = match &grant.actor {
        Actor::User(id) => (Some(id.as_str()), None),
        Actor::Group(id) => (None, Some(id.as_str())),
    };
    let (project, domain, system) = match &grant.target {
        Target::Project(id) => (Some(id.as_str()), None, false),
        Target::Domain(id) => (None, Some(id.as_str()), false),
        Target::System => (None, None, true),
    };
    is("user.id", user)
        && is("group.id", group)
        && is("role.id", Some(grant.role.as_str()))
        && is("scope.project.id", project)
        && is("scope.domain.id", domain)
        && (get(filters, "scope.system").is_none() || system)
        // Nothing is inherited here.
        && get(filters, "scope.OS-INHERIT:inherited_to").is_none()
}

/// Names by id, for `include_names`.
struct Names {
    domains: BTreeMap<DomainId, String>,
    users: BTreeMap<String, (String, DomainId)>,
    groups: BTreeMap<String, (String, DomainId)>,
    projects: BTreeMap<String, (String, DomainId)>,
    roles: BTreeMap<RoleId, Role>,
}

impl Names {
    async fn read(cloud: &Identity) -> Result<Names, Fault> {
        let domains = cloud.all::<Domain>().await?.into_iter().map(|it| (it.id, it.name)).collect();
        let users = cloud.all::<User>().await?.into_iter().map(|it| (it.id.to_string(), (it.name, it.domain)));
        let groups = cloud.all::<Group>().await?.into_iter().map(|it| (it.id.to_string(), (it.name, it.domain)));
        let projects = cloud.all::<Project>().await?.into_iter().map(|it| (it.id.to_string(), (it.name, it.domain)));
        let roles = cloud.all::<Role>().await?.into_iter().map(|role| (role.id.clone(), role)).collect();
        Ok(Names { domains, users: users.collect(), groups: groups.collect(), projects: projects.collect(), roles })
    }

    fn domain(&self, id: &DomainId) -> Value {
        json!({ "id": id.as_str(), "name": self.domains.get(id) })
    }
}

fn shape(cx: &RequestCx, Entry { grant, through }: &Entry, names: Option<&Names>) -> Value {
    let mut entry = Map::new();
    let within = |table: fn(&Names) -> &BTreeMap<String, (String, DomainId)>, id: &str| {
        let found = names.and_then(|names| Some((names, table(names).get(id)?)));
        match found {
            Some((names, (name, domain))) => json!({ "id": id, "name": name, "domain": names.domain(domain) }),
            None => json!({ "id": id }),
        }
    };
    match &grant.actor {
        Actor::User(id) => entry.insert("user".to_owned(), within(|names| &names.users, id.as_str())),
        Actor::Group(id) => entry.insert("group".to_owned(), within(|names| &names.groups, id.as_str())),
    };
    let scope = match &grant.target {
        Target::Project(id) => json!({ "project": within(|names| &names.projects, id.as_str()) }),
        Target::Domain(id) => match names {
            Some(names) => json!({ "domain": names.domain(id) }),
            None => json!({ "domain": { "id": id.as_str() } }),
        },
        Target::System => json!({ "system": { "all": true } }),
    };
    entry.insert("scope".to_owned(), scope);
    let mut role = json!({ "id": grant.role.as_str() });
    if let Some(found) = names.and_then(|names| names.roles.get(&grant.role)) {
        role["name"] = json!(found.name);
        if let (Some(domain), Some(names)) = (&found.domain, names) {
            role["domain"] = names.domain(domain);
        }
    }
    entry.insert("role".to_owned(), role);
    let source = through.as_ref().unwrap_or(grant);
    let mut links = json!({ "assignment": link(cx, source) });
    if let (Some(through), Actor::User(user)) = (through, &grant.actor) {
        if let Actor::Group(group) = &through.actor {
            links["membership"] = json!(format!("{}/groups/{group}/users/{user}", base(cx)));
        }
        if through.role != grant.role {
            links["prior_role"] = json!(format!("{}/prior_role/{}/implies/{}", base(cx), through.role, grant.role));
        }
    }
    entry.insert("links".to_owned(), links);
    Value::Object(entry)
}

fn link(cx: &RequestCx, grant: &Grant) -> String {
    let target = match &grant.target {
        Target::Project(id) => format!("projects/{id}"),
        Target::Domain(id) => format!("domains/{id}"),
        Target::System => "system".to_owned(),
    };
    let actor = match &grant.actor {
        Actor::User(id) => format!("users/{id}"),
        Actor::Group(id) => format!("groups/{id}"),
    };
    format!("{}/{target}/{actor}/roles/{}", base(cx), grant.role)
}
