//! How fast peers are served.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What was not used before may be used at once, up to so much time's worth.
const BURST: Duration = Duration::from_millis(500);

/// So much a second.
#[derive(Debug)]
struct Pace {
    per_second: u64,
    /// When what was taken so far is used up.
    used: Instant,
}

impl Pace {
    fn new(per_second: u64, now: Instant) -> Self {
        Self { per_second, used: now }
    }

    /// Takes so much; returns when it may be used.
    fn take(&mut self, amount: u64, now: Instant) -> Instant {
        let took = Duration::from_secs_f64(amount as f64 / self.per_second as f64);
        self.used = self.used.max(now) + took;
        // Before the clock's beginning nothing is due.
        self.used.checked_sub(BURST).unwrap_or(now)
    }
}

/// Limits for all peers together and for each.
#[derive(Debug)]
pub(super) struct Limit {
    /// So much a second for each; 0 for no limit.
    each: u64,
    paces: Mutex<Paces>,
}

#[derive(Debug)]
struct Paces {
    all: Option<Pace>,
    peers: HashMap<[u8; 32], Pace>,
}

impl Limit {
    /// So much a second; 0 for no limit.
    pub(super) fn new(all: u64, each: u64) -> Self {
        let all = (all != 0).then(|| Pace::new(all, Instant::now()));
        Self { each, paces: Mutex::new(Paces { all, peers: HashMap::new() }) }
    }

    /// Waits until a peer may have so much more.
    pub(super) async fn wait(&self, peer: &[u8; 32], amount: u64) {
        let now = Instant::now();
        if let Some(due) = self.take(peer, amount, now).filter(|due| *due > now) {
            tokio::time::sleep_until(due.into()).await;
        }
    }

    fn take(&self, peer: &[u8; 32], amount: u64, now: Instant) -> Option<Instant> {
        // Nothing here can fail half-way.
        let Paces { all, peers } = &mut *self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        let each = (self.each != 0).then(|| {
            if !peers.contains_key(peer) {
                // Whoever is owed nothing is as good as new.
                peers.retain(|_, pace| pace.used > now);
            }
            peers.entry(*peer).or_insert_with(|| Pace::new(self.each, now)).take(amount, now)
        });
        all.as_mut().map(|pace| pace.take(amount, now)).max(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds until each of `peers` has `amount`, a unit at a time, one after the other.
    fn seconds(limit: &Limit, peers: u8, amount: u64, start: Instant) -> f64 {
        let mut clocks = vec![start; peers.into()];
        for _ in 0..amount {
            for (peer, clock) in (0..).zip(&mut clocks) {
                *clock = limit.take(&[peer; 32], 1, *clock).map_or(*clock, |due| due.max(*clock));
            }
        }
        clocks.iter().max().unwrap().duration_since(start).as_secs_f64()
    }

    #[test]
    fn each_peer_and_all_together_have_what_the_limits_allow_and_no_more() {
        let start = Instant::now();
        let close = |found: f64, wanted: f64| assert!((found - wanted).abs() < 0.1, "{found} s instead of {wanted}");
        close(seconds(&Limit::new(0, 0), 3, 1_000, start), 0.0);
        // Half a second's worth is there at the beginning.
        close(seconds(&Limit::new(0, 100), 3, 1_000, start), 9.5);
        close(seconds(&Limit::new(100, 0), 4, 1_000, start), 39.5);
        close(seconds(&Limit::new(100, 10), 1, 100, start), 9.5);
        close(seconds(&Limit::new(100, 10), 20, 100, start), 19.5);
        // What was not used for long is not saved up, and who has gone is forgotten.
        let limit = Limit::new(0, 100);
        close(seconds(&limit, 1, 50, start), 0.0);
        close(seconds(&limit, 1, 150, start + Duration::from_secs(60)), 1.0);
        limit.take(&[99; 32], 1, start + Duration::from_secs(120));
        assert_eq!(limit.paces.lock().unwrap().peers.len(), 1);
    }
}
