//! A circuit breaker: after failures of its own the provider leaves alone the job, then its requester, then everything, longer
//! each time.

use std::collections::{HashMap, HashSet};

use alloy::primitives::{Address, B256};

use super::SkipReason;

/// Seconds of block time that something is left alone after a failure; doubled each time in a row, up to [`MAX_REST`].
pub(super) const REST: u64 = 10;

/// Most seconds of block time that something is left alone.
const MAX_REST: u64 = 1_800;

/// Failed jobs of one requester that speak against the requester.
const JOBS: usize = 2;

/// Requesters with failed jobs that speak against this computer.
const REQUESTERS: usize = 3;

/// Something is left alone for a while.
#[derive(Clone, Debug)]
struct Rest {
    /// Block time at which it may be tried again.
    until: u64,
    /// Failures in a row.
    times: u32,
    why: SkipReason,
}

impl Rest {
    /// After one more failure at block time `now`. Several that come together are one.
    fn again(before: Option<&Self>, now: u64, why: SkipReason) -> Self {
        let times = match before {
            Some(rest) if now < rest.until => rest.times,
            Some(rest) => rest.times + 1,
            None => 1,
        };
        Self { until: now + (REST << (times - 1).min(16)).min(MAX_REST), times, why }
    }
}

/// What is left alone, and until when.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    jobs: HashMap<B256, Rest>,
    requesters: HashMap<Address, Rest>,
    everything: Option<Rest>,
    /// Jobs that failed here and have not succeeded since, with their requesters.
    failed: HashMap<B256, Address>,
}

impl Breaker {
    /// A job's data could not be had: nobody's fault here.
    pub(super) fn unavailable(&mut self, job: B256, now: u64, text: String) {
        self.rest(job, now, SkipReason::Unavailable { text });
    }

    /// A batch of the job failed here: it could not be executed, or its lease was lost.
    pub(super) fn failed(&mut self, job: B256, requester: Option<Address>, now: u64, text: String) {
        self.rest(job, now, SkipReason::SetAside { text });
        let Some(requester) = requester else { return };
        self.failed.insert(job, requester);
        let of_requester = self.failed.values().filter(|other| **other == requester).count();
        if of_requester >= JOBS {
            let why = SkipReason::RequesterSetAside { jobs: of_requester };
            let rest = Rest::again(self.requesters.get(&requester), now, why);
            self.requesters.insert(requester, rest);
        }
        let requesters = self.failed.values().collect::<HashSet<_>>().len();
        if requesters >= REQUESTERS {
            let why = SkipReason::AllSetAside { requesters };
            self.everything = Some(Rest::again(self.everything.as_ref(), now, why));
        }
    }

    fn rest(&mut self, job: B256, now: u64, why: SkipReason) {
        let rest = Rest::again(self.jobs.get(&job), now, why);
        self.jobs.insert(job, rest);
    }

    /// A batch of the job came out: so can others, of its requester and of everybody.
    pub(super) fn succeeded(&mut self, job: B256, requester: Option<Address>) {
        self.jobs.remove(&job);
        self.failed.remove(&job);
        self.everything = None;
        if let Some(requester) = requester {
            self.requesters.remove(&requester);
        }
    }

    /// The job is over.
    pub(super) fn forget(&mut self, job: &B256) {
        self.jobs.remove(job);
    }

    /// Whether the job itself is left alone.
    pub(super) fn rests(&self, job: &B256, now: u64) -> bool {
        self.jobs.get(job).is_some_and(|rest| now < rest.until)
    }

    /// Why nothing new of a job is taken, if anything is left alone that it belongs to.
    pub(super) fn objection(&self, job: &B256, requester: Address, now: u64) -> Option<SkipReason> {
        self.in_force(job, requester, now).next().map(|rest| rest.why.clone())
    }

    /// When the first of what is left alone may be tried again.
    pub(super) fn ends(&self, job: &B256, requester: Address, now: u64) -> Option<u64> {
        self.in_force(job, requester, now).map(|rest| rest.until).min()
    }

    fn in_force(&self, job: &B256, requester: Address, now: u64) -> impl Iterator<Item = &Rest> {
        let all = [self.jobs.get(job), self.requesters.get(&requester), self.everything.as_ref()];
        all.into_iter().flatten().filter(move |rest| now < rest.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(n: u8) -> B256 {
        B256::repeat_byte(n)
    }

    fn who(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn fail(breaker: &mut Breaker, n: u8, requester: u8, now: u64) {
        breaker.failed(job(n), Some(who(requester)), now, "faulty".to_owned());
    }

    #[test]
    fn first_the_job_then_the_requester_then_everything() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 1, 1, 100);
        assert!(matches!(breaker.objection(&job(1), who(1), 100), Some(SkipReason::SetAside { .. })));
        assert_eq!(breaker.objection(&job(2), who(1), 100), None, "another job of the same requester");
        fail(&mut breaker, 2, 1, 101);
        let objection = breaker.objection(&job(3), who(1), 101);
        assert_eq!(objection, Some(SkipReason::RequesterSetAside { jobs: 2 }));
        assert_eq!(breaker.objection(&job(4), who(2), 101), None, "another requester");
        fail(&mut breaker, 4, 2, 102);
        fail(&mut breaker, 5, 3, 103);
        assert_eq!(breaker.objection(&job(9), who(9), 103), Some(SkipReason::AllSetAside { requesters: 3 }));
        assert_eq!(breaker.objection(&job(9), who(9), 113), None, "not for ever");
    }

    #[test]
    fn pauses_grow_and_end_with_a_success() {
        let mut breaker = Breaker::default();
        let mut now = 1_000;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            fail(&mut breaker, 1, 1, now);
            // More of the same moment change nothing.
            fail(&mut breaker, 1, 1, now + 1);
            let pause = (now..).find(|time| !breaker.rests(&job(1), *time)).unwrap() - now;
            pauses.push(pause);
            now += pause;
        }
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!((pauses[0], pauses[2], pauses[11]), (11, 41, 1_801));
        breaker.succeeded(job(1), Some(who(1)));
        assert!(!breaker.rests(&job(1), now));
        fail(&mut breaker, 1, 1, now);
        assert!(!breaker.rests(&job(1), now + REST), "it begins anew");
    }

    #[test]
    fn data_that_cannot_be_had_speaks_against_nobody_else() {
        let mut breaker = Breaker::default();
        for n in 1..9 {
            breaker.unavailable(job(n), 5, "no peer".to_owned());
        }
        assert!(matches!(breaker.objection(&job(1), who(1), 5), Some(SkipReason::Unavailable { .. })));
        assert_eq!(breaker.objection(&job(20), who(1), 5), None);
    }
}
