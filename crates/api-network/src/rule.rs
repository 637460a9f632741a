//! Rules of security groups.

use std::collections::BTreeMap;

use api::{Caller, Fault, Json, Path, RequestCx};
use axum::extract::{RawQuery, State};
use http::StatusCode;
use networks::group::{self as decide, NewRule};
use networks::{GroupId, Kind, NetError, Networks, Remote, RuleDirection, SecurityGroup, SecurityRule, plan};
use serde_json::{Value, json};

use crate::attrs::Attrs;
use crate::common::{self, Resource, collection_url, editor, id_of, viewer};
use crate::fault::fault;
use crate::group::ensure_default;
use crate::list::{Object, Query};

const ONE: &str = "security_group_rule";
const MANY: &str = "security_group_rules";

/// A rule as the API shows it.
pub(crate) fn object(group: &SecurityGroup, rule: &SecurityRule) -> Object {
    let (prefix, remote_group) = match rule.remote {
        Remote::Any => (None, None),
        Remote::Prefix(prefix) => (Some(prefix.to_string()), None),
        Remote::Group(id) => (None, Some(id.to_string())),
    };
    let created = api::time::rfc3339(rule.created);
    let object = json!({
        "id": rule.id.to_string(),
        "tenant_id": group.standard.project.as_str(),
        "project_id": group.standard.project.as_str(),
        "security_group_id": group.id.to_string(),
        "direction": match rule.direction {
            RuleDirection::Ingress => "ingress",
            RuleDirection::Egress => "egress",
        },
        "ethertype": if rule.ipv6 { "IPv6" } else { "IPv4" },
        "protocol": rule.protocol,
        "port_range_min": rule.port_min,
        "port_range_max": rule.port_max,
        "remote_ip_prefix": prefix,
        "normalized_cidr": prefix,
        "remote_group_id": remote_group,
        "remote_address_group_id": null,
        "description": rule.description,
        "created_at": created,
        "updated_at": created,
        "revision_number": 0,
        "tags": [],
    });
    match object {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    }
}

/// `GET /security-group-rules`
pub(crate) async fn list(
    State(cloud): State<Networks>,
    cx: RequestCx,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let who = viewer(&caller)?;
    let query = Query::parse(query.as_deref())?;
    ensure_default(&cloud, &who).await?;
    let group = query.only("security_group_id").and_then(|id| id.parse::<GroupId>().ok());
    let groups = cloud.read(|reader| match group {
        Some(id) => Ok(reader.get::<SecurityGroup>(&id)?.map(|(group, _)| group).into_iter().collect()),
        None => SecurityGroup::candidates(reader, &who, &Query::default()),
    });
    let mut found = Vec::new();
    for group in groups.await.map_err(fault)?.iter().filter(|group| who.owns(&group.standard.project)) {
        for rule in &group.rules {
            let object = object(group, rule);
            if query.admits(&object)? {
                found.push(object);
            }
        }
    }
    Ok(Json(query.answer(found, MANY, &collection_url(&cx, "security-group-rules"))?))
}

/// `GET /security-group-rules/{id}`
pub(crate) async fn show(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let who = viewer(&caller)?;
    let query = Query::parse(query.as_deref())?;
    let id = id_of(&id, Kind::SecurityRule)?;
    let (group, rule) = cloud.read(|reader| decide::find_rule(reader, &who, id)).await.map_err(fault)?;
    Ok(Json(json!({ ONE: query.project(object(&group, &rule)) })))
}

fn described(mut attrs: Attrs) -> Result<NewRule, Fault> {
    let direction = match attrs.required::<String>("direction", "string")?.to_ascii_lowercase().as_str() {
        "ingress" => RuleDirection::Ingress,
        "egress" => RuleDirection::Egress,
        other => return Err(not_in("direction", other, "['ingress', 'egress']")),
    };
    let ethertype = attrs.nullable::<String>("ethertype", "string")?.flatten();
    let ipv6 = match ethertype.as_deref() {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("IPv4") => false,
        Some(text) if text.eq_ignore_ascii_case("IPv6") => true,
        Some(other) => return Err(not_in("ethertype", other, "['IPv4', 'IPv6']")),
    };
    let prefix = attrs.nullable::<Prefix>("remote_ip_prefix", "cidr")?.flatten();
    let group = match attrs.nullable::<String>("remote_group_id", "string")?.flatten() {
        // Whatever does not look like an id is the id of nothing.
        Some(text) => Some(id_of::<GroupId>(&text, Kind::SecurityGroup)?),
        None => None,
    };
    attrs.unsupported(&["remote_address_group_id"])?;
    let remote = match (prefix, group) {
        (None, None) => Remote::Any,
        (Some(Prefix(prefix)), None) => Remote::Prefix(prefix),
        (None, Some(group)) => Remote::Group(group),
        (Some(_), Some(_)) => {
            let text = "Only one of remote_ip_prefix and remote_group_id may be provided.";
            return Err(Fault::bad_request(text).kind("SecurityGroupMultipleRemoteEntites"));
        }
    };
    attrs.project()?;
    let new = NewRule {
        group: attrs.required("security_group_id", "UUID")?,
        direction,
        ipv6,
        protocol: protocol(&mut attrs)?,
        port_min: port(&mut attrs, "port_range_min")?,
        port_max: port(&mut attrs, "port_range_max")?,
        remote,
        description: attrs.text("description")?.unwrap_or_default(),
    };
    attrs.done()?;
    Ok(new)
}

fn not_in(name: &str, found: &str, choices: &str) -> Fault {
    let found: String = found.chars().take(64).collect();
    Fault::bad_request(format!("Invalid input for {name}. Reason: '{found}' is not in {choices}."))
}

/// A range; an address alone is the range of itself.
struct Prefix(ipnet::IpNet);

impl std::str::FromStr for Prefix {
    type Err = ();
    fn from_str(text: &str) -> Result<Prefix, ()> {
        let range = text.parse::<ipnet::IpNet>().ok();
        let single = || text.parse::<std::net::IpAddr>().ok().map(ipnet::IpNet::from);
        range.or_else(single).map(|net| Prefix(net.trunc())).ok_or(())
    }
}

fn protocol(attrs: &mut Attrs) -> Result<Option<String>, Fault> {
    match attrs.take("protocol") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= 32 => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(Fault::bad_request("Invalid input for protocol. Reason: it is no name and no number.")),
    }
}

fn port(attrs: &mut Attrs, name: &str) -> Result<Option<u16>, Fault> {
    let Some(number) = attrs.number(name)?.flatten() else { return Ok(None) };
    u16::try_from(number)
        .map(Some)
        .map_err(|_| Fault::bad_request(format!("Invalid input for {name}. Reason: {number} is not in 0..=65535.")))
}

/// `POST /security-group-rules`
pub(crate) async fn create(
    State(cloud): State<Networks>,
    caller: Caller,
    Json(body): Json<Value>,
) -> Result<(StatusCode, Json<Value>), Fault> {
    let who = editor(&caller)?;
    let (all, bulk) = Attrs::some(body, ONE, MANY)?;
    let all = all.into_iter().map(described).collect::<Result<Vec<_>, _>>()?;
    let made = cloud.decide(&who, |plan| {
        let mut by_group: BTreeMap<GroupId, Vec<NewRule>> = BTreeMap::new();
        for new in &all {
            by_group.entry(new.group).or_default().push(new.clone());
        }
        let mut made = Vec::new();
        for (id, new) in by_group {
            let rules = decide::add_rules(plan, id, new)?;
            let (group, _) = plan::owned::<SecurityGroup>(plan.reader(), plan.who(), &id)?;
            made.extend(rules.iter().map(|rule| object(&group, rule)));
        }
        Ok::<_, NetError>(made)
    });
    let mut made = made.await.map_err(fault)?;
    let body = if bulk { json!({ MANY: made }) } else { json!({ ONE: made.pop() }) };
    Ok((StatusCode::CREATED, Json(body)))
}

/// `DELETE /security-group-rules/{id}`
pub(crate) async fn delete(
    State(cloud): State<Networks>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Fault> {
    common::delete(&cloud, &caller, (Kind::SecurityRule, &id), decide::delete_rule).await
}
