//! JSON schemas of what this API shows. Clients read the formats that are taken from them.

use api::{Caller, Fault, Json, Path};
use images::{ContainerFormat, DiskFormat, MemberStatus, Visibility};
use serde_json::{Value, json};

/// `GET /v2/schemas/{name}`.
pub async fn show(_caller: Caller, Path(name): Path<String>) -> Result<Json<Value>, Fault> {
    match name.as_str() {
        "image" => Ok(Json(image())),
        "images" => Ok(Json(collection("images", image()))),
        "member" => Ok(Json(member())),
        "members" => Ok(Json(collection("members", member()))),
        _ => Err(Fault::not_found(format!("There is no schema {name}."))),
    }
}

fn collection(name: &str, item: Value) -> Value {
    let mut properties = json!({
        name: { "type": "array", "items": item },
        "schema": { "type": "string" },
    });
    let mut links = json!([{ "rel": "describedby", "href": "{schema}" }]);
    if name == "images" {
        properties["first"] = json!({ "type": "string" });
        properties["next"] = json!({ "type": "string" });
        links = json!([
            { "rel": "first", "href": "{first}" },
            { "rel": "next", "href": "{next}" },
            { "rel": "describedby", "href": "{schema}" },
        ]);
    }
    json!({ "name": name, "properties": properties, "links": links })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn optional_text(description: &str, length_max: usize) -> Value {
    json!({ "type": ["null", "string"], "maxLength": length_max, "description": description })
}

fn read_only(mut schema: Value) -> Value {
    schema["readOnly"] = Value::Bool(true);
    schema
}

fn choice<T: Copy>(description: &str, all: &[T], name: impl Fn(T) -> &'static str, optional: bool) -> Value {
    let mut values: Vec<Value> = all.iter().map(|value| Value::from(name(*value))).collect();
    if optional {
        values.insert(0, Value::Null);
    }
    let kind = if optional { json!(["null", "string"]) } else { json!("string") };
    json!({ "type": kind, "enum": values, "description": description })
}

const UUID: &str = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$";

fn image() -> Value {
    let number = |description: &str| json!({ "type": "integer", "minimum": 0, "description": description });
    let measured = |description: &str| read_only(json!({ "type": ["null", "integer"], "description": description }));
    json!({
        "name": "image",
        "properties": {
            "id": { "type": "string", "pattern": UUID, "description": "An identifier for the image" },
            "name": optional_text("Descriptive name for the image", 255),
            "owner": optional_text("The project that owns the image", 255),
            "status": read_only(json!({
                "type": "string",
                "enum": ["queued", "saving", "active", "deactivated"],
                "description": "Where the image stands in its life",
            })),
            "visibility": choice("Who may see the image", Visibility::ALL, Visibility::name, false),
            "protected": { "type": "boolean", "description": "If true, the image cannot be deleted" },
            "os_hidden": { "type": "boolean", "description": "If true, lists leave the image out by default" },
            "disk_format": choice("What the bytes are", DiskFormat::ALL, DiskFormat::name, true),
            "container_format": choice("What is around the bytes", ContainerFormat::ALL, ContainerFormat::name, true),
            "min_disk": number("GiB of root disk that a server needs at least"),
            "min_ram": number("MiB of memory that a server needs at least"),
            "size": measured("Bytes of the image"),
            "virtual_size": measured("Bytes of the disk in the image"),
            "checksum": read_only(optional_text("MD5 of the bytes", 32)),
            "os_hash_algo": read_only(optional_text("The algorithm of os_hash_value", 64)),
            "os_hash_value": read_only(optional_text("Hash of the bytes", 128)),
            "tags": {
                "type": "array",
                "items": { "type": "string", "maxLength": 255 },
                "description": "Strings that the image is found by",
            },
            "created_at": read_only(text("When the image was created")),
            "updated_at": read_only(text("When the image was last changed")),
            "self": read_only(text("Where the image is")),
            "file": read_only(text("Where its bytes are")),
            "schema": read_only(text("Where this schema is")),
        },
        "additionalProperties": { "type": "string" },
        "links": [
            { "rel": "self", "href": "{self}" },
            { "rel": "enclosure", "href": "{file}" },
            { "rel": "describedby", "href": "{schema}" },
        ],
    })
}

fn member() -> Value {
    json!({
        "name": "member",
        "properties": {
            "member_id": text("The project that the image is shared with"),
            "image_id": { "type": "string", "pattern": UUID, "description": "The image" },
            "status": choice("The project's own answer", MemberStatus::ALL, MemberStatus::name, false),
            "created_at": text("When the project was added"),
            "updated_at": text("When its answer changed last"),
            "schema": read_only(text("Where this schema is")),
        },
    })
}
