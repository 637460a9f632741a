//! `GET /v2/images`: filters, order, pages.
//!
//! Without a wish about visibility a project sees its own images, public ones, and shared ones that it accepted; an
//! administrator sees all. Hidden images are left out unless asked for. A parameter that is not known is a custom
//! property.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use api::paging::next_url;
use api::{Caller, Fault, Json, Query};
use axum::extract::{RawQuery, State};
use images::{ContainerFormat, DiskFormat, Image, Images, MemberStatus, Viewer, Visibility};
use serde_json::{Value, json};
use world::Wall;

use crate::{viewer, wire};

const PAGE_ENTRIES_DEFAULT: usize = 100;
const PAGE_ENTRIES_MAX: usize = 1000;

/// `GET /v2/images`.
pub async fn list(
    State(images): State<Arc<Images>>,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Fault> {
    let (viewer, wish) = (viewer(&caller), Wish::parse(pairs)?);
    let mut found = images.list(|image| wish.wants(&viewer, image)).await?;
    found.sort_by(|one, other| wish.order(one, other));
    let start = match &wish.marker {
        None => 0,
        Some(marker) => {
            let place = found.iter().position(|image| image.id.to_string() == *marker);
            place.ok_or_else(|| Fault::bad_request(format!("The marker {marker} is not in the list.")))? + 1
        }
    };
    let page: Vec<_> = found.iter().skip(start).take(wish.limit).collect();
    let mut body = json!({
        "images": page.iter().map(|image| wire::image(image)).collect::<Vec<_>>(),
        "first": first_url(query.as_deref()),
        "schema": "/v2/schemas/images",
    });
    if let Some(last) = page.last().filter(|_| found.len() - start > page.len()) {
        body["next"] = Value::from(next_url("/v2/images", query.as_deref(), &last.id.to_string()));
    }
    Ok(Json(body))
}

fn first_url(query: Option<&str>) -> String {
    let kept: Vec<_> = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty() && !is_marker(pair)).collect();
    if kept.is_empty() { "/v2/images".to_owned() } else { format!("/v2/images?{}", kept.join("&")) }
}

fn is_marker(pair: &str) -> bool {
    pair.split('=').next() == Some("marker")
}

/// What a client wants to see.
struct Wish {
    filters: Vec<Filter>,
    visibility: Option<Visibility>,
    hidden: bool,
    /// `None`: whatever the answer was.
    membership: Option<MemberStatus>,
    sort: Vec<(Field, bool)>,
    limit: usize,
    marker: Option<String>,
}

/// One condition.
enum Filter {
    /// A field has one of these values.
    Field(Field, Vec<String>),
    Tag(String),
    SizeMin(u64),
    SizeMax(u64),
    Protected(bool),
    Moment(Field, Comparison, Wall),
    Property(String, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    Unequal,
}

/// What can be filtered or sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Status,
    Owner,
    DiskFormat,
    ContainerFormat,
    Size,
    MinDisk,
    MinRam,
    Checksum,
    HashAlgorithm,
    HashValue,
    Created,
    Updated,
}

impl Field {
    fn of_filter(name: &str) -> Option<Field> {
        Some(match name {
            "min_disk" => Field::MinDisk,
            "min_ram" => Field::MinRam,
            "owner" => Field::Owner,
            "checksum" => Field::Checksum,
            "os_hash_algo" => Field::HashAlgorithm,
            "os_hash_value" => Field::HashValue,
            other => return Field::of_sort(other),
        })
    }

    fn of_sort(name: &str) -> Option<Field> {
        Some(match name {
            "id" => Field::Id,
            "name" => Field::Name,
            "status" => Field::Status,
            "disk_format" => Field::DiskFormat,
            "container_format" => Field::ContainerFormat,
            "size" => Field::Size,
            "created_at" => Field::Created,
            "updated_at" => Field::Updated,
            _ => return None,
        })
    }

    fn text(self, image: &Image) -> Option<String> {
        match self {
            Field::Id => Some(image.id.to_string()),
            Field::Name => image.name.clone(),
            Field::Status => Some(image.status.name().to_owned()),
            Field::Owner => Some(image.owner.as_str().to_owned()),
            Field::DiskFormat => image.disk_format.map(|format| DiskFormat::name(format).to_owned()),
            Field::ContainerFormat => image.container_format.map(|format| ContainerFormat::name(format).to_owned()),
            Field::Size => image.content().map(|content| content.size_bytes.to_string()),
            Field::MinDisk => Some(image.min_disk_gib.to_string()),
            Field::MinRam => Some(image.min_ram_mib.to_string()),
            Field::Checksum => image.content().map(|content| hex::encode(content.md5)),
            Field::HashAlgorithm => image.content().map(|_| "sha512".to_owned()),
            Field::HashValue => image.content().map(|content| hex::encode(content.sha512)),
            Field::Created | Field::Updated => Some(self.moment(image).as_micros().to_string()),
        }
    }

    fn moment(self, image: &Image) -> Wall {
        if self == Field::Updated { image.updated } else { image.created }
    }

    fn compare(self, one: &Image, other: &Image) -> Ordering {
        match self {
            Field::Size => {
                let size = |image: &Image| image.content().map(|content| content.size_bytes);
                size(one).cmp(&size(other))
            }
            Field::Created | Field::Updated => self.moment(one).cmp(&self.moment(other)),
            Field::MinDisk => one.min_disk_gib.cmp(&other.min_disk_gib),
            Field::MinRam => one.min_ram_mib.cmp(&other.min_ram_mib),
            Field::Id
            | Field::Name
            | Field::Status
            | Field::Owner
            | Field::DiskFormat
            | Field::ContainerFormat
            | Field::Checksum
            | Field::HashAlgorithm
            | Field::HashValue => self.text(one).cmp(&self.text(other)),
        }
    }
}

impl Wish {
    fn parse(pairs: Vec<(String, String)>) -> Result<Wish, Fault> {
        let mut wish = Wish {
            filters: Vec::new(),
            visibility: None,
            hidden: false,
            membership: Some(MemberStatus::Accepted),
            sort: Vec::new(),
            limit: PAGE_ENTRIES_DEFAULT,
            marker: None,
        };
        let mut sorting = Sorting::default();
        for (name, value) in pairs {
            match name.as_str() {
                "limit" => wish.limit = number(&name, &value)?.min(PAGE_ENTRIES_MAX),
                "marker" => wish.marker = Some(value),
                "visibility" if value == "all" => wish.visibility = None,
                "visibility" => wish.visibility = Some(word(&name, &value, Visibility::from_name)?),
                "member_status" if value == "all" => wish.membership = None,
                "member_status" => wish.membership = Some(word(&name, &value, MemberStatus::from_name)?),
                "os_hidden" => wish.hidden = boolean(&name, &value)?,
                "sort" => sorting.both = Some(value),
                "sort_key" => sorting.keys.push(value),
                "sort_dir" => sorting.directions.push(value),
                _ => wish.filters.push(filter(name, value)?),
            }
        }
        wish.sort = sorting.parse()?;
        Ok(wish)
    }

    fn wants(&self, viewer: &Viewer, image: &Image) -> bool {
        image.hidden == self.hidden && self.is_listed(viewer, image) && self.filters.iter().all(|one| one.fits(image))
    }

    fn is_listed(&self, viewer: &Viewer, image: &Image) -> bool {
        if self.visibility.is_some_and(|visibility| visibility != image.visibility) {
            return false;
        }
        if viewer.admin || viewer.owns(image) {
            return true;
        }
        match image.visibility {
            Visibility::Public => true,
            Visibility::Community => self.visibility == Some(Visibility::Community),
            Visibility::Shared => match (viewer.membership(image), self.membership) {
                (Some(answered), Some(wanted)) => answered == wanted,
                (Some(_), None) => true,
                (None, _) => false,
            },
            Visibility::Private => false,
        }
    }

    fn order(&self, one: &Image, other: &Image) -> Ordering {
        let by = |(field, ascending): &(Field, bool)| {
            let order = field.compare(one, other);
            if *ascending { order } else { order.reverse() }
        };
        self.sort.iter().map(by).find(|order| order.is_ne()).unwrap_or_else(|| other.id.cmp(&one.id))
    }
}

#[derive(Default)]
struct Sorting {
    both: Option<String>,
    keys: Vec<String>,
    directions: Vec<String>,
}

impl Sorting {
    fn parse(self) -> Result<Vec<(Field, bool)>, Fault> {
        let pairs: Vec<(String, String)> = match self.both {
            Some(_) if !self.keys.is_empty() || !self.directions.is_empty() => {
                return Err(Fault::bad_request("Old and new sorting syntax cannot be combined."));
            }
            Some(both) => both
                .split(',')
                .map(|pair| pair.trim().split_once(':').unwrap_or((pair.trim(), "desc")))
                .map(|(key, direction)| (key.to_owned(), direction.to_owned()))
                .collect(),
            None => {
                let keys = if self.keys.is_empty() { vec!["created_at".to_owned()] } else { self.keys };
                if self.directions.len() > 1 && self.directions.len() != keys.len() {
                    return Err(Fault::bad_request("Number of sort dirs does not match the number of sort keys."));
                }
                let last = self.directions.last().cloned().unwrap_or_else(|| "desc".to_owned());
                let directions = self.directions.into_iter().chain(std::iter::repeat(last));
                keys.into_iter().zip(directions).collect()
            }
        };
        pairs.into_iter().map(|(key, direction)| sort_pair(&key, &direction)).collect()
    }
}

fn sort_pair(key: &str, direction: &str) -> Result<(Field, bool), Fault> {
    let field = Field::of_sort(key).ok_or_else(|| Fault::bad_request(format!("Invalid sort key: {key}")))?;
    match direction {
        "asc" => Ok((field, true)),
        "desc" => Ok((field, false)),
        _ => Err(Fault::bad_request(format!("Invalid sort direction: {direction}"))),
    }
}

fn filter(name: String, value: String) -> Result<Filter, Fault> {
    Ok(match name.as_str() {
        "tag" => Filter::Tag(value),
        "size_min" => Filter::SizeMin(number(&name, &value)? as u64),
        "size_max" => Filter::SizeMax(number(&name, &value)? as u64),
        "protected" => Filter::Protected(boolean(&name, &value)?),
        "created_at" => moment(Field::Created, &value)?,
        "updated_at" => moment(Field::Updated, &value)?,
        _ => match Field::of_filter(&name) {
            Some(field) => Filter::Field(field, values(field, value)?),
            None => Filter::Property(name, value),
        },
    })
}

/// One value, or several behind `in:`. A value with a comma is quoted.
fn values(field: Field, value: String) -> Result<Vec<String>, Fault> {
    let several = matches!(field, Field::Id | Field::Name | Field::Status | Field::DiskFormat | Field::ContainerFormat);
    let Some(list) = value.strip_prefix("in:").filter(|_| several) else { return Ok(vec![value]) };
    let mut rest = list;
    let mut values = Vec::new();
    let bad = || Fault::bad_request(format!("Invalid filter value {list}. Quotes are not closed."));
    loop {
        let (value, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or_else(bad)?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        values.push(value.to_owned());
        match behind.strip_prefix(',') {
            Some(more) => rest = more,
            None if behind.is_empty() => return Ok(values),
            None => return Err(bad()),
        }
    }
}

fn moment(field: Field, value: &str) -> Result<Filter, Fault> {
    let words = BTreeMap::from([
        ("gt", Comparison::Greater),
        ("gte", Comparison::GreaterOrEqual),
        ("lt", Comparison::Less),
        ("lte", Comparison::LessOrEqual),
        ("eq", Comparison::Equal),
        ("neq", Comparison::Unequal),
    ]);
    let split = value.split_once(':').and_then(|(word, rest)| Some((*words.get(word)?, rest)));
    let (comparison, text) = split.unwrap_or((Comparison::Equal, value));
    let wall = api::time::parse(text).ok_or_else(|| Fault::bad_request(format!("Invalid time value: {text}")))?;
    Ok(Filter::Moment(field, comparison, wall))
}

impl Filter {
    fn fits(&self, image: &Image) -> bool {
        let size = || image.content().map(|content| content.size_bytes);
        match self {
            Filter::Field(field, values) => field.text(image).is_some_and(|text| values.contains(&text)),
            Filter::Tag(tag) => image.tags.contains(tag),
            Filter::SizeMin(min) => size().is_some_and(|size| size >= *min),
            Filter::SizeMax(max) => size().is_some_and(|size| size <= *max),
            Filter::Protected(protected) => image.protected == *protected,
            Filter::Moment(field, comparison, wall) => {
                // Clients see whole seconds, so they compare those.
                let order = field.moment(image).as_secs().cmp(&wall.as_secs());
                match comparison {
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Equal => order.is_eq(),
                    Comparison::Unequal => order.is_ne(),
                }
            }
            Filter::Property(name, value) => image.properties.get(name) == Some(value),
        }
    }
}

fn number(name: &str, value: &str) -> Result<usize, Fault> {
    value
        .parse()
        .map_err(|_| Fault::bad_request(format!("The value of {name} must be a whole number of zero or more.")))
}

fn boolean(name: &str, value: &str) -> Result<bool, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Fault::bad_request(format!("The value of {name} must be true or false."))),
    }
}

fn word<T>(name: &str, value: &str, from: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    from(value).ok_or_else(|| Fault::bad_request(format!("Invalid {name} value: {value}")))
}
