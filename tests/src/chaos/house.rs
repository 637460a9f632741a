//! The cell of a storm, its processes, and what is done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use super::diary::Diary;
use super::load::Tenant;
use super::plan::{Fault, Layout};
use super::rest;
use super::tally::Tally;
use crate::apart::{self, Apart};
use crate::records::Records;
use crate::{Cell, Client, Machine, signal, until};

const FAKE_NODES: usize = 3;
/// Each has a project, so that quotas take part.
const TENANTS: usize = 6;
const TENANTS_WITH_GUESTS: usize = 2;
/// Servers that a tenant has at a time.
const HELD: usize = 7;
const HELD_GUESTS: usize = 2;
/// More than a short storm writes; what is not written takes no memory.
const DISK_MIB: u64 = 512;
/// Room for the flavors, as the scheduler counts it.
const DISK_MIB_OF_GUESTS: u64 = 8 << 10;
/// So often a disk that is to stay full is filled again: others may have freed something.
const FILL_AGAIN: Duration = Duration::from_millis(200);
/// How long a coordinator and the one that it has overtaken run side by side.
const SIDE_BY_SIDE: Duration = Duration::from_secs(5);
/// Orders are on their way to a node that was stopped.
const ORDERS_ARRIVE: Duration = Duration::from_millis(500);
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// The cell and its processes.
pub(super) struct House<'a> {
    pub(super) cell: Cell,
    pub(super) layout: Layout,
    pub(super) admin: Client,
    /// The guest of a server that nobody asks anything of.
    bystander: Option<(String, u32)>,
    apart: Option<Apart>,
    diary: &'a Diary,
}

impl<'a> House<'a> {
    /// A cell that serves.
    pub(super) fn build(layout: Layout, diary: &'a Diary) -> House<'a> {
        let mut cell = match layout {
            Layout::Together | Layout::Apart => Cell::of_fakes(FAKE_NODES),
            Layout::Guests => Cell::of_guests(),
        };
        if geteuid().is_root() {
            match layout {
                Layout::Together | Layout::Apart => {
                    cell.give_disk_at("agents", DISK_MIB);
                    cell.give_disk_at("store", DISK_MIB);
                }
                Layout::Guests => cell.give_disk_at("agents", DISK_MIB_OF_GUESTS),
            }
        } else {
            diary.note("storm", "without root no disk can be filled: that is left out");
        }
        cell.run();
        cell.all_nodes_up();
        let admin = cell.admin();
        let mut house = House { cell, layout, admin, bystander: None, apart: None, diary };
        if layout == Layout::Apart {
            house.cell.stop();
            house.cell.agent_ends();
            house.apart = Some(Apart::start(&house.cell, FAKE_NODES));
            house.cell.all_nodes_up();
        }
        house
    }

    /// New projects, in which the administrator is an administrator too.
    pub(super) fn tenants(&self) -> Vec<Tenant> {
        let (count, held) = match self.layout {
            Layout::Together | Layout::Apart => (TENANTS, HELD),
            Layout::Guests => (TENANTS_WITH_GUESTS, HELD_GUESTS),
        };
        first_server(&self.admin);
        let machine = self.machine();
        (0..count).map(|number| Tenant::new(self.tenant(number), number, held, machine.clone())).collect()
    }

    fn tenant(&self, number: usize) -> Client {
        let (admin, name) = (&self.admin, format!("tenant-{number}"));
        let project = json!({ "project": { "name": name } });
        let project = admin.post("/identity/v3/projects", &project).is(201).text("/project/id");
        let role = admin.get("/identity/v3/roles?name=admin").is(200).text("/roles/0/id");
        let user = admin.get("/identity/v3/users?name=admin").is(200).text("/users/0/id");
        let grant = format!("/identity/v3/projects/{project}/users/{user}/roles/{role}");
        admin.ask("PUT", &grant, None).expect("an answer").is(204);
        let password = std::fs::read_to_string(self.cell.path("admin-password")).expect("the admin's password");
        // Some wait for an answer through most faults, others give up and ask again.
        let client = if number.is_multiple_of(2) { self.cell.anonymous() } else { self.cell.impatient() };
        let tenant = client.login("admin", password.trim(), &name);
        first_server(&tenant);
        tenant
    }

    fn machine(&self) -> Option<Machine> {
        self.cell.is_real().then(|| Machine::of(&self.cell.home()))
    }

    /// What is stored while there are no servers; then the cell runs again, with a guest that nobody will touch.
    pub(super) fn at_rest(&mut self) -> Records {
        self.cell.settles_empty(SETTLES_WITHIN);
        let before = self.stopped();
        self.start();
        if let Some(machine) = self.machine() {
            let server = self.admin.create("bystander");
            self.admin.reaches(&server, "ACTIVE");
            let process = machine.process(&server);
            self.bystander = Some((server, process));
        }
        before
    }

    /// Stops everything and reads the store.
    pub(super) fn stopped(&mut self) -> Records {
        match &mut self.apart {
            Some(apart) => apart::ROLES.into_iter().rev().for_each(|role| apart.kill(role)),
            None => self.cell.stop(),
        }
        self.cell.agent_ends();
        self.cell.records()
    }

    fn start(&mut self) {
        match &mut self.apart {
            Some(apart) => drop(apart.restart_ended()),
            None => self.cell.run(),
        }
        self.cell.all_nodes_up();
    }

    /// The server that nobody asks anything of is deleted.
    pub(super) fn dismiss_bystander(&mut self) {
        if let Some((server, _)) = self.bystander.take() {
            self.admin.delete(&format!("/compute/v2.1/servers/{server}")).is(204);
            self.admin.vanishes(&server);
        }
    }

    /// Nothing is harmed any more: everything runs, and all nodes are there.
    pub(super) fn heal(&mut self) {
        for sub in ["agents", "store"] {
            self.cell.disk_at(sub).into_iter().for_each(|disk| disk.free());
        }
        self.restart_ended();
        self.cell.all_nodes_up();
    }

    /// Does it, counts it, and has everything run again.
    pub(super) fn strike(&mut self, fault: Fault, tally: &mut Tally) {
        match fault {
            Fault::Kill(whom) => {
                tally.count("kill -9", whom);
                self.kill(whom, tally);
            }
            Fault::KillAll => {
                tally.count("kill -9", "all");
                self.kill_all(tally);
            }
            Fault::Hold(whom, span) => {
                let Some(pid) = self.pid(whom) else { return };
                tally.count("SIGSTOP, SIGCONT", whom);
                self.diary.note(whom, &format!("SIGSTOP for {} s", span.as_secs()));
                signal(pid, Signal::STOP);
                rest(span);
                signal(pid, Signal::CONT);
                self.diary.note(whom, "SIGCONT");
            }
            Fault::HoldOver => self.hold_over(tally),
            Fault::Overtake(span) => self.overtake(span, tally),
            Fault::Fill(sub, span) => self.fill(sub, span, tally),
        }
        self.restart_ended();
    }

    fn pid(&self, whom: &str) -> Option<u32> {
        match (&self.apart, whom) {
            (Some(apart), _) => apart.pid(whom),
            (None, "agents") => self.cell.agent_pid(),
            (None, _) => Some(self.cell.dev_pid()),
        }
    }

    fn kill(&mut self, whom: &'static str, tally: &mut Tally) {
        if let Some(apart) = &mut self.apart {
            self.diary.note(whom, "kill -9");
            apart.kill(whom);
            apart.run(whom);
            return self.diary.note(whom, "runs again");
        }
        let agents = self.cell.agent_pid();
        if whom == "agents" {
            agents.into_iter().for_each(|agents| signal(agents, Signal::KILL));
            // Works that wait for the node stand still: what is listed now is what was interrupted.
            let works = self.cell.try_operator(&["work", "list"]).unwrap_or_default();
            let steps = works.as_array().into_iter().flatten().filter(|work| work["waiting"] != true);
            let steps = steps.filter_map(|work| work["step"].as_str().filter(|step| !step.is_empty()));
            return self.interrupted(whom, steps.map(str::to_owned).collect(), tally);
        }
        // Agents that live on are held, so that what is found is what was there at the moment of the kill.
        agents.into_iter().for_each(|agents| signal(agents, Signal::STOP));
        self.cell.kill();
        let steps = self.cell.records().steps_under_way(&self.cell.guests());
        self.interrupted(whom, steps, tally);
        agents.into_iter().for_each(|agents| signal(agents, Signal::CONT));
        self.cell.run();
        self.diary.note(whom, "runs again");
    }

    fn kill_all(&mut self, tally: &mut Tally) {
        if let Some(apart) = &mut self.apart {
            self.diary.note("all", "kill -9");
            let pids: Vec<u32> = apart::ROLES.into_iter().filter_map(|role| apart.pid(role)).collect();
            pids.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            apart::ROLES.into_iter().for_each(|role| apart.kill(role));
        } else {
            self.cell.agent_pid().into_iter().for_each(|agents| signal(agents, Signal::KILL));
            self.cell.kill();
        }
        let steps = self.cell.records().steps_under_way(&self.cell.guests());
        self.interrupted("all", steps, tally);
        match &mut self.apart {
            Some(apart) => drop(apart.restart_ended()),
            None => self.cell.run(),
        }
        self.diary.note("all", "run again");
    }

    fn interrupted(&self, whom: &'static str, steps: Vec<String>, tally: &mut Tally) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        steps.iter().for_each(|step| *counts.entry(step).or_default() += 1);
        let counts: Vec<String> = counts.iter().map(|(step, count)| format!("{count} × {step}")).collect();
        let what = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
        self.diary.note(whom, &format!("kill -9 interrupts {what}"));
        steps.into_iter().for_each(|step| tally.interrupted(whom, step));
    }

    fn hold_over(&mut self, tally: &mut Tally) {
        let Some(agents) = self.cell.agent_pid() else { return };
        tally.count("stopped over a kill", "agents");
        self.diary.note("agents", "SIGSTOP");
        signal(agents, Signal::STOP);
        rest(ORDERS_ARRIVE);
        self.diary.note("control", "kill -9");
        self.cell.kill();
        self.cell.run();
        self.diary.note("control", "runs again");
        signal(agents, Signal::CONT);
        self.diary.note("agents", "SIGCONT");
    }

    fn overtake(&mut self, span: Duration, tally: &mut Tally) {
        let Some(apart) = &mut self.apart else { return };
        let Some(pid) = apart.pid("coordinator") else { return };
        tally.count("overtaken", "coordinator");
        self.diary.note("coordinator", "SIGSTOP, and another of its name is started");
        let begun = Instant::now();
        signal(pid, Signal::STOP);
        let earlier = apart.overtake();
        rest(span.saturating_sub(begun.elapsed()));
        signal(pid, Signal::CONT);
        self.diary.note("coordinator", "SIGCONT of the one that was overtaken");
        rest(SIDE_BY_SIDE);
        drop(earlier);
        self.diary.note("coordinator", "kill -9 of the one that was overtaken");
    }

    fn fill(&mut self, sub: &'static str, span: Duration, tally: &mut Tally) {
        let Some(disk) = self.cell.disk_at(sub) else { return };
        tally.count("disk full", sub);
        self.diary.note(sub, &format!("their disk is full for {} s", span.as_secs()));
        let begun = Instant::now();
        while begun.elapsed() < span {
            disk.fill();
            rest(FILL_AGAIN);
        }
        disk.free();
        self.diary.note(sub, "their disk has room again");
    }

    fn restart_ended(&mut self) {
        let ended = match &mut self.apart {
            Some(apart) => apart.restart_ended(),
            None if self.cell.has_ended() => {
                self.cell.kill();
                self.cell.run();
                vec!["control"]
            }
            None => Vec::new(),
        };
        ended.iter().for_each(|role| self.diary.note(role, "had ended by itself; it runs again"));
    }

    /// At no time does a guest exist twice; and one that nobody asks anything of runs on.
    pub(super) fn guests_are_single(&self) {
        let Some(machine) = self.machine() else {
            let (_, doubled) = self.cell.books();
            assert!(doubled.is_empty(), "guests on two nodes at a time: {doubled:#?}");
            return;
        };
        let processes = machine.processes();
        let doubled: Vec<_> = processes.iter().filter(|(_, all)| all.len() > 1).collect();
        assert!(doubled.is_empty(), "guests with two processes: {doubled:?}");
        if let Some((server, process)) = &self.bystander {
            let now = processes.get(server).cloned().unwrap_or_default();
            assert_eq!(now, BTreeSet::from([*process]), "the processes of a guest that nobody has touched");
        }
    }

    /// The guests of which anything exists, with state and node.
    pub(super) fn guests(&self, servers: &[Value]) -> BTreeMap<String, (String, String)> {
        if !self.cell.is_real() {
            let (books, _) = self.cell.books();
            return books.into_iter().map(|((node, guest), state)| (guest, (state, node))).collect();
        }
        // Whether a process runs is seen from outside; whether its guest is paused only QEMU knows.
        let paused: BTreeSet<&str> =
            servers.iter().filter(|s| s["status"] == "PAUSED").filter_map(|s| s["id"].as_str()).collect();
        let shown = |guest: &str, state: &str| match state {
            "running" if paused.contains(guest) => "paused".to_owned(),
            state => state.to_owned(),
        };
        let all = self.cell.guests().into_iter();
        all.map(|(guest, state)| (guest.clone(), (shown(&guest, &state), "node-1".to_owned()))).collect()
    }

    /// Waits until nothing of any server is left.
    pub(super) fn is_empty(&self) {
        self.cell.settles_empty(SETTLES_WITHIN);
        if let Some(machine) = self.machine() {
            until("nothing is left on this machine", SETTLES_WITHIN, || {
                let left = machine.left(&[]);
                if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
            });
        }
    }
}

/// A first server brings the project its default group, which stays, and the node its image.
fn first_server(tenant: &Client) {
    let first = tenant.create("first");
    tenant.reaches(&first, "ACTIVE");
    tenant.delete(&format!("/compute/v2.1/servers/{first}")).is(204);
    tenant.vanishes(&first);
}
