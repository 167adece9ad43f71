// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settings} from "../interfaces/IDeployment.sol";
import {IEscrow, Permit} from "../interfaces/IEscrow.sol";
import {Spec} from "../interfaces/IJobRegistry.sol";
import {IJobRules} from "../interfaces/IJobRules.sol";
import {
    BallotState,
    Commitment,
    IReplicaRegistry,
    ReplicatedJob,
    Reveal,
    Tally
} from "../interfaces/IReplicaRegistry.sol";
import {Ballot} from "../libraries/Ballots.sol";
import {ReplicaCases} from "./ReplicaCases.sol";

contract ReplicaRegistryPostTest is ReplicaCases {
    function test_post_locksAllExecutionsAndTheFee() public solvent {
        ReplicatedJob memory job = _replicated();
        uint256 deposit = 2 * _cost(job, 4) + _cost(job, 2);
        assertEq(rules.depositOfReplicated(job, _spec()), deposit);
        bytes32 jobId = keccak256(abi.encode(block.chainid, address(replicas), keccak256(abi.encode(job))));
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.ReplicatedJobPosted(jobId, requester, job, _spec(), _contact(), deposit);
        assertEq(_postJob(job), jobId);
        assertEq(_locked(requester), deposit);
        Ballot head = replicas.ballotOf(jobId, 0);
        assertTrue(head.isPosted() && !head.isCancelled() && !head.isContinued());
        assertEq(head.openCount(), 3);
        assertEq(head.postBlock(), block.number);
        assertEq(head.seed(), 0);
    }

    function testFuzz_deposit_isTheSumOfItsBatches(uint16 tasks, uint16 size, uint8 limit, uint64 price) public view {
        ReplicatedJob memory job = _replicated();
        job.job.taskCount = uint32(bound(tasks, 1, 500));
        job.job.batchSize = uint32(bound(size, 1, job.job.taskCount));
        job.assurance.limit = uint8(bound(limit, 3, 15));
        job.job.startPrice = job.job.maxPrice = uint128(bound(price, 1, 1e16));
        uint256 sum;
        for (uint256 first = 0; first < job.job.taskCount; first += job.job.batchSize) {
            uint256 left = job.job.taskCount - first;
            sum += _cost(job, left < job.job.batchSize ? left : job.job.batchSize);
        }
        assertEq(rules.depositOfReplicated(job, _spec()), sum);
    }

    function test_post_takesAPermit() public solvent {
        ReplicatedJob memory job = _replicated();
        vm.startPrank(requester);
        token.approve(address(escrow), 0);
        uint256 deposit = rules.depositOfReplicated(job, _spec());
        Permit memory permit = _permit(requester, requesterKey, deposit, block.timestamp);
        replicas.post(job, _spec(), _contact(), permit);
        assertEq(_locked(requester), deposit);
    }

    function test_post_isTheRequestersAlone() public {
        ReplicatedJob memory job = _replicated();
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotRequester.selector, stranger, requester));
        vm.prank(stranger);
        replicas.post(job, _spec(), _contact(), _noPermit());
    }

    function test_post_refusesTheSameJobTwice() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _postJob(job);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobExists.selector, jobId));
        _postJob(job);
        vm.prank(requester);
        replicas.cancel(job);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobExists.selector, jobId));
        _postJob(job);
    }

    function test_jobId_coversEveryField() public view {
        ReplicatedJob memory job = _replicated();
        bytes memory words = abi.encode(job);
        assertEq(words.length, 19 * 32);
        bytes32 id = replicas.jobIdOf(job);
        for (uint256 i = 0; i < 19; ++i) {
            words[32 * i + 31] ^= 0x01;
            assertNotEq(replicas.jobIdOf(abi.decode(words, (ReplicatedJob))), id);
            words[32 * i + 31] ^= 0x01;
        }
    }

    function test_replicas_areFromOneToTheLimit_atMostFifteen() public view {
        ReplicatedJob memory job = _replicated();
        job.assurance.replicas = 0;
        _refused(job, "replicas must be from 1 to limit, limit at most 15");
        (job.assurance.replicas, job.assurance.limit) = (4, 3);
        _refused(job, "replicas must be from 1 to limit, limit at most 15");
        (job.assurance.replicas, job.assurance.limit) = (3, 16);
        _refused(job, "replicas must be from 1 to limit, limit at most 15");
        (job.assurance.replicas, job.assurance.limit) = (15, 15);
        _taken(job);
    }

    function test_audits_needALimitAboveReplicas() public view {
        string memory reason = "auditBps, at most 10000, needs a limit above replicas";
        string memory missing = "one replica and a limit above 1 go with auditBps";
        ReplicatedJob memory job = _replicated();
        job.assurance.auditBps = 1;
        _taken(job);
        job.assurance.limit = job.assurance.replicas;
        _refused(job, reason);
        job = _audited();
        job.assurance.auditBps = 0;
        _refused(job, missing);
        job.assurance.auditBps = 10_001;
        _refused(job, reason);
        job.assurance.auditBps = 10_000;
        _taken(job);
        job.assurance.limit = 2;
        _taken(job);
        job.assurance.auditBps = 0;
        _refused(job, missing);
        job = _single();
        _taken(job);
        job.assurance.auditBps = 1;
        _refused(job, reason);
    }

    function test_aJobOfOneExecution_hasNeitherVoteNorLot() public view {
        ReplicatedJob memory job = _single();
        job.assurance.target = 1;
        _refused(job, "with a limit of 1 target and widenSeconds must be 0");
        job = _single();
        job.assurance.widenSeconds = 1;
        _refused(job, "with a limit of 1 target and widenSeconds must be 0");
    }

    function test_theLot_widensWithinALeaseAndBeforeTheRamp() public view {
        ReplicatedJob memory job = _replicated();
        job.assurance.widenSeconds = 0;
        _refused(job, "widenSeconds must be from 1 to leaseSeconds");
        job.assurance.widenSeconds = LEASE + 1;
        job.job.rampStart += LEASE;
        _refused(job, "widenSeconds must be from 1 to leaseSeconds");
        job.assurance.widenSeconds = LEASE;
        _taken(job);
        job = _replicated();
        job.job.rampStart -= 1;
        _refused(job, "rampStart must be widenSeconds, or up to ten minutes more, from now");
    }

    /// Rule 7: with a ramp days ahead there would be no lot at all: the seed is unreadable before anybody may store it.
    function test_theRamp_isSoonEnoughForTheSeedToBeRead() public view {
        ReplicatedJob memory job = _replicated();
        job.job.rampStart += 10 minutes;
        _taken(job);
        job.job.rampStart += 1;
        _refused(job, "rampStart must be widenSeconds, or up to ten minutes more, from now");
        // A job without a lot may begin when it likes.
        job = _single();
        job.job.rampStart = uint32(block.timestamp + 3 days);
        _taken(job);
    }

    /// A9: below a half both sides of a tie are believed; the one with the lower address would win it.
    function test_aTargetThatBothSidesOfATieReach_isRefused() public view {
        ReplicatedJob memory job = _replicated();
        job.assurance.target = 500_000_000;
        _taken(job);
        job.assurance.target -= 1;
        _refused(job, "target must be at least 500000000, a half");
    }

    function test_minChecksAndRevealSeconds_haveTheirRanges() public view {
        ReplicatedJob memory job = _replicated();
        job.assurance.minChecks = (1 << 20) - 1;
        _taken(job);
        job.assurance.minChecks = 1 << 20;
        _refused(job, "minChecks must be below 2^20");
        job = _replicated();
        // Else a requester could have honest work lose its stake for want of a block to reveal in.
        job.assurance.revealSeconds = 60;
        _taken(job);
        job.assurance.revealSeconds = 59;
        _refused(job, "revealSeconds must be at least 60");
    }

    /// Rule 10: rounds of two leases and a reveal, as many as votes, and a window, are what stake may be held for.
    function test_allRoundsTogether_areWithinTheCap() public view {
        ReplicatedJob memory job = _replicated();
        uint256 rounds = 5 * (2 * uint256(LEASE) + REVEAL);
        job.job.windowSeconds = uint32(CAP - rounds);
        _taken(job);
        job.job.windowSeconds += 1;
        string memory reason =
            "rounds of 2 leaseSeconds and revealSeconds, and windowSeconds, exceed the deployment's cap";
        _refused(job, reason);
        // An audit that finds nobody is a round more.
        job.assurance.limit = 4;
        _taken(job);
        job.assurance.auditBps = 1;
        _refused(job, reason);
        job.job.windowSeconds -= 1;
        _taken(job);
    }

    function test_termsAndSpecOfEveryJob_countHereToo() public {
        ReplicatedJob memory job = _replicated();
        job.job.taskCount = 0;
        _refused(job, "a job has at least one task");
        job = _replicated();
        Spec memory spec = _spec();
        spec.category = 1;
        vm.expectRevert(abi.encodeWithSelector(IJobRules.InvalidJob.selector, "spec is not the hash of the given one"));
        rules.depositOfReplicated(job, spec);
        (job.job.startPrice, job.job.maxPrice) = (1 << 100, 1 << 100);
        _refused(job, "the deposit must be below 2^96 token wei");
    }

    /// Rule 1: else every vote would be undecided, and computing nearly free.
    function test_aTargetThatNewcomersCannotReach_isRefused() public view {
        ReplicatedJob memory job = _replicated();
        (job.assurance.replicas, job.assurance.limit) = (2, 2);
        // Two newcomers: 16/17.
        job.assurance.target = 941_176_470;
        _taken(job);
        job.assurance.target = 941_176_471;
        _refused(job, "limit newcomers that agree must exceed target");
        job.assurance.limit = 3;
        _taken(job);
        // Certainty is nobody's.
        (job.assurance.limit, job.assurance.target) = (15, 1e9);
        _refused(job, "limit newcomers that agree must exceed target");
    }

    function testFuzz_target_isBelowWhatLimitNewcomersReach(uint8 limit, uint32 target) public view {
        ReplicatedJob memory job = _replicated();
        job.assurance.replicas = 2;
        job.assurance.limit = uint8(bound(limit, 2, 15));
        uint256 odds = 4 ** uint256(job.assurance.limit);
        uint256 reached = 1e9 * odds / (1 + odds);
        // Near the edge, on both sides.
        job.assurance.target = uint32(bound(target, reached - 5, reached + 5));
        if (uint256(job.assurance.target) * (1 + odds) < 1e9 * odds) _taken(job);
        else _refused(job, "limit newcomers that agree must exceed target");
    }

    /// Rule 7: posting until the lot suits costs the fee each time.
    function test_cancel_refundsOpenBatchesAndBurnsTheFee() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _postJob(job);
        uint256 deposit = _locked(requester);
        uint256 burned = deposit * FEE_BPS / 10_000;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.JobCancelled(jobId, 3, deposit - burned, burned);
        vm.prank(requester);
        replicas.cancel(job);
        assertEq(escrow.burnable(), burned);
        assertEq(_available(requester), deposit - burned);
        assertEq(_locked(requester), 0);
        vm.roll(block.number + 2);
        vm.warp(job.job.rampStart);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobIsCancelled.selector, jobId));
        _lease(alice, job, 0);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.JobIsCancelled.selector, jobId));
        vm.prank(requester);
        replicas.cancel(job);
    }

    function test_cancel_burnsNothingWithoutALot() public solvent {
        ReplicatedJob memory job = _single();
        _postJob(job);
        uint256 deposit = _locked(requester);
        vm.prank(requester);
        replicas.cancel(job);
        assertEq(escrow.burnable(), 0);
        assertEq(_available(requester), deposit);
    }

    function test_cancel_refundsTheSmallestDeposit() public {
        Settings memory settings = _settings();
        settings.feeBps = 0;
        _deploy(settings);
        _fund(requester, 1);
        ReplicatedJob memory job = _single();
        (job.job.taskCount, job.job.batchSize, job.job.fuelLimit) = (1, 1, 1);
        (job.job.startPrice, job.job.maxPrice) = (1, 1);
        _postJob(job);
        assertEq(_locked(requester), 1);
        vm.prank(requester);
        replicas.cancel(job);
        assertEq(_locked(requester), 0);
        assertEq(_available(requester), 1);
    }

    function test_cancel_leavesTheDepositOfTheSmallerLastBatch() public solvent {
        ReplicatedJob memory job = _replicated();
        job.job.taskCount = 6;
        _open(job);
        _lease(alice, job, 1);
        vm.prank(requester);
        replicas.cancel(job);
        assertEq(_locked(requester), _cost(job, 2));
    }

    function testFuzz_cancel_leavesTheDepositOfLeasedBatches(uint8 leased) public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        uint256[3] memory tasks = [uint256(4), 4, 2];
        uint256 kept;
        for (uint32 batch = 0; batch < 3; ++batch) {
            if (leased >> batch & 1 == 0) continue;
            _lease(alice, job, batch);
            kept += _cost(job, tasks[batch]);
        }
        uint256 refund = _locked(requester) - kept;
        vm.prank(requester);
        replicas.cancel(job);
        assertEq(_locked(requester), kept);
        assertEq(_available(requester), refund - refund * FEE_BPS / 10_000);
    }

    function test_cancel_refundsALeasedBatchOnceItIsGivenBack() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        _lease(bob, job, 0);
        vm.prank(requester);
        replicas.cancel(job);
        uint256 before = _available(requester);
        _release(alice, job, 0);
        assertEq(_available(requester), before);
        uint256 burned = _cost(job, 4) * FEE_BPS / 10_000;
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.BatchCancelled(replicas.jobIdOf(job), 0, _cost(job, 4) - burned, burned);
        _release(bob, job, 0);
        assertEq(_available(requester), before + _cost(job, 4) - burned);
        assertEq(_locked(requester), 0);
        assertEq(_available(address(disputes)), 0, "nobody has an award");
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.WrongState.selector, 0, BallotState.Cancelled));
        _lease(carol, job, 0);
    }

    function test_cancel_refundsABatchThatNobodyReveals() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _committedBy(job, 2, 1e9, 1e9, 1e9);
        vm.prank(requester);
        replicas.cancel(job);
        uint256 before = _available(requester);
        vm.warp(block.timestamp + REVEAL + WINDOW + 1);
        _finalise(job, _tally(2, 0, 0, 0));
        assertEq(_available(requester), before + _cost(job, 2) - _cost(job, 2) * FEE_BPS / 10_000);
        assertEq(_locked(requester), 0);
    }

    function test_cancel_leavesLeasedBatchesToTheirVote() public solvent {
        ReplicatedJob memory job = _replicated();
        _open(job);
        _lease(alice, job, 0);
        vm.prank(requester);
        replicas.cancel(job);
        _lease(bob, job, 0);
        _lease(carol, job, 0);
        for (uint256 i = 0; i < 3; ++i) {
            _commit(three[i], job, 0, 1e9);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _reveal(three[i], job, 0, 1e9);
        }
        vm.warp(block.timestamp + WINDOW);
        _finalise(job, _tally(0, 1e9, 1e9, 1e9));
        assertEq(_earned(alice), _price(job.job, 1e9));
        assertEq(_locked(requester), 0);
    }

    function test_cancelAndContact_areTheRequestersAlone() public solvent {
        ReplicatedJob memory job = _replicated();
        bytes32 jobId = _postJob(job);
        vm.startPrank(stranger);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotRequester.selector, stranger, requester));
        replicas.cancel(job);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotRequester.selector, stranger, requester));
        replicas.setContact(job, _contact());
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NotRequester.selector, stranger, requester));
        replicas.accept(job, new Tally[](1));
        vm.stopPrank();
        vm.expectEmit(address(replicas));
        emit IReplicaRegistry.JobContactChanged(jobId, _contact());
        vm.prank(requester);
        replicas.setContact(job, _contact());
    }

    function test_aJobThatWasNotPosted_isUnknownEverywhere() public {
        ReplicatedJob memory job = _replicated();
        bytes memory unknown = abi.encodeWithSelector(IReplicaRegistry.UnknownJob.selector, replicas.jobIdOf(job));
        vm.startPrank(requester);
        vm.expectRevert(unknown);
        replicas.cancel(job);
        vm.expectRevert(unknown);
        replicas.setContact(job, _contact());
        vm.expectRevert(unknown);
        replicas.lease(job, _list(0));
        vm.expectRevert(unknown);
        replicas.backUp(job, 0, alice);
        vm.expectRevert(unknown);
        replicas.release(job, _list(0));
        vm.expectRevert(unknown);
        replicas.expire(job, 0, alice);
        vm.expectRevert(unknown);
        replicas.commit(job, new Commitment[](1));
        vm.expectRevert(unknown);
        replicas.draw(job, 0);
        vm.expectRevert(unknown);
        replicas.reveal(job, new Reveal[](1));
        vm.expectRevert(unknown);
        replicas.accept(job, new Tally[](1));
        vm.expectRevert(unknown);
        replicas.finalise(job, new Tally[](1));
        vm.expectRevert(unknown);
        replicas.opensAt(job, 0, alice);
        vm.stopPrank();
        vm.expectRevert(unknown);
        vm.prank(address(disputes));
        replicas.freeze(job, Tally(0, _tally(0, alice, 1).votes));
    }

    function test_callsAboutNothing_areRefused() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        vm.startPrank(requester);
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        replicas.lease(job, new uint32[](0));
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        replicas.release(job, new uint32[](0));
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        replicas.commit(job, new Commitment[](0));
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        replicas.reveal(job, new Reveal[](0));
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        replicas.accept(job, new Tally[](0));
        vm.expectRevert(IReplicaRegistry.NothingGiven.selector);
        replicas.finalise(job, new Tally[](0));
    }

    function test_aBatchPastTheLast_isRefused() public {
        ReplicatedJob memory job = _replicated();
        _open(job);
        bytes memory none = abi.encodeWithSelector(IReplicaRegistry.NoSuchBatch.selector, 3, 3);
        vm.expectRevert(none);
        _lease(alice, job, 3);
        vm.expectRevert(none);
        _release(alice, job, 3);
        vm.expectRevert(none);
        _commitHash(alice, job, 3, 0);
        vm.expectRevert(none);
        _reveal(alice, job, 3, 1);
        vm.expectRevert(none);
        _finalise(job, _tally(3, 1, 1, 1));
        vm.expectRevert(none);
        _draw(job, 3);
        vm.expectRevert(none);
        _expire(job, 3, alice);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoSuchBatch.selector, 4, 3));
        _reveal(alice, job, 4, 1);
        vm.expectRevert(abi.encodeWithSelector(IReplicaRegistry.NoSuchBatch.selector, 4, 3));
        _lease(alice, job, 4);
    }

    /// A job that asks for one execution and nothing else.
    function _single() private view returns (ReplicatedJob memory job) {
        job = _replicated();
        (job.assurance.replicas, job.assurance.limit) = (1, 1);
        (job.assurance.target, job.assurance.widenSeconds) = (0, 0);
    }

    function _refused(ReplicatedJob memory job, string memory reason) private view {
        try rules.depositOfReplicated(job, _spec()) {
            revert(string.concat("taken, but should be refused: ", reason));
        } catch (bytes memory error) {
            assertEq(error, abi.encodeWithSelector(IJobRules.InvalidJob.selector, reason));
        }
    }

    function _taken(ReplicatedJob memory job) private view {
        assertGt(rules.depositOfReplicated(job, _spec()), 0);
    }
}
