//! The cell's home: every file of a cell, in one directory.
//!
//! ```text
//! cell.json            name, listen address, driver, nodes: written once, when the cell is made
//! bootstrap.json       where to find the cell, if it is not on this machine: {"liveness": ["address:port"]}
//! pki/                 the authority; key and certificate of every process and of the operator (0600)
//! admin-password       (0600)        clouds.yaml, openrc    for clients (0600)
//! store/cell.db        the store     images/    image content
//! agents/NAME/         an agent process: its log and its guests
//! run/                 what is running now: rebuilt at every start
//! ```
//!
//! The directory of a cell that is being made is complete when `cell.json` is there: it is written last, and whatever a
//! crash left before that is made again.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use pki::{Authority, Identity, Issued, Role};
use serde::{Deserialize, Serialize};
use world::World;

use crate::args::DriverKind;

/// Where the public API listens unless told otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:8774";
/// The region's name.
pub const REGION: &str = "RegionOne";

/// What is decided when a cell is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Its name, as a DNS name.
    pub name: String,
    /// Tells its devices from those of other cells on the machine.
    pub tag: String,
    /// Where its public API listens.
    pub listen: SocketAddr,
    /// How its guests are run.
    pub driver: DriverKind,
    /// How many nodes it has.
    pub nodes: u32,
    /// Whether guests that ran are started again after a boot of the machine.
    #[serde(default)]
    pub resume_guests_after_boot: bool,
}

/// A cell's home.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
    /// What was decided when it was made.
    pub cell: Cell,
}

/// What the first start may decide.
#[derive(Debug, Default)]
pub struct Wish {
    pub listen: Option<SocketAddr>,
    pub driver: Option<DriverKind>,
    pub nodes: Option<u32>,
    pub resume_guests_after_boot: Option<bool>,
}

impl Home {
    /// The home in `dir`, which has been made before.
    pub fn open(dir: &Path) -> anyhow::Result<Home> {
        let none = |error: std::io::Error| {
            let place = dir.display();
            if error.kind() == std::io::ErrorKind::PermissionDenied {
                return anyhow!(
                    "you may not read the cell in {place}: only its owner may, so run this as the user that runs the cell"
                );
            }
            anyhow!(
                "there is no cell in {place} ({error}); give its home with --home, or make one: mainstay dev --home DIR"
            )
        };
        let dir = fs::canonicalize(dir).map_err(none)?;
        let file = dir.join("cell.json");
        let text = fs::read_to_string(&file).map_err(none)?;
        let cell = serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        Ok(Home { dir, cell })
    }

    /// The home in `dir`, made if it is not there. What was decided before stays, but for the listen address, the number
    /// of nodes and what becomes of guests after a boot, which may change from start to start.
    pub fn open_or_create(world: &World, dir: &Path, wish: &Wish) -> anyhow::Result<Home> {
        if dir.join("cell.json").exists() {
            let mut home = Home::open(dir)?;
            if let Some(driver) = wish.driver.filter(|driver| *driver != home.cell.driver) {
                bail!("this cell was made with the driver {:?}; {driver:?} needs a home of its own", home.cell.driver);
            }
            let before = home.cell.clone();
            home.cell.listen = wish.listen.unwrap_or(home.cell.listen);
            home.cell.nodes = wish.nodes.unwrap_or(home.cell.nodes);
            home.cell.resume_guests_after_boot =
                wish.resume_guests_after_boot.unwrap_or(home.cell.resume_guests_after_boot);
            if before != home.cell {
                home.save()?;
            }
            return Ok(home);
        }
        make_dir(dir)?;
        let dir = fs::canonicalize(dir).context("the home cannot be found after it was made")?;
        let tag = hex::encode(world.random::<2>());
        let listen = wish.listen.map_or_else(|| DEFAULT_LISTEN.parse(), Ok).context("the default address")?;
        let cell = Cell {
            name: format!("{tag}.mainstay.internal"),
            tag,
            listen,
            driver: wish.driver.unwrap_or(DriverKind::Qemu),
            nodes: wish.nodes.unwrap_or(1),
            resume_guests_after_boot: wish.resume_guests_after_boot.unwrap_or(false),
        };
        let home = Home { dir, cell };
        home.make(world)?;
        home.save()?;
        Ok(home)
    }

    fn make(&self, world: &World) -> anyhow::Result<()> {
        for sub in ["pki", "store", "images", "agents", "run", "logs"] {
            make_dir(&self.dir.join(sub))?;
        }
        let authority = Authority::create(world, &self.cell.name)?;
        write_private(&self.dir.join("pki/authority.crt"), authority.certificate_pem.as_bytes())?;
        write_private(&self.dir.join("pki/authority.key"), authority.key_pem.as_bytes())?;
        write_private(&self.dir.join("admin-password"), hex::encode(world.random::<12>()).as_bytes())?;
        self.credentials(world, Role::Operator, "admin")?;
        Ok(())
    }

    fn save(&self) -> anyhow::Result<()> {
        write_private(&self.dir.join("cell.json"), serde_json::to_string_pretty(&self.cell)?.as_bytes())
    }

    /// A path in the home.
    pub fn path(&self, sub: impl AsRef<Path>) -> PathBuf {
        self.dir.join(sub)
    }

    /// The password of the user `admin` at the cell's first start.
    pub fn admin_password(&self) -> anyhow::Result<String> {
        let file = self.dir.join("admin-password");
        Ok(fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?.trim().to_owned())
    }

    fn authority(&self) -> anyhow::Result<Authority> {
        let (certificate, key) = (self.read_pki("authority.crt")?, self.read_pki("authority.key")?);
        Ok(Authority::load(&self.cell.name, &certificate, &key)?)
    }

    fn read_pki(&self, name: &str) -> anyhow::Result<String> {
        let file = self.dir.join("pki").join(name);
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }

    /// The identity of a process of this cell.
    pub fn identity(&self, role: Role, name: &str) -> Identity {
        Identity { cell: self.cell.name.clone(), role, name: name.to_owned() }
    }

    /// Key and certificate of a process, issued at its first start and again when they have been due for `grace`.
    pub fn issued(&self, world: &World, role: Role, name: &str, grace: Duration) -> anyhow::Result<Issued> {
        // The authority's key is read only when something is issued: a process that has its certificate never sees it.
        let identity = self.identity(role, name);
        let issue = || Ok(self.authority()?.issue(world, &identity)?);
        self.keep(world, &format!("{role}-{name}"), grace, |there| there.names(&identity), issue)
    }

    /// What a process shows and verifies with.
    pub fn credentials(&self, world: &World, role: Role, name: &str) -> anyhow::Result<rpc::tls::Credentials> {
        let own = self.issued(world, role, name, Duration::ZERO)?;
        Ok(rpc::tls::Credentials::new(&own, &self.read_pki("authority.crt")?)?)
    }

    /// Key and certificate of the public API under `hosts`, issued anew when these change or when it is due.
    pub fn public_certificate(&self, world: &World, hosts: &[String]) -> anyhow::Result<Issued> {
        let name = format!("api-{}", hex::encode(hosts.join(",").as_bytes()));
        let name: String = name.chars().take(100).collect();
        self.keep(world, &name, Duration::ZERO, |_| Ok(true), || Ok(self.authority()?.issue_public(world, hosts)?))
    }

    fn keep(
        &self,
        world: &World,
        name: &str,
        grace: Duration,
        complete: impl FnOnce(&Issued) -> Result<bool, pki::PkiError>,
        issue: impl FnOnce() -> anyhow::Result<Issued>,
    ) -> anyhow::Result<Issued> {
        let file = |extension: &str| self.dir.join("pki").join(format!("{name}.{extension}"));
        if let (Ok(certificate_pem), Ok(key_pem)) = (fs::read_to_string(file("crt")), fs::read_to_string(file("key"))) {
            let there = Issued { certificate_pem, key_pem };
            // One of an earlier release may lack a name. Who leaves renewing to others leaves that to them as well.
            let whole = !grace.is_zero() || complete(&there).unwrap_or(false);
            match there.validity() {
                Ok(validity) if whole && world.wall() < validity.renew + grace => return Ok(there),
                // Who cannot issue goes on with what is good yet.
                Ok(validity) if world.wall() < validity.end && self.authority().is_err() => return Ok(there),
                Ok(_) => {}
                // A kill between the two files below leaves a key and a certificate of two.
                Err(error) => tracing::info!(name, %error, "a certificate is issued again"),
            }
        }
        let issued = issue()?;
        write_private(&file("key"), issued.key_pem.as_bytes())?;
        write_private(&file("crt"), issued.certificate_pem.as_bytes())?;
        Ok(issued)
    }

    /// Writes `clouds.yaml` and `openrc` for clients of the API at `public_url`.
    pub fn write_client_files(&self, public_url: &str) -> anyhow::Result<()> {
        let password = self.admin_password()?;
        let cacert = self.dir.join("pki/authority.crt");
        let cacert = cacert.display();
        let yaml = format!(
            "clouds:\n  mainstay:\n    auth:\n      auth_url: {public_url}/identity/v3\n      username: admin\n      \
             password: {password}\n      project_name: admin\n      user_domain_name: Default\n      \
             project_domain_name: Default\n    region_name: {REGION}\n    identity_api_version: 3\n    interface: public\n    \
             cacert: {cacert}\n"
        );
        write_private(&self.dir.join("clouds.yaml"), yaml.as_bytes())?;
        let openrc = format!(
            "export OS_AUTH_URL={public_url}/identity/v3\nexport OS_USERNAME=admin\nexport OS_PASSWORD={password}\n\
             export OS_PROJECT_NAME=admin\nexport OS_USER_DOMAIN_NAME=Default\nexport OS_PROJECT_DOMAIN_NAME=Default\n\
             export OS_REGION_NAME={REGION}\nexport OS_IDENTITY_API_VERSION=3\nexport OS_INTERFACE=public\n\
             export OS_CACERT={cacert}\n"
        );
        write_private(&self.dir.join("openrc"), openrc.as_bytes())
    }
}

/// What a process needs to find the cell, beside its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// Addresses of liveness instances, as address:port. One good one is enough.
    #[serde(default)]
    pub liveness: Vec<String>,
}

impl Home {
    /// The bootstrap file, `bootstrap.json`; nothing where there is none.
    pub fn bootstrap(&self) -> anyhow::Result<Bootstrap> {
        let file = self.dir.join("bootstrap.json");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Bootstrap::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let bootstrap: Bootstrap = serde_json::from_str(&text)
            .with_context(|| format!("{} is not of the form {{\"liveness\": [\"address:port\"]}}", file.display()))?;
        for address in &bootstrap.liveness {
            let _address: SocketAddr =
                address.parse().with_context(|| format!("{address:?} in {} is no address:port", file.display()))?;
        }
        Ok(bootstrap)
    }

    /// Notes where a control process answers, for the operator's commands.
    pub fn note_process(&self, process: &rpc::Target) -> anyhow::Result<()> {
        let note = Note { endpoint: process.endpoint.clone(), pid: std::process::id() };
        let file = self.dir.join("run").join(format!("{}-{}.json", process.role, process.name));
        write_private(&file, serde_json::to_string(&note)?.as_bytes())
    }

    /// Notes what the public API answers, for people and tests: lines of `METHOD PATH DIALECT`.
    pub fn note_routes(&self, routes: &[api::Route]) -> anyhow::Result<()> {
        let lines = routes.iter().map(|route| format!("{} {} {:?}\n", route.method, route.path, route.dialect));
        let file = self.dir.join("run/routes");
        fs::write(&file, lines.collect::<String>()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Notes the process id of an agent process, for people and tests.
    pub fn note_agent(&self, first_node: &str, pid: u32) -> anyhow::Result<()> {
        let note = Note { endpoint: String::new(), pid };
        let file = self.dir.join("run").join(format!("agent-{first_node}.json"));
        write_private(&file, serde_json::to_string(&note)?.as_bytes())
    }

    /// The control processes that run.
    pub fn processes(&self) -> anyhow::Result<Vec<rpc::Target>> {
        let mut found = Vec::new();
        let run = self.dir.join("run");
        let entries = fs::read_dir(&run).with_context(|| format!("nothing has run yet: no {}", run.display()))?;
        for entry in entries {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let Some((role, name)) = stem.split_once('-') else { continue };
            let Ok(role) = role.parse::<Role>() else { continue };
            let Ok(note) = serde_json::from_slice::<Note>(&fs::read(&path)?) else { continue };
            // What was killed could not take its note away.
            if role != Role::Agent && Path::new("/proc").join(note.pid.to_string()).exists() {
                found.push(rpc::Target { role, name: name.to_owned(), endpoint: note.endpoint });
            }
        }
        found.sort();
        Ok(found)
    }
}

/// What is noted of a running process.
#[derive(Serialize, Deserialize)]
struct Note {
    endpoint: String,
    pid: u32,
}

/// Makes a directory that only its owner may enter.
pub fn make_dir(dir: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("cannot make the directory {}", dir.display()))
}

/// Replaces a file atomically; only its owner may read it.
pub fn write_private(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let fresh = file.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&fresh, file)?;
        file.parent().map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use world::os::OsHost;

    use super::*;

    /// The machine's world with a wall clock that a test moves.
    struct Moved(World, AtomicU64);

    impl world::Host for Moved {
        fn spawn(&self, name: &'static str, task: world::BoxFuture<'static, ()>) {
            self.0.spawn(name, task);
        }
        fn now(&self) -> world::Mono {
            self.0.now()
        }
        fn wall(&self) -> world::Wall {
            self.0.wall() + Duration::from_secs(86_400 * self.1.load(Ordering::Relaxed))
        }
        fn sleep_until(&self, when: world::Mono) -> world::BoxFuture<'static, ()> {
            self.0.sleep_until(when)
        }
        fn fill_random(&self, bytes: &mut [u8]) {
            bytes.iter_mut().for_each(|byte| *byte = self.0.random::<1>()[0]);
        }
        fn disk(&self) -> Arc<dyn world::Disk> {
            self.0.disk()
        }
    }

    #[tokio::test]
    async fn certificates_are_renewed_before_they_end_and_secrets_are_the_owners() {
        let dir = tempfile::tempdir().unwrap();
        let moved = Arc::new(Moved(OsHost::world(tokio::runtime::Handle::current(), dir.path()), AtomicU64::new(0)));
        let world = World::new(Arc::clone(&moved) as Arc<dyn world::Host>);
        let home = Home::open_or_create(&world, &dir.path().join("home"), &Wish::default()).unwrap();
        let agent = |grace| home.issued(&world, Role::Agent, "node-1", grace).unwrap().certificate_pem;
        let day = Duration::from_secs(86_400);
        let days = |days| moved.1.store(days, Ordering::Relaxed);

        let first = agent(Duration::ZERO);
        days(58);
        assert_eq!(agent(Duration::ZERO), first, "it is good for another month");
        days(61);
        assert_eq!(agent(day * 2), first, "who leaves it to others waits");
        let second = agent(Duration::ZERO);
        assert_ne!(second, first);
        assert_eq!(agent(day * 2), second, "and finds what they have issued");

        // A kill between the two files of a renewal.
        let other = home.issued(&world, Role::Agent, "node-2", Duration::ZERO).unwrap();
        write_private(&home.path("pki/agent-node-1.key"), other.key_pem.as_bytes()).unwrap();
        assert_ne!(agent(Duration::ZERO), second);

        // One that lacks a name, as of an earlier release: who leaves it to others goes on with it.
        let old = home.authority().unwrap().issue_public(&world, &["node-3".into()]).unwrap();
        write_private(&home.path("pki/agent-node-3.key"), old.key_pem.as_bytes()).unwrap();
        write_private(&home.path("pki/agent-node-3.crt"), old.certificate_pem.as_bytes()).unwrap();
        let third = |grace| home.issued(&world, Role::Agent, "node-3", grace).unwrap().certificate_pem;
        assert_eq!(third(day), old.certificate_pem);
        assert_ne!(third(Duration::ZERO), old.certificate_pem);

        // Without the authority's key a certificate is used to its end, and not beyond.
        fs::remove_file(home.path("pki/authority.key")).unwrap();
        days(61 + 80);
        let last = agent(Duration::ZERO);
        days(61 + 91);
        assert!(home.issued(&world, Role::Agent, "node-1", Duration::ZERO).is_err(), "{last}");

        for entry in fs::read_dir(home.path("pki")).unwrap().chain(fs::read_dir(home.path("")).unwrap()) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let want = if entry.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, want, "{}", entry.path().display());
        }
    }
}
