//! The rate limit: a bucket of tokens, of which each request takes one.
//!
//! Compat: golang.org/x/time `rate.Limiter`.

use config::web::RateLimit;
use parking_lot::Mutex;
use tokio::time::Instant;

/// One for all clients together.
pub(super) struct Bucket {
    limit: RateLimit,
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// It begins full.
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, level: Mutex::new(Level { tokens: limit.burst as f64, at: Instant::now() }) }
    }

    /// Takes a token if there is one.
    pub(super) fn allows(&self) -> bool {
        let now = Instant::now();
        let mut level = self.level.lock();
        let gained =
            now.saturating_duration_since(level.at).as_secs_f64() / self.limit.interval.as_secs_f64();
        level.tokens = (level.tokens + gained).min(self.limit.burst as f64);
        level.at = now;
        let is_there = level.tokens >= 1.0;
        if is_there {
            level.tokens -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_then_one_per_interval() {
        let bucket = Bucket::new(RateLimit { interval: Duration::from_secs(1), burst: 3 });
        let taken = |n: usize| (0..n).filter(|_| bucket.allows()).count();
        assert_eq!(taken(5), 3);
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(taken(2), 0);
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(taken(2), 1);
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert_eq!(taken(9), 3);
        let never = Bucket::new(RateLimit { interval: Duration::from_secs(1), burst: 0 });
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert!(!never.allows());
    }
}
