//! Random numbers that are the same every time, and cost next to nothing beside an allocation.

/// A linear congruential generator with Knuth's constants; its upper half is good enough here.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// A number below `end`, by multiplication rather than division.
    pub fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.next()) * end as u64) >> 32) as usize
    }

    /// A number of `low..=high`, each as likely as any other.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A number of `low..=high`, each power of two as likely as any other.
    pub fn log_uniform(&mut self, low: usize, high: usize) -> usize {
        let (from, to) = ((low as f64).ln(), (high as f64).ln());
        let position = f64::from(self.next()) / f64::from(u32::MAX);
        ((from + (to - from) * position).exp().round() as usize).clamp(low, high)
    }

    /// The numbers below `length` in random order.
    pub fn permutation(&mut self, length: usize) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..length).collect();
        for last in (1..length).rev() {
            numbers.swap(last, self.below(last + 1));
        }
        numbers
    }
}

/// Sizes drawn beforehand, so many that no allocator learns them and so few that they stay in the first-level cache.
pub struct Sizes {
    sizes: Vec<u32>,
    next: usize,
}

impl Sizes {
    const COUNT: usize = 2048;

    pub fn new(mut draw: impl FnMut() -> usize) -> Self {
        Self { sizes: (0..Self::COUNT).map(|_| draw() as u32).collect(), next: 0 }
    }

    /// `low..=high`, each size as likely as any other.
    pub fn between(low: usize, high: usize) -> Self {
        let mut random = Random::new((low + high) as u64);
        Self::new(|| random.between(low, high))
    }

    /// `low..=high`, each power of two as likely as any other.
    pub fn log_uniform(low: usize, high: usize) -> Self {
        let mut random = Random::new((low + high) as u64);
        Self::new(|| random.log_uniform(low, high))
    }

    pub fn next(&mut self) -> usize {
        let size = self.sizes[self.next % Self::COUNT];
        self.next += 1;
        size as usize
    }
}
