//! The keys that sign tokens, and their rotation.
//!
//! The newest key signs; all verify. A key that a newer one has replaced is kept until the last token that it can have
//! signed has ended, so that a rotation costs nobody a login. Every process reads the keys from its own view, and asks
//! the store before it refuses a token whose key it does not know: so a new key is good everywhere at once.
//!
//! Deliberately absent: a schedule. An operator rotates, or a timer of theirs.

use std::sync::Arc;
use std::time::Duration;

use store::{DecodeError, Reader, Record, Revision, Txn, View};
use world::{Wall, World};

use crate::error::Error;
use crate::record::TokenKey;
use crate::service::{Changes, Decided, TOKEN_SPAN_MAX};

/// Keys at a time. Beyond it rotations are refused: each is one more that a thief could have.
const KEYS_MAX: usize = 32;
/// How far the clocks of two processes may differ: a key is kept so much longer than its tokens live.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// What a rotation left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The id of the key that signs from now on, in hexadecimal.
    pub signs: String,
    /// Older keys whose tokens are still good.
    pub kept: usize,
    /// Keys that were removed: no token of theirs is good any more.
    pub removed: usize,
}

/// Adds a key that signs from now on, and removes those whose tokens have all ended; with `void_others` all others, and
/// with them every token that was issued before.
pub async fn rotate(world: &World, view: &Arc<View>, void_others: bool) -> Result<Rotated, Error> {
    let (id, seed) = (world.random(), world.random());
    Changes::new(world, view)
        .change(|reader| {
            let now = world.wall();
            let mut keys = reader.all::<TokenKey>().collect::<Result<Vec<_>, _>>()?;
            keys.sort_by_key(|(key, _)| key.created);
            // Who signs is decided by these times, and a wall clock may have been set back.
            let after = keys.last().map_or(Wall::from_micros(0), |(last, _)| last.created + Duration::from_micros(1));
            let key = TokenKey { id, seed, created: now.max(after) };
            let ended = if void_others { keys.as_slice() } else { &keys[..ended(&keys, now)] };
            let kept = keys.len() - ended.len();
            if kept >= KEYS_MAX {
                return Err(Error::Invalid(format!(
                    "{kept} keys were made within the life of a token already; wait, or void the tokens"
                )));
            }
            let mut txn = Txn::new();
            txn.create(key.key(), key.encode());
            for (key, revision) in ended {
                txn.remove(key.key(), *revision);
            }
            let rotated = Rotated { signs: hex::encode(key.id), kept, removed: ended.len() };
            Decided::rights("token keys were rotated", txn, rotated)
        })
        .await
}

/// How many of the oldest `keys` have signed no token that can still be good.
fn ended(keys: &[(TokenKey, Revision)], now: Wall) -> usize {
    // A key has signed nothing since the next one was made.
    let over = |pair: &&[(TokenKey, Revision)]| pair[1].0.created + TOKEN_SPAN_MAX + CLOCK_SKEW < now;
    keys.windows(2).take_while(over).count()
}

/// The key that signs.
pub(crate) fn newest(reader: &Reader<'_>) -> Result<Option<TokenKey>, DecodeError> {
    let keys = reader.all::<TokenKey>().map(|found| found.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()?;
    Ok(keys.into_iter().max_by_key(|key| (key.created, key.id)))
}
