//! Security groups.

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::{RawQuery, State};
use http::StatusCode;
use networks::group as decide;
use networks::keys::{self, GroupTerm};
use networks::{Kind, NetError, Networks, ProjectId, SecurityGroup, Who};
use serde_json::{Value, json};
use store::Reader;

use crate::attrs::Attrs;
use crate::common::{self, Resource, answer, editor, id_of, viewer, with_standard};
use crate::fault::fault;
use crate::list::{Object, Query};
use crate::rule;

impl Resource for SecurityGroup {
    const ONE: &'static str = "security_group";
    const MANY: &'static str = "security_groups";
    const PATH: &'static str = "security-groups";

    fn object(&self, _reader: &Reader<'_>, _who: &Who) -> Result<Object, NetError> {
        let object = json!({
            "id": self.id.to_string(),
            "security_group_rules": self.rules.iter().map(|rule| rule::object(self, rule)).collect::<Vec<_>>(),
            "stateful": true,
            "shared": false,
        });
        Ok(with_standard(object, &self.standard))
    }

    fn candidates(reader: &Reader<'_>, who: &Who, query: &Query) -> Result<Vec<SecurityGroup>, NetError> {
        if let Some(found) = common::by_id(reader, query)? {
            return Ok(found);
        }
        let asked = query.only("project_id").or_else(|| query.only("tenant_id"));
        let asked = asked.and_then(|text| text.parse::<ProjectId>().ok());
        let project = match (&asked, who.admin) {
            (Some(project), _) => project,
            (None, true) => return common::all(reader),
            (None, false) => &who.project,
        };
        let term = GroupTerm::Project(project).text();
        let found = reader.by::<SecurityGroup>(keys::GROUPS, &term);
        Ok(found.map(|found| found.map(|(group, _)| group)).collect::<Result<_, _>>()?)
    }
}

/// A project has a default group from the first moment that anybody looks.
pub(crate) async fn ensure_default(cloud: &Networks, who: &Who) -> Result<(), Fault> {
    cloud.decide(who, |plan| plan.default_group(&plan.who().project).map(drop)).await.map_err(fault)
}

/// `GET /security-groups`
pub(crate) async fn list(
    State(cloud): State<Networks>,
    cx: RequestCx,
    caller: Caller,
    query: RawQuery,
) -> Result<Json<Value>, Fault> {
    ensure_default(&cloud, &viewer(&caller)?).await?;
    common::list::<SecurityGroup>(State(cloud), cx, caller, query).await
}

struct New {
    name: String,
    description: String,
    project: Option<ProjectId>,
}

fn described(mut attrs: Attrs) -> Result<New, Fault> {
    stateful(&mut attrs)?;
    let new = New {
        name: attrs.text("name")?.unwrap_or_default(),
        description: attrs.text("description")?.unwrap_or_default(),
        project: attrs.project()?,
    };
    attrs.done()?;
    Ok(new)
}

fn stateful(attrs: &mut Attrs) -> Result<(), Fault> {
    match attrs.flag("stateful")? {
        None | Some(true) => Ok(()),
        Some(false) => Err(Fault::not_implemented("This cloud has stateful security groups only.")),
    }
}

/// `POST /security-groups`
pub(crate) async fn create(
    State(cloud): State<Networks>,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let who = editor(&caller)?;
    let (all, bulk) = Attrs::some(body, SecurityGroup::ONE, SecurityGroup::MANY)?;
    let all = all.into_iter().map(described).collect::<Result<Vec<_>, _>>()?;
    let made = cloud.decide(&who, |plan| {
        let groups =
            all.iter().map(|new| decide::create(plan, new.name.clone(), new.description.clone(), new.project.clone()));
        groups.collect::<Result<Vec<_>, _>>()
    });
    Ok((StatusCode::CREATED, answer(&cloud, &who, &made.await.map_err(fault)?, bulk).await?))
}

/// `PUT /security-groups/{id}`
pub(crate) async fn update(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, Fault> {
    let who = editor(&caller)?;
    let id = id_of(&id, Kind::SecurityGroup)?;
    let mut attrs = Attrs::one(body, SecurityGroup::ONE)?;
    stateful(&mut attrs)?;
    let (name, description) = (attrs.text("name")?, attrs.text("description")?);
    attrs.done()?;
    let group = cloud.decide(&who, |plan| decide::update(plan, id, name.clone(), description.clone()));
    answer(&cloud, &who, &[group.await.map_err(fault)?], false).await
}

/// `DELETE /security-groups/{id}`
pub(crate) async fn delete(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::delete(&cloud, &caller, (Kind::SecurityGroup, &id), decide::delete).await
}
