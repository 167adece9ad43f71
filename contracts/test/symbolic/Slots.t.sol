// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BatchState} from "../../interfaces/IJobRegistry.sol";
import {BallotState, ReplicaState} from "../../interfaces/IReplicaRegistry.sol";
import {Ballot, Ballots, Replica} from "../../libraries/Ballots.sol";
import {Slot, Slots} from "../../libraries/Slots.sol";
import {Symbolic} from "./Symbolic.sol";

/// @notice What is packed into a slot comes out again, and a setter changes its own field and no other bit.
contract SlotsSymbolicTest is Symbolic {
    /// Bits [low, high) of a word, set.
    function _bits(uint256 low, uint256 high) private pure returns (uint256) {
        return (type(uint256).max >> (256 - high)) & (type(uint256).max << low);
    }

    function _onlyIn(Ballot a, Ballot b, uint256 low, uint256 high) private pure {
        assert((Ballot.unwrap(a) ^ Ballot.unwrap(b)) & ~_bits(low, high) == 0);
    }

    function check_ballot_settersChangeTheirFieldOnly(Ballot ballot, uint256 count, uint32 time, uint64 seed)
        public
        pure
    {
        vm.assume(count < 16);
        Ballot next = ballot.withWanted(count);
        assert(next.wanted() == count);
        _onlyIn(ballot, next, 4, 8);
        next = ballot.withLeased(count);
        assert(next.leased() == count);
        _onlyIn(ballot, next, 8, 12);
        next = ballot.withCommitted(count);
        assert(next.committed() == count);
        _onlyIn(ballot, next, 12, 16);
        next = ballot.withRevealed(count);
        assert(next.revealed() == count);
        _onlyIn(ballot, next, 16, 20);
        next = ballot.withExpiries(count);
        assert(next.expiries() == count);
        _onlyIn(ballot, next, 20, 24);
        next = ballot.withTime(time);
        assert(next.time() == time);
        _onlyIn(ballot, next, 32, 64);
        next = ballot.withSeed(seed);
        assert(next.seed() == seed);
        _onlyIn(ballot, next, 128, 192);
    }

    function check_ballot_stateChangesItsFieldOnly(Ballot ballot, uint8 state) public pure {
        vm.assume(state <= uint8(type(BallotState).max));
        Ballot next = ballot.withState(BallotState(state));
        assert(uint8(next.state()) == state);
        _onlyIn(ballot, next, 0, 4);
    }

    function check_ballot_openCountChangesItsFieldOnly(Ballot ballot, uint24 count) public pure {
        Ballot next = ballot.withOpenCount(count);
        assert(next.openCount() == count);
        _onlyIn(ballot, next, 230, 254);
        next = ballot.cancelled();
        assert(next.isCancelled() && next.openCount() == 0);
        _onlyIn(ballot, next, 230, 255);
    }

    function check_ballot_ofAPost(uint24 count, uint32 block_, bool continued) public pure {
        Ballot head = Ballots.posted(count, block_, continued);
        assert(head.isPosted() && !head.isCancelled() && head.openCount() == count && head.postBlock() == block_);
        assert(head.isContinued() == continued && head.seed() == 0 && head.state() == BallotState.Open);
    }

    /// Whatever the round was, a next one wants one commit more; nothing else but time, block and the mark of an audit changes.
    function check_ballot_ofTheNextRound(Ballot ballot, uint32 end, uint32 block_, bool audit) public pure {
        vm.assume(ballot.committed() < 15);
        Ballot next = ballot.nextRound(end, block_, audit);
        assert(next.state() == BallotState.Committing && next.wanted() == ballot.committed() + 1);
        assert(next.time() == end && next.openedBlock() == block_ && next.isDrawn() == (audit || ballot.isDrawn()));
        uint256 changed = Ballot.unwrap(ballot) ^ Ballot.unwrap(next);
        assert(changed & ~(_bits(0, 8) | _bits(24, 25) | _bits(32, 96)) == 0);
    }

    /// The batch's half and the job's half of slot 0 are kept apart.
    function check_ballot_keepsTheJob(Ballot ballot, Ballot head) public pure {
        Ballot both = ballot.withJob(head);
        assert(uint128(Ballot.unwrap(both)) == uint128(Ballot.unwrap(ballot)));
        _onlyIn(both, head, 0, 128);
        Ballot open = both.reopened();
        assert(open.expiries() == ballot.expiries());
        assert(Ballot.unwrap(open) & _bits(0, 128) & ~_bits(20, 24) == 0);
        _onlyIn(open, head, 0, 128);
    }

    function check_replica_ofALease(uint16 step, uint256 checks, uint32 until, bool backup, address rival) public pure {
        Replica replica = Ballots.leased(step, checks, until, backup, rival);
        assert(replica.state() == ReplicaState.Leased && replica.step() == step && replica.isBackup() == backup);
        assert(replica.checks() == (checks < Ballots.MOST_CHECKS ? checks : Ballots.MOST_CHECKS));
        assert(replica.deadline() == until && replica.rival() == rival && !replica.isPublic());
        address next = address(uint160(uint256(uint160(rival)) * 3 + 1));
        Replica changed = replica.withRival(next);
        assert(changed.rival() == next);
        assert((Replica.unwrap(changed) ^ Replica.unwrap(replica)) & ~_bits(76, 236) == 0);
    }

    /// Price and record are those of the lease, whatever comes after.
    function check_replica_keepsPriceAndRecord(
        Replica leased,
        uint32 block_,
        bytes32 commitment,
        bool public_,
        bytes32 vote
    ) public pure {
        vm.assume(uint256(Replica.unwrap(leased)) & 7 == uint256(ReplicaState.Leased));
        vm.assume(Replica.unwrap(leased) & _bits(4, 8) == 0);
        Replica committed = leased.committed(block_, commitment, public_);
        assert(committed.state() == ReplicaState.Committed && committed.isPublic() == public_);
        assert(committed.step() == leased.step() && committed.checks() == leased.checks());
        assert(committed.commitBlock() == block_ && committed.hash() == Ballots.shortened(commitment));
        Replica revealed = committed.revealed(vote);
        assert(revealed.state() == ReplicaState.Revealed && revealed.isPublic() == public_);
        assert(revealed.step() == leased.step() && revealed.checks() == leased.checks());
        assert(revealed.commitBlock() == block_ && revealed.hash() == Ballots.shortened(vote));
    }

    function check_slot_ofALease(address holder, uint32 deadline, uint16 step, uint8 expiries, bool contested)
        public
        pure
    {
        Slot slot = Slots.leased(holder, deadline, step, expiries, contested);
        assert(slot.state() == BatchState.Leased && slot.time() == deadline && slot.provider() == holder);
        assert(slot.step() == step && slot.expiries() == expiries && slot.isContested() == contested);
        assert(slot.isPriced() && Slot.unwrap(slot) >> 226 == 0);
        slot = Slots.open(holder, step, expiries);
        assert(slot.state() == BatchState.Open && slot.time() == 0 && slot.provider() == holder);
        assert(slot.step() == step && slot.expiries() == expiries && slot.isPriced() && !slot.isContested());
        assert(Slot.unwrap(slot) >> 225 == 0);
    }

    function check_slot_ofAResult(uint32 finalAt, uint192 hash, uint8 state) public pure {
        vm.assume(hash < 1 << 189);
        vm.assume(state <= uint8(type(BatchState).max));
        Slot slot = Slots.submitted(finalAt, hash);
        assert(slot.state() == BatchState.Submitted && slot.time() == finalAt && slot.submission() == hash);
        assert(Slot.unwrap(slot) >> 229 == 0);
        Slot next = slot.as_(BatchState(state));
        assert(uint8(next.state()) == state && next.time() == finalAt && next.submission() == hash);
    }

    function check_slot_ofAPost(uint24 count, bool continued) public pure {
        Slot head = Slots.posted(count, continued);
        assert(head.isPosted() && !head.isCancelled());
        assert(head.openCount() == count && head.isContinued() == continued && head.state() == BatchState.Open);
    }

    /// The batch's bits and the job's bits of slot 0 are kept apart.
    function check_slot_keepsTheJob(Slot slot, Slot head, uint24 count) public pure {
        uint256 both = Slot.unwrap(slot.withJob(head));
        assert((both ^ Slot.unwrap(slot)) & _bits(0, 229) == 0);
        assert((both ^ Slot.unwrap(head)) & _bits(229, 256) == 0);
        Slot next = slot.withOpenCount(count);
        assert(next.openCount() == count);
        assert((Slot.unwrap(next) ^ Slot.unwrap(slot)) & ~_bits(230, 254) == 0);
        next = slot.cancelled();
        assert(next.isCancelled() && next.openCount() == 0);
        assert((Slot.unwrap(next) ^ Slot.unwrap(slot)) & ~_bits(230, 255) == 0);
    }
}
