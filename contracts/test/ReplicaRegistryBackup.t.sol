// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    BallotState,
    Commitment,
    IReplicaRegistry,
    ReplicaState,
    ReplicatedJob
} from "../interfaces/IReplicaRegistry.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// A backup of a straggler's lease: one slot, two holders, the first commit has it.
contract ReplicaRegistryBackupTest is ReplicaCases {
    bytes32 private constant HASH = keccak256("some commitment");

    function test_aBackup_isTakenOnceNothingIsOpenAndHalfOfTheLeaseIsOver() public solvent {
        ReplicatedJob memory job = _stragglers();
        bytes memory refused = abi.encodeWithSelector(IReplicaRegistry.NoBackupNeeded.selector, 0);
        uint256 half = block.timestamp + LEASE / 2;
        vm.warp(half - 1);
        vm.expectRevert(refused);
        _backUp(dave, job, 0, alice);
        vm.warp(half + WIDEN);
        uint256 active = block.number + SUCCESSOR_DELAY;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BackupLeased(replicas.jobIdOf(job), dave, 0, alice, job.job.maxPrice, active);
        _backUp(dave, job, 0, alice);
        assertEq(_lockedStake(dave), _lockOf(job, 4));
        assertEq(_replica(job, 0, alice).rival(), dave);
        assertEq(_replica(job, 0, dave).rival(), alice);
        assertTrue(_replica(job, 0, dave).isBackup());
        assertEq(_replica(job, 0, dave).activeBlock(), active);
        // Straggler and backup hold one slot together.
        assertEq(_ballot(job, 0).leased(), 3);
        // One backup is enough.
        vm.expectRevert(refused);
        _backUp(erin, job, 0, alice);
    }

    /// The last batch has fewer tasks.
    function test_aBackup_locksWhatItsBatchMayEarn() public solvent {
        ReplicatedJob memory job = _replicated();
        job.job.taskCount = 6;
        _open(job);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(three[i]);
            replicas.lease(job, _list(0, 1));
        }
        vm.warp(block.timestamp + LEASE / 2 + WIDEN);
        _backUp(dave, job, 1, alice);
        assertEq(_lockedStake(dave), _lockOf(job, 2));
    }

    /// Where there is no lot, neither is there one for backups.
    function test_aBackup_ofAJobWithoutALot_isTakenAtHalfOfTheLease() public solvent {
        ReplicatedJob memory job = _replicated();
        job.job.taskCount = 4;
        (job.assurance.replicas, job.assurance.limit) = (1, 1);
        (job.assurance.target, job.assurance.widenSeconds) = (0, 0);
        _open(job);
        _lease(alice, job, 0);
        vm.warp(block.timestamp + LEASE / 2 - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoBackupNeeded.selector, 0));
        _backUp(dave, job, 0, alice);
        vm.warp(block.timestamp + 1);
        _backUp(dave, job, 0, alice);
        vm.roll(block.number + SUCCESSOR_DELAY);
        _commit(dave, job, 0, RIGHT);
    }

    /// It could not commit any more, and would lose its bond.
    function test_noBackup_onceTheRoundIsOver() public {
        ReplicatedJob memory job = _stragglers();
        uint256 end = _ballot(job, 0).time();
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _backUp(dave, job, 0, alice);
        vm.warp(end);
        _backUp(dave, job, 0, alice);
    }

    function test_noBackup_whileABatchIsOpen() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(three[i]);
            replicas.lease(job, _list(0, 1));
        }
        vm.warp(block.timestamp + LEASE / 2);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoBackupNeeded.selector, 0));
        _backUp(dave, job, 0, alice);
    }

    function test_noBackup_whileASlotIsFree() public {
        ReplicatedJob memory job = _stragglers();
        _release(carol, job, 0);
        vm.warp(block.timestamp + LEASE / 2);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoBackupNeeded.selector, 0));
        _backUp(dave, job, 0, alice);
    }

    function test_noBackup_ofOnesOwnLeaseOrOfNone() public {
        ReplicatedJob memory job = _stragglers();
        vm.warp(block.timestamp + LEASE / 2);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Leased)
        );
        _backUp(alice, job, 0, alice);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, bob, ReplicaState.Leased)
        );
        _backUp(bob, job, 0, alice);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, erin, ReplicaState.None));
        _backUp(dave, job, 0, erin);
        _commit(alice, job, 0, 1e9);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Committed)
        );
        _backUp(dave, job, 0, alice);
    }

    /// Rule 3, A5: backups have a lot of their own, from half of the straggler's lease on. Else a ring's fresh accounts would take the slots
    /// of all who need more time than that: the auditor's, or two of three.
    function test_aBackup_hasItsTurn() public {
        ReplicatedJob memory job = _replicated();
        (job.job.taskCount, job.job.leaseSeconds, job.assurance.widenSeconds) = (4, 20, 20);
        job.job.rampStart = uint32(block.timestamp) + 20;
        _postJob(job);
        _join(makeAddr("late"), STAKE);
        vm.roll(block.number + 2);
        vm.warp(job.job.rampStart - 18);
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        uint256 half = block.timestamp + 10;
        vm.warp(half + 19);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotDrawnYet.selector, 0, half + 20));
        _backUp(makeAddr("late"), job, 0, alice);
        _backUp(dave, job, 0, alice);
    }

    /// Rule 2: so that the straggler's work cannot be taken by who sees it coming.
    function test_aBackup_isActiveAfterTheDelay() public solvent {
        ReplicatedJob memory job = _backedUp();
        uint256 active = _replica(job, 0, dave).activeBlock();
        vm.roll(active - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotYetActive.selector, 0, active));
        _commitHash(dave, job, 0, HASH);
        vm.roll(active);
        _commit(dave, job, 0, 1e9);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Revealing));
    }

    function test_theBackupThatCommitsFirst_hasTheSlot_andTheStragglersStakeIsFree() public solvent {
        ReplicatedJob memory job = _backedUp();
        vm.roll(block.number + SUCCESSOR_DELAY);
        _commit(dave, job, 0, 1e9);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Revealing));
        _commitHash(alice, job, 0, HASH);
        // However late, and whatever became of the batch.
        vm.warp(block.timestamp + LEASE);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.SlotTaken.selector, 0));
        _expire(job, 0, alice);
        _release(alice, job, 0);
        assertEq(_lockedStake(alice), 0);
        assertEq(_stake(alice), STAKE);
        assertEq(reputation.providerRecord(alice).expired, 0);
        assertEq(uint8(_replicaState(job, 0, alice)), uint8(ReplicaState.Done));
    }

    function test_theStragglerThatCommitsFirst_hasTheSlot_andTheBackupsStakeIsFree() public solvent {
        ReplicatedJob memory job = _backedUp();
        _commit(alice, job, 0, 1e9);
        vm.roll(block.number + SUCCESSOR_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Revealing));
        _commitHash(dave, job, 0, HASH);
        _release(dave, job, 0);
        assertEq(_lockedStake(dave), 0);
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(three[i], job, 0, 1e9);
        }
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, 1e9, 1e9, 1e9));
        assertEq(_earned(alice), _price(job.job, 1e9));
    }

    /// A backup lasts as long as the round.
    function test_aBackupThatRunsOut_losesItsBond() public solvent {
        ReplicatedJob memory job = _backedUp();
        vm.warp(_replica(job, 0, alice).deadline() + 1);
        _expire(job, 0, alice);
        uint256 end = _ballot(job, 0).time();
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _expire(job, 0, dave);
        vm.warp(end + 1);
        _expire(job, 0, dave);
        uint256 bond = _worst(job.job, 4) * BOND_BPS / 10_000;
        assertEq(_stake(alice), STAKE - bond);
        assertEq(_stake(dave), STAKE - 2 * bond);
        assertEq(_ballot(job, 0).leased(), 0);
    }

    function test_theOtherOfTheTwo_findsTheSlotTaken_whileTheRoundGoesOn() public solvent {
        for (uint256 i = 0; i < 2; ++i) {
            uint256 before = vm.snapshotState();
            ReplicatedJob memory job = _stragglers();
            vm.warp(block.timestamp + LEASE / 2 + WIDEN);
            _backUp(dave, job, 0, alice);
            vm.roll(block.number + SUCCESSOR_DELAY);
            (address first, address second) = i == 0 ? (alice, dave) : (dave, alice);
            _commit(first, job, 0, 1e9);
            assertEq(_ballot(job, 0).leased(), 2);
            bytes memory taken = abi.encodeWithSelector(IReplicaRegistry.SlotTaken.selector, 0);
            vm.expectRevert(taken);
            _commitHash(second, job, 0, HASH);
            vm.warp(_ballot(job, 0).time());
            vm.expectRevert(taken);
            _expire(job, 0, second);
            _release(second, job, 0);
            assertEq(_lockedStake(second), 0);
            assertEq(_ballot(job, 0).leased(), 2);
            // Nor may it try again.
            vm.expectRevert(
                abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, second, ReplicaState.Done)
            );
            _release(second, job, 0);
            assertTrue(vm.revertToState(before));
        }
    }

    function test_aBackup_isGivenBackUntilItIsActive() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.job.taskCount, job.job.leaseSeconds, job.assurance.widenSeconds) = (4, 8, 8);
        job.job.rampStart = uint32(block.timestamp) + 8;
        _open(job);
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
        // At half of the lease its first quarter is over.
        vm.warp(block.timestamp + 4);
        _backUp(dave, job, 0, alice);
        uint256 until = _replica(job, 0, alice).deadline() - 6;
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, until));
        _release(alice, job, 0);
        // A backup may be given back until it is active.
        uint256 active = _replica(job, 0, dave).activeBlock();
        vm.roll(active + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, active));
        _release(dave, job, 0);
        vm.roll(active);
        _release(dave, job, 0);
        assertEq(_replica(job, 0, alice).rival(), address(0));
        assertEq(_lockedStake(dave), 0);
        assertEq(_ballot(job, 0).leased(), 3);
    }

    /// Of a lease of a second or two the first quarter is not over when half of it is: what is given back then is its backup's alone.
    function test_aStragglerThatGivesBack_inTheSecondOfItsBackup_leavesItTheSlot() public solvent {
        for (uint32 lease = 1; lease <= 2; ++lease) {
            ReplicatedJob memory job = _replicated();
            (job.job.nonce, job.job.taskCount) = (lease, 4);
            (job.job.leaseSeconds, job.assurance.widenSeconds) = (lease, 1);
            job.job.rampStart = uint32(block.timestamp) + 1;
            _open(job);
            for (uint256 i = 0; i < 3; ++i) {
                _lease(three[i], job, 0);
            }
            vm.warp(_replica(job, 0, alice).deadline() - lease / 2);
            _backUp(dave, job, 0, alice);
            _release(alice, job, 0);
            assertEq(_ballot(job, 0).leased(), 3);
            vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoFreeSlot.selector, 0));
            _lease(erin, job, 0);
            vm.roll(block.number + SUCCESSOR_DELAY);
            address[] memory who = new address[](3);
            uint64[] memory given = new uint64[](3);
            (who[0], who[1], who[2]) = (dave, bob, carol);
            for (uint256 i = 0; i < 3; ++i) {
                _commit(who[i], job, 0, RIGHT);
                given[i] = RIGHT;
            }
            for (uint256 i = 0; i < 3; ++i) {
                _reveal(who[i], job, 0, RIGHT);
            }
            vm.warp(block.timestamp + WINDOW);
            _finalise(job, _tally(0, who, given));
            assertEq(_lockedStake(alice) + _lockedStake(dave), 0);
            assertEq(_earned(dave), lease * _price(job.job, RIGHT));
            assertEq(_earned(alice), 0);
        }
    }

    function test_aBackupStays_whenItsStragglerIsExpired() public solvent {
        ReplicatedJob memory job = _backedUp();
        vm.warp(_replica(job, 0, alice).deadline() + 1);
        _expire(job, 0, alice);
        vm.roll(block.number + SUCCESSOR_DELAY);
        _commit(dave, job, 0, 1e9);
        assertEq(_ballot(job, 0).committed(), 3);
    }

    /// Nor of one that has the slot to itself.
    function test_noBackup_ofABackup() public {
        ReplicatedJob memory job = _backedUp();
        bytes memory refused = abi.encodeWithSelector(IReplicaRegistry.NoBackupNeeded.selector, 0);
        vm.expectRevert(refused);
        _backUp(erin, job, 0, dave);
        vm.warp(_replica(job, 0, alice).deadline() + 1);
        _expire(job, 0, alice);
        assertEq(_replica(job, 0, dave).rival(), address(0));
        vm.expectRevert(refused);
        _backUp(erin, job, 0, dave);
    }

    /// A backup is for one straggler's slot: who holds another, well within its lease, is not to lose it to both of them.
    function test_aBackup_takesNobodyElsesSlot() public {
        ReplicatedJob memory job = _stragglers();
        bytes32 hash = _commitment(dave, job, 0, 1e9);
        vm.warp(block.timestamp + LEASE / 2);
        // Whether the backup or its commit is refused is not the point.
        vm.prank(dave);
        try replicas.backUp(job, 0, alice) {} catch {}
        vm.roll(block.number + SUCCESSOR_DELAY);
        _commit(alice, job, 0, 1e9);
        Commitment[] memory list = new Commitment[](1);
        list[0] = Commitment(0, hash);
        vm.prank(dave);
        try replicas.commit(job, list) {} catch {}
        _commit(bob, job, 0, 1e9);
        _commit(carol, job, 0, 1e9);
    }

    /// Else a straggler's second account backs it up, gives the backup back for nothing, and keeps others away.
    function test_aBackupGivenBack_makesRoomForAnother() public {
        ReplicatedJob memory job = _backedUp();
        _release(dave, job, 0);
        _backUp(erin, job, 0, alice);
    }

    /// A backup's straggler keeps a lease that nobody counts; when the batch starts anew it must not come to life again.
    function test_aLeaseOfAnEarlierRound_staysFreeAfterARestart() public {
        ReplicatedJob memory job = _backedUp();
        vm.roll(block.number + SUCCESSOR_DELAY);
        _commit(dave, job, 0, 1e9);
        // Bob, Carol and Dave never reveal: the batch starts anew, with Erin.
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        address[] memory who = new address[](3);
        (who[0], who[1], who[2]) = (bob, carol, dave);
        _finalise(job, _tally(0, who, new uint64[](3)));
        _lease(erin, job, 0);
        vm.expectRevert();
        _expire(job, 0, alice);
        assertEq(_ballot(job, 0).leased(), 1);
    }

    /// One batch, which Alice, Bob and Carol hold.
    function _stragglers() private returns (ReplicatedJob memory job) {
        job = _replicated();
        job.job.taskCount = 4;
        _open(job);
        for (uint256 i = 0; i < 3; ++i) {
            _lease(three[i], job, 0);
        }
    }

    /// Bob and Carol have committed, Dave backs up Alice's lease.
    function _backedUp() private returns (ReplicatedJob memory job) {
        job = _stragglers();
        _commit(bob, job, 0, 1e9);
        _commit(carol, job, 0, 1e9);
        vm.warp(block.timestamp + LEASE / 2 + WIDEN);
        _backUp(dave, job, 0, alice);
    }
}
