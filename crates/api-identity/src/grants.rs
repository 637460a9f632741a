//! Giving roles and taking them away: `/projects/{p}/users/{u}/roles/{r}` and the five paths like it.

use std::sync::Arc;

use api::{Caller, Dialect, Fault, Json, Path, RequestCx, Routes};
use axum::extract::State;
use http::StatusCode;
use identity::Identity;
use identity::record::{Actor, Grant, Target};
use serde_json::Value;

use crate::list::{self, Filters};
use crate::{Cloud, policy};

/// Where, who, what; for the system there is no second id.
type Where = (TargetKind, ActorKind);

#[derive(Clone, Copy)]
enum TargetKind {
    Project,
    Domain,
    System,
}

#[derive(Clone, Copy)]
enum ActorKind {
    User,
    Group,
}

pub(crate) fn routes() -> Routes<Arc<Identity>> {
    use ActorKind::{Group, User};
    use TargetKind::{Domain, Project, System};
    let mut routes = Routes::new(Dialect::Keystone);
    for place in [(Project, User), (Project, Group), (Domain, User), (Domain, Group), (System, User), (System, Group)] {
        let path = path(place);
        let one = format!("{path}/{{role_id}}");
        routes = routes
            .get(&path, move |caller: Caller, cx: RequestCx, cloud: Cloud, ids: Path<Vec<String>>, filters: Filters| {
                list(place, caller, cx, cloud, ids, filters)
            })
            .get(&one, move |caller: Caller, cloud: Cloud, ids: Path<Vec<String>>| check(place, caller, cloud, ids))
            .put(&one, move |caller: Caller, cloud: Cloud, ids: Path<Vec<String>>| give(place, caller, cloud, ids))
            .delete(&one, move |caller: Caller, cloud: Cloud, ids: Path<Vec<String>>| take(place, caller, cloud, ids));
    }
    routes
}

fn path((target, actor): Where) -> String {
    let target = match target {
        TargetKind::Project => "/projects/{project_id}",
        TargetKind::Domain => "/domains/{domain_id}",
        TargetKind::System => "/system",
    };
    let actor = match actor {
        ActorKind::User => "/users/{user_id}",
        ActorKind::Group => "/groups/{group_id}",
    };
    format!("{target}{actor}/roles")
}

/// The parts of the path as what they name. What cannot be an id names nothing.
fn read((target, actor): Where, ids: &[String]) -> Result<(Target, Actor, Option<&String>), Fault> {
    let none = || Fault::not_found("The resource could not be found.");
    let mut ids = ids.iter();
    let mut next = || ids.next().ok_or_else(none);
    let target = match target {
        TargetKind::Project => Target::Project(next()?.parse().map_err(|_| none())?),
        TargetKind::Domain => Target::Domain(next()?.parse().map_err(|_| none())?),
        TargetKind::System => Target::System,
    };
    let actor = match actor {
        ActorKind::User => Actor::User(next()?.parse().map_err(|_| none())?),
        ActorKind::Group => Actor::Group(next()?.parse().map_err(|_| none())?),
    };
    Ok((target, actor, ids.next()))
}

fn grant(place: Where, ids: &[String]) -> Result<Grant, Fault> {
    let none = || Fault::not_found("The resource could not be found.");
    let (target, actor, role) = read(place, ids)?;
    Ok(Grant { actor, target, role: role.ok_or_else(none)?.parse().map_err(|_| none())? })
}

async fn list(
    place: Where,
    caller: Caller,
    cx: RequestCx,
    State(cloud): Cloud,
    Path(ids): Path<Vec<String>>,
    filters: Filters,
) -> Result<Json<Value>, Fault> {
    policy::admin(&caller, "list_grants")?;
    let (target, actor, _) = read(place, &ids)?;
    let mut path = path(place);
    for id in &ids {
        let (from, to) = (path.find('{').unwrap_or(0), path.find('}').map_or(0, |at| at + 1));
        path.replace_range(from..to, id);
    }
    list::answer(&cx, &path, &filters, &["name"], &cloud.roles_given(&actor, &target).await?)
}

async fn check(
    place: Where,
    caller: Caller,
    State(cloud): Cloud,
    Path(ids): Path<Vec<String>>,
) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "check_grant")?;
    cloud.check_grant(&grant(place, &ids)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn give(
    place: Where,
    caller: Caller,
    State(cloud): Cloud,
    Path(ids): Path<Vec<String>>,
) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "create_grant")?;
    cloud.grant(&grant(place, &ids)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn take(
    place: Where,
    caller: Caller,
    State(cloud): Cloud,
    Path(ids): Path<Vec<String>>,
) -> Result<StatusCode, Fault> {
    policy::admin(&caller, "revoke_grant")?;
    cloud.withdraw(&grant(place, &ids)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
