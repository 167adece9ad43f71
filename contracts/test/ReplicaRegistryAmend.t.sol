// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Permit} from "../interfaces/IEscrow.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {BallotState, IReplicaRegistry, ReplicaState, ReplicatedJob} from "../interfaces/IReplicaRegistry.sol";
import {Ballot} from "../libraries/Ballots.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

/// @notice Open batches of replicated jobs that get other prices, times and assurance.
contract ReplicaRegistryAmendTest is ReplicaCases {
    ReplicatedJob private job;
    bytes32 private id;

    function setUp() public override {
        super.setUp();
        job = _replicated();
        id = _open(job);
        // Nothing that the requester has before is in the Escrow.
        assertEq(_available(requester), 0);
    }

    // What moves

    function test_amend_movesAllOpenBatchesToTheNewTerms() public solvent {
        ReplicatedJob memory terms = _terms(2);
        (terms.job.leaseSeconds, terms.job.windowSeconds) = (4000, 900);
        (terms.assurance.replicas, terms.assurance.limit) = (2, 3);
        bytes32 expected = replicas.jobIdOf(terms);
        uint256 old = _all(job);
        uint256 burned = old * FEE_BPS / 10_000;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.JobCancelled(id, 3, old - burned, burned);
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.ReplicatedJobAmended(id, expected, terms, _all(terms));
        assertEq(_amend(job, terms), expected);
        assertTrue(_ballot(job, 0).isCancelled());
        Ballot head = _ballot(terms, 0);
        assertTrue(head.isPosted() && head.isContinued() && !head.isCancelled());
        assertEq(head.openCount(), 3);
        assertEq(head.postBlock(), block.number);
        assertEq(head.seed(), 0);
        assertEq(_locked(requester), _all(terms));
        assertEq(escrow.burnable(), burned);
        _await(terms);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobIsCancelled.selector, id));
        _lease(alice, job, 0);
        _lease(alice, terms, 0);
        _lease(bob, terms, 0);
        assertEq(_replica(terms, 0, alice).deadline(), block.timestamp + 4000);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoFreeSlot.selector, 0));
        _lease(carol, terms, 0);
        assertEq(_lockedStake(alice), _lockOf(terms, 4));
    }

    function test_amend_upTakesTheDifferenceAndTheFee() public solvent {
        uint256 before = token.balanceOf(requester);
        ReplicatedJob memory terms = _priced(2, 3e18);
        _amend(job, terms);
        assertEq(before - token.balanceOf(requester), _all(terms) - _all(job) + _all(job) * FEE_BPS / 10_000);
        assertEq(_available(requester), 0);
        assertEq(_locked(requester), _all(terms));
    }

    function test_amend_downRefundsTheDifferenceWithoutAllowance() public solvent {
        vm.prank(requester);
        token.approve(address(escrow), 0);
        ReplicatedJob memory terms = _priced(2, 1e17);
        _amend(job, terms);
        assertEq(_available(requester), _all(job) - _all(job) * FEE_BPS / 10_000 - _all(terms));
        assertEq(_locked(requester), _all(terms));
    }

    function test_amend_takesAPermit() public solvent {
        vm.prank(requester);
        token.approve(address(escrow), 0);
        ReplicatedJob memory terms = _priced(2, 3e18);
        uint256 missing = _all(terms) - _all(job) + _all(job) * FEE_BPS / 10_000;
        vm.expectRevert();
        _amend(job, terms);
        assertFalse(_ballot(job, 0).isCancelled(), "nothing happened");
        Permit memory permit = _permit(requester, requesterKey, missing, block.timestamp);
        vm.prank(requester);
        replicas.amend(job, terms, permit);
    }

    // RULES 7

    /// A new lot costs what it costs to cancel and to post again, to the last wei.
    function testFuzz_amend_isNoCheaperThanToCancelAndPost(uint128 price, uint8 leased) public solvent {
        for (uint32 batch = 0; batch < 2; ++batch) {
            if (leased >> batch & 1 != 0) _lease(alice, job, batch);
        }
        ReplicatedJob memory terms = _priced(2, uint128(bound(price, 1, 3e18)));
        uint256 before = vm.snapshotState();
        _amend(job, terms);
        uint256 burned = escrow.burnable();
        assertGt(burned, 0);
        vm.revertToState(before);
        vm.startPrank(requester);
        replicas.cancel(job);
        replicas.post(terms, _spec(), _contact(), _noPermit());
        vm.stopPrank();
        assertEq(escrow.burnable(), burned);
    }

    /// Nobody knows the new lot before it is paid for: the block after the call decides it, whatever the seed of the old job was.
    function test_amend_drawsANewLot() public {
        _lease(alice, job, 2);
        assertNotEq(_ballot(job, 0).seed(), 0);
        ReplicatedJob memory terms = _terms(2);
        _amend(job, terms);
        vm.warp(terms.job.rampStart);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.BlockToCome.selector, block.number + 1));
        _lease(alice, terms, 0);
        vm.roll(block.number + 2);
        vm.setBlockhash(block.number - 1, keccak256("new"));
        _lease(alice, terms, 0);
        assertEq(_ballot(terms, 0).seed(), uint64(uint256(keccak256("new"))) | 1);
    }

    /// Who is registered, or has more stake, since the first post, counts in the lot of the second.
    function test_amend_countsStakeThatCameSince() public {
        _join(makeAddr("frank"), STAKE);
        ReplicatedJob memory terms = _terms(2);
        vm.roll(block.number + 1);
        vm.warp(block.timestamp + 1);
        terms.job.rampStart += 1;
        _amend(job, terms);
        vm.roll(block.number + 2);
        assertEq(replicas.opensAt(job, 0, makeAddr("frank")), job.job.rampStart, "at the end of the old lot");
        bool earlier;
        for (uint32 batch = 0; batch < 3; ++batch) {
            if (replicas.opensAt(terms, batch, makeAddr("frank")) < terms.job.rampStart) earlier = true;
        }
        assertTrue(earlier, "in the new lot");
    }

    function test_amend_ofAJobWithoutALotBurnsNothing() public solvent {
        ReplicatedJob memory single = _single(3);
        _open(single);
        uint256 before = _locked(requester) - _all(single);
        ReplicatedJob memory terms = _single(4);
        terms.job.windowSeconds += 1;
        _amend(single, terms);
        assertEq(escrow.burnable(), 0);
        assertEq(_locked(requester) - before, _all(single));
        _lease(alice, terms, 0);
    }

    // What stays

    function test_leasedBatch_isFinishedAndPaidUnderTheOldTerms() public solvent {
        _lease(alice, job, 1);
        ReplicatedJob memory terms = _priced(2, 5e17);
        _amend(job, terms);
        assertEq(_locked(requester), _cost(job, 4) + _cost(terms, 4) + _cost(terms, 2));
        _await(terms);
        _refuseLease(bob, terms, 1);
        // The old job's slots are open to others, at its price.
        _lease(bob, job, 1);
        _lease(carol, job, 1);
        for (uint256 i = 0; i < 3; ++i) {
            _commit(three[i], job, 1, RIGHT);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(three[i], job, 1, RIGHT);
        }
        _refuseLease(dave, terms, 1);
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(1, RIGHT, RIGHT, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
        assertEq(_locked(requester), _cost(terms, 4) + _cost(terms, 2));
        _refuseLease(dave, terms, 1);
    }

    function test_votesOfTheOldJob_countNothingInTheNew() public solvent {
        _voted(job, 0, RIGHT, RIGHT, RIGHT);
        ReplicatedJob memory terms = _terms(2);
        _amend(job, terms);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Open));
        _accept(terms, _tally(0, RIGHT, RIGHT, RIGHT));
        _accept(job, _tally(0, RIGHT, RIGHT, RIGHT));
        assertEq(_earned(alice), _price(job.job, RIGHT));
    }

    /// Batch 0 shares its slot with the job's own state; the last is smaller.
    function test_eachBatchLeasedAlone_staysAlone() public solvent {
        for (uint32 leased = 0; leased < 3; ++leased) {
            ReplicatedJob memory first = _priced(100 + leased, 1e18);
            _open(first);
            uint256 before = _locked(requester) - _all(first);
            _lease(alice, first, leased);
            ReplicatedJob memory terms = _priced(200 + leased, 5e17);
            _amend(first, terms);
            uint256 locked = _cost(first, leased == 2 ? 2 : 4);
            _await(terms);
            for (uint32 batch = 0; batch < 3; ++batch) {
                if (batch == leased) {
                    _refuseLease(bob, terms, batch);
                    continue;
                }
                locked += _cost(terms, batch == 2 ? 2 : 4);
                _lease(bob, terms, batch);
            }
            assertEq(_locked(requester) - before, locked);
            assertEq(_ballot(terms, 0).openCount(), 0);
        }
    }

    function test_releasedLeaseOfTheOldJob_isRefundedAndNotOpenInTheNew() public solvent {
        _lease(alice, job, 0);
        ReplicatedJob memory terms = _terms(2);
        _amend(job, terms);
        uint256 burned = _cost(job, 4) * FEE_BPS / 10_000;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchCancelled(id, 0, _cost(job, 4) - burned, burned);
        _release(alice, job, 0);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Cancelled));
        assertEq(_locked(requester), _cost(terms, 4) + _cost(terms, 2));
        _await(terms);
        _refuseLease(bob, terms, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Cancelled));
        _lease(bob, job, 0);
    }

    function test_expiredLeaseOfTheOldJob_isNotOpenInTheNewNorTheNext() public solvent {
        _lease(alice, job, 0);
        ReplicatedJob memory terms = _terms(2);
        _amend(job, terms);
        vm.warp(block.timestamp + LEASE + 1);
        _expire(job, 0, alice);
        assertEq(uint8(_stateOf(job, 0)), uint8(BallotState.Cancelled));
        assertEq(_ballot(job, 0).expiries(), 1);
        ReplicatedJob memory next = _terms(3);
        _amend(terms, next);
        assertEq(_ballot(next, 0).openCount(), 2);
        _await(next);
        _refuseLease(bob, next, 0);
        _lease(bob, next, 1);
    }

    function test_batchThatNobodyReveals_isNotOpenInTheNew() public solvent {
        _committedBy(job, 1, RIGHT, RIGHT, RIGHT);
        ReplicatedJob memory terms = _terms(2);
        _amend(job, terms);
        vm.warp(block.timestamp + REVEAL + 1);
        _finalise(job, _tally(1, 0, 0, 0));
        assertEq(uint8(_stateOf(job, 1)), uint8(BallotState.Cancelled));
        assertEq(_ballot(job, 1).committed(), 0);
        assertEq(_locked(requester), _cost(terms, 4) + _cost(terms, 2));
        _await(terms);
        _refuseLease(dave, terms, 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 1, BallotState.Cancelled));
        _finalise(job, _tally(1, 0, 0, 0));
    }

    /// Bonds start anew, and so does who may try: it is a new offer.
    function test_openBatchThatOnceExpired_isFreshInTheNewJob() public solvent {
        _lease(alice, job, 0);
        vm.warp(block.timestamp + LEASE + 1);
        _expire(job, 0, alice);
        ReplicatedJob memory terms = _terms(2);
        _amend(job, terms);
        assertEq(_ballot(terms, 0).expiries(), 0);
        _await(terms);
        _lease(alice, terms, 0);
        assertEq(uint8(_replicaState(job, 0, alice)), uint8(ReplicaState.Done));
        assertEq(uint8(_replicaState(terms, 0, alice)), uint8(ReplicaState.Leased));
    }

    /// A backup is for jobs with nothing open: what a job never got is not.
    function test_backUp_doesNotWaitForWhatTheJobNeverGot() public solvent {
        for (uint32 batch = 0; batch < 2; ++batch) {
            _lease(alice, job, batch);
        }
        ReplicatedJob memory terms = _terms(2);
        terms.assurance.replicas = 1;
        terms.assurance.auditBps = 5000;
        _amend(job, terms);
        _await(terms);
        _lease(alice, terms, 2);
        vm.warp(block.timestamp + LEASE / 2 + WIDEN);
        _backUp(bob, terms, 2, alice);
    }

    // Chains

    function test_threeAmendments_leaveOneBatchBehindEach() public solvent {
        ReplicatedJob memory at = job;
        uint256 locked;
        for (uint64 i = 0; i < 2; ++i) {
            // The small last batch first.
            uint32 batch = uint32(2 - i);
            _lease(alice, at, batch);
            locked += _cost(at, batch == 2 ? 2 : 4);
            ReplicatedJob memory next = _priced(2 + i, uint128(5e17 + i));
            _amend(at, next);
            _await(next);
            at = next;
        }
        ReplicatedJob memory last = _priced(9, 3e18);
        _amend(at, last);
        _await(last);
        assertEq(_ballot(last, 0).openCount(), 1);
        assertEq(_locked(requester), locked + _cost(last, 4));
        _refuseLease(bob, last, 1);
        _refuseLease(bob, last, 2);
        _lease(bob, last, 0);
        vm.prank(requester);
        replicas.cancel(last);
        assertEq(_locked(requester), locked + _cost(last, 4));
    }

    function test_cancel_ofTheNewJobRefundsItsOwnBatchesOnly() public solvent {
        _lease(alice, job, 2);
        ReplicatedJob memory terms = _priced(2, 5e17);
        _amend(job, terms);
        _await(terms);
        _lease(bob, terms, 0);
        vm.prank(requester);
        replicas.cancel(terms);
        assertEq(_locked(requester), _cost(job, 2) + _cost(terms, 4));
    }

    /// A job amended forty times costs more to lease, which its requester has done to itself.
    /// forge-config: default.isolate = true
    function test_A14_longChainOfAmendments_isNobodysElsesBurden() public {
        ReplicatedJob memory at = job;
        for (uint64 i = 2; i <= 41; ++i) {
            ReplicatedJob memory next = _priced(i, 1e15);
            _amend(at, next);
            at = next;
        }
        _await(at);
        _lease(alice, at, 0);
        uint256 gas_ = vm.lastCallGas().gasTotalUsed;
        assertGt(gas_, 40 * 2100, "the chain is walked");
        assertLt(gas_, 40 * 4700 + 250_000);
        _commit(alice, at, 0, RIGHT);
        assertLt(vm.lastCallGas().gasTotalUsed, 150_000);
    }

    // What is refused

    function test_otherWork_isRefused() public {
        ReplicatedJob memory terms = _terms(2);
        terms.job.requester = alice;
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.job.spec = keccak256("another");
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.job.taskCount = 9;
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.job.batchSize = 5;
        _expectOtherWork(terms);
        terms = _terms(2);
        terms.job.fuelLimit += 1;
        _expectOtherWork(terms);
        _amend(job, _terms(2));
    }

    function test_amend_isForTheRequesterOnly() public {
        ReplicatedJob memory terms = _terms(2);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotRequester.selector, alice, requester));
        vm.prank(alice);
        replicas.amend(job, terms, _noPermit());
    }

    function test_amend_ofAnUnknownOrCancelledJobIsRefused() public {
        vm.expectPartialRevert(IReplicaRegistry.UnknownJob.selector);
        _amend(_terms(7), _terms(8));
        _amend(job, _terms(2));
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobIsCancelled.selector, id));
        _amend(job, _terms(3));
    }

    function test_amend_intoAJobThatExistsIsRefused() public {
        ReplicatedJob memory other = _terms(5);
        bytes32 otherId = _postJob(other);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobExists.selector, otherId));
        _amend(job, other);
        ReplicatedJob memory same = _terms(6);
        bytes32 sameId = _postJob(same);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobExists.selector, sameId));
        _amend(same, same);
        ReplicatedJob memory terms = _terms(2);
        bytes32 termsId = _amend(job, terms);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobExists.selector, termsId));
        _postJob(terms);
    }

    function test_amend_withNothingOpenIsRefused() public {
        for (uint32 batch = 0; batch < 3; ++batch) {
            _lease(alice, job, batch);
        }
        vm.expectRevert(abi.encodeWithSelector(IJobRules.InvalidJob.selector, "none of its batches is open"));
        _amend(job, _terms(2));
    }

    function test_amend_checksTheNewTerms() public {
        ReplicatedJob memory terms = _terms(2);
        terms.job.windowSeconds = uint32(CAP);
        _expectInvalid(terms);
        terms = _terms(2);
        terms.job.startPrice = 0;
        _expectInvalid(terms);
        terms = _terms(2);
        terms.assurance.limit = 2;
        _expectInvalid(terms);
        // A lot that would be over at once.
        terms = _terms(2);
        terms.job.rampStart = job.job.rampStart;
        _expectInvalid(terms);
        terms = _terms(2);
        (terms.job.startPrice, terms.job.maxPrice) = (1e29, 1e29);
        vm.expectRevert(
            abi.encodeWithSelector(IJobRules.InvalidJob.selector, "the deposit must be below 2^96 token wei")
        );
        _amend(job, terms);
    }

    // Inner

    function _amend(ReplicatedJob memory from, ReplicatedJob memory terms) private returns (bytes32) {
        vm.prank(requester);
        return replicas.amend(from, terms, _noPermit());
    }

    /// Until everybody may lease.
    function _await(ReplicatedJob memory terms) private {
        vm.roll(block.number + 2);
        vm.warp(terms.job.rampStart);
    }

    function _refuseLease(address who, ReplicatedJob memory terms, uint32 batch) private {
        BallotState seen = _stateOf(terms, batch);
        vm.expectRevert(
            abi.encodeWithSelector(
                IReplicaRegistry.WrongState.selector, batch, seen == BallotState.Open ? BallotState.Cancelled : seen
            )
        );
        _lease(who, terms, batch);
    }

    function _expectOtherWork(ReplicatedJob memory terms) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                IJobRules.InvalidJob.selector,
                "an amended job keeps requester, spec, taskCount, batchSize and fuelLimit"
            )
        );
        _amend(job, terms);
    }

    function _expectInvalid(ReplicatedJob memory terms) private {
        vm.expectPartialRevert(IJobRules.InvalidJob.selector);
        _amend(job, terms);
    }

    /// What all batches of the fixture's job may cost, ten tasks in batches of four.
    function _all(ReplicatedJob memory of_) private pure returns (uint256) {
        return 2 * _cost(of_, 4) + _cost(of_, 2);
    }

    function _terms(uint64 nonce) private view returns (ReplicatedJob memory) {
        return _priced(nonce, 5e17 + 1);
    }

    function _priced(uint64 nonce, uint128 price) private view returns (ReplicatedJob memory terms) {
        terms = _replicated();
        (terms.job.nonce, terms.job.startPrice, terms.job.maxPrice) = (nonce, price, price);
    }

    function _single(uint64 nonce) private view returns (ReplicatedJob memory terms) {
        terms = _priced(nonce, 1e18);
        (terms.assurance.replicas, terms.assurance.limit) = (1, 1);
        (terms.assurance.target, terms.assurance.widenSeconds) = (0, 0);
    }
}
