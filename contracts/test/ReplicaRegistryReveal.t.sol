// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BallotState, IReplicaRegistry, ReplicaState, ReplicatedJob, Reveal} from "../interfaces/IReplicaRegistry.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// @notice Commits and reveals: whose, when, of what.
contract ReplicaRegistryRevealTest is ReplicaCases {
    function test_aCommit_isTheHoldersAndItsOnlyOne() public {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.None)
        );
        _commitHash(alice, job, 0, SALT);
        _lease(alice, job, 0);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.Committed(jobId, alice, 0, SALT);
        _commitHash(alice, job, 0, SALT);
        assertEq(_replica(job, 0, alice).commitBlock(), block.number);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Committed)
        );
        _commitHash(alice, job, 0, SALT);
    }

    /// Until then a reveal would tell the others what to commit to.
    function test_aReveal_waitsForAllCommits() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        uint256 end = block.timestamp + 2 * LEASE;
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        _commit(alice, job, 0, RIGHT);
        _commit(bob, job, 0, RIGHT);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _reveal(alice, job, 0, RIGHT);
        _commit(carol, job, 0, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        assertEq(uint8(_replicaState(job, 0, alice)), uint8(ReplicaState.Revealed));
    }

    function test_aReveal_waitsForTheEndAndTheLeases_whenSomeDoNotCommit() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        uint256 end = block.timestamp + 2 * LEASE;
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        _commit(alice, job, 0, RIGHT);
        _commit(bob, job, 0, RIGHT);
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.LeasesToExpire.selector, 0));
        _reveal(alice, job, 0, RIGHT);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.LeasesToExpire.selector, 0));
        _finalise(job, _tally(0, alice, 0, bob, 0));
        _expire(job, 0, carol);
        vm.warp(end + REVEAL);
        _reveal(alice, job, 0, RIGHT);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end + REVEAL));
        _finalise(job, _tally(0, alice, RIGHT, bob, 0));
        _reveal(bob, job, 0, RIGHT);
        // Two newcomers: 16/17 is below 0.98.
        _finalise(job, _tally(0, alice, RIGHT, bob, RIGHT));
        assertEq(_ballot(job, 0).wanted(), 3);
    }

    function test_aLateReveal_isRefused() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        uint256 end = block.timestamp + REVEAL;
        vm.warp(end);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _reveal(bob, job, 0, RIGHT);
    }

    function test_aReveal_isWhatWasCommittedTo_inEveryField() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        bytes memory wrong = abi.encodeWithSelector(IReplicaRegistry.WrongCommitment.selector, 0);
        Reveal memory given = _revealed(alice, 0, RIGHT);
        given.root = keccak256("another");
        vm.expectRevert(wrong);
        _revealTo(alice, job, given);
        given = _revealed(alice, 0, RIGHT);
        given.fuel += 1;
        vm.expectRevert(wrong);
        _revealTo(alice, job, given);
        given = _revealed(alice, 0, RIGHT);
        given.bound = SALT;
        vm.expectRevert(wrong);
        _revealTo(alice, job, given);
        given = _revealed(alice, 0, RIGHT);
        given.salt = 0;
        vm.expectRevert(wrong);
        _revealTo(alice, job, given);
        given = _revealed(alice, 0, RIGHT);
        // Else whoever copies the call could name outputs that nobody can fetch.
        given.outputs = keccak256("elsewhere");
        vm.expectRevert(wrong);
        _revealTo(alice, job, given);
        given = _revealed(alice, 0, RIGHT);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.Revealed(replicas.jobIdOf(job), alice, 0, given.root, RIGHT, given.outputs);
        _revealTo(alice, job, given);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Revealed)
        );
        _revealTo(alice, job, given);
    }

    /// Else as many transactions as replicas.
    function test_aStranger_revealsForAll_inOneCall() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        _committedBy(job, 0, RIGHT, RIGHT, RIGHT);
        Reveal[] memory list = new Reveal[](3);
        for (uint256 i = 0; i < 3; ++i) {
            list[i] = _revealed(three[i], 0, RIGHT);
            vm.expectEmit(address(replicas));
            emit IReplicaRegistry.Revealed(jobId, three[i], 0, list[i].root, RIGHT, list[i].outputs);
        }
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.AllRevealed(jobId, 0, uint32(block.timestamp) + WINDOW);
        vm.prank(stranger);
        replicas.reveal(job, list);
        _accept(job, _tally(0, RIGHT, RIGHT, RIGHT));
        for (uint256 i = 0; i < 3; ++i) {
            assertEq(_earned(three[i]), _price(job.job, RIGHT));
        }
        assertEq(_earned(stranger), 0);
    }

    function test_aReveal_isForWhoeverCommittedIt() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(dave, job, 1);
        _committedBy(job, 0, RIGHT, WRONG, RIGHT);
        Reveal memory given = _revealed(alice, 0, RIGHT);
        // Bob committed to something else.
        given.provider = bob;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongCommitment.selector, 0));
        _revealTo(alice, job, given);
        given.provider = dave;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, dave, ReplicaState.None));
        _revealTo(alice, job, given);
        assertEq(_ballot(job, 0).revealed(), 0);
    }

    function test_aReveal_comesTooLate_onceAnExtraRoundIsOverOrTheBatchIsFinal() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 0, RIGHT, WRONG, RIGHT);
        _setChecks(alice, 10);
        _setChecks(bob, 10);
        _committedBy(job, 2, RIGHT, RIGHT, RIGHT);
        for (uint32 batch = 0; batch < 3; batch += 2) {
            _reveal(alice, job, batch, RIGHT);
            _reveal(bob, job, batch, batch == 0 ? WRONG : RIGHT);
        }
        vm.warp(block.timestamp + REVEAL + 1);
        _finalise(job, _tally(0, RIGHT, WRONG, 0));
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, block.timestamp + 2 * uint256(LEASE))
        );
        _reveal(carol, job, 0, RIGHT);
        uint256 end = _ballot(job, 0).time();
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _reveal(carol, job, 0, RIGHT);
        _finalise(job, _tally(2, RIGHT, RIGHT, 0));
        assertEq(uint8(_stateOf(job, 2)), uint8(BallotState.Settled));
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 2, BallotState.Settled));
        _reveal(carol, job, 2, RIGHT);
    }

    function test_aCommitmentForAnotherBatch_doesNotOpenThisOne() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        bytes32 other = _commitment(alice, job, 1, RIGHT);
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
            _commitHash(three[i], job, 0, other);
        }
        Reveal memory given = _revealed(alice, 1, RIGHT);
        given.batch = 0;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongCommitment.selector, 0));
        _revealTo(alice, job, given);
    }

    function test_fuel_isAtMostTheBatchsLimit() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        uint64 limit = 2 * job.job.fuelLimit;
        // The last batch has two tasks.
        _committedBy(job, 2, limit, limit + 1, RIGHT);
        _reveal(alice, job, 2, limit);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.FuelAboveLimit.selector, 2, limit + 1, limit));
        _reveal(bob, job, 2, limit + 1);
    }

    function test_aRootOfZero_isNoReveal() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        Reveal memory given = _revealed(alice, 0, RIGHT);
        given.root = 0;
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
            _commitTo(three[i], job, given);
        }
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.EmptyRoot.selector, 0));
        _revealTo(alice, job, given);
    }

    /// A2: a commitment names who made it.
    function test_aCopiedCommitment_doesNotReveal_andLosesTheStake() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 900_000_000;
        _open(job);
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        _commit(alice, job, 0, RIGHT);
        _commit(bob, job, 0, RIGHT);
        _commitHash(carol, job, 0, _commitment(alice, job, 0, RIGHT));
        _reveal(alice, job, 0, RIGHT);
        _reveal(bob, job, 0, RIGHT);
        // Root and salt are public now.
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongCommitment.selector, 0));
        _reveal(carol, job, 0, RIGHT);
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        _finalise(job, _tally(0, RIGHT, RIGHT, 0));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_earned(carol), 0);
        assertEq(_stake(carol), STAKE - _lockOf(job, 4));
    }
}
