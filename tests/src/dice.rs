//! Chance that repeats itself: small, and the same on every machine.

/// A sequence of numbers that follows from its seed.
pub struct Dice(u64);

impl Dice {
    /// From this seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The seed in `MAINSTAY_SEED`, or else `default`. It is printed, so that the same can be had again.
    pub fn seed_of_test(default: u64) -> u64 {
        let seed = std::env::var("MAINSTAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(default);
        println!("MAINSTAY_SEED={seed}");
        seed
    }

    /// A number from 0 to `bound`, not `bound` itself.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % bound
    }
}
