//! Dice that fall the same way again: SplitMix64, with a stream of its own for each use.
//!
//! Streams are kept apart so that one more draw in the network does not change which task runs next; a run then stays
//! comparable with its neighbours while something small is changed in the code.

/// A stream of random numbers. Not fit for secrets outside a simulation.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream `label` of `seed`.
    pub fn new(seed: u64, label: &str) -> Rng {
        let hash = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut rng = Rng(seed ^ hash.rotate_left(17));
        rng.draw();
        rng
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..below`; 0 if there is none.
    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.draw() % below }
    }

    /// An index into something of `length` things.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True `of` times in `among`.
    pub fn chance(&mut self, of: u64, among: u64) -> bool {
        self.below(among) < of
    }

    /// One of `from`, which is not empty.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// A time from `least` up to, not including, `most`, in microseconds, as nanoseconds: small ones are likelier.
    pub fn span_nanos(&mut self, least_us: u64, most_us: u64) -> u64 {
        let most = most_us.max(least_us + 1);
        // The smaller of two draws: most waits are short and some are long, as in life.
        let draw = self.below(most - least_us).min(self.below(most - least_us));
        (least_us + draw) * 1000 + self.below(1000)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.draw().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
    }
}
