// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {BallotState, ReplicaState} from "../interfaces/IReplicaRegistry.sol";

/// @notice A batch's ballot in one storage slot. The slot of batch 0 carries the job's own state as well.
///
/// | bits | ballot |
/// |---|---|
/// | 0..4 | state |
/// | 4..8 | commits that end the round |
/// | 8..12 | slots that leases hold; a backup and its straggler hold one together |
/// | 12..16 | commits |
/// | 16..20 | reveals |
/// | 20..24 | leases that ran out, stops at 15 |
/// | 24 | drawn for an audit |
/// | 32..64 | block time: committing: its end; drawing, revealing: its end; all revealed: end of the window |
/// | 64..96 | block in which an audit or extra round opened; in the first round of a job with audits: of the last commit, once all have |
///
/// | bits | batch 0 only: the job |
/// |---|---|
/// | 128..192 | seed of the sortition, once it was needed |
/// | 192..224 | block of the post |
/// | 224 | it amends another, whose open batches it has |
/// | 230..254 | batches that are open |
/// | 254 | cancelled: its open batches are final |
/// | 255 | posted |
type Ballot is uint256;

/// @notice What one provider does for one batch, in one storage slot.
///
/// | bits | leased | committed | revealed |
/// |---|---|---|---|
/// | 0..3 | state | state | state |
/// | 3 | a backup | | |
/// | 4 | | roots were public at the commit | same |
/// | 8..24 | step of the price | same | same |
/// | 24..44 | checks passed at the lease, stops at 2^20 - 1 | same | same |
/// | 44..76 | deadline, block time; of a backup: block from which it may commit | block of the commit | same |
/// | 76..256 | the other of straggler and backup, 160 bits, 0 for none | hash of the commitment, 180 bits | hash of root and fuel, 180 bits |
type Replica is uint256;

using Ballots for Ballot global;
using Ballots for Replica global;

/// @title Reading and making the slots of ballots and replicas
// forge-lint: disable-start(unsafe-typecast) Each cast keeps the bits that the tables name.
library Ballots {
    uint256 private constant JOB = ~uint256((1 << 128) - 1);
    uint256 private constant HASH = (1 << 180) - 1;
    uint256 internal constant MOST_CHECKS = (1 << 20) - 1;
    uint256 internal constant MOST_REPLICAS = 15;

    function state(Ballot ballot) internal pure returns (BallotState) {
        return BallotState(Ballot.unwrap(ballot) & 15);
    }

    function wanted(Ballot ballot) internal pure returns (uint256) {
        return Ballot.unwrap(ballot) >> 4 & 15;
    }

    function leased(Ballot ballot) internal pure returns (uint256) {
        return Ballot.unwrap(ballot) >> 8 & 15;
    }

    function committed(Ballot ballot) internal pure returns (uint256) {
        return Ballot.unwrap(ballot) >> 12 & 15;
    }

    function revealed(Ballot ballot) internal pure returns (uint256) {
        return Ballot.unwrap(ballot) >> 16 & 15;
    }

    function expiries(Ballot ballot) internal pure returns (uint256) {
        return Ballot.unwrap(ballot) >> 20 & 15;
    }

    /// Whether its first round is on: it was not drawn, and nothing of it is public.
    function isFirstRound(Ballot ballot) internal pure returns (bool) {
        return Ballot.unwrap(ballot) & (1 << 24 | 15 << 16) == 0;
    }

    function isDrawn(Ballot ballot) internal pure returns (bool) {
        return Ballot.unwrap(ballot) & 1 << 24 != 0;
    }

    function time(Ballot ballot) internal pure returns (uint256) {
        return uint32(Ballot.unwrap(ballot) >> 32);
    }

    function openedBlock(Ballot ballot) internal pure returns (uint256) {
        return uint32(Ballot.unwrap(ballot) >> 64);
    }

    /// While drawing.
    function lastCommitBlock(Ballot ballot) internal pure returns (uint256) {
        return uint32(Ballot.unwrap(ballot) >> 64);
    }

    function seed(Ballot head) internal pure returns (uint64) {
        return uint64(Ballot.unwrap(head) >> 128);
    }

    function postBlock(Ballot head) internal pure returns (uint256) {
        return uint32(Ballot.unwrap(head) >> 192);
    }

    function openCount(Ballot head) internal pure returns (uint24) {
        return uint24(Ballot.unwrap(head) >> 230);
    }

    function isCancelled(Ballot head) internal pure returns (bool) {
        return Ballot.unwrap(head) & 1 << 254 != 0;
    }

    function isPosted(Ballot head) internal pure returns (bool) {
        return Ballot.unwrap(head) >> 255 != 0;
    }

    function isContinued(Ballot head) internal pure returns (bool) {
        return Ballot.unwrap(head) & 1 << 224 != 0;
    }

    function posted(uint256 count, uint256 block_, bool continued) internal pure returns (Ballot) {
        return
            Ballot.wrap(uint256(1) << 255 | count << 230 | (continued ? 1 << 224 : 0) | uint256(uint32(block_)) << 192);
    }

    function withState(Ballot ballot, BallotState state_) internal pure returns (Ballot) {
        return _with(ballot, 0, 15, uint256(state_));
    }

    function withWanted(Ballot ballot, uint256 count) internal pure returns (Ballot) {
        return _with(ballot, 4, 15, count);
    }

    function withLeased(Ballot ballot, uint256 count) internal pure returns (Ballot) {
        return _with(ballot, 8, 15, count);
    }

    function withCommitted(Ballot ballot, uint256 count) internal pure returns (Ballot) {
        return _with(ballot, 12, 15, count);
    }

    function withRevealed(Ballot ballot, uint256 count) internal pure returns (Ballot) {
        return _with(ballot, 16, 15, count);
    }

    function withExpiries(Ballot ballot, uint256 count) internal pure returns (Ballot) {
        return _with(ballot, 20, 15, count);
    }

    function withTime(Ballot ballot, uint256 at) internal pure returns (Ballot) {
        return _with(ballot, 32, type(uint32).max, uint32(at));
    }

    function withOpenCount(Ballot head, uint256 count) internal pure returns (Ballot) {
        return _with(head, 230, type(uint24).max, count);
    }

    function withSeed(Ballot head, uint64 seed_) internal pure returns (Ballot) {
        return _with(head, 128, type(uint64).max, seed_);
    }

    function cancelled(Ballot head) internal pure returns (Ballot) {
        return Ballot.wrap(Ballot.unwrap(withOpenCount(head, 0)) | 1 << 254);
    }

    /// The first round is full; the block after `block_` decides whether the batch is audited.
    function drawing(Ballot ballot, uint256 block_) internal pure returns (Ballot) {
        return _with(withState(ballot, BallotState.Drawing), 64, type(uint32).max, uint32(block_));
    }

    /// One more commit ends the round that opens now.
    function nextRound(Ballot ballot, uint32 end, uint256 block_, bool audit) internal pure returns (Ballot) {
        ballot = withWanted(withState(ballot, BallotState.Committing), committed(ballot) + 1);
        ballot = _with(withTime(ballot, end), 64, type(uint32).max, uint32(block_));
        return audit ? Ballot.wrap(Ballot.unwrap(ballot) | 1 << 24) : ballot;
    }

    /// An open batch: what is left is how many leases ran out, and the job.
    function reopened(Ballot ballot) internal pure returns (Ballot) {
        return Ballot.wrap(Ballot.unwrap(ballot) & (JOB | 15 << 20));
    }

    /// The batch of `ballot` and the job of `head`.
    function withJob(Ballot ballot, Ballot head) internal pure returns (Ballot) {
        return Ballot.wrap(Ballot.unwrap(ballot) & ~JOB | Ballot.unwrap(head) & JOB);
    }

    function state(Replica replica) internal pure returns (ReplicaState) {
        return ReplicaState(Replica.unwrap(replica) & 7);
    }

    /// While leased: whether it is a backup, or was one before its straggler's lease ran out.
    function isBackup(Replica replica) internal pure returns (bool) {
        return Replica.unwrap(replica) & 1 << 3 != 0;
    }

    /// Once committed.
    function isPublic(Replica replica) internal pure returns (bool) {
        return Replica.unwrap(replica) & 1 << 4 != 0;
    }

    function step(Replica replica) internal pure returns (uint16) {
        return uint16(Replica.unwrap(replica) >> 8);
    }

    function checks(Replica replica) internal pure returns (uint256) {
        return Replica.unwrap(replica) >> 24 & MOST_CHECKS;
    }

    /// Block time, while leased; a backup has none but the end of the round.
    function deadline(Replica replica) internal pure returns (uint256) {
        return uint32(Replica.unwrap(replica) >> 44);
    }

    /// Of a backup: block from which it may commit.
    function activeBlock(Replica replica) internal pure returns (uint256) {
        return uint32(Replica.unwrap(replica) >> 44);
    }

    /// Once committed.
    function commitBlock(Replica replica) internal pure returns (uint256) {
        return uint32(Replica.unwrap(replica) >> 44);
    }

    /// While leased: its backup, or the straggler that it is a backup of.
    function rival(Replica replica) internal pure returns (address) {
        return address(uint160(Replica.unwrap(replica) >> 76));
    }

    function hash(Replica replica) internal pure returns (uint256) {
        return Replica.unwrap(replica) >> 76;
    }

    /// `until`: see the table.
    function leased(uint16 step_, uint256 checks_, uint256 until, bool backup, address rival_)
        internal
        pure
        returns (Replica)
    {
        uint256 kept = checks_ < MOST_CHECKS ? checks_ : MOST_CHECKS;
        return Replica.wrap(
            uint256(ReplicaState.Leased) | (backup ? 1 << 3 : 0) | uint256(step_) << 8 | kept << 24
                | uint256(uint32(until)) << 44 | uint256(uint160(rival_)) << 76
        );
    }

    /// While leased.
    function withRival(Replica replica, address rival_) internal pure returns (Replica) {
        return Replica.wrap(Replica.unwrap(replica) & ((1 << 76) - 1) | uint256(uint160(rival_)) << 76);
    }

    function committed(Replica replica, uint256 block_, bytes32 commitment, bool public_)
        internal
        pure
        returns (Replica)
    {
        return Replica.wrap(
            Replica.unwrap(replica) & ((1 << 44) - 256) | uint256(ReplicaState.Committed) | (public_ ? 1 << 4 : 0)
                | uint256(uint32(block_)) << 44 | shortened(commitment) << 76
        );
    }

    function revealed(Replica replica, bytes32 vote) internal pure returns (Replica) {
        return Replica.wrap(
            Replica.unwrap(replica) & ((1 << 76) - 8) | uint256(ReplicaState.Revealed) | shortened(vote) << 76
        );
    }

    /// 180 bits of a hash: a collision takes 2^90 attempts.
    function shortened(bytes32 hash_) internal pure returns (uint256) {
        return uint256(hash_) & HASH;
    }

    function _with(Ballot ballot, uint256 shift, uint256 mask, uint256 value) private pure returns (Ballot) {
        return Ballot.wrap(Ballot.unwrap(ballot) & ~(mask << shift) | value << shift);
    }
}
// forge-lint: disable-end(unsafe-typecast)
