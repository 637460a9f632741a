//! Verified tokens, kept for a while: bounded, and forgotten as soon as a right may have changed.
//!
//! Two generations: new entries go into the young one; when that is full it becomes the old one, and what nobody used
//! since is gone. So it never holds more than twice its size, and never has to be swept.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// Entries of one generation. At about 1 KiB each, the cache holds at most 16 MiB.
const GENERATION_ENTRIES_MAX: usize = 8192;

/// The SHA-256 of a token: the token itself is not kept.
pub(crate) type Digest = [u8; 32];

pub(crate) struct Cache<T> {
    generations: RwLock<Generations<T>>,
}

struct Generations<T> {
    young: HashMap<Digest, Arc<T>>,
    old: HashMap<Digest, Arc<T>>,
}

pub(crate) fn digest(token: &str) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl<T> Cache<T> {
    pub(crate) fn new() -> Cache<T> {
        Cache { generations: RwLock::new(Generations { young: HashMap::new(), old: HashMap::new() }) }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<T>> {
        let generations = self.generations.read();
        if let Some(value) = generations.young.get(digest) {
            return Some(Arc::clone(value));
        }
        let value = Arc::clone(generations.old.get(digest)?);
        drop(generations);
        self.put(*digest, Arc::clone(&value));
        Some(value)
    }

    pub(crate) fn put(&self, digest: Digest, value: Arc<T>) {
        let mut generations = self.generations.write();
        if generations.young.len() >= GENERATION_ENTRIES_MAX {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(digest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_what_is_used() {
        let cache = Cache::new();
        cache.put([0xff; 32], Arc::new(u64::MAX));
        for number in 0..100_000u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            cache.put(digest, Arc::new(number));
            if number % 1000 == 0 {
                assert_eq!(cache.get(&[0xff; 32]).as_deref(), Some(&u64::MAX), "after {number}");
            }
        }
        let generations = cache.generations.read();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION_ENTRIES_MAX);
        assert_eq!(cache.generations.read().young.get(&[0; 32]), None);
    }
}
