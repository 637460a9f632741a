//! Each family of commands, on a cell whose guests only pretend: identity, image and placement here, the larger two in
//! files of their own. A walk makes what it needs and deletes it, so that each can be read and run alone.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::cell::Cell;
use super::openstack::{self, Openstack};
use super::said::{check, no_row, row, text};
use super::{compute, network};

const NODES: usize = 3;

/// What a walk has.
pub(super) struct Walk<'a> {
    pub(super) cell: &'a Cell,
    pub(super) programs: &'a Path,
    /// The administrator.
    pub(super) os: Openstack,
}

type Steps = fn(&mut Walk<'_>) -> anyhow::Result<()>;

/// Walks all; returns what failed.
pub(super) fn walk(programs: &Path) -> anyhow::Result<Vec<String>> {
    let cell = Cell::start("fake", NODES)?;
    let mut failed = Vec::new();
    let walks: [(&str, Steps); 5] = [
        ("identity", identity),
        ("image", image),
        ("network", network::walk),
        ("compute", compute::walk),
        ("placement", placement),
    ];
    let mut walk = Walk { cell: &cell, programs, os: Openstack::shell(programs, openstack::admin(&cell.home()))? };
    for (family, steps) in walks {
        let before = walk.os.ran();
        match steps(&mut walk) {
            Ok(()) => println!("{family}: {} commands", walk.os.ran() - before),
            Err(error) => failed.push(format!("{family}: {error:#}")),
        }
    }
    if failed.is_empty() {
        cell.settles_empty().context("after all walks")?;
    } else {
        println!("{}", cell.log_end());
    }
    Ok(failed)
}

fn identity(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    let token = os.json("token issue")?;
    let (user, project) = (text(&token, "/user_id")?, text(&token, "/project_id")?);
    let catalog = os.json("catalog list")?;
    for (kind, path) in
        [("identity", "/identity/v3"), ("compute", "/compute/v2.1"), ("image", "/image"), ("network", "/network")]
    {
        let service = row(&catalog, &json!({ "Type": kind }))?;
        let endpoints = service["Endpoints"].as_array().context("a service has endpoints")?;
        let public = endpoints.iter().find(|one| one["interface"] == "public").context("one is public")?;
        anyhow::ensure!(text(public, "/url")?.ends_with(path), "{public} does not end with {path}");
    }
    os.lists("versions show", &json!({ "Service Type": "compute", "Status": "CURRENT", "Min Microversion": "2.1" }))?;
    os.lists("user list", &json!({ "ID": user, "Name": "admin" }))?;
    os.lists("project list --my-projects", &json!({ "ID": project }))?;
    for role in ["admin", "member", "reader", "service"] {
        os.lists("role list", &json!({ "Name": role }))?;
    }
    os.lists("region list", &json!({ "Region": "RegionOne" }))?;
    os.lists("endpoint list --service placement", &json!({ "Interface": "public", "Region": "RegionOne" }))?;
    domains_and_projects(os)?;
    users_and_groups(walk)?;
    application_credentials(walk)?;
    services(&mut walk.os)
}

fn domains_and_projects(os: &mut Openstack) -> anyhow::Result<()> {
    os.shows("domain create north --description cold", &json!({ "name": "north", "enabled": true }))?;
    os.refused("domain create north", "409")?;
    os.refused("domain delete north", "Cannot delete a domain that is enabled")?;
    os.done("domain set --disable north")?;
    os.done("domain delete north")?;
    no_row(&os.json("domain list")?, &json!({ "Name": "north" }))?;
    let made = json!({ "name": "red", "description": "paint", "enabled": true, "domain_id": "default" });
    os.shows("project create red --description paint --tag dry", &made)?;
    os.refused("project create red", "Duplicate entry found with name red")?;
    os.shows("project show red", &json!({ "tags": ["dry"] }))?;
    os.done("project set --name crimson --disable red")?;
    os.shows("project show crimson", &json!({ "enabled": false, "description": "paint" }))?;
    os.refused("project show red", "No Project found for red")?;
    os.done("project delete crimson")?;
    os.refused("project delete crimson", "1 of 1 projects failed to delete")
}

fn users_and_groups(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    os.done("project create red")?;
    let made = json!({ "name": "ann", "email": "ann@example.org", "enabled": true, "domain_id": "default" });
    os.shows("user create ann --password Secret-1 --project red --email ann@example.org", &made)?;
    os.refused("user create ann --password x", "Duplicate entry found with name ann")?;
    let login = |password: &str| openstack::user(&walk.cell.home(), "ann", password, "red");
    let mut ann = Openstack::shell(walk.programs, login("Secret-1"))?;
    ann.refused("token issue", "401")?;
    os.done("role add --user ann --project red member")?;
    os.lists("role assignment list --user ann --names", &json!({ "Role": "member", "Project": "red@Default" }))?;
    let mut ann = Openstack::shell(walk.programs, login("Secret-1"))?;
    ann.json("token issue")?;
    ann.refused("user list", "403")?;
    ann.refused("project create blue", "403")?;
    ann.done("network list")?;
    ann.refused("flavor create big --ram 1 --vcpus 1 --disk 1", "403")?;
    ann.refused("hypervisor list", "403")?;
    // Whoever changes the password ends what was logged in with the old one.
    os.done("user set --password Secret-2 ann")?;
    Openstack::shell(walk.programs, login("Secret-1"))?.refused("token issue", "401")?;
    Openstack::shell(walk.programs, login("Secret-2"))?.json("token issue")?;
    os.done("role remove --user ann --project red member")?;
    Openstack::shell(walk.programs, login("Secret-2"))?.refused("token issue", "401")?;
    // By way of a group.
    os.done("group create painters --description p")?;
    os.done("group add user painters ann")?;
    let contained = os.writes("group contains user painters ann")?;
    anyhow::ensure!(contained.contains("ann in group painters"), "{contained}");
    os.done("role add --group painters --project red reader")?;
    let mut ann = Openstack::shell(walk.programs, login("Secret-2"))?;
    ann.json("token issue")?;
    ann.refused("network create mine", "403")?;
    os.done("user set --disable ann")?;
    Openstack::shell(walk.programs, login("Secret-2"))?.refused("token issue", "401")?;
    os.done("group remove user painters ann")?;
    os.done("group delete painters")?;
    os.done("user delete ann")?;
    os.refused("user show ann", "No User found for ann")?;
    os.done("role create painter")?;
    os.refused("role create painter", "409")?;
    os.done("role delete painter")?;
    os.done("project delete red")
}

fn application_credentials(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    let made =
        os.shows("application credential create robot --role member --secret oil", &json!({ "Secret": "oil" }))?;
    let id = text(&made, "/ID")?;
    os.lists("application credential list", &json!({ "ID": id, "Name": "robot" }))?;
    os.refused("application credential create robot", "409")?;
    let home = walk.cell.home();
    let clouds = std::fs::read_to_string(home.join("clouds.yaml"))?;
    let url = clouds.lines().find_map(|line| line.trim().strip_prefix("auth_url: ")).context("a URL")?;
    let login = [
        ("OS_AUTH_TYPE", "v3applicationcredential".to_owned()),
        ("OS_AUTH_URL", url.to_owned()),
        ("OS_CACERT", home.join("pki/authority.crt").display().to_string()),
        ("OS_APPLICATION_CREDENTIAL_ID", id),
        ("OS_APPLICATION_CREDENTIAL_SECRET", "oil".to_owned()),
        ("OS_IDENTITY_API_VERSION", "3".to_owned()),
    ];
    let login = login.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let mut robot = Openstack::shell(walk.programs, login)?;
    robot.json("token issue")?;
    robot.json("server list")?;
    // It has the one role that it was given, and may not make others like itself.
    robot.refused("user list", "403")?;
    robot.refused("application credential create other", "403")?;
    walk.os.done("application credential delete robot")?;
    robot.refused("token issue", "401")
}

fn services(os: &mut Openstack) -> anyhow::Result<()> {
    os.shows("region create south --description warm", &json!({ "region": "south", "description": "warm" }))?;
    os.shows("service create --name heat --description h orchestration", &json!({ "type": "orchestration" }))?;
    let url = "http://127.0.0.1:1/";
    os.shows(&format!("endpoint create --region south orchestration public {url}"), &json!({ "url": url }))?;
    os.lists("catalog list", &json!({ "Type": "orchestration", "Name": "heat" }))?;
    os.refused("region delete south", "because it has endpoints")?;
    os.done("service delete orchestration")?;
    no_row(&os.json("endpoint list")?, &json!({ "Region": "south" }))?;
    os.done("region delete south")
}

fn image(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    let file = walk.cell.dir().join("upload");
    let bytes: Vec<u8> = (0..70_000_u32).flat_map(u32::to_be_bytes).collect();
    std::fs::write(&file, &bytes)?;
    let (upload, back) = (file.display(), file.with_extension("back"));
    let made = os.json(&format!(
        "image create one --disk-format raw --container-format bare --file {upload} --property shape=round --tag red \
         --min-disk 1 --min-ram 64 --protected"
    ))?;
    let wanted = json!({ "status": "active", "protected": true, "min_disk": 1, "min_ram": 64, "tags": ["red"] });
    check(&made, &wanted)?;
    let size = json!({ "size": bytes.len(), "visibility": "shared", "disk_format": "raw" });
    let shown = os.shows("image show one", &size)?;
    check(&shown["properties"], &json!({ "shape": "round", "os_hash_algo": "sha512" }))?;
    os.done(&format!("image save --file {} one", back.display()))?;
    anyhow::ensure!(std::fs::read(&back)? == bytes, "what was saved is not what was uploaded");
    os.lists("image list --tag red --long", &json!({ "Name": "one", "Status": "active" }))?;
    no_row(&os.json("image list --tag blue")?, &json!({ "Name": "one" }))?;
    os.lists("image list --property shape=round", &json!({ "Name": "one" }))?;
    os.refused("image delete one", "protected")?;
    os.done("image set one --unprotected --name two --property colour=blue --public")?;
    os.done("image unset two --property shape --tag red")?;
    let shown = os.shows("image show two", &json!({ "visibility": "public", "tags": [], "protected": false }))?;
    check(&shown["properties"], &json!({ "colour": "blue" }))?;
    anyhow::ensure!(shown["properties"].get("shape").is_none(), "an unset property is there: {shown}");
    lies(os, &file)?;
    members(walk, &format!("image save --file {} two", back.display()))?;
    let os = &mut walk.os;
    os.done("image delete two")?;
    os.refused("image show two", "No Image found for two")
}

/// An upload is looked at before anybody can use it, whatever it is called.
fn lies(os: &mut Openstack, file: &Path) -> anyhow::Result<()> {
    let file = file.display();
    os.refused(&format!("image create liar --disk-format qcow2 --file {file}"), "does not begin with a qcow2 header")?;
    os.refused(&format!("image create liar --disk-format vmdk --file {file}"), "400")?;
    no_row(&os.json("image list")?, &json!({ "Name": "liar" }))
}

fn members(walk: &mut Walk<'_>, save: &str) -> anyhow::Result<()> {
    let os = &mut walk.os;
    os.done("project create red")?;
    os.done("user create ann --password Secret-1 --project red")?;
    os.done("role add --user ann --project red member")?;
    let mut ann = Openstack::shell(walk.programs, openstack::user(&walk.cell.home(), "ann", "Secret-1", "red"))?;
    ann.lists("image list", &json!({ "Name": "two" }))?;
    ann.refused("image set --name mine two", "403")?;
    ann.refused("image delete two", "403")?;
    ann.done(save)?;
    os.done("image set --deactivate two")?;
    ann.refused(save, "Unable to download image")?;
    os.done("image set --activate two")?;
    os.done("image set --private two")?;
    no_row(&ann.json("image list")?, &json!({ "Name": "two" }))?;
    os.done("image set --shared two")?;
    os.done("image add project two red")?;
    os.lists("image member list two", &json!({ "Status": "pending" }))?;
    let id = text(&os.json("image show two")?, "/id")?;
    ann.done(&format!("image set --accept {id}"))?;
    ann.lists("image list --shared", &json!({ "Name": "two" }))?;
    os.done("image remove project two red")?;
    no_row(&ann.json("image list")?, &json!({ "Name": "two" }))?;
    os.done("user delete ann")?;
    os.done("project delete red")
}

/// What runs is what placement tells.
fn placement(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    let classes = os.json("resource class list")?;
    for class in ["VCPU", "MEMORY_MB", "DISK_GB"] {
        row(&classes, &json!({ "name": class }))?;
    }
    let providers = os.json("resource provider list")?;
    anyhow::ensure!(providers.as_array().is_some_and(|all| all.len() == NODES), "a provider a node: {providers}");
    let server = os.json("server create one --image tiny --flavor m1.small --network private --wait")?;
    let id = text(&server, "/id")?;
    let node = text(&server, "/OS-EXT-SRV-ATTR:hypervisor_hostname")?;
    let provider = text(row(&providers, &json!({ "name": node }))?, "/uuid")?;
    os.lists(&format!("resource provider inventory list {provider}"), &json!({ "resource_class": "MEMORY_MB" }))?;
    for (class, usage) in [("VCPU", 1), ("MEMORY_MB", 512), ("DISK_GB", 5)] {
        let row = json!({ "resource_class": class, "usage": usage });
        os.lists(&format!("resource provider usage show {provider}"), &row)?;
    }
    let claimed = json!({ "resource_provider": provider, "resources": { "VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 5 } });
    os.lists(&format!("resource provider allocation show {id}"), &claimed)?;
    os.done("server delete --wait one")?;
    os.lists(&format!("resource provider usage show {provider}"), &json!({ "resource_class": "VCPU", "usage": 0 }))?;
    let left = os.json(&format!("resource provider allocation show {id}"))?;
    anyhow::ensure!(left == Value::Array(Vec::new()), "a deleted server holds {left}");
    os.refused("resource provider show 00000000-0000-0000-0000-000000000000", "404")?;
    os.refused("resource provider show nonsense", "404")
}
