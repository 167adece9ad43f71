//! Replicated jobs: what the registry's packed slots say against the reference, and the lots against what block hashes make of them.

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolValue,
};
use conun_bindings::abi::ReplicaRegistry;

use super::{
    ballots::{Ballot, Phase, Replica, Stage},
    encode_polls::{commitment_of, vote_hash},
    reference::{MIN_STAKE, PLAYERS, State, Who},
    world::World,
};

/// The bits of a slot from `from` to `to`.
fn bits(slot: U256, from: usize, to: usize) -> u64 {
    ((slot >> from) & ((U256::from(1) << (to - from)) - U256::from(1))).to()
}

/// The last 180 bits of a hash, where a replica's slot has them.
fn shortened(hash: B256) -> U256 {
    U256::from_be_bytes(hash.0) & ((U256::from(1) << 180) - U256::from(1))
}

fn number_of(phase: Phase) -> u64 {
    match phase {
        // What is cancelled is stored as open, and so is what an amended job was not given.
        Phase::Open | Phase::Cancelled => 0,
        Phase::Committing => 1,
        Phase::Drawing => 2,
        Phase::Revealing => 3,
        Phase::Frozen => 4,
        Phase::Settled => 5,
        Phase::Undecided => 6,
        Phase::Overturned => 7,
        Phase::Refunded => 8,
    }
}

fn ballot(world: &World, poll: usize, number: u32, want: &Ballot) {
    let call = ReplicaRegistry::ballotOfCall { jobId: world.poll_id(poll), batch: number };
    let slot = world.read(world.contracts.replicas, &call);
    let counts = [(4, 8), (8, 12), (12, 16), (16, 20), (20, 24), (24, 25), (32, 64), (64, 96)];
    let have = (bits(slot, 0, 4), counts.map(|(from, to)| bits(slot, from, to)));
    let want = (
        number_of(want.phase),
        [
            want.wanted as u64,
            want.leased() as u64,
            if matches!(want.phase, Phase::Open | Phase::Cancelled | Phase::Refunded) {
                0
            } else {
                want.committed() as u64
            },
            want.revealed() as u64,
            want.expiries.into(),
            want.audited.into(),
            want.time,
            want.opened,
        ],
    );
    assert_eq!(
        have, want,
        "batch {number} of replicated job {poll}: state, wanted, leased, committed, revealed, expiries, audited, time, opened"
    );
}

fn replica(world: &World, state: &State, (poll, batch, who): (usize, u32, Who), want: Option<&Replica>) {
    let call = ReplicaRegistry::replicaOfCall { jobId: world.poll_id(poll), batch, provider: world.address(who) };
    let slot = world.read(world.contracts.replicas, &call);
    let price = |replica: &Replica| (U256::from(replica.step) << 8) | (U256::from(replica.checks) << 24);
    let want = want.map_or(U256::ZERO, |replica| match replica.at {
        Stage::Leased { until, backup, rival } => {
            let rival = rival.map_or(Address::ZERO, |rival| world.address(rival));
            let flags = U256::from(1 | u8::from(backup) << 3);
            flags | price(replica) | U256::from(until) << 44 | U256::from_be_bytes(rival.into_word().0) << 76
        }
        Stage::Committed { block, late, vote, .. } => {
            let flags = U256::from(2 | u8::from(late) << 4);
            let hash = shortened(commitment_of(world, state, poll, batch, who, vote));
            flags | price(replica) | U256::from(block) << 44 | hash << 76
        }
        Stage::Revealed { block, late, vote } => {
            let flags = U256::from(3 | u8::from(late) << 4);
            flags | price(replica) | U256::from(block) << 44 | shortened(vote_hash(state, poll, batch, vote)) << 76
        }
        Stage::Done => U256::from(4),
    });
    assert_eq!(slot, want, "what account {who} does for batch {batch} of replicated job {poll}");
}

/// When each may lease: the lot, from the hash of the block after the post or the opening of the round.
fn lots(world: &World, state: &State, poll: usize, number: u32) {
    let found = &state.polls[poll];
    let ballot = &found.ballots[number as usize];
    let (opened, from) = match ballot.opened {
        0 => (found.posted, found.fields.ramp_start - found.assurance.widen),
        opened => (opened, ballot.time.saturating_sub(2 * found.fields.lease)),
    };
    let running = matches!(ballot.phase, Phase::Open | Phase::Committing);
    if !found.is_sorted() || !running || state.block <= opened + 1 {
        return;
    }
    let hash = world.block_hash(opened + 1).expect("the block is there");
    let seed: u64 = (U256::from_be_bytes(hash.0) & U256::from(u64::MAX)).to::<u64>() | 1;
    for who in 0..PLAYERS {
        let book = &state.books[who];
        let lot = (seed, world.poll_id(poll), number, opened, world.address(who));
        let lot = u128::from((U256::from_be_bytes(keccak256(lot.abi_encode()).0) & U256::from(u64::MAX)).to::<u64>());
        let widen = u128::from(found.assurance.widen);
        let late = book.staked_block == 0 || book.staked_block >= opened;
        let wait = if late { widen } else { widen.min(((widen * lot * MIN_STAKE) / book.stake.max(1)) >> 64) };
        let call = ReplicaRegistry::opensAtCall {
            job: world.polls[poll].clone(),
            batch: number,
            provider: world.address(who),
        };
        let have = world.read(world.contracts.replicas, &call);
        assert_eq!(have, U256::from(from + wait as u64), "when account {who} may lease batch {number} of job {poll}");
    }
}

pub(super) fn agree(world: &World, state: &State) {
    for (poll, found) in state.polls.iter().enumerate() {
        let call = ReplicaRegistry::ballotOfCall { jobId: world.poll_id(poll), batch: 0 };
        let head = world.read(world.contracts.replicas, &call);
        let have = [(230, 254), (254, 255), (255, 256), (192, 224), (224, 225)].map(|(from, to)| bits(head, from, to));
        let open = found.ballots.iter().filter(|ballot| ballot.phase == Phase::Open).count() as u64;
        let want = [open, found.cancelled.into(), 1, found.posted, found.continued.into()];
        assert_eq!(have, want, "replicated job {poll}");
        for (number, want) in (0..).zip(&found.ballots) {
            ballot(world, poll, number, want);
            for who in 0..PLAYERS {
                replica(world, state, (poll, number, who), want.replicas.get(&who));
            }
            lots(world, state, poll, number);
        }
    }
}
