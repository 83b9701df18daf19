//! Randomness as an argument: the system's generator, or a seeded one for simulations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// A source of randomness. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Random(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    /// splitmix64 over a shared counter: the same sequence for the same seed. Never for keys.
    Seeded(Arc<AtomicU64>),
}

impl Random {
    pub fn system() -> Self {
        Self(Source::System)
    }

    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(AtomicU64::new(seed))))
    }

    pub fn fill(&self, bytes: &mut [u8]) {
        match &self.0 {
            Source::System => SystemRandom::new().fill(bytes).expect("the kernel's generator works once it is seeded"),
            Source::Seeded(state) => {
                for chunk in bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&splitmix(state).to_le_bytes()[..chunk.len()]);
                }
            }
        }
    }

    pub fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A version 4 UUID (RFC 9562) in its usual text form.
    pub fn uuid(&self) -> String {
        let mut b = [0; 16];
        self.fill(&mut b);
        b[6] = b[6] & 0x0f | 0x40;
        b[8] = b[8] & 0x3f | 0x80;
        let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

fn splitmix(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
