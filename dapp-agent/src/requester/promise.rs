//! What to ask for so that no more than a promised share of results is wrong, by the records that providers have: votes of newcomers, then
//! votes of few with records, then one result of a provider with a long one, some of them audited. `docs/voting.md` has what it comes to.

use alloy::primitives::B256;
use conun_bindings::{
    Rules,
    abi::ReplicaRegistry::Assurance,
    replicas::{CERTAIN, Vote, limit_of_audits, tally},
};

/// Share of all providers that must have the record of a way before it is taken. The larger it is, the fewer results each of them gives while
/// nobody has noticed that it lies.
pub const ENOUGH: f64 = 0.6;

/// Share of the jobs that newcomers may do whatever the others' records: nobody would come by one else. The larger it is, the sooner all
/// who wait for a long record have it at once.
pub const OPEN: f64 = 0.03;

/// Smallest share of wrong results that can be asked for.
pub(super) const LEAST_ERROR: f64 = 1e-6;
/// Largest one: two newcomers that agree are better.
pub(super) const MOST_ERROR: f64 = 0.05;

/// Longest record that counts.
const MOST_CHECKS: u32 = (1 << 20) - 1;
/// Of votes, in 1/10,000.
const VOTES_AUDITED: u16 = 500;

/// Ways to have at most a share `max_error` of results wrong, where faults are independent: the first for anybody, each further one for providers
/// that have passed more checks. What `base` says of times stays.
pub fn ways(max_error: f64, base: &Assurance, rules: &Rules) -> Vec<Assurance> {
    let target = CERTAIN - (max_error * f64::from(CERTAIN)).round() as u32;
    let of = |replicas: u8, min_checks: u32, audit_bps: u16| Assurance {
        replicas,
        limit: limit_of_audits(replicas, target, rules.faulty_bps),
        target,
        auditBps: audit_bps,
        minChecks: min_checks,
        ..base.clone()
    };
    let vote = |min_checks: u32| of(2, min_checks, VOTES_AUDITED);
    let two = || vote(least_checks(2, target, rules));
    // o / (1 + o) > 1 - e for o = s / f - 1 says s > f / e.
    let single = |audit_bps: u16| of(1, (f64::from(rules.faulty_bps) / 10_000.0 / max_error).ceil() as u32, audit_bps);
    match max_error {
        error if error >= 1e-3 => vec![vote(0), two(), single(500)],
        error if error >= 1e-4 => vec![vote(0), two(), single(2_500)],
        // One execution would take a record that nobody has.
        _ => vec![vote(0), vote(least_checks(3, target, rules)), two()],
    }
}

/// Checks with which so many that agree are believed.
fn least_checks(votes: usize, target: u32, rules: &Rules) -> u32 {
    let assurance =
        Assurance { replicas: 2, limit: 15, target, auditBps: 0, minChecks: 0, widenSeconds: 0, revealSeconds: 0 };
    let is_believed = |checks: &u32| {
        let votes = vec![Vote { result: Some((B256::ZERO, 0)), checks: *checks }; votes];
        tally(&votes, false, &assurance, rules).is_some_and(|count| count.accepted)
    };
    // No record would do: nobody has the longest one.
    (1..MOST_CHECKS).find(is_believed).unwrap_or(MOST_CHECKS)
}

/// Which of the ways to take where providers have passed so many `checks`; `lot` is even from 0 to 1.
pub fn choose(ways: &[Assurance], checks: &[u32], lot: f64) -> usize {
    if lot < OPEN {
        return 0;
    }
    let have = |way: &Assurance| checks.iter().filter(|checks| **checks >= way.minChecks).count();
    let enough = |way: &Assurance| have(way) as f64 >= ENOUGH * checks.len() as f64 && have(way) > 0;
    ways.iter().rposition(enough).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, U256};

    use super::*;

    const RULES: Rules = Rules {
        min_stake: U256::ONE,
        audit_floor_bps: 5_000,
        faulty_bps: 2_000,
        fee_bps: 100,
        check_fee: U256::ONE,
        arbiter: Address::ZERO,
    };
    const BASE: Assurance =
        Assurance { replicas: 1, limit: 1, target: 0, auditBps: 0, minChecks: 0, widenSeconds: 60, revealSeconds: 120 };

    #[test]
    fn ways_are_those_of_the_table() {
        let all = |error: f64| {
            let ways = ways(error, &BASE, &RULES);
            assert!(ways.iter().all(|way| (way.widenSeconds, way.revealSeconds) == (60, 120)));
            ways.iter().map(|way| (way.replicas, way.limit, way.minChecks, way.auditBps)).collect::<Vec<_>>()
        };
        assert_eq!(all(1e-3), [(2, 10, 0, 500), (2, 10, 7, 500), (1, 8, 200, 500)]);
        assert_eq!(all(1e-4), [(2, 11, 0, 500), (2, 11, 21, 500), (1, 9, 2_000, 2_500)]);
        assert_eq!(all(1e-6), [(2, 15, 0, 500), (2, 15, 21, 500), (2, 15, 201, 500)]);
    }

    #[test]
    fn a_way_is_taken_once_three_fifths_have_the_record_but_for_three_jobs_in_a_hundred() {
        let ways = ways(1e-3, &BASE, &RULES);
        for (checks, way) in [
            (&[][..], 0),
            (&[0, 0, 0, 0, 0], 0),
            (&[500, 0, 0, 0, 0], 0),
            (&[500, 7, 0, 0, 0], 0),
            (&[500, 7, 7, 0, 0], 1),
            (&[500, 200, 200, 0, 0], 2),
        ] {
            assert_eq!(choose(&ways, checks, 0.5), way, "{checks:?}");
            assert_eq!(choose(&ways, checks, 0.029), 0);
        }
    }
}
