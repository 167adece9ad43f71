// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IEscrow} from "../interfaces/IEscrow.sol";
import {
    BallotState,
    Commitment,
    IReplicaRegistry,
    ReplicaState,
    ReplicatedJob
} from "../interfaces/IReplicaRegistry.sol";
import {Ballot, Ballots, Replica} from "../libraries/Ballots.sol";
import {BlockHash} from "../libraries/BlockHash.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

contract ReplicaRegistryLeaseTest is ReplicaCases {
    /// Runtime code that EIP-2935 gives for its history contract: for callers other than the system, 32 bytes of calldata are a
    /// block number, and the answer is the word at its remainder by 8,191, if it is one of the last 8,191 blocks.
    bytes private constant HISTORY_CODE =
        hex"3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500";
    bytes32 private constant HASH = keccak256("a block's hash");

    // Sortition

    function test_opensAt_isTheLotOfSeedAndProviderOverItsStake() public solvent {
        _join(makeAddr("rich"), 7 * STAKE);
        vm.roll(block.number + 1);
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        _setSeed();
        (uint256 last, uint256 changes) = (0, 0);
        for (uint32 batch = 0; batch < 3; ++batch) {
            for (uint256 i = 0; i < 3; ++i) {
                uint256 at = _at(job, batch, three[i], STAKE);
                assertEq(replicas.opensAt(job, batch, three[i]), at);
                assertGe(at, job.job.rampStart - WIDEN);
                // A stake ten times the least opens ten times as early.
                assertLe(at, job.job.rampStart - WIDEN + WIDEN / 10);
                if (at != last) ++changes;
                last = at;
            }
            assertEq(replicas.opensAt(job, batch, makeAddr("rich")), _at(job, batch, makeAddr("rich"), 7 * STAKE));
        }
        // Among nine lots of fifty seconds some may fall together.
        assertGt(changes, 6);
    }

    function test_aJobOfOneExecution_isLeasedAtOnce_byAnybody() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.assurance.replicas, job.assurance.limit) = (1, 1);
        (job.assurance.target, job.assurance.widenSeconds) = (0, 0);
        _postJob(job);
        assertEq(replicas.opensAt(job, 0, alice), 0);
        assertEq(replicas.opensAt(job, 0, stranger), 0);
        _lease(alice, job, 0);
        assertEq(_ballot(job, 0).seed(), 0);
        _commit(alice, job, 0, RIGHT);
        _reveal(alice, job, 0, RIGHT);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, alice, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(escrow.burnable(), 0);
    }

    function testFuzz_lease_worksFromOpensAtOn(bytes32 hash, uint80 stake) public solvent {
        vm.assume(hash != 0);
        address who = makeAddr("newcomer");
        _join(who, uint96(bound(stake, MIN_STAKE, 5 * STAKE)));
        vm.roll(block.number + 1);
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        vm.roll(block.number + 2);
        vm.setBlockhash(block.number - 1, hash);
        uint256 at = replicas.opensAt(job, 0, who);
        assertLe(at, job.job.rampStart);
        vm.warp(at - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotDrawnYet.selector, 0, at));
        _lease(who, job, 0);
        vm.warp(at);
        _lease(who, job, 0);
        assertEq(uint8(_replicaState(job, 0, who)), uint8(ReplicaState.Leased));
    }

    function test_theLot_needsTheBlockAfterThePost() public {
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        bytes memory toCome = abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number + 1);
        vm.warp(job.job.rampStart);
        vm.expectRevert(toCome);
        _lease(alice, job, 0);
        vm.roll(block.number + 1);
        vm.expectRevert(toCome);
        _lease(alice, job, 0);
        vm.roll(block.number + 1);
        _lease(alice, job, 0);
    }

    /// Else a ring would register for a job's lot, once its seed is known.
    function test_whoRegistersAtOrAfterThePost_comesLast() public solvent {
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        _join(makeAddr("same block"), 50 * STAKE);
        vm.roll(block.number + 1);
        _join(makeAddr("later"), 50 * STAKE);
        vm.roll(block.number + 1);
        assertEq(replicas.opensAt(job, 0, makeAddr("same block")), job.job.rampStart);
        assertEq(replicas.opensAt(job, 0, makeAddr("later")), job.job.rampStart);
        assertEq(replicas.opensAt(job, 0, stranger), job.job.rampStart);
        vm.warp(job.job.rampStart - 1);
        vm.expectPartialRevert(IReplicaRegistry.NotDrawnYet.selector);
        _lease(makeAddr("later"), job, 0);
        vm.warp(job.job.rampStart);
        _lease(makeAddr("later"), job, 0);
    }

    /// The same hole as a late registration: the tokens are put on whichever account the lot has put first.
    function test_stakeAddedAfterThePost_doesNotCountInItsLot() public {
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        _setSeed();
        assertLt(replicas.opensAt(job, 0, alice), job.job.rampStart);
        uint256 another = replicas.opensAt(job, 0, bob);
        _addStake(alice);
        assertEq(replicas.opensAt(job, 0, alice), job.job.rampStart);
        assertEq(replicas.opensAt(job, 0, bob), another);
    }

    function test_stakeAddedBeforeThePost_countsInItsLot() public {
        _addStake(alice);
        vm.roll(block.number + 1);
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        _setSeed();
        assertEq(replicas.opensAt(job, 0, alice), _at(job, 0, alice, 10 * STAKE));
    }

    function test_theSeed_isStoredByTheFirstLease_ofAnyBatch() public solvent {
        for (uint32 batch = 0; batch < 3; ++batch) {
            ReplicatedJob memory job = _replicated();
            job.job.nonce = batch;
            bytes32 jobId = _postJob(job);
            _setSeed();
            uint256 at = replicas.opensAt(job, 1, bob);
            vm.warp(replicas.opensAt(job, batch, alice));
            _lease(alice, job, batch);
            assertEq(replicas.ballotOf(jobId, 0).seed(), uint64(uint256(HASH)) | 1);
            assertEq(replicas.ballotOf(jobId, 1).seed(), 0, "the job's, not the batch's");
            // The block is past reading now: the seed stands.
            vm.roll(block.number + 300);
            assertEq(blockhash(block.number - 301), 0);
            assertEq(replicas.opensAt(job, 1, bob), at);
            assertEq(replicas.ballotOf(jobId, 0).openCount(), 2);
        }
    }

    /// 0 stands for none.
    function test_theSeed_isAtLeastOne() public {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _postJob(job);
        _nextBlocks();
        vm.setBlockhash(block.number - 1, bytes32(uint256(1) << 64));
        vm.warp(job.job.rampStart);
        _lease(alice, job, 0);
        assertEq(replicas.ballotOf(jobId, 0).seed(), 1);
    }

    function test_theSeed_isReadFromHistory_forTheLast8191Blocks() public {
        ReplicatedJob memory job = _replicated();
        _postJob(job);
        uint256 drawn = block.number + 1;
        vm.etch(BlockHash.HISTORY, HISTORY_CODE);
        vm.store(BlockHash.HISTORY, bytes32(drawn % 8191), HASH);
        vm.roll(drawn + 8191);
        uint256 at = _at(job, 0, alice, STAKE, drawn - 1);
        assertGt(at, job.job.rampStart - WIDEN);
        assertEq(replicas.opensAt(job, 0, alice), at);
        vm.roll(drawn + 8192);
        // Past reading: nobody is before others.
        assertEq(replicas.opensAt(job, 0, alice), job.job.rampStart);
    }

    /// Else waiting until the seed is lost would be a way past the lot.
    function test_anUnreadableSeed_isNotStored_andLetsEverybodyInAtTheEnd() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _postJob(job);
        // There is no history contract here.
        vm.roll(block.number + 300);
        vm.warp(job.job.rampStart - 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotDrawnYet.selector, 0, job.job.rampStart));
        _lease(alice, job, 0);
        vm.warp(job.job.rampStart);
        _lease(alice, job, 0);
        assertEq(replicas.ballotOf(jobId, 0).seed(), 0);
    }

    /// An extra round has a seed of its own. It is not the job's, whose batches nobody may lease before others.
    function test_aLostSeed_staysLost_whateverLaterRoundsAreDrawnBy() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _postJob(job);
        vm.roll(block.number + 300);
        vm.warp(job.job.rampStart);
        _voted(job, 1, RIGHT, RIGHT, WRONG);
        _finalise(job, _tally(1, RIGHT, RIGHT, WRONG));
        assertEq(_ballot(job, 1).openedBlock(), block.number);
        _nextBlocks();
        vm.warp(block.timestamp + WIDEN);
        _lease(dave, job, 1);
        assertEq(replicas.ballotOf(jobId, 0).seed(), 0);
        assertEq(replicas.ballotOf(jobId, 1).seed(), 0);
        assertEq(replicas.opensAt(job, 0, erin), job.job.rampStart);
    }

    // Leases

    function test_lease_holdsTheStakeOfAllItsBatches() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        assertEq(replicas.leaseLock(job, 0), _lockOf(job, 4));
        assertEq(replicas.leaseLock(job, 2), _lockOf(job, 2));
        uint32 deadline = uint32(block.timestamp) + LEASE;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.ReplicasLeased(jobId, alice, _list(0, 2), job.job.maxPrice, deadline);
        vm.prank(alice);
        replicas.lease(job, _list(0, 2));
        assertEq(_lockedStake(alice), _lockOf(job, 4) + _lockOf(job, 2));
        Ballot ballot = _ballot(job, 0);
        assertEq(uint8(ballot.state()), uint8(BallotState.Committing));
        assertEq(ballot.wanted(), 3);
        assertEq(ballot.leased(), 1);
        assertEq(ballot.time(), block.timestamp + 2 * LEASE);
        assertEq(ballot.openCount(), 1);
        assertEq(_replica(job, 0, alice).deadline(), deadline);
    }

    /// Rule 10: worst case x (1 - a) / a, a the job's own audit share, or the deployment's where it has none.
    function test_leaseLock_fallsWithTheAuditShare() public view {
        ReplicatedJob memory job = _audited();
        uint256 worst = _worst(job.job, 4);
        uint16[5] memory shares = [uint16(1), 500, 1000, 4000, 5000];
        uint256[5] memory halves = [uint256(38), 38, 18, 3, 2];
        for (uint256 i = 0; i < 5; ++i) {
            job.assurance.auditBps = shares[i];
            assertEq(replicas.leaseLock(job, 0), (halves[i] * worst + 1) / 2);
        }
        job = _replicated();
        assertEq(replicas.leaseLock(job, 0), 3 * _worst(job.job, 4));
        job.assurance.auditBps = 1000;
        assertEq(replicas.leaseLock(job, 0), 9 * _worst(job.job, 4));
    }

    function test_leaseLock_isRoundedUp() public view {
        ReplicatedJob memory job = _audited();
        (job.job.taskCount, job.job.batchSize, job.job.fuelLimit) = (1, 1, 1);
        (job.job.startPrice, job.job.maxPrice) = (1, 1);
        job.assurance.auditBps = 3333;
        assertEq(_worst(job.job, 1), 1);
        // 6667 / 3333
        assertEq(replicas.leaseLock(job, 0), 3);
    }

    /// A lease that locks nothing can be left to expire for nothing (A4), and an audit that nobody takes up pays a liar.
    function test_aLease_isNeverFree() public view {
        ReplicatedJob memory job = _audited();
        uint16[3] memory shares = [uint16(5001), 8000, 10_000];
        for (uint256 i = 0; i < 3; ++i) {
            job.assurance.auditBps = shares[i];
            rules.depositOfReplicated(job, _spec());
            assertEq(replicas.leaseLock(job, 0), _worst(job.job, 4), "what it may earn");
        }
    }

    function test_lease_needsFreeStakeARegistrationAndNoExit() public solvent {
        ReplicatedJob memory job = _replicated();
        _join(makeAddr("poor"), MIN_STAKE);
        vm.roll(block.number + 1);
        _open(job);
        uint256 free = MIN_STAKE - 2 * _lockOf(job, 4);
        _lease(makeAddr("poor"), job, 0);
        _lease(makeAddr("poor"), job, 1);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.FreeStakeTooSmall.selector, free, _lockOf(job, 4)));
        _lease(makeAddr("poor"), job, 0);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.NotRegistered.selector, stranger));
        _lease(stranger, job, 0);
        vm.prank(alice);
        providers.requestExit();
        vm.expectRevert(abi.encodeWithSelector(IEscrow.Exiting.selector, alice));
        _lease(alice, job, 0);
    }

    function test_lease_needsTheRecordThatTheJobAsksFor() public solvent {
        ReplicatedJob memory job = _replicated();
        job.assurance.minChecks = 5;
        _open(job);
        _setChecks(alice, 4);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.RecordTooSmall.selector, 4, 5));
        _lease(alice, job, 0);
        _setChecks(alice, 5);
        _lease(alice, job, 0);
        assertEq(_replica(job, 0, alice).checks(), 5);
    }

    function test_lease_hasAsManySlotsAsReplicas_oneForEach() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Leased)
        );
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _lease(carol, job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoFreeSlot.selector, 0));
        _lease(dave, job, 0);
    }

    function test_thePrice_isThatOfTheRampAtTheLease() public solvent {
        ReplicatedJob memory job = _replicated();
        (job.job.maxPrice, job.job.rampSeconds) = (3e18, 1000);
        uint128 start = job.job.startPrice;
        _postJob(job);
        _setSeed();
        vm.warp(job.job.rampStart);
        _lease(alice, job, 0);
        vm.warp(job.job.rampStart + 500);
        _lease(bob, job, 0);
        vm.warp(job.job.rampStart + LEASE + 500);
        _lease(carol, job, 0);
        for (uint256 i = 0; i < 3; ++i) {
            _commit(three[i], job, 0, 2e9);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(three[i], job, 0, 2e9);
        }
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, 2e9, 2e9, 2e9));
        assertEq(_earned(alice), 2 * start);
        // Steps are 1/65,535 of the ramp.
        assertEq(_earned(bob), 2 * (start + uint256(3e18 - start) * 32_767 / 65_535));
        assertEq(_earned(carol), 6e18);
    }

    // Release

    /// Rule 9: inputs that do not come cost nothing, but no second try at this batch.
    function test_release_inTheFirstQuarter_costsNothing_once() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        vm.warp(block.timestamp + LEASE / 4);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.LeaseReleased(jobId, alice, 0);
        _release(alice, job, 0);
        assertEq(_lockedStake(alice), 0);
        assertEq(_stake(alice), STAKE);
        assertEq(reputation.providerRecord(alice).expired, 0);
        assertEq(_ballot(job, 0).leased(), 1);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Done)
        );
        _lease(alice, job, 0);
        _lease(carol, job, 0);
        assertEq(_ballot(job, 0).leased(), 2);
    }

    function test_release_afterTheFirstQuarter_isRefused() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        uint256 until = block.timestamp + LEASE / 4;
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, until));
        _release(alice, job, 0);
    }

    function test_release_ofTheOnlyLease_opensTheBatch() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        _lease(alice, job, 0);
        _lease(alice, job, 1);
        _release(alice, job, 1);
        _release(alice, job, 0);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Open));
        assertEq(replicas.ballotOf(jobId, 0).openCount(), 3);
        assertEq(Ballot.unwrap(_ballot(job, 1)), 0);
    }

    function test_release_isForHolders() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, bob, ReplicaState.None));
        _release(bob, job, 0);
        _lease(bob, job, 0);
        _commit(bob, job, 0, 1e9);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, bob, ReplicaState.Committed)
        );
        _release(bob, job, 0);
    }

    /// A lease that the round's end cuts short has a first quarter as well.
    function test_aLateLease_canBeReleased() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        vm.warp(block.timestamp + LEASE + LEASE / 2);
        uint256 until = block.timestamp + LEASE / 4;
        _lease(bob, job, 0);
        _lease(carol, job, 0);
        vm.warp(until);
        _release(bob, job, 0);
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, until));
        _release(carol, job, 0);
    }

    // Expiry

    function test_expire_burnsABondAndFreesTheRest() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        uint256 deadline = block.timestamp + LEASE;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, deadline));
        _expire(job, 0, alice);
        vm.warp(deadline + 1);
        uint256 bond = _worst(job.job, 4) * BOND_BPS / 10_000;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.LeaseExpired(jobId, alice, 0, bond);
        _expire(job, 0, alice);
        assertEq(_stake(alice), STAKE - bond);
        assertEq(_lockedStake(alice), 0);
        assertEq(escrow.burnable(), bond);
        assertEq(reputation.providerRecord(alice).expired, 1);
        assertEq(uint8(_replicaState(job, 0, alice)), uint8(ReplicaState.Done));
        assertEq(_ballot(job, 0).leased(), 1);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Done)
        );
        _lease(alice, job, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, alice, ReplicaState.Done)
        );
        _expire(job, 0, alice);
    }

    function test_theBond_doublesWithEachExpiryOfTheBatch_upToTheLock() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _open(job);
        uint256 first = _worst(job.job, 4) * BOND_BPS / 10_000;
        uint256 burned;
        for (uint256 i = 0; i < 18; ++i) {
            address who = makeAddr(string.concat("late ", vm.toString(i)));
            _join(who, STAKE);
            _lease(who, job, 0);
            assertEq(replicas.ballotOf(jobId, 0).expiries(), i < 15 ? i : 15);
            _passLease();
            _expire(job, 0, who);
            // 1, 2, 4, 8, 16 tenths; the lock is thirty.
            uint256 bond = i < 5 ? first << i : _lockOf(job, 4);
            burned += bond;
            assertEq(_stake(who), STAKE - bond);
            assertEq(escrow.burnable(), burned);
            assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Open));
        }
        // Another batch starts afresh.
        _lease(alice, job, 1);
        _passLease();
        _expire(job, 1, alice);
        assertEq(_stake(alice), STAKE - first);
    }

    function test_expire_ofTheOnlyLease_opensTheBatch_butNotAfterACommit() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        _commit(bob, job, 0, 1e9);
        _passLease();
        _expire(job, 0, alice);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Committing));
        assertEq(_ballot(job, 0).openCount(), 2);
    }

    // The end of the round

    /// Rule 10: leases taken again do not stall those who have committed.
    function test_theCommitDeadline_neverMoves() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        uint256 end = block.timestamp + 2 * LEASE;
        _lease(alice, job, 0);
        _commit(alice, job, 0, 1e9);
        _lease(bob, job, 0);
        _passLease();
        assertEq(_ballot(job, 0).time(), end);
        _expire(job, 0, bob);
        _lease(carol, job, 0);
        assertEq(_ballot(job, 0).time(), end);
        // What is left of the round is less than a lease: the round ends it.
        assertEq(_replica(job, 0, carol).deadline(), block.timestamp + LEASE);
        assertGt(block.timestamp + LEASE, end);
        vm.warp(end);
        _lease(dave, job, 0);
        assertEq(_ballot(job, 0).time(), end);
        _commit(carol, job, 0, 1e9);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooEarly.selector, 0, end));
        _expire(job, 0, dave);
        vm.warp(end + 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _lease(erin, job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.TooLate.selector, 0, end));
        _commitHash(dave, job, 0, HASH);
        _expire(job, 0, dave);
    }

    function test_aLateCommit_isTakenWhileTheRoundLastsAndNobodyExpiredIt() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        vm.warp(block.timestamp + 2 * LEASE);
        _commit(alice, job, 0, 1e9);
        _expire(job, 0, bob);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongReplicaState.selector, 0, bob, ReplicaState.Done));
        _commitHash(bob, job, 0, HASH);
    }

    function test_aBatchThatOpensAgain_hasANewDeadline() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        _passLease();
        _expire(job, 0, alice);
        _lease(bob, job, 0);
        assertEq(_ballot(job, 0).time(), block.timestamp + 2 * LEASE);
    }

    function _addStake(address who) private {
        _fund(who, 9 * STAKE);
        vm.prank(who);
        providers.addStake(9 * STAKE, _noPermit());
    }

    /// Two blocks on; the first of them decides.
    function _setSeed() private {
        _nextBlocks();
        vm.setBlockhash(block.number - 1, HASH);
    }

    function _at(ReplicatedJob memory job, uint32 batch, address who, uint256 stake) private view returns (uint256) {
        return _at(job, batch, who, stake, block.number - 2);
    }

    /// When the lot of HASH lets `who` lease, written apart from the contract's way.
    function _at(ReplicatedJob memory job, uint32 batch, address who, uint256 stake, uint256 postBlock)
        private
        view
        returns (uint256)
    {
        uint256 seed = uint256(HASH) % (1 << 64);
        if (seed % 2 == 0) ++seed;
        bytes32 jobId = replicas.jobIdOf(job);
        uint256 lot = uint256(keccak256(abi.encode(seed, jobId, batch, postBlock, who))) % (1 << 64);
        uint256 wait = lot * WIDEN / (1 << 64);
        // The whole wait at the least stake, its share at more; a second may be lost in rounding once.
        uint256 exact = lot * WIDEN * MIN_STAKE / stake / (1 << 64);
        assertLe(exact, wait);
        return job.job.rampStart - WIDEN + exact;
    }
}
