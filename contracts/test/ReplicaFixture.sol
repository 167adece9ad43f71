// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    Assurance,
    BallotState,
    Commitment,
    ReplicaState,
    ReplicatedJob,
    Reveal,
    Tally,
    Vote
} from "../interfaces/IReplicaRegistry.sol";
import {Ballot, Replica} from "../libraries/Ballots.sol";
import {Fixture} from "./Fixture.sol";

/// @notice What tests of replicated jobs share: three providers, registered before every job.
abstract contract ReplicaFixture is Fixture {
    /// Fuel of two results, from which their roots follow.
    uint64 internal constant RIGHT = 2e9;
    uint64 internal constant WRONG = 1e9;
    bytes32 internal constant SALT = keccak256("salt");
    bytes32 internal constant OUTPUTS = keccak256("outputs");
    uint32 internal constant WIDEN = 500;
    uint32 internal constant REVEAL = 300;

    address[3] internal three;

    function setUp() public virtual override {
        super.setUp();
        three = [alice, bob, carol];
        vm.roll(block.number + 1);
    }

    /// Three replicas, at most five, of which two newcomers that agree are not enough (16/17) and three are (64/65).
    function _replicated() internal view returns (ReplicatedJob memory job) {
        job.job = _job();
        job.job.rampStart = uint32(block.timestamp) + WIDEN;
        job.assurance = Assurance({
            replicas: 3,
            limit: 5,
            target: 980_000_000,
            auditBps: 0,
            minChecks: 0,
            widenSeconds: WIDEN,
            revealSeconds: REVEAL
        });
    }

    /// One replica, and half of the batches audited.
    function _audited() internal view returns (ReplicatedJob memory job) {
        job = _replicated();
        (job.assurance.replicas, job.assurance.limit) = (1, 4);
        (job.assurance.auditBps, job.assurance.target) = (5000, 900_000_000);
    }

    /// Posted, and everybody may lease.
    function _open(ReplicatedJob memory job) internal returns (bytes32 jobId) {
        vm.prank(job.job.requester);
        jobId = replicas.post(job, _spec(), _contact(), _noPermit());
        vm.roll(block.number + 2);
        vm.warp(job.job.rampStart);
    }

    function _lease(address who, ReplicatedJob memory job, uint32 batch) internal {
        vm.prank(who);
        replicas.lease(job, _list(batch));
    }

    function _commit(address who, ReplicatedJob memory job, uint32 batch, uint64 fuel) internal {
        Commitment[] memory list = new Commitment[](1);
        list[0] = Commitment(batch, _commitment(who, job, batch, fuel));
        vm.prank(who);
        replicas.commit(job, list);
    }

    function _reveal(address who, ReplicatedJob memory job, uint32 batch, uint64 fuel) internal {
        Reveal[] memory list = new Reveal[](1);
        list[0] = _revealed(who, batch, fuel);
        vm.prank(who);
        replicas.reveal(job, list);
    }

    function _finalise(ReplicatedJob memory job, Tally memory tally) internal {
        vm.prank(stranger);
        replicas.finalise(job, _one(tally));
    }

    /// To the block after the next, whose hash decides.
    function _nextBlocks() internal {
        vm.roll(block.number + 2);
    }

    /// What a provider reveals: the root follows from the fuel.
    function _revealed(address who, uint32 batch, uint64 fuel) internal pure returns (Reveal memory) {
        return Reveal({
            batch: batch,
            provider: who,
            root: _result(batch, fuel).root,
            fuel: fuel,
            outputs: OUTPUTS,
            bound: 0,
            salt: SALT
        });
    }

    /// In the order in which the registry wants votes.
    function _ascending(Reveal[] memory list) internal pure returns (Reveal[] memory) {
        for (uint256 i = 1; i < list.length; ++i) {
            for (uint256 j = i; j > 0 && list[j - 1].provider > list[j].provider; --j) {
                (list[j - 1], list[j]) = (list[j], list[j - 1]);
            }
        }
        return list;
    }

    /// Written apart from the contract's way.
    function _commitment(address who, ReplicatedJob memory job, uint32 batch, uint64 fuel)
        internal
        view
        returns (bytes32)
    {
        return keccak256(
            bytes.concat(
                replicas.jobIdOf(job),
                bytes32(uint256(batch)),
                bytes32(uint256(uint160(who))),
                _result(batch, fuel).root,
                bytes32(uint256(fuel)),
                OUTPUTS,
                bytes32(0),
                SALT
            )
        );
    }

    /// The votes of providers with fuels of the same index, in the order that the registry wants; fuel 0 for a commit that was not
    /// revealed.
    function _tally(uint32 batch, address[] memory who, uint64[] memory fuels)
        internal
        pure
        returns (Tally memory tally)
    {
        tally.batch = batch;
        tally.votes = new Vote[](who.length);
        for (uint256 i = 0; i < who.length; ++i) {
            Vote memory vote = Vote(who[i], fuels[i] == 0 ? bytes32(0) : _result(batch, fuels[i]).root, fuels[i]);
            uint256 at = i;
            for (; at > 0 && tally.votes[at - 1].provider > vote.provider; --at) {
                tally.votes[at] = tally.votes[at - 1];
            }
            tally.votes[at] = vote;
        }
    }

    function _tally(uint32 batch, uint64 ofAlice, uint64 ofBob, uint64 ofCarol) internal view returns (Tally memory) {
        address[] memory who = new address[](3);
        uint64[] memory fuels = new uint64[](3);
        (who[0], who[1], who[2]) = (alice, bob, carol);
        (fuels[0], fuels[1], fuels[2]) = (ofAlice, ofBob, ofCarol);
        return _tally(batch, who, fuels);
    }

    function _one(Tally memory tally) internal pure returns (Tally[] memory list) {
        list = new Tally[](1);
        list[0] = tally;
    }

    function _ballot(ReplicatedJob memory job, uint32 batch) internal view returns (Ballot) {
        return replicas.ballotOf(replicas.jobIdOf(job), batch);
    }

    function _stateOf(ReplicatedJob memory job, uint32 batch) internal view returns (BallotState) {
        return _ballot(job, batch).state();
    }

    function _replica(ReplicatedJob memory job, uint32 batch, address who) internal view returns (Replica) {
        return replicas.replicaOf(replicas.jobIdOf(job), batch, who);
    }

    function _replicaState(ReplicatedJob memory job, uint32 batch, address who) internal view returns (ReplicaState) {
        return _replica(job, batch, who).state();
    }

    /// All three lease and commit.
    function _committedBy(ReplicatedJob memory job, uint32 batch, uint64 ofAlice, uint64 ofBob, uint64 ofCarol)
        internal
    {
        uint64[3] memory fuels = [ofAlice, ofBob, ofCarol];
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, batch);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _commit(three[i], job, batch, fuels[i]);
        }
    }

    /// All three lease, commit and reveal.
    function _voted(ReplicatedJob memory job, uint32 batch, uint64 ofAlice, uint64 ofBob, uint64 ofCarol) internal {
        _committedBy(job, batch, ofAlice, ofBob, ofCarol);
        uint64[3] memory fuels = [ofAlice, ofBob, ofCarol];
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(three[i], job, batch, fuels[i]);
        }
    }
}
