//! Passwords: argon2id on threads of its own, behind a bounded queue.
//!
//! A hash costs 19 MiB and tens of milliseconds by intention. It never runs where requests are served: a few threads do
//! it one after the other, each in memory that it keeps, and who comes when the queue is full is told so at once.
//! A login of a user who does not exist costs the same as a wrong password.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use argon2::password_hash::{Output, PasswordHash, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use world::World;

/// Hashes that may wait. At 30 ms each and two threads, the last one waits a second.
pub const QUEUE_JOBS_MAX: usize = 64;
/// The longest password.
pub const PASSWORD_BYTES_MAX: usize = 4096;
/// Memory of one hash.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
pub const PASSES: u32 = 2;
const OUTPUT_BYTES: usize = 32;
/// For users who do not exist.
const NOBODYS_SALT: [u8; 16] = *b"mainstay-nobody!";

/// The queue is full, or the threads are gone: nothing was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are waiting to be checked")]
pub struct Busy;

enum Task {
    Hash { salt: [u8; 16], done: oneshot::Sender<String> },
    Verify { hash: Option<String>, done: oneshot::Sender<bool> },
}

struct Job {
    password: String,
    task: Task,
}

/// The threads that hash. They end when this is dropped.
pub struct Passwords {
    queue: SyncSender<Job>,
}

impl Passwords {
    /// Starts `threads` threads, each with 19 MiB.
    pub fn start(threads: usize) -> std::io::Result<Passwords> {
        let (queue, jobs) = sync_channel(QUEUE_JOBS_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.max(1) {
            let jobs = Arc::clone(&jobs);
            std::thread::Builder::new().name(format!("passwords-{number}")).spawn(move || work(&jobs))?;
        }
        Ok(Passwords { queue })
    }

    /// The PHC string to keep for `password`.
    pub async fn hash(&self, world: &World, password: &str) -> Result<String, Busy> {
        let (done, result) = oneshot::channel();
        self.submit(password, Task::Hash { salt: world.random(), done })?;
        result.await.map_err(|_| Busy)
    }

    /// Whether `password` belongs to `hash`. Without a hash the answer is no, and takes as long.
    pub async fn verify(&self, password: &str, hash: Option<String>) -> Result<bool, Busy> {
        let (done, result) = oneshot::channel();
        self.submit(password, Task::Verify { hash, done })?;
        result.await.map_err(|_| Busy)
    }

    fn submit(&self, password: &str, task: Task) -> Result<(), Busy> {
        match self.queue.try_send(Job { password: password.to_owned(), task }) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Busy),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    let mut memory = Vec::new();
    loop {
        // Only one thread waits at the queue; the others wait at the lock.
        let Ok(job) = jobs.lock().recv() else { return };
        match job.task {
            // Whoever asked may be gone by now; then the work is not worth its time.
            Task::Hash { done, .. } if done.is_closed() => {}
            Task::Verify { done, .. } if done.is_closed() => {}
            Task::Hash { salt, done } => {
                if let Some(hash) = hash(&job.password, &salt, &mut memory) {
                    let _gone = done.send(hash);
                }
            }
            Task::Verify { hash, done } => {
                let _gone = done.send(verify(&job.password, hash.as_deref(), &mut memory));
            }
        }
    }
}

fn params() -> Params {
    Params::new(MEMORY_KIB, PASSES, 1, Some(OUTPUT_BYTES)).expect("the constants are within what argon2 allows")
}

fn derive(password: &str, salt: &[u8], params: Params, memory: &mut Vec<Block>) -> Option<[u8; OUTPUT_BYTES]> {
    memory.resize(params.block_count().max(memory.len()), Block::default());
    let mut out = [0; OUTPUT_BYTES];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into_with_memory(password.as_bytes(), salt, &mut out, memory.as_mut_slice()).ok()?;
    Some(out)
}

fn hash(password: &str, salt: &[u8; 16], memory: &mut Vec<Block>) -> Option<String> {
    let params = params();
    let out = derive(password, salt, params.clone(), memory)?;
    let salt = SaltString::encode_b64(salt).ok()?;
    let phc = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: (&params).try_into().ok()?,
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(&out).ok()?),
    };
    Some(phc.to_string())
}

fn verify(password: &str, stored: Option<&str>, memory: &mut Vec<Block>) -> bool {
    let parsed = stored.and_then(|stored| PasswordHash::new(stored).ok()).and_then(|parsed| {
        let mut salt = [0; Salt::MAX_LENGTH];
        let salt = parsed.salt?.decode_b64(&mut salt).ok()?.to_vec();
        Some((Params::try_from(&parsed).ok()?, salt, parsed.hash?))
    });
    match parsed {
        // `Output` compares in constant time.
        Some((params, salt, expected)) => derive(password, &salt, params, memory)
            .and_then(|out| Output::new(&out).ok())
            .is_some_and(|out| out == expected),
        None => {
            let _as_long_as_a_wrong_one = derive(password, &NOBODYS_SALT, params(), memory);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_its_own_hash_only() {
        let mut memory = Vec::new();
        let kept = hash("Secret-1", &[7; 16], &mut memory).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(verify("Secret-1", Some(&kept), &mut memory));
        assert!(!verify("Secret-2", Some(&kept), &mut memory));
        assert!(!verify("Secret-1", None, &mut memory));
        assert!(!verify("Secret-1", Some("$argon2id$nonsense"), &mut memory));
    }

    #[test]
    fn a_full_queue_says_so_at_once() {
        let (queue, jobs) = sync_channel(1);
        let passwords = Passwords { queue };
        let task = || Task::Verify { hash: None, done: oneshot::channel().0 };
        assert_eq!(passwords.submit("one", task()), Ok(()));
        assert_eq!(passwords.submit("two", task()), Err(Busy));
        drop(jobs);
    }
}
