//! Bare argon2id at the parameters of the product: the ceiling of logins with a password.
//!
//! Like the product's, each thread keeps its block of memory, so that no page is faulted in twice.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use identity::password::{MEMORY_KIB, PASSES};

/// Hashes in a second, by so many threads.
pub fn hashes(threads: usize, span: Duration) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let counts = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads).map(|_| scope.spawn(|| until(begun + span))).collect();
        spawned
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
            .sum::<anyhow::Result<u64>>()
    })?;
    Ok(counts as f64 / begun.elapsed().as_secs_f64())
}

fn until(end: Instant) -> anyhow::Result<u64> {
    let parameters = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).map_err(|error| anyhow!("{error}"))?;
    let mut memory = vec![Block::default(); parameters.block_count()];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    let (mut count, mut out) = (0, [0; 32]);
    while Instant::now() < end {
        let hashed =
            argon.hash_password_into_with_memory(b"a password of some", b"and some salt 16", &mut out, &mut memory);
        hashed.map_err(|error| anyhow!("{error}"))?;
        count += 1;
    }
    Ok(count)
}
