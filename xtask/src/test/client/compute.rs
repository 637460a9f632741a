//! The compute family on guests that only pretend: everything but what a guest itself would say.

use serde_json::{Value, json};

use super::families::Walk;
use super::openstack::Openstack;
use super::said::{check, no_row, row, text};

pub(super) fn walk(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    let os = &mut walk.os;
    flavors(os)?;
    key_pairs(os, &walk.cell.dir().join("id.pub"))?;
    hosts(os)?;
    os.done("flavor create small --ram 64 --vcpus 1 --disk 1")?;
    os.done("keypair create --private-key /dev/null key")?;
    let data = walk.cell.dir().join("user-data");
    std::fs::write(&data, "#!/bin/sh\nhostname > /tmp/name\n")?;
    wrong_servers(os)?;
    one_server(os, &data.display().to_string())?;
    server_actions(os)?;
    many_servers(os)?;
    quotas(os)?;
    os.done("server delete --wait uno")?;
    os.refused("server show uno", "No Server found for uno")?;
    os.refused("server delete uno", "No Server found for uno")?;
    os.done("image delete photo")?;
    os.done("keypair delete key")?;
    os.done("flavor delete small")
}

fn flavors(os: &mut Openstack) -> anyhow::Result<()> {
    for (name, ram) in [("m1.tiny", 128), ("m1.small", 512), ("m1.medium", 1024), ("m1.large", 2048)] {
        os.lists("flavor list", &json!({ "Name": name, "RAM": ram, "Is Public": true }))?;
    }
    let made = json!({ "ram": 96, "vcpus": 1, "disk": 2, "properties": { "hw:a": "b" }, "description": "d" });
    os.shows("flavor create odd --ram 96 --vcpus 1 --disk 2 --property hw:a=b --description d", &made)?;
    os.refused("flavor create odd --ram 96 --vcpus 1 --disk 2", "Flavor with name odd already exists")?;
    os.refused("flavor create none --ram 0 --vcpus 1 --disk 1", "flavor.ram")?;
    os.done("flavor set odd --property hw:c=d")?;
    os.done("flavor unset odd --property hw:a")?;
    os.shows("flavor show odd", &json!({ "properties": { "hw:c": "d" } }))?;
    os.done("flavor delete odd")?;
    os.refused("flavor show odd", "No Flavor found for odd")?;
    os.done("flavor create hidden --private --ram 64 --vcpus 1 --disk 1")?;
    no_row(&os.json("flavor list --public")?, &json!({ "Name": "hidden" }))?;
    os.done("flavor set hidden --project admin")?;
    let access = os.json("flavor show hidden")?;
    anyhow::ensure!(access["access_project_ids"].as_array().is_some_and(|all| all.len() == 1), "{access}");
    os.lists("flavor list --private", &json!({ "Name": "hidden" }))?;
    os.done("flavor delete hidden")
}

fn key_pairs(os: &mut Openstack, file: &std::path::Path) -> anyhow::Result<()> {
    let private = os.writes("keypair create made")?;
    anyhow::ensure!(private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"), "this is no private key");
    os.refused("keypair create made", "Key pair 'made' already exists")?;
    let public = os.writes("keypair show --public-key made")?;
    anyhow::ensure!(public.starts_with("ssh-ed25519 "), "{public}");
    std::fs::write(file, &public)?;
    let import = format!("keypair create --public-key {}", file.display());
    let print = text(&os.json("keypair show made")?, "/fingerprint")?;
    os.shows(&format!("{import} brought"), &json!({ "name": "brought", "type": "ssh", "fingerprint": print }))?;
    std::fs::write(file, "ssh-ed25519 nonsense")?;
    os.refused(&format!("{import} broken"), "400")?;
    os.lists("keypair list", &json!({ "Name": "brought", "Fingerprint": print }))?;
    os.done("keypair delete made brought")?;
    os.refused("keypair show made", "No Keypair found for made")
}

fn hosts(os: &mut Openstack) -> anyhow::Result<()> {
    for node in ["node-1", "node-2", "node-3"] {
        os.lists("hypervisor list", &json!({ "Hypervisor Hostname": node, "State": "up" }))?;
        os.lists("compute service list", &json!({ "Host": node, "Binary": "nova-compute", "Status": "enabled" }))?;
    }
    os.done("compute service set --disable --disable-reason broken node-3 nova-compute")?;
    let disabled = json!({ "Host": "node-3", "Status": "disabled", "Disabled Reason": "broken" });
    os.lists("compute service list --long", &disabled)?;
    os.done("compute service set --enable node-3 nova-compute")?;
    os.refused("compute service set --disable nowhere nova-compute", "nowhere")?;
    os.shows("hypervisor show node-1", &json!({ "state": "up", "status": "enabled", "host_ip": "127.0.0.1" }))?;
    os.shows("aggregate create rack --zone cold --property p=q", &json!({ "availability_zone": "cold" }))?;
    os.refused("aggregate create rack", "409")?;
    os.done("aggregate add host rack node-1")?;
    os.refused("aggregate add host rack node-9", "404")?;
    os.shows("aggregate show rack", &json!({ "hosts": ["node-1"], "properties": { "p": "q" } }))?;
    os.lists("availability zone list --compute", &json!({ "Zone Name": "cold", "Zone Status": "available" }))?;
    os.refused("aggregate delete rack", "400")?;
    let there =
        os.json("server create there --image tiny --flavor m1.tiny --network private --availability-zone cold --wait")?;
    check(&there, &json!({ "OS-EXT-SRV-ATTR:hypervisor_hostname": "node-1", "OS-EXT-AZ:availability_zone": "cold" }))?;
    os.done("server delete --wait there")?;
    os.done("aggregate remove host rack node-1")?;
    os.done("aggregate delete rack")
}

fn wrong_servers(os: &mut Openstack) -> anyhow::Result<()> {
    let usual = "--image tiny --flavor small --network private";
    for (rest, words) in [
        ("--image tiny --flavor nothing --network private", "No Flavor found for nothing"),
        ("--image nothing --flavor small --network private", "No Image found for nothing"),
        ("--image tiny --flavor small --network nothing", "No Network found for nothing"),
        (&format!("{usual} --key-name nothing"), "Invalid key_name provided"),
        (&format!("{usual} --security-group nothing"), "No SecurityGroup found for nothing"),
        (&format!("{usual} --availability-zone nowhere"), "availability zone is not available"),
        (&format!("{usual} --property {}=x", "k".repeat(300)), "400"),
    ] {
        os.refused(&format!("server create bad {rest}"), words)?;
    }
    no_row(&os.json("server list")?, &json!({ "Name": "bad" }))
}

fn one_server(os: &mut Openstack, user_data: &str) -> anyhow::Result<()> {
    let wanted = json!({
        "name": "one", "status": "ACTIVE", "key_name": "key", "properties": { "a": "b" }, "description": "d",
        "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:task_state": null, "OS-EXT-STS:power_state": 1,
        "OS-EXT-SRV-ATTR:user_data": "IyEvYmluL3NoCmhvc3RuYW1lID4gL3RtcC9uYW1lCg==", "config_drive": "True",
    });
    let create = "server create one --image tiny --flavor small --key-name key --network private --property a=b";
    let line = format!("{create} --user-data {user_data} --config-drive True --description d --wait");
    let server = os.json(&line)?;
    let mut wanted_now = wanted.clone();
    // What the client makes of "True" is its own affair; it is looked at in what it shows.
    wanted_now.as_object_mut().map(|fields| fields.remove("config_drive"));
    check(&server, &wanted_now)?;
    let four = server.pointer("/addresses/private").and_then(Value::as_array);
    anyhow::ensure!(four.is_some_and(|all| all.len() == 2), "an address of each family: {server}");
    let id = text(&server, "/id")?;
    os.lists(&format!("port list --server {id}"), &json!({ "Status": "ACTIVE" }))?;
    os.lists("server list --long", &json!({ "Name": "one", "Status": "ACTIVE", "Flavor": "small" }))?;
    os.lists("server list --name ^on --status ACTIVE", &json!({ "ID": id }))?;
    no_row(&os.json("server list --status SHUTOFF")?, &json!({ "ID": id }))?;
    os.done("server set one --name uno --property c=d --description new")?;
    os.done("server unset uno --property a")?;
    os.shows("server show uno", &json!({ "properties": { "c": "d" }, "description": "new" }))?;
    let console = os.writes("console log show uno")?;
    anyhow::ensure!(console.contains(" login:"), "no prompt on the console: {console}");
    os.done("security group create extra")?;
    os.done("server add security group uno extra")?;
    let both = json!({ "security_groups": [{ "name": "default" }, { "name": "extra" }] });
    os.shows("server show uno", &both)?;
    os.refused("security group delete extra", "409")?;
    os.done("server remove security group uno extra")?;
    os.shows("server show uno", &json!({ "security_groups": [{ "name": "default" }] }))?;
    os.done("security group delete extra")
}

fn server_actions(os: &mut Openstack) -> anyhow::Result<()> {
    for (does, wrong, state) in [
        ("stop", "stop", "SHUTOFF"),
        ("start", "start", "ACTIVE"),
        ("pause", "pause", "PAUSED"),
        ("unpause", "unpause", "ACTIVE"),
    ] {
        os.done(&format!("server {does} uno"))?;
        reaches(os, "uno", state)?;
        os.refused(&format!("server {wrong} uno"), "409")?;
    }
    os.done("server reboot --soft --wait uno")?;
    os.done("server reboot --hard --wait uno")?;
    for action in ["create", "stop", "start", "pause", "unpause", "reboot"] {
        os.lists("server event list uno", &json!({ "Action": action }))?;
    }
    os.done("server lock uno")?;
    os.done("server unlock uno")?;
    // What is not there yet says so, and changes nothing.
    for verb in ["suspend", "shelve", "rescue", "migrate"] {
        os.refused(&format!("server {verb} uno"), &format!("cannot {verb} a server yet"))?;
    }
    os.refused("server resize --flavor m1.small uno", "cannot resize a server yet")?;
    os.shows("server show uno", &json!({ "status": "ACTIVE" }))?;
    let photo = os.json("server image create --name photo --wait uno")?;
    check(&photo, &json!({ "status": "active", "disk_format": "qcow2" }))?;
    check(&photo["properties"], &json!({ "image_type": "snapshot" }))
}

fn reaches(os: &mut Openstack, server: &str, state: &str) -> anyhow::Result<()> {
    crate::clock::wait_for(&format!("{server} to be {state}"), std::time::Duration::from_secs(20), || {
        let shown = os.json(&format!("server show {server}"))?;
        Ok(if shown["status"] == state { Ok(()) } else { Err(format!("it is {}", shown["status"])) })
    })
}

fn many_servers(os: &mut Openstack) -> anyhow::Result<()> {
    let group = os.shows("server group create apart --policy anti-affinity", &json!({ "policy": "anti-affinity" }))?;
    let group = text(&group, "/id")?;
    let create = format!("server create many --image tiny --flavor small --network private --hint group={group}");
    os.json(&format!("{create} --min 3 --max 3 --wait"))?;
    let mut nodes = Vec::new();
    for name in ["many-1", "many-2", "many-3"] {
        let server = os.shows(&format!("server show {name}"), &json!({ "status": "ACTIVE" }))?;
        nodes.push(text(&server, "/OS-EXT-SRV-ATTR:hypervisor_hostname")?);
        os.lists(&format!("server list --host {} --all-projects", nodes[nodes.len() - 1]), &json!({ "Name": name }))?;
    }
    nodes.sort();
    anyhow::ensure!(nodes == ["node-1", "node-2", "node-3"], "they are apart on {nodes:?}");
    // There is no fourth node.
    os.say(&create)?.done()?;
    reaches(os, "many", "ERROR")?;
    let failed = os.json("server show many")?;
    anyhow::ensure!(text(&failed, "/fault/message")?.contains("No valid host"), "{failed}");
    let page = os.json("server list --limit 2")?;
    anyhow::ensure!(page.as_array().is_some_and(|rows| rows.len() == 2), "two were asked for: {page}");
    os.done("server delete --wait many many-1 many-2 many-3")?;
    os.done("server group delete apart")
}

fn quotas(os: &mut Openstack) -> anyhow::Result<()> {
    os.lists("limits show --absolute", &json!({ "Name": "instances_used", "Value": 1 }))?;
    os.done("quota set --instances 1 --cores 7 admin")?;
    let compute = os.json("quota show --compute admin")?;
    row(&compute, &json!({ "Resource": "instances", "Limit": 1 }))?;
    row(&compute, &json!({ "Resource": "cores", "Limit": 7 }))?;
    os.refused("server create more --image tiny --flavor small --network private", "Quota exceeded for instances")?;
    os.done("quota delete --compute admin")?;
    os.lists("quota show --compute admin", &json!({ "Resource": "instances", "Limit": 10 }))?;
    os.refused("quota set --instances -5 admin", "400")?;
    let project = text(&os.json("token issue")?, "/project_id")?;
    os.lists("usage list", &json!({ "Project": project })).map(drop)
}
