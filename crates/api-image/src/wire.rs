//! An image as JSON, and attributes of images from JSON. What creation and patches share.

use api::Fault;
use api::time::rfc3339;
use images::{Change, ContainerFormat, DiskFormat, Image, Project, Visibility};
use serde_json::{Map, Value, json};

/// Attributes that only the service sets.
const READ_ONLY: [&str; 14] = [
    "id",
    "status",
    "size",
    "virtual_size",
    "checksum",
    "os_hash_algo",
    "os_hash_value",
    "created_at",
    "updated_at",
    "self",
    "file",
    "schema",
    "direct_url",
    "stores",
];
/// Names that are no custom properties although nothing here has them.
const RESERVED: [&str; 4] = ["location", "locations", "deleted", "deleted_at"];
/// Names that begin so belong to the service.
const RESERVED_PREFIX: &str = "os_glance";

/// Attributes that clients set, all but tags; custom properties aside.
const ATTRIBUTES: [&str; 10] = [
    "name",
    "visibility",
    "disk_format",
    "container_format",
    "min_disk",
    "min_ram",
    "protected",
    "os_hidden",
    "owner",
    "tags",
];

/// What a name at the top level of an image is to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An attribute that it may set.
    Attribute,
    /// A custom property.
    Property,
}

/// What `name` is; refused if it is not a client's to change.
pub(crate) fn kind_of(name: &str) -> Result<Kind, Fault> {
    if READ_ONLY.contains(&name) {
        return Err(Fault::forbidden(format!("Attribute '{name}' is read-only.")));
    }
    if RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX) {
        return Err(Fault::forbidden(format!("Attribute '{name}' is reserved.")));
    }
    Ok(if ATTRIBUTES.contains(&name) { Kind::Attribute } else { Kind::Property })
}

/// The change that sets `name` to `value`.
pub(crate) fn set(name: &str, value: &Value) -> Result<Change, Fault> {
    if kind_of(name)? == Kind::Property {
        return Ok(Change::SetProperty(name.to_owned(), string(name, value)?));
    }
    Ok(match name {
        "name" => Change::Name(optional(name, value)?),
        "visibility" => Change::Visibility(word(name, value, Visibility::from_name)?),
        "disk_format" if value.is_null() => Change::DiskFormat(None),
        "disk_format" => Change::DiskFormat(Some(format(name, value, DiskFormat::from_name, "raw and qcow2")?)),
        "container_format" if value.is_null() => Change::ContainerFormat(None),
        "container_format" => {
            Change::ContainerFormat(Some(format(name, value, ContainerFormat::from_name, "bare alone")?))
        }
        "min_disk" => Change::MinDiskGib(number(name, value)?),
        "min_ram" => Change::MinRamMib(number(name, value)?),
        "protected" => Change::Protected(boolean(name, value)?),
        "os_hidden" => Change::Hidden(boolean(name, value)?),
        "owner" => Change::Owner(Project::new(string(name, value)?)),
        _ => Change::Tags(tags(value)?),
    })
}

fn wrong(name: &str, needed: &str) -> Fault {
    Fault::bad_request(format!("Invalid value for '{name}': it must be {needed}."))
}

pub(crate) fn string(name: &str, value: &Value) -> Result<String, Fault> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "a string"))
}

fn optional(name: &str, value: &Value) -> Result<Option<String>, Fault> {
    if value.is_null() { Ok(None) } else { string(name, value).map(Some) }
}

fn boolean(name: &str, value: &Value) -> Result<bool, Fault> {
    value.as_bool().ok_or_else(|| wrong(name, "true or false"))
}

fn number(name: &str, value: &Value) -> Result<u32, Fault> {
    // 2^31 - 1 is what databases behind this API have always held.
    let number =
        value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| *number <= i32::MAX as u32);
    number.ok_or_else(|| wrong(name, "a whole number from 0 to 2147483647"))
}

fn word<T>(name: &str, value: &Value, from: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
    value.as_str().and_then(from).ok_or_else(|| wrong(name, "one of the values that the schema names"))
}

fn format<T>(name: &str, value: &Value, from: impl Fn(&str) -> Option<T>, taken: &str) -> Result<T, Fault> {
    let said = value.as_str().ok_or_else(|| wrong(name, "a string"))?;
    from(said).ok_or_else(|| {
        Fault::bad_request(format!("The {name} '{said}' is not taken here: {taken} can be booted by this cloud."))
    })
}

fn tags(value: &Value) -> Result<Vec<String>, Fault> {
    let tags = value.as_array().ok_or_else(|| wrong("tags", "an array of strings"))?;
    tags.iter().map(|tag| string("tags", tag)).collect()
}

/// The image as clients see it: custom properties stand beside its own members.
pub(crate) fn image(image: &Image) -> Value {
    let content = image.content();
    let mut body = Map::new();
    for (name, value) in &image.properties {
        body.insert(name.clone(), Value::from(value.as_str()));
    }
    let own = json!({
        "id": image.id.to_string(),
        "name": image.name,
        "owner": image.owner.as_str(),
        "status": image.status.name(),
        "visibility": image.visibility.name(),
        "protected": image.protected,
        "os_hidden": image.hidden,
        "disk_format": image.disk_format.map(DiskFormat::name),
        "container_format": image.container_format.map(ContainerFormat::name),
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
        "size": content.map(|content| content.size_bytes),
        "virtual_size": content.map(|content| content.virtual_bytes),
        "checksum": content.map(|content| hex::encode(content.md5)),
        "os_hash_algo": content.map(|_| "sha512"),
        "os_hash_value": content.map(|content| hex::encode(content.sha512)),
        "tags": image.tags,
        "created_at": rfc3339(image.created),
        "updated_at": rfc3339(image.updated),
        "self": path(image),
        "file": format!("{}/file", path(image)),
        "schema": "/v2/schemas/image",
    });
    // Its own members win: no property can pass for one.
    if let Value::Object(own) = own {
        body.extend(own);
    }
    Value::Object(body)
}

/// Where the image is, from the family's root.
pub(crate) fn path(image: &Image) -> String {
    format!("/v2/images/{}", image.id)
}
